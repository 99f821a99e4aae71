// The live side of the page: the event stream, and a bounded list of what it brings.

import { eventRow, missedRow } from "./rows.js";

const CAPACITY = 50;
const RETRY_MS = 5000;

const list = document.getElementById("events");
const connection = document.getElementById("connection");
const pause = document.getElementById("pause");
const nothingYet = document.getElementById("nothing-yet");

// Rows that wait for the next frame, oldest first. Bounded as the list is: in a tab that nobody
// looks at there are no frames.
let waiting = [];
let framed = false;
let paused = false;
let lastEventId = "";
// Requests of this page, whose rows stand out. Bounded: a row comes soon or never.
const mine = new Set();

export function markAsMine(requestId) {
  mine.add(requestId);
  if (mine.size > CAPACITY) mine.delete(mine.values().next().value);
  for (const row of [...waiting, ...list.children]) {
    if (row.dataset.requestId === requestId) row.classList.add("mine");
  }
}

function add(row) {
  waiting.push(row);
  if (waiting.length > CAPACITY) waiting.shift();
  if (!paused && !framed) {
    framed = true;
    requestAnimationFrame(flush);
  }
}

function flush() {
  framed = false;
  if (paused) return;
  nothingYet.hidden = true;
  list.prepend(...waiting.reverse());
  waiting = [];
  while (list.children.length > CAPACITY) list.lastElementChild.remove();
}

pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Go on" : "Pause";
  if (!paused && waiting.length) flush();
});

function say(state, words) {
  connection.dataset.state = state;
  connection.textContent = words;
}

export function startLive(token) {
  // Without a token the stream may still be open to this machine: the answer will tell.
  const query = token ? `?${new URLSearchParams({ token })}` : "";
  say("waiting", "connecting…");
  // EventSource asks for what it missed when it reconnects by itself; for a new one, the address asks.
  const asked = new URL(`/api/viz/events${query}`, location.href);
  if (lastEventId) asked.searchParams.set("last_event_id", lastEventId);
  const source = new EventSource(asked);

  source.addEventListener("open", () => say("live", "connected"));
  source.addEventListener("message", (message) => {
    lastEventId = message.lastEventId;
    const event = JSON.parse(message.data);
    add(eventRow(event, mine.has(event.request_id)));
  });
  source.addEventListener("missed", (message) => add(missedRow(JSON.parse(message.data))));
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CONNECTING) {
      say("waiting", "connection lost, trying again…");
      return;
    }
    // An answer that was no stream: EventSource gives up for good, and doesn't say why.
    source.close();
    explain(token, query);
  });
}

async function explain(token, query) {
  let status = 0;
  try {
    status = (await fetch(`/api/viz/stats${query}`)).status;
  } catch {
    // The app is gone; that is what 0 says.
  }
  if (status === 401 || status === 403) {
    say("refused", `${token ? "wrong token" : "no token"}: open the address that the app printed`);
    return;
  }
  say("waiting", status === 0 ? "the app is gone, trying again…" : "no place free, trying again…");
  setTimeout(() => startLive(token), RETRY_MS);
}
