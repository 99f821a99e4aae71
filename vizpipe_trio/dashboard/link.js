// A page's way to the events: through the hub that all tabs of this browser share.
//
//   const link = new Link({ state: (state) => …, items: (items) => … });
//   link.watch({ query: "op=WRITE", token });
//
// The states are those of stream.js. An item is an event, {id, data} with its JSON as it came, or a gap,
// {missed, reason}, where `missed` is null if the number can't be known.

import { NAME, electedPort, ownPort } from "./election.js";

const HEARTBEATS = 2.5; // without any of them the connection is lost
const SILENCE_MS = 5000; // of a hub, which pings more often: it is asked, and after as long again it is left
const PLACES = 10000; // more than another tab of this browser can be behind

export class Link {
  #tell;
  #port;
  #silence;
  #watched = null;
  #lent; // the token that the server took, for the next hub, which knows no other tab's
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

  // A worker may be forbidden, which Chromium does not always say, and dies with the tab that began it; a tab may
  // stand still. Each way is for where those before it do not work.
  #open(way = window.SharedWorker ? 0 : 1) {
    let hasSpoken = false;
    const leave = () => {
      if (this.#port !== port) return;
      port.postMessage({ type: "bye" });
      this.#open(way === 0 && hasSpoken ? 0 : way + 1);
      this.#again();
    };
    const listen = (then) => {
      clearTimeout(this.#silence);
      this.#silence = setTimeout(then, SILENCE_MS);
    };
    const ask = () => {
      listen(leave);
      port.postMessage({ type: "ping" });
    };
    const port = [workerPort, electedPort, ownPort][way](leave, () => this.#again());
    port.onmessage = ({ data }) => {
      if (this.#port !== port) return;
      hasSpoken = true;
      listen(ask);
      this.#hear(data);
    };
    this.#port = port;
    listen(ask);
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
    this.#port.postMessage({ type: "watch", watch: this.#watch, place: this.#place, lent: this.#lent, ...this.#watched });
  }

  #hear(message) {
    if (message.type === "ping") this.#port.postMessage({ type: "pong" });
    else if (message.type === "fault") throw new Error(message.text);
    else if (message.watch !== this.#watch) return; // under way since before the last question
    else if (message.type === "again") this.#again();
    else if (message.type === "state") {
      this.#tell.state(message.state);
      if (message.state.name !== "live") return;
      this.#lent = message.state.token;
      this.#goOnFrom(message.place);
    } else if (message.type === "items") {
      // Two hubs that follow on each other may both bring an event.
      const items = message.items.filter(({ id }) => id === undefined || this.#reach(id));
      if (message.place) this.#reach(message.place);
      this.#port.postMessage({ type: "taken", watch: this.#watch, count: message.items.length });
      if (items.length > 0) this.#tell.items(items); // which may throw
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

function workerPort(onError) {
  const worker = new SharedWorker(new URL("worker.js", import.meta.url), { type: "module", name: NAME });
  worker.onerror = onError;
  return worker.port;
}
