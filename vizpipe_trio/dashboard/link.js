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

export class Link {
  #tell;
  #port;
  #watched = null;
  #watch = 0;
  #lastEventId = null;

  constructor(tell) {
    this.#tell = tell;
    this.#open();
    window.addEventListener("pagehide", () => this.#port.postMessage({ type: "bye" }));
    // Out of the browser's cache of pages, as after "back".
    window.addEventListener("pageshow", (event) => event.persisted && this.#again());
  }

  #open() {
    const elect = () => this.#use(electedPort(EVENTS, () => this.#again()));
    if (typeof SharedWorker === "undefined") {
      elect();
      return;
    }
    const options = { type: "module", name: `vizpipe ${PROTOCOL}` };
    const worker = new SharedWorker(new URL("worker.js", import.meta.url), options);
    // It cannot be had, as on a page whose policy forbids it.
    worker.onerror = () => {
      elect();
      this.#again();
    };
    this.#use(worker.port);
  }

  #use(port) {
    this.#port = port;
    port.onmessage = ({ data }) => this.#hear(data);
  }

  // Ask for the events that a filter's query lets through, from now on.
  watch({ query = "", token = null, heartbeat = 15 }) {
    this.#lastEventId = null;
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
    const where = { watch: this.#watch, lastEventId: this.#lastEventId };
    this.#port.postMessage({ type: "watch", ...this.#watched, ...where });
  }

  #hear(message) {
    if (message.type === "ping") this.#port.postMessage({ type: "pong" });
    else if (message.type === "fault") throw new Error(message.text);
    else if (message.watch !== this.#watch) return; // under way since before the last question
    else if (message.type === "state") this.#tell.state(message.state);
    else if (message.type === "items") {
      this.#tell.items(message.items.filter((item) => this.#isNew(item)));
      this.#port.postMessage({ type: "taken", watch: this.#watch, count: message.items.length });
    }
  }

  // Two hubs that follow on each other may both bring an event.
  #isNew({ id }) {
    if (id === undefined) return true;
    const [run, number] = id.split("-");
    const [lastRun, last] = this.#lastEventId?.split("-") ?? [];
    if (run === lastRun && Number(number) <= Number(last)) return false;
    this.#lastEventId = id;
    return true;
  }
}
