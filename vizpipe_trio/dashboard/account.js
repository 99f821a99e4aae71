// The page's account of what came in. Everything is counted here, whatever is drawn of it.

import { Window } from "./window.js";

export const WINDOWS = [30, 120, 600]; // seconds
const MOST_STAGES = 24; // those that come later are counted together
const OTHERS = "(other stages)";

export class Account {
  seen = 0;
  missed = new Map(["slow", "overload", "history"].map((reason) => [reason, { known: 0, unknown: false }]));
  #stages = new Map(); // name → place
  #windows;

  // `stages` are names in order, where they are known beforehand.
  constructor(now, stages) {
    this.#windows = new Map(WINDOWS.map((seconds) => [seconds, new Window(seconds, now)]));
    stages.forEach((name, index) => this.#stages.set(name, index + 1));
  }

  // `at` is when it came or, if it is late, when it would have come.
  event(event, now, at = now) {
    this.seen += 1;
    for (const window of this.#at(now)) window.add(event, at);
    for (const stage of event.stages ?? []) {
      const key = this.#keyOf(stage);
      for (const window of this.#windows.values()) window.addStage(key, stage, at);
    }
  }

  gap({ missed, reason }, now) {
    if (!this.missed.has(reason)) this.missed.set(reason, { known: 0, unknown: false });
    const total = this.missed.get(reason);
    total.known += missed ?? 0;
    total.unknown ||= missed === null;
    for (const window of this.#at(now)) window.count("missed", 1, now);
  }

  // Say so now and then while there is no connection, and at its end.
  away(since, now) {
    for (const window of this.#at(now)) window.markAway(since);
  }

  get allMissed() {
    const totals = [...this.missed.values()];
    return {
      known: totals.reduce((sum, { known }) => sum + known, 0),
      unknown: totals.some(({ unknown }) => unknown),
    };
  }

  window(seconds, now) {
    const window = this.#windows.get(seconds);
    window.advance(now);
    return window;
  }

  // Each stage with its part of the last so many seconds, in the pipeline's order.
  stages(seconds, now) {
    const window = this.window(seconds, now);
    const stages = [...this.#stages].sort(([, a], [, b]) => a - b);
    return stages.map(([name]) => ({ name, ...window.stage(name) }));
  }

  #at(now) {
    for (const window of this.#windows.values()) window.advance(now);
    return this.#windows.values();
  }

  #keyOf({ name, stage }) {
    if (this.#stages.has(name)) return name;
    if (this.#stages.size >= MOST_STAGES) {
      this.#stages.set(OTHERS, Infinity);
      return OTHERS;
    }
    this.#stages.set(name, stage);
    return name;
  }
}
