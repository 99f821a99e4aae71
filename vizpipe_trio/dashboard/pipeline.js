// The pipeline as stages in a row. Events run through it, some of them; the figures are of all.

import { count, make, quantile, share, write } from "./words.js";

const LEAST_WIDTH = 92; // pixels for a stage beside another
const UPRIGHT_BELOW = 640; // pixels: then the stages stand one under the other
const RUNS_PER_SECOND = 5;
const MOST_RUNS = 8; // at once
const STEP_MS = 70; // each stage takes so long in the picture,
const STRETCH_MS = 500; // and all of them share this by the time they took
const GLOW_MS = 900;

export class Pipeline {
  #list;
  #runs;
  #cells = new Map(); // name → the stage's elements
  #nodes = null; // name → where its node is, as long as that holds
  #running = 0;
  #lastRun = -Infinity;
  #stillness = matchMedia("(prefers-reduced-motion: reduce)");

  // Fills an element. `stages` are names in order, where they are known beforehand.
  constructor(element, { stages }) {
    element.classList.add("viz-pipeline");
    this.#list = make("ol", "viz-stages");
    this.#runs = make("div", "viz-runs");
    this.#runs.setAttribute("aria-hidden", "true");
    element.replaceChildren(this.#list, this.#runs);
    new ResizeObserver(() => this.#arrange()).observe(element);
    this.#keep(stages);
  }

  // Shows figures for each stage, in order: {name, ms, hits, median, p95}; `events` is what they are of.
  show(stages, events) {
    const names = stages.map(({ name }) => name);
    if (names.join("\n") !== [...this.#cells.keys()].join("\n")) this.#keep(names);
    const allMs = stages.reduce((sum, { ms }) => sum + ms, 0);
    let left = events;
    for (const stage of stages) {
      const cell = this.#cells.get(stage.name);
      left -= stage.hits;
      write(cell.hits, share(stage.hits, events));
      write(cell.count, `${count(stage.hits)} answered`);
      write(cell.time, `${share(stage.ms, allMs)} of time`);
      write(cell.median, quantile(stage.median));
      write(cell.p95, quantile(stage.p95));
      cell.item.style.setProperty("--hits", events ? stage.hits / events : 0);
      cell.item.style.setProperty("--time", allMs ? stage.ms / allMs : 0);
      cell.item.style.setProperty("--on", events ? Math.max(left, 0) / events : 0);
    }
  }

  // Lets an event run, if there is room for it in the picture; `always` makes room.
  run(event, { always = false } = {}) {
    const now = performance.now();
    const isTooMuch = now - this.#lastRun < 1000 / RUNS_PER_SECOND || this.#running >= MOST_RUNS;
    if (!event.stages?.length || document.hidden || (isTooMuch && !always)) return;
    const way = this.#wayOf(event.stages);
    if (way.length === 0) return;
    this.#lastRun = now;
    if (this.#stillness.matches) {
      for (const { item } of this.#cells.values()) item.classList.toggle("viz-last", item === way.at(-1).cell.item && way.answered);
      return;
    }
    this.#animate(event, way, always);
  }

  // The stages up to the one that answered, with their places and how long each takes in the picture.
  #wayOf(stages) {
    this.#nodes ??= this.#measure();
    const end = stages.findIndex(({ hit }) => hit);
    const walked = (end < 0 ? stages : stages.slice(0, end + 1)).filter(({ name }) => this.#nodes.has(name));
    const allMs = walked.reduce((sum, { ms }) => sum + Math.max(ms, 0), 0) || 1;
    const way = walked.map(({ name, ms }) => ({
      cell: this.#cells.get(name),
      ...this.#nodes.get(name),
      takes: STEP_MS + STRETCH_MS * Math.max(ms / allMs, 0),
    }));
    way.answered = end >= 0;
    return way;
  }

  #animate(event, way, marked) {
    const all = way.reduce((sum, { takes }) => sum + takes, 0);
    const last = way.at(-1);
    const at = ({ x, y }) => `translate(${x}px, ${y}px)`;
    const frames = [{ transform: `translate(${way[0].x - 24}px, ${way[0].y}px)`, opacity: 0, offset: 0 }];
    let passed = 0;
    way.forEach((node, index) => {
      const before = way[index - 1];
      // Into the next row: out on the right and in again on the left.
      if (before && before.y !== node.y && before.x > node.x) {
        const offset = passed / all;
        frames.push({ transform: `translate(${before.x + 24}px, ${before.y}px)`, opacity: 0, offset });
        frames.push({ transform: `translate(${node.x - 24}px, ${node.y}px)`, opacity: 0, offset });
      }
      frames.push({ transform: at(node), opacity: 1, offset: (passed + node.takes * 0.6) / all });
      passed += node.takes;
      frames.push({ transform: at(node), opacity: 1, offset: Math.min(passed / all, 1) });
    });
    const dot = make("span", `viz-run viz-${event.status}`);
    dot.classList.toggle("viz-marked", marked);
    this.#runs.append(dot);
    this.#running += 1;
    dot.animate(frames, { duration: all, fill: "both" }).finished.then(
      () => {
        if (way.answered) light(last.cell, event.status);
        dot.remove();
        this.#running -= 1;
      },
      () => (this.#running -= 1),
    );
  }

  // Makes the row have these stages.
  #keep(names) {
    this.#cells = new Map(names.map((name) => [name, this.#cells.get(name) ?? cellOf(name)]));
    const cells = [...this.#cells.values()];
    cells.forEach(({ number }, index) => write(number, String(index + 1)));
    this.#list.replaceChildren(...cells.map(({ item }) => item));
    this.#arrange();
  }

  // Puts the stages in rows of the same length.
  #arrange() {
    const width = this.#list.clientWidth;
    const rows = Math.ceil((this.#cells.size * LEAST_WIDTH) / Math.max(width, 1));
    const upright = width < UPRIGHT_BELOW;
    this.#list.style.setProperty("--columns", upright ? 1 : Math.max(Math.ceil(this.#cells.size / rows), 1));
    this.#list.classList.toggle("viz-upright", upright);
    this.#nodes = null;
  }

  #measure() {
    const { left, top } = this.#runs.getBoundingClientRect();
    const centre = ({ number }) => {
      const box = number.getBoundingClientRect();
      return { x: box.left - left + box.width / 2, y: box.top - top + box.height / 2 };
    };
    return new Map([...this.#cells].map(([name, cell]) => [name, centre(cell)]));
  }
}

function light({ glow }, status) {
  glow.className = `viz-glow viz-${status}`;
  glow.animate([{ opacity: 1 }, { opacity: 0 }], { duration: GLOW_MS, easing: "ease-out" });
}

function cellOf(name) {
  const parts = ["number", "glow", "name", "hits", "count", "time", "median", "p95"];
  const cell = Object.fromEntries(parts.map((part) => [part, make("span", `viz-${part}`)]));
  write(cell.name, name);
  cell.name.title = name;
  cell.item = make(
    "li", "viz-stage",
    make("span", "viz-head", make("span", "viz-track"), cell.number, cell.glow),
    cell.name,
    make("span", "viz-answers", cell.hits, " ", cell.count),
    make("span", "viz-bar"),
    cell.time,
    make("span", "viz-times", make("span", "viz-pair", "median ", cell.median), make("span", "viz-pair", "p95 ", cell.p95)),
  );
  return cell;
}
