// better-sse on node:http, as its guide "Channels" shows it: a channel, a session for each
// request, channel.broadcast. Arguments: the folder it is installed in, and the events' file.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";

const [home, eventsFile] = process.argv.slice(2);
const { createChannel, createSession } = createRequire(`${home}/package.json`)("better-sse");
const templates = JSON.parse(readFileSync(eventsFile, "utf8"));

const TICK_MS = 5;
const CATCH_UP = 0.1;
const BACKLOG = 4096;

const channel = createChannel();
let emitted = 0;
let running = 0;

function broadcast() {
  // As request_id() in events.py.
  const number = String(emitted).padStart(9, "0");
  const now = String(process.hrtime.bigint()).padStart(17, "0");
  const request_id = `${number}-${now}${"~".repeat(16)}`;
  channel.broadcast({ ts: new Date().toISOString(), request_id, ...templates[emitted % templates.length] });
  emitted += 1;
}

// The same pace as in pace.py.
function start(rate, seconds) {
  const began = performance.now();
  let due = 0;
  running += 1;
  const tick = () => {
    const elapsed = (performance.now() - began) / 1000;
    if (elapsed >= seconds) {
      running -= 1;
      return;
    }
    const count = Math.min(Math.floor(elapsed * rate) - due, Math.max(Math.floor(CATCH_UP * rate), 1));
    due = Math.floor(elapsed * rate);
    for (let i = 0; i < count; i++) broadcast();
    setTimeout(tick, TICK_MS);
  };
  tick();
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, "http://127.0.0.1");
  if (url.pathname === "/api/viz/events") {
    channel.register(await createSession(request, response));
  } else if (url.pathname === "/ping") {
    response.end("pong");
  } else if (url.pathname === "/start") {
    start(Number(url.searchParams.get("rate")), Number(url.searchParams.get("seconds")));
    response.end("{}");
  } else {
    response.end(JSON.stringify({ emitted, emitting: running > 0 }));
  }
});

server.listen({ host: "127.0.0.1", port: 0, backlog: BACKLOG }, () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
