// Where there is no SharedWorker: one tab has the hub, and when it goes, another one takes over.
//
// The tab that holds the lock is the one. A browser without locks, which is any on a page that came
// over plain HTTP from another machine, gets a hub for each tab.

import { Hub } from "./hub.js";

const SETTLE_MS = 300; // in which all tabs tell a new hub where they were

// Returns a port to the hub, like a MessagePort. `onNewHub` is called when a new hub has to be told.
export function electedPort(url, onNewHub) {
  const self = Math.random().toString(36).slice(2);
  const port = { onmessage: null, postMessage: null };
  if (!navigator.locks) {
    const pass = startHub(url, (_, message) => port.onmessage({ data: message }));
    port.postMessage = (message) => pass(self, message);
    return port;
  }
  const channel = new BroadcastChannel(`vizpipe ${url}`);
  port.postMessage = (message) => channel.postMessage({ to: "hub", from: self, message });
  channel.addEventListener("message", ({ data: { to, message } }) => {
    if (to === self) port.onmessage({ data: message });
    else if (to === "all") onNewHub();
  });
  navigator.locks.request(`vizpipe ${url}`, async () => {
    // What comes in until the hub is there; then all tabs join at once, before a stream has brought anything.
    const heard = [];
    let pass = (from, message) => heard.push([from, message]);
    channel.addEventListener("message", ({ data: { to, from, message } }) => {
      if (to === "hub") pass(from, message);
    });
    port.postMessage = (message) => pass(self, message);
    channel.postMessage({ to: "all" });
    onNewHub();
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    pass = startHub(url, (to, message) => {
      if (to === self) port.onmessage({ data: message });
      else channel.postMessage({ to, message });
    });
    for (const [from, message] of heard) pass(from, message);
    await new Promise(() => {}); // the lock is this tab's as long as it lives
  });
  return port;
}

// Returns what takes a tab's message to a new hub in this page; `answer` takes the hub's to a tab.
function startHub(url, answer) {
  const hub = new Hub(url);
  const ends = new Map();
  return (from, message) => {
    if (!ends.has(from)) {
      const end = { onmessage: null, postMessage: (told) => answer(from, told) };
      ends.set(from, end);
      hub.attach(end);
    }
    ends.get(from).onmessage({ data: message });
    if (message.type === "bye") ends.delete(from);
  };
}
