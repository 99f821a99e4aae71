// The hub: the streams of all tabs of one browser. It runs in a SharedWorker, or in one of the tabs.
//
// A browser allows six connections to a host over HTTP/1.1. Tabs that ask for the same share one, and when
// there are too many different questions, the later ones are answered from a stream of everything, filtered here.

import { Stream } from "./stream.js";

export const EVENTS = new URL("../api/viz/events", import.meta.url).href;
const MOST_FILTERED_STREAMS = 3; // and one of everything: two connections are left for pages
const MOST_UNTAKEN = 8192; // events that a tab has not taken yet; then it misses some, as the server's clients do
const PING_MS = 3000;
const MOST_PINGS = 40; // without an answer. They are counted, since the time goes on while the machine sleeps

// What the server filters by, and all values where it knows them.
export const FILTERS = ["op", "status", "actor_type", "source", "label"];
export const VALUES = {
  op: ["QUERY", "WRITE"],
  status: ["ALLOWED", "FILTERED", "DENIED"],
  actor_type: ["user", "agent", "system"],
};

export class Hub {
  #streams = new Map();
  #tabs = new Set();
  #goodToken = null; // the last one that the server took: for a tab that was opened without

  constructor() {
    setInterval(() => this.#pingAll(), PING_MS);
  }

  // Serves a tab, through a port with postMessage() and onmessage.
  attach(port) {
    const tab = new Tab(port);
    this.#tabs.add(tab);
    port.onmessage = ({ data }) => this.#hear(tab, data);
  }

  // Tells all tabs of a fault in here, which nobody would see otherwise.
  complain(text) {
    for (const tab of this.#tabs) tab.tell({ type: "fault", text });
  }

  #hear(tab, message) {
    tab.pings = 0;
    const isBack = !this.#tabs.has(tab);
    this.#tabs.add(tab);
    if (message.type === "bye") this.#leave(tab);
    else if (message.type === "watch") this.#watch(tab, message);
    else if (isBack) tab.tell({ type: "again" }); // it was taken for gone, and its stream is not there any more
    else if (message.type === "ping") tab.tell({ type: "pong" });
    else if (message.type === "taken") tab.taken(message);
    else if (message.type === "retry") tab.stream?.source.tryNow();
  }

  #watch(tab, { watch, query, token, lent, place, silenceMs }) {
    this.#quit(tab);
    tab.begin(watch);
    token ??= this.#goodToken ?? lent;
    let key = JSON.stringify([token, query]);
    const filtered = [...this.#streams.values()].filter((stream) => stream.query).length;
    tab.wants = null;
    if (query !== "" && filtered >= MOST_FILTERED_STREAMS && !this.#streams.has(key) && isKnown(query)) {
      tab.wants = wantedBy(query);
      query = "";
      key = JSON.stringify([token, query]);
    }
    let stream = this.#streams.get(key);
    if (stream === undefined) {
      stream = { key, query, tabs: new Set(), source: null };
      this.#streams.set(key, stream);
      stream.source = this.#open(stream, token, place, silenceMs);
    }
    stream.tabs.add(tab);
    tab.stream = stream;
    tab.say(stream.source);
  }

  #open(stream, token, place, silenceMs) {
    const url = stream.query ? `${EVENTS}?${stream.query}` : EVENTS;
    const tell = {
      state: ({ name }) => {
        for (const tab of stream.tabs) tab.say(stream.source);
        if (name !== "live" || token === this.#goodToken) return;
        this.#goodToken = token;
        for (const tab of this.#tabs) if (tab.stream?.source.state.status === 401) tab.tell({ type: "again" });
      },
      items: (items) => {
        const { place } = stream.source;
        for (const tab of stream.tabs) tab.send(tab.wants ? selected(items, tab.wants) : items, place);
      },
    };
    return new Stream({ url, token, place, silenceMs, tell });
  }

  #quit(tab) {
    const { stream } = tab;
    tab.stream = null;
    stream?.tabs.delete(tab);
    if (stream?.tabs.size === 0) {
      this.#streams.delete(stream.key);
      stream.source.close();
    }
  }

  #leave(tab) {
    this.#quit(tab);
    this.#tabs.delete(tab);
  }

  #pingAll() {
    for (const tab of this.#tabs) {
      if (tab.pings === MOST_PINGS) this.#leave(tab);
      else tab.tell({ type: "ping" });
      tab.pings += 1;
    }
  }
}

class Tab {
  stream = null;
  wants = null;
  pings = 0; // since it was heard
  #port;
  #watch = 0; // what it asked for last: messages name it, since some are always under way
  #untaken = 0;
  #gaps = new Map(); // reason → what it misses since it took too long

  constructor(port) {
    this.#port = port;
  }

  begin(watch) {
    this.#watch = watch;
    this.#untaken = 0;
    this.#gaps.clear();
  }

  tell(message) {
    this.#port.postMessage({ watch: this.#watch, ...message });
  }

  say({ state, place }) {
    this.tell({ type: "state", state, place });
  }

  // `place` is the stream's after these, which may be further than the last one that the tab gets.
  send(items, place) {
    if (this.#untaken > MOST_UNTAKEN) {
      for (const item of items) this.#miss(item);
      return;
    }
    this.#untaken += items.length;
    this.tell({ type: "items", items, place });
  }

  taken({ watch, count }) {
    if (watch !== this.#watch) return;
    this.#untaken -= count;
    if (this.#untaken > MOST_UNTAKEN / 2 || this.#gaps.size === 0) return;
    const gaps = [...this.#gaps].map(([reason, missed]) => ({ missed, reason }));
    this.#gaps.clear();
    this.send(gaps);
  }

  // An event, or a gap that it would have been told of.
  #miss({ missed = 1, reason = "slow" }) {
    const before = this.#gaps.has(reason) ? this.#gaps.get(reason) : 0;
    this.#gaps.set(reason, before === null || missed === null ? null : before + missed);
  }
}

function isKnown(query) {
  return [...new URLSearchParams(query)].every(
    ([name, value]) => FILTERS.includes(name) && (VALUES[name]?.includes(value) ?? true),
  );
}

// The server's filter, on this side: alternatives within a name, and all names must fit.
function wantedBy(query) {
  const all = new URLSearchParams(query);
  const asked = [...new Set(all.keys())].map((name) => [name === "label" ? "labels" : name, all.getAll(name)]);
  return (event) => asked.every(([field, values]) => [event[field]].flat().some((value) => values.includes(value)));
}

function selected(items, wants) {
  return items.flatMap((item) => {
    // How many of the missed would have been let through is unknown.
    if (item.data === undefined) return [{ missed: null, reason: item.reason }];
    return wants(JSON.parse(item.data)) ? [item] : [];
  });
}
