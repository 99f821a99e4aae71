// The hub: the streams of all tabs of one browser. It runs in a SharedWorker, or in one of the tabs.
//
// A browser allows six connections to a host over HTTP/1.1. Tabs that ask for the same share one, and when
// there are too many different questions, the later ones are answered from a stream of everything, filtered here.

import { Stream } from "./stream.js";

const MOST_FILTERED_STREAMS = 3; // and one of everything: two connections are left for pages
const MOST_UNTAKEN = 8192; // events that a tab has not taken yet; then it misses some, as the server's clients do
const PING_MS = 15000;
const GONE_AFTER_MS = 120000; // timers of a tab that nobody looks at run once a minute

export class Hub {
  #url;
  #streams = new Map();
  #tabs = new Set();
  #goodToken = null; // the last one that the server took: for a tab that was opened without

  constructor(url) {
    this.#url = url;
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
    for (const tab of this.#tabs) tab.port.postMessage({ type: "fault", text });
  }

  #hear(tab, message) {
    tab.heardAt = Date.now();
    this.#tabs.add(tab); // it may have been taken for gone, and come back
    if (message.type === "watch") this.#watch(tab, message);
    else if (message.type === "taken") tab.taken(message);
    else if (message.type === "retry") tab.stream?.source.tryNow();
    else if (message.type === "bye") this.#leave(tab);
  }

  #watch(tab, { watch, query, token, lastEventId, silenceMs }) {
    this.#quit(tab);
    tab.begin(watch);
    token ??= this.#goodToken;
    let key = JSON.stringify([token, query]);
    const filtered = [...this.#streams.values()].filter((stream) => stream.query !== "").length;
    tab.wants = null;
    if (query !== "" && filtered >= MOST_FILTERED_STREAMS && !this.#streams.has(key)) {
      tab.wants = wantedBy(query);
      query = "";
      key = JSON.stringify([token, query]);
    }
    let stream = this.#streams.get(key);
    if (stream === undefined) {
      stream = { key, query, tabs: new Set(), source: null };
      this.#streams.set(key, stream);
      stream.source = this.#open(stream, token, lastEventId, silenceMs);
    } else if (lastEventId && lastEventId !== stream.source.lastEventId) {
      tab.send([{ missed: null, reason: "history" }]); // it was away, and the stream went on
    }
    stream.tabs.add(tab);
    tab.stream = stream;
    tab.say(stream.source.state);
  }

  #open(stream, token, lastEventId, silenceMs) {
    const url = stream.query ? `${this.#url}?${stream.query}` : this.#url;
    const tell = {
      state: (state) => {
        if (state.name === "live") this.#goodToken = token;
        for (const tab of stream.tabs) tab.say(state);
      },
      items: (items) => {
        for (const tab of stream.tabs) tab.send(tab.wants ? selected(items, tab.wants) : items);
      },
    };
    return new Stream({ url, token, lastEventId, silenceMs, tell });
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
      if (tab.heardAt + GONE_AFTER_MS < Date.now()) this.#leave(tab);
      else tab.port.postMessage({ type: "ping" });
    }
  }
}

class Tab {
  stream = null;
  wants = null;
  heardAt = Date.now();
  #watch = 0; // what it asked for last: messages name it, since some are always under way
  #untaken = 0;
  #missed = 0;
  #gaps = new Map(); // what it would have been told of meanwhile

  constructor(port) {
    this.port = port;
  }

  begin(watch) {
    this.#watch = watch;
    this.#untaken = this.#missed = 0;
    this.#gaps.clear();
  }

  say(state) {
    this.port.postMessage({ type: "state", watch: this.#watch, state });
  }

  send(items) {
    if (this.#untaken > MOST_UNTAKEN) {
      for (const item of items) this.#miss(item);
      return;
    }
    if (items.length === 0) return;
    this.#untaken += items.length;
    this.port.postMessage({ type: "items", watch: this.#watch, items });
  }

  taken({ watch, count }) {
    if (watch !== this.#watch) return;
    this.#untaken -= count;
    if (this.#untaken > MOST_UNTAKEN / 2 || (this.#missed === 0 && this.#gaps.size === 0)) return;
    const gaps = [...this.#gaps].map(([reason, missed]) => ({ missed, reason }));
    if (this.#missed > 0) gaps.unshift({ missed: this.#missed, reason: "slow" });
    this.#missed = 0;
    this.#gaps.clear();
    this.send(gaps);
  }

  #miss(item) {
    if (item.data !== undefined) this.#missed += 1;
    else {
      const before = this.#gaps.has(item.reason) ? this.#gaps.get(item.reason) : 0;
      this.#gaps.set(item.reason, before === null || item.missed === null ? null : before + item.missed);
    }
  }
}

// The server's filter, on this side: alternatives within a name, and all names must fit.
function wantedBy(query) {
  const asked = new Map();
  for (const [name, value] of new URLSearchParams(query)) {
    asked.set(name, [...(asked.get(name) ?? []), value]);
  }
  return (event) =>
    [...asked].every(([name, values]) =>
      name === "label"
        ? values.some((value) => event.labels.includes(value))
        : values.includes(event[name]),
    );
}

function selected(items, wants) {
  return items.flatMap((item) => {
    // How many of the missed would have been let through is unknown.
    if (item.data === undefined) return [{ missed: null, reason: item.reason }];
    return wants(JSON.parse(item.data)) ? [item] : [];
  });
}
