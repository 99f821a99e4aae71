// One event stream that comes back by itself, and says in which state it is.

import { EventStreamParser } from "./sse.js";

const RETRY_MS = 2000; // until the server says otherwise
const LONGEST_RETRY_MS = 15000;
const LONGEST_TIMER_MS = 2 ** 31 - 1; // a longer one ends at once

// States: connecting, live, waiting (until a time, for the next try), refused (if by the blueprint, until somebody
// asks again), full (all places are taken) and ended (the pipe has), the others with a next try as well.
export class Stream {
  state = { name: "connecting" };
  place; // the last event's ID; before there is one, the name of a moment, which begins with what no ID has
  #url;
  #token;
  #silenceMs;
  #tell;
  #failures = 0;
  #retryMs = RETRY_MS;
  #connection = new AbortController();
  #tryNow = null;
  #closed = false;

  // `tell` has the two callbacks: state(state), and items(items) with a list of {id, data} for events
  // and {missed, reason} for gaps, in order. After `silenceMs` without a byte, which is longer than the
  // server's heartbeats are apart, the connection counts as lost.
  constructor({ url, token, place, silenceMs, tell }) {
    this.#url = url;
    this.#token = token;
    this.place = place;
    this.#silenceMs = silenceMs;
    this.#tell = tell;
    this.#run().catch((error) => {
      this.#become({ name: "refused", why: `this page has a fault: ${error}` });
      throw error; // for the console
    });
  }

  close() {
    this.#closed = true;
    this.#connection.abort();
    this.#tryNow?.();
  }

  tryNow() {
    this.#tryNow?.();
  }

  async #run() {
    while (!this.#closed) {
      const outcome = await this.#connect();
      if (this.#closed) return;
      const waitMs = outcome.isFinal ? null : (outcome.waitMs ?? this.#backOff());
      this.#become(outcome.isFinal ? outcome : { ...outcome, until: Date.now() + waitMs });
      await this.#pause(waitMs);
      if (!this.#closed && outcome.isFinal) this.#become({ name: "connecting" });
    }
  }

  // Reads one response to its end, and returns the state that this leads to.
  async #connect() {
    this.#connection = new AbortController();
    const headers = { Accept: "text/event-stream" };
    // A right token has no other characters, and a header takes none: let the server say so.
    if (this.#token) headers.Authorization = `Bearer ${this.#token.replace(/[^ -~]/g, "?")}`;
    if (this.#hasEvent) headers["Last-Event-ID"] = this.place;
    let watchdog = 0;
    const listen = () => {
      clearTimeout(watchdog);
      // A server whose heartbeats are too far apart for that is trusted.
      if (this.#silenceMs <= LONGEST_TIMER_MS) watchdog = setTimeout(() => this.#connection.abort(), this.#silenceMs);
    };
    listen();
    try {
      const options = { headers, cache: "no-store", signal: this.#connection.signal };
      const response = await fetch(this.#url, options).catch(() => null); // it does not say why
      if (response === null) return { name: "waiting" };
      if (!isStream(response)) return await refusal(response);
      const reader = response.body.getReader();
      const parser = new EventStreamParser();
      const read = () => reader.read().catch(() => ({ done: true })); // it was cut
      for (let chunk = await read(); !chunk.done; chunk = await read()) {
        listen();
        this.#take(parser, chunk.value);
      }
      return { name: "waiting" };
    } finally {
      clearTimeout(watchdog);
    }
  }

  #take(parser, bytes) {
    const items = parser.push(bytes).map(itemOf).filter(Boolean);
    this.#retryMs = parser.retryMs ?? this.#retryMs;
    // The first bytes come at once, so only a stream that has spoken is live.
    if (this.state.name !== "live") this.#becomeLive();
    if (parser.lastEventId) this.place = parser.lastEventId;
    if (items.length > 0) this.#tell.items(items);
  }

  #becomeLive() {
    this.#failures = 0;
    // With no event's ID to resume from, the server can't know what went by meanwhile: it is another place.
    if (!this.#hasEvent) this.place = `\n${Math.random()}`;
    this.#become({ name: "live" });
  }

  get #hasEvent() {
    return this.place && this.place[0] !== "\n";
  }

  #become(state) {
    this.state = { ...state, token: this.#token };
    this.#tell.state(this.state);
  }

  // Longer each time and never the same for all, so that a server that restarts is not overrun.
  #backOff() {
    const wait = Math.min(this.#retryMs * 1.5 ** this.#failures, LONGEST_RETRY_MS);
    this.#failures += 1;
    return wait * (0.75 + Math.random() / 2);
  }

  async #pause(ms) {
    await new Promise((resolve) => {
      this.#tryNow = resolve;
      if (ms !== null) setTimeout(resolve, Math.min(ms, LONGEST_TIMER_MS));
    });
    this.#tryNow = null;
  }
}

function itemOf({ type, data, id }) {
  if (type === "message") return { id, data };
  return type === "missed" ? JSON.parse(data) : null; // a later version may send what this page does not know
}

function isStream({ status, headers }) {
  return status === 200 && headers.get("Content-Type")?.startsWith("text/event-stream");
}

async function refusal(response) {
  const { status } = response;
  // What is no JSON of this form is not the blueprint's: a proxy's without a server, or a host's way to log in. It passes.
  const { error, allowed } = Object(await response.json().catch(() => null));
  const isOurs = typeof error === "string";
  const why = isOurs ? error : "the answer is not an event stream";
  const waitMs = Number(response.headers.get("Retry-After")) * 1000 || undefined;
  const isOver = status >= 500 || waitMs;
  const name = !isOver ? "refused" : /^all .* taken$/.test(why) ? "full" : why === "the pipe has ended" ? "ended" : "waiting";
  return { name, status, why, allowed, waitMs, isFinal: isOurs && !isOver };
}
