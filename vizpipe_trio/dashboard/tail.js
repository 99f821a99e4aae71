// The table of the last events, newest first, with the gaps where events are missing.

import { clock, duration, gapText, make } from "./words.js";

const MOST_ROWS = 100;
const MOST_ROWS_BUSY = 40; // nobody reads more of what is there for half a second
const KEPT = 1000; // for the free text to search in
const BUSY = 25; // rows in one drawing: past it, the table is drawn in beats that the eye can follow
const BEAT_MS = 500;

export class Tail {
  #body;
  #open;
  #kept = []; // what has been drawn, or would have been without the text, oldest first
  #waiting = []; // what the next drawing adds
  #newer = 0;
  #text = "";
  #records = new WeakMap(); // row → record
  #held = new Set(); // by the pointer, by the focus
  #nextBeat = 0;
  #current = null; // the row that Tab goes to: the newest, or the one where somebody has been
  #visited = false;

  // `open` is called with the record of an event whose row is chosen.
  constructor(body, open) {
    this.#body = body;
    this.#open = open;
    const hold = (why, on) => (on ? this.#held.add(why) : this.#held.delete(why));
    body.addEventListener("pointerenter", ({ pointerType }) => pointerType === "mouse" && hold("pointer", true));
    body.addEventListener("pointerleave", () => hold("pointer", false));
    body.addEventListener("focusin", ({ target }) => {
      hold("focus", target.matches(":focus-visible"));
      this.#visited = true;
      this.#makeCurrent(target.closest("tr"));
    });
    body.addEventListener("focusout", () => hold("focus", false));
    body.addEventListener("click", ({ target }) => this.#choose(target.closest("tr")));
    body.addEventListener("keydown", (event) => this.#walk(event));
  }

  // How many wait until nobody is on the table.
  get heldBack() {
    return this.#held.size > 0 ? this.#newer : 0;
  }

  get isEmpty() {
    return this.#kept.length + this.#waiting.length === 0;
  }

  // A record is {event, data} or {gap}.
  add(record) {
    this.#waiting.push(record);
    if (this.#waiting.length > 2 * KEPT) this.#waiting.splice(0, KEPT);
    if (this.#fits(record)) this.#newer += 1;
  }

  // Narrows the table to the events that have a text somewhere; what waits goes on waiting.
  search(text) {
    this.#text = text.toLowerCase();
    this.#held.clear(); // whoever writes is not on it any more
    this.#fill();
  }

  clear() {
    this.#kept = [];
    this.#waiting = [];
    this.#newer = 0;
    this.#fill();
  }

  // Draws what waits, unless it is held or the next beat is still to come; says whether that was much.
  draw(now) {
    if (this.#waiting.length === 0 || this.#held.size > 0 || now < this.#nextBeat) return false;
    const fresh = this.#waiting.filter((record) => this.#fits(record));
    const isBusy = fresh.length > BUSY;
    if (this.#waiting.length > KEPT) {
      this.#kept = []; // older than those that may have been dropped
      this.#fill();
    }
    if (isBusy) this.#nextBeat = now + BEAT_MS;
    if (fresh.length > 0) this.#prepend(fresh, isBusy ? MOST_ROWS_BUSY : MOST_ROWS);
    this.#kept.push(...this.#waiting);
    if (this.#kept.length > 2 * KEPT) this.#kept.splice(0, this.#kept.length - KEPT);
    this.#waiting = [];
    this.#newer = 0;
    return isBusy;
  }

  // Gives the focus back to the table.
  focus() {
    this.#current?.parts.button.focus(); // to be seen, and to hold the table, after a key only
  }

  // Gaps fit always: what is missing may have had the text.
  #fits({ event }) {
    return this.#text === "" || event === undefined || searched(event).includes(this.#text);
  }

  #fill() {
    this.#body.replaceChildren();
    this.#leave();
    this.#nextBeat = 0;
    this.#prepend(this.#kept.filter((record) => this.#fits(record)), MOST_ROWS);
  }

  // Puts the last of some records on top, and cuts the table to so many rows.
  #prepend(all, most) {
    const records = all.slice(-most);
    const excess = this.#body.childElementCount + records.length - most;
    const spare = [];
    for (let index = 0; index < excess; index += 1) {
      const row = this.#body.lastElementChild;
      if (!row) break;
      row.remove();
      if (row === this.#current) this.#leave();
      if (!row.classList.contains("gap")) spare.push(row);
    }
    const rows = records.map((record) => {
      const row = record.gap ? gapRow(record.gap) : fillRow(spare.pop() ?? this.#newRow(), record.event);
      this.#records.set(row, record);
      return row;
    });
    this.#body.prepend(...rows.reverse());
    if (!this.#visited) this.#makeCurrent(this.#body.querySelector("tr:not(.gap)"));
  }

  #newRow() {
    const row = make("tr", "");
    row.parts = {};
    for (const { className } of this.#body.previousElementSibling.rows[0].cells) {
      row.parts[className] = row.insertCell();
      row.parts[className].className = className;
    }
    row.parts.button = row.parts.subject.appendChild(make("button", ""));
    row.parts.bar = row.parts.way.appendChild(make("div", "bar"));
    return row;
  }

  // One row at a time is in the order of Tab; the arrows go from row to row.
  #makeCurrent(row) {
    if (!row || row === this.#current) return;
    if (this.#current) this.#current.parts.button.tabIndex = -1;
    this.#current = row;
    row.parts.button.tabIndex = 0;
  }

  #leave() {
    this.#current = null;
    this.#visited = false;
  }

  #choose(row) {
    if (!row || row.classList.contains("gap")) return;
    if (String(getSelection()) && getSelection().containsNode(row, true)) return; // somebody selects text in it
    this.#visited = true;
    this.#makeCurrent(row);
    this.#open(this.#records.get(row));
  }

  #walk(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    let row = event.target.closest("tr")[step];
    while (row?.classList.contains("gap")) row = row[step];
    row?.parts.button.focus({ focusVisible: true });
  }
}

function searched({ subject, request_id: id, source, labels, stages }) {
  const answered = stages?.find(({ hit }) => hit)?.name ?? "";
  return [subject, id, source, answered, ...labels].join("\n").toLowerCase();
}

function fillRow(row, event) {
  const { parts } = row;
  const answered = event.stages?.find(({ hit }) => hit);
  const texts = {
    time: clock(new Date(event.ts)),
    status: event.status,
    op: event.op,
    actor: event.actor_type,
    source: event.source,
    button: event.subject || event.request_id || "(no subject)",
    answer: answered?.name ?? "–",
    results: event.result_count,
    ms: duration(event.total_ms),
  };
  for (const name in texts) parts[name].textContent = texts[name];
  parts.status.dataset.status = event.status;
  parts.button.tabIndex = -1;
  parts.bar.style.backgroundImage = barOf(event);
  return row;
}

// A bar of the stages, each as long as its part of the whole, as one background: a row is drawn often.
function barOf({ stages, total_ms: total }) {
  if (!stages?.length) return "none";
  const all = Math.max(total, stages.reduce((sum, { ms }) => sum + ms, 0)) || 1;
  let from = 0;
  const parts = stages.filter(({ ms }) => ms > 0).map(({ ms, hit }, index) => {
    const to = from + Math.max((ms / all) * 100, hit ? 3 : 0); // the answer is always to be seen
    const colour = hit ? "var(--accent)" : index % 2 ? "var(--bar-a)" : "var(--bar-b)";
    const part = `${colour} ${from.toFixed(1)}% ${to.toFixed(1)}%`;
    from = to;
    return part;
  });
  return parts.length ? `linear-gradient(90deg, ${parts.join(", ")}, transparent 0)` : "none";
}

function gapRow(gap) {
  const cell = make("td", "", gapText(gap));
  cell.colSpan = 10;
  return make("tr", "gap", cell);
}
