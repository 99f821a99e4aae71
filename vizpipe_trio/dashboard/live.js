// The live list: the newest events first, with the gaps where events are missing.

const MOST_ROWS = 200;

const state = document.getElementById("state");
const seen = document.getElementById("seen");
const missed = document.getElementById("missed");
const rows = document.getElementById("events");
const empty = document.getElementById("empty");

// The token leaves the address bar at once, and lives no longer than the tab.
const address = new URL(location.href);
if (address.searchParams.has("token")) {
  sessionStorage.setItem("vizpipe-token", address.searchParams.get("token"));
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
}

const stream = new URL("../api/viz/events", location.href);
for (const [name, value] of address.searchParams) stream.searchParams.append(name, value);
const token = sessionStorage.getItem("vizpipe-token");
if (token !== null) stream.searchParams.set("token", token);

let seenCount = 0;
let missedCount = 0;
let missedUnknown = false;
let waiting = []; // rows that the next frame draws

function say(text, kind) {
  state.textContent = text;
  state.className = kind;
}

function cell(text, className = "") {
  const td = document.createElement("td");
  td.textContent = text;
  td.className = className;
  return td;
}

function eventRow(event) {
  const row = document.createElement("tr");
  const answer = event.stages?.find((stage) => stage.hit);
  row.append(
    cell(new Date(event.ts).toLocaleTimeString()),
    cell(event.status, event.status),
    cell(event.op),
    cell(event.subject || event.request_id),
    cell(answer ? answer.name : "–"),
    cell(event.total_ms.toFixed(2), "number"),
  );
  return row;
}

const REASONS = {
  slow: "this viewer was too slow",
  overload: "the pipe was full",
  history: "from before this connection",
};

function gapRow(gap) {
  const row = document.createElement("tr");
  row.className = "gap";
  const count = gap.missed === null ? "an unknown number of" : gap.missed;
  const td = cell(`${count} events are missing here: ${REASONS[gap.reason] ?? gap.reason}`);
  td.colSpan = 6;
  row.append(td);
  return row;
}

function draw() {
  rows.prepend(...waiting.reverse());
  waiting = [];
  while (rows.children.length > MOST_ROWS) rows.lastElementChild.remove();
  empty.hidden = rows.children.length > 0;
  seen.textContent = seenCount;
  missed.textContent = (missedUnknown ? "at least " : "") + missedCount;
}

function show(row) {
  if (waiting.length === 0) requestAnimationFrame(draw);
  waiting.push(row);
  if (waiting.length > MOST_ROWS) waiting.shift();
}

const RETRY_MS = 5000;

// EventSource gives up on any answer but a stream, and does not say what it was.
async function explain() {
  const { status } = await fetch(stream, { method: "HEAD" }).catch(() => ({ status: 0 }));
  if (status === 401 || status === 403) say("Refused. Open this page with a valid token.", "refused");
  else if (status === 400) say("Refused. The address asks for a filter that does not exist.", "refused");
  else {
    say("No place is free, or the pipe has ended. Trying again…", "");
    setTimeout(open, RETRY_MS);
  }
}

function open() {
  const source = new EventSource(stream);
  source.onopen = () => say("Live", "live");
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) explain();
    else say("Reconnecting…", "");
  };
  source.onmessage = (message) => {
    stream.searchParams.set("last_event_id", message.lastEventId); // for a new EventSource
    seenCount += 1;
    show(eventRow(JSON.parse(message.data)));
  };
  source.addEventListener("missed", (message) => {
    const gap = JSON.parse(message.data);
    if (gap.missed === null) missedUnknown = true;
    else missedCount += gap.missed;
    show(gapRow(gap));
  });
}

open();
