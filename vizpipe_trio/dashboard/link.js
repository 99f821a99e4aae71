// A page's way to the events: through the hub that all tabs of this browser share.
//
//   const link = new Link({ state: (state) => …, items: (items) => … });
//   link.watch({ query: "op=WRITE", token });
//
// The states are those of stream.js. An item is an event, {id, data} with its JSON as it came, or a gap,
// {missed, reason}, where `missed` is null if the number can't be known.

import { electedPort } from "./election.js";

const EVENTS = new URL("../api/viz/events", import.meta.url).href;
const PROTOCOL = 1; // between page and worker: after an upgrade, old tabs and new ones have a worker each
const HEARTBEATS = 2.5; // without any of them the connection is lost
const SILENCE_MS = 10000; // of a worker, which pings more often: it is not there
const PLACES = 10000; // more than another tab of this browser can be behind

export class Link {
  #tell;
  #port;
  #silence;
  #watched = null;
  #watch = 0;
  #place = null; // up to which it has all, see stream.js
  #places = new Set(); // the last ones

  constructor(tell) {
    this.#tell = tell;
    this.#open();
    window.addEventListener("pagehide", () => {
      this.#port.postMessage({ type: "bye" });
      tell.state({ name: "waiting" });
    });
    // Out of the browser's cache of pages, as after "back".
    window.addEventListener("pageshow", (event) => event.persisted && this.#again());
  }

  #open(canShare = "SharedWorker" in window) {
    if (!canShare) {
      this.#use(electedPort(EVENTS, () => this.#again()));
      return;
    }
    const options = { type: "module", name: `vizpipe ${PROTOCOL}` };
    const worker = new SharedWorker(new URL("worker.js", import.meta.url), options);
    const { port } = worker;
    let hasSpoken = false;
    const leave = () => {
      if (this.#port !== port) return;
      port.postMessage({ type: "bye" });
      this.#open(hasSpoken);
      this.#again();
    };
    const listen = () => {
      clearTimeout(this.#silence);
      this.#silence = setTimeout(leave, SILENCE_MS);
    };
    // A page's policy may forbid it, which Chromium does not always say; and it dies with the tab that began it.
    worker.onerror = leave;
    this.#use(port, () => {
      hasSpoken = true;
      listen();
    });
    listen();
  }

  #use(port, noteWord) {
    this.#port = port;
    port.onmessage = ({ data }) => {
      noteWord?.();
      this.#hear(data);
    };
  }

  // Ask for the events that a filter's query lets through, from now on.
  watch({ query = "", token = null, heartbeat = 15 }) {
    this.#place = null;
    this.#places.clear();
    this.#watched = { query, token, silenceMs: heartbeat * HEARTBEATS * 1000 };
    this.#again();
  }

  // Don't wait for the next try.
  tryNow() {
    this.#port.postMessage({ type: "retry" });
  }

  #again() {
    if (this.#watched === null) return;
    this.#watch += 1;
    this.#port.postMessage({ type: "watch", watch: this.#watch, place: this.#place, ...this.#watched });
  }

  #hear(message) {
    if (message.type === "ping") this.#port.postMessage({ type: "pong" });
    else if (message.type === "fault") throw new Error(message.text);
    else if (message.watch !== this.#watch) return; // under way since before the last question
    else if (message.type === "again") this.#again();
    else if (message.type === "state") {
      this.#tell.state(message.state);
      if (message.state.name === "live") this.#goOnFrom(message.place);
    } else if (message.type === "items") {
      // Two hubs that follow on each other may both bring an event.
      const items = message.items.filter(({ id }) => id === undefined || this.#reach(id));
      if (message.place) this.#reach(message.place);
      if (items.length > 0) this.#tell.items(items);
      this.#port.postMessage({ type: "taken", watch: this.#watch, count: message.items.length });
    }
  }

  // The stream goes on from a place where this page has been, or it went on without it.
  #goOnFrom(place) {
    const isKnown = this.#place === null || this.#places.has(place);
    if (this.#reach(place) && !isKnown) this.#tell.items([{ missed: null, reason: "history" }]);
  }

  // Says whether the place is a new one.
  #reach(place) {
    if (this.#places.has(place)) return false;
    if (this.#places.size === PLACES) this.#places.delete(this.#places.values().next().value);
    this.#places.add(place);
    this.#place = place;
    return true;
  }
}
