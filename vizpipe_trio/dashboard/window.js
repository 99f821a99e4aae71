// What went by in the last so many seconds, in 60 slots, so that the oldest can be forgotten.

import { Histogram, bucketOf, total } from "./histogram.js";

export const SLOTS = 60;
const RING = SLOTS + 1; // and the one that is not full yet

const NAMES = ["QUERY", "WRITE", "ALLOWED", "FILTERED", "DENIED", "staged", "missed", "away"]; // the last two: whether at all

export class Window {
  slotSeconds;
  series = Object.fromEntries(NAMES.map((name) => [name, new Float64Array(RING)]));
  #total = new Histogram(RING);
  #stages = new Map();
  #began;
  #slot; // counted from the clock's beginning

  constructor(seconds, now) {
    this.slotSeconds = seconds / SLOTS;
    this.#began = now;
    this.#slot = Math.floor(now / this.slotSeconds);
  }

  // Forgets what has left the window. Times are in seconds.
  advance(now) {
    const slot = Math.floor(now / this.slotSeconds);
    for (let next = Math.max(this.#slot, slot - RING) + 1; next <= slot; next += 1) this.#clear(next % RING);
    this.#slot = slot;
  }

  #clear(place) {
    for (const name of NAMES) this.series[name][place] = 0;
    this.#total.clear(place);
    for (const stage of this.#stages.values()) {
      stage.ms[place] = stage.hits[place] = 0;
      stage.times.clear(place);
    }
  }

  // Where what came at some time is counted; what left the window long ago, at its beginning.
  #placeOf(at) {
    const slot = Math.floor(at / this.slotSeconds);
    return Math.min(Math.max(slot, this.#slot - RING + 1), this.#slot) % RING;
  }

  add(event, at) {
    this.count(event.op, 1, at);
    this.count(event.status, 1, at);
    if (event.stages?.length) this.count("staged", 1, at);
    this.#total.add(this.#placeOf(at), bucketOf(event.total_ms));
  }

  count(name, number, at) {
    this.series[name][this.#placeOf(at)] += number;
  }

  // There was no connection since a moment.
  markAway(since) {
    const first = Math.max(Math.floor(since / this.slotSeconds), this.#slot - RING + 1);
    for (let slot = first; slot <= this.#slot; slot += 1) this.series.away[slot % RING] = 1;
  }

  #stageOf(key) {
    if (!this.#stages.has(key)) {
      const stage = { ms: new Float64Array(RING), hits: new Float64Array(RING), times: new Histogram(RING) };
      this.#stages.set(key, stage);
    }
    return this.#stages.get(key);
  }

  addStage(key, { ms, hit }, at) {
    const place = this.#placeOf(at);
    const stage = this.#stageOf(key);
    stage.ms[place] += ms;
    if (hit) stage.hits[place] += 1;
    if (ms > 0) stage.times.add(place, bucketOf(ms)); // those that ran
  }

  sum(name) {
    return total(this.series[name]);
  }

  // Seconds that the window has been looking at.
  seconds(now) {
    return Math.min(now - this.#began, SLOTS * this.slotSeconds + (now % this.slotSeconds));
  }

  // Of the whole window, or of some places together.
  quantiles(shares, places) {
    return this.#total.quantiles(shares, places);
  }

  stage(key) {
    const { ms, hits, times } = this.#stageOf(key);
    const [median, p95] = times.quantiles([0.5, 0.95]);
    return { ms: total(ms), hits: total(hits), median, p95 };
  }

  // The places of the full slots, oldest first; null for those before the window was opened.
  places() {
    const first = Math.ceil(this.#began / this.slotSeconds);
    return Array.from({ length: SLOTS }, (_, index) => {
      const slot = this.#slot - SLOTS + index;
      return slot < first - 1 ? null : slot % RING;
    });
  }
}
