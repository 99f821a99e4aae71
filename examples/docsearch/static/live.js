// The live side of the page: the pipeline, and a bounded list of what went through it.

import { showPipeline } from "/viz/embed.js";
import { eventRow, missedRow } from "./rows.js";

const CAPACITY = 50;

const list = document.getElementById("events");
const connection = document.getElementById("connection");
const pause = document.getElementById("pause");
const nothingYet = document.getElementById("nothing-yet");
const picture = document.getElementById("pipeline");

// Rows that wait for the next frame, oldest first. Bounded as the list is: in a tab that nobody
// looks at there are no frames.
let waiting = [];
let framed = false;
let paused = false;
let pipeline;
// Requests of this page, whose rows stand out. Bounded: a row comes soon or never.
const mine = new Set();

export function markAsMine(requestId) {
  mine.add(requestId);
  if (mine.size > CAPACITY) mine.delete(mine.values().next().value);
  for (const row of [...waiting, ...list.children]) {
    if (row.dataset.requestId === requestId) showAsMine(row);
  }
}

// The event is faster than the answer, or the other way round.
function showAsMine(row) {
  row.classList.add("mine");
  pipeline.run(row.event);
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

const WORDS = {
  connecting: "connecting…",
  live: "connected",
  waiting: "connection lost, trying again…",
  full: "no place free, trying again…",
  ended: "the app is about to end, trying again…",
};

function say({ name }, token) {
  connection.dataset.state = name;
  connection.textContent =
    WORDS[name] ?? `${token ? "wrong token" : "no token"}: open the address that the app printed`;
}

function take(items) {
  for (const item of items) {
    if (item.data === undefined) {
      add(missedRow(item));
      continue;
    }
    const event = JSON.parse(item.data);
    const row = eventRow(event);
    add(row);
    if (mine.has(event.request_id)) showAsMine(row);
  }
}

export function startLive(token) {
  // Without a token the stream may still be open to this machine: the answer will tell.
  pipeline = showPipeline(picture, {
    token,
    stages: picture.dataset.stages.split(" "),
    state: (state) => say(state, token),
    items: take,
  });
}
