// The dashboard: what comes in is counted at once, and drawn once a frame at most.

import { Account } from "./account.js";
import { Charts } from "./charts.js";
import { Detail } from "./detail.js";
import { Link } from "./link.js";
import { Pipeline } from "./pipeline.js";
import { watchRelay } from "./relay.js";
import { StateLine } from "./state.js";
import { Tail } from "./tail.js";
import { View, keepToken, takeToken } from "./view.js";
import { count, make, missing, part, write } from "./words.js";

const FIGURES_MS = 250; // between two drawings of what is counted
const LATE_SECONDS = 1; // after coming back, in which late events may come

const setting = (name) => document.querySelector(`meta[name="vizpipe-${name}"]`).content;
const now = () => performance.now() / 1000;

const stages = JSON.parse(setting("stages"));
let account;
let isFirst; // connection for this question
let paused = false;
let pausedAt = 0; // events
let awaySince;
let late = { since: 0, until: 0 };
let noticed = now(); // when the page was there last
let delay = NaN;
let token = takeToken();
let figuresAt = 0;
let framed = false;

const pipeline = new Pipeline(part("pipeline"), { stages });
const charts = new Charts(part("charts"));
const tail = new Tail(part("events"), (record) => detail.show(record));
const detail = new Detail(part("detail"), () => tail.focus());
const view = new View(part("view"), (what) => {
  if (what === "filter") begin();
  if (what === "text") tail.search(view.text);
  nameFilters();
  figuresAt = 0;
  frame();
});
const line = new StateLine({
  tryNow: () => link.tryNow(),
  openWith(given) {
    token = given;
    keepToken(token);
    begin();
  },
});
const link = new Link({ state: become, items: take });

// Another question has another answer: what was counted for the last one is put away.
function begin() {
  isFirst = true;
  account = new Account(now(), stages);
  for (const reason of document.querySelectorAll(".reason")) reason.remove();
  tail.clear();
  pause(false);
  awaySince = null;
  line.become({ name: "connecting" });
  link.watch({ query: view.query, token, heartbeat: Number(setting("heartbeat")) });
}

function nameFilters() {
  write(part("show-filters"), view.chosen ? `Filters (${view.chosen})` : "Filters");
}

function pause(on) {
  paused = on;
  pausedAt = account.seen;
  part("pause").textContent = paused ? "Resume" : "Pause";
  document.body.classList.toggle("paused", paused);
  figuresAt = 0;
  frame();
}

function become(state) {
  if (state.name === "live") {
    if (isFirst) account = new Account(now(), stages); // before that it could see nothing
    else if (awaySince !== null) account.away(awaySince, now());
    isFirst = false;
    awaySince = null;
  } else if (state.name !== "connecting") awaySince ??= now();
  line.become(state);
}

// What was kept for us while the page was away or stood still comes all at once.
function notice(at) {
  if (at > noticed + LATE_SECONDS) late = { since: noticed, until: at + LATE_SECONDS };
  noticed = at;
}

// It is shown where it would have come then, by the delay of the last one that was not late.
function comingOf(event, at) {
  const made = Date.parse(event.ts) / 1000;
  if (at < late.until && !Number.isNaN(delay)) return Math.min(Math.max(made + delay, late.since), at);
  delay = at - made;
  return at;
}

function take(items) {
  const at = now();
  let last = null;
  notice(at);
  for (const item of items) {
    if (item.data === undefined) {
      account.gap(item, at);
      tail.add({ gap: item });
      continue;
    }
    const event = JSON.parse(item.data);
    account.event(event, at, comingOf(event, at));
    tail.add({ event, data: item.data });
    last = event;
  }
  if (last && !paused) pipeline.run(last);
  frame();
}

function frame() {
  if (!framed) requestAnimationFrame(draw);
  framed = true;
}

function draw(at) {
  framed = false;
  drawCounts();
  const isEnough = !paused && tail.draw(at);
  part("empty").hidden = !tail.isEmpty;
  write(part("tail-note"), tailNote());
  if (isEnough) frame(); // the rest is for the next one
  if (isEnough || at < figuresAt) return;
  figuresAt = paused ? Infinity : at + FIGURES_MS;
  drawFigures();
}

function drawCounts() {
  write(part("seen"), count(account.seen));
  const all = account.allMissed;
  writeMissing(part("missed-all"), all);
  for (const [reason, total] of account.missed) writeMissing(reasonPart(reason), total);
  line.noteMissed(all);
}

function writeMissing(element, total) {
  write(element, missing(total));
  element.classList.toggle("lost", total.known > 0 || total.unknown);
}

function reasonPart(reason) {
  const known = document.querySelector(`[data-reason="${CSS.escape(reason)}"]`);
  if (known) return known;
  const total = make("dd", "");
  total.dataset.reason = reason;
  part("counts").append(make("div", "reason", make("dt", "", reason), total));
  return total;
}

function tailNote() {
  if (paused) return `Paused: ${count(account.seen - pausedAt)} went by`;
  if (tail.heldBack > 0) return `Held while you are on it: ${count(tail.heldBack)} newer`;
  return view.text ? `Those with “${view.text}”` : "";
}

function drawFigures() {
  const at = now();
  const figures = account.stages(view.seconds, at);
  const window = account.window(view.seconds, at);
  const staged = window.sum("staged");
  pipeline.show(figures, staged);
  part("no-stages").hidden = figures.length > 0;
  charts.draw(account, view.seconds, at, line.live, paused);
  write(part("drawn"), staged > 5 * window.seconds(at) + 1 ? "A sample is drawn, all are counted" : "");
}

part("pause").addEventListener("click", () => pause(!paused));

part("show-filters").addEventListener("click", ({ target }) => {
  const shown = target.getAttribute("aria-expanded") === "false";
  target.setAttribute("aria-expanded", shown);
  part("view").classList.toggle("shown", shown);
});

setInterval(() => {
  if (awaySince === null) notice(now());
  else account.away(awaySince, now());
  line.tick();
  if (line.live) watchRelay(part("relay"), line.live);
  frame();
}, FIGURES_MS);

tail.search(view.text);
nameFilters();
begin();
