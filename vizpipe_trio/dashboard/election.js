// Where there is no SharedWorker: one tab has the hub, and when it goes, another one takes over.
//
// The tab that holds the lock is the one. A browser without locks, which is any on a page that came
// over plain HTTP from another machine, gets a hub for each tab.

import { EVENTS, Hub } from "./hub.js";

export const NAME = "vizpipe 1"; // of what page and hub say: after an upgrade, old tabs have a hub of their own
const SETTLE_MS = 300; // in which all tabs tell a new hub where they were

// Returns a port to a hub in this page alone, like a MessagePort.
export function ownPort() {
  const port = {};
  const pass = startHub((_, message) => port.onmessage({ data: message }));
  port.postMessage = (message) => pass("", message);
  return port;
}

// Returns a port to the hub. `onNewHub` is called when a new hub has to be told.
export function electedPort(_, onNewHub) {
  if (!navigator.locks) return ownPort();
  const self = Math.random().toString(36).slice(2);
  const port = {};
  const name = `${NAME} ${EVENTS}`;
  const channel = new BroadcastChannel(name);
  port.postMessage = (message) => channel.postMessage({ to: "hub", from: self, message });
  channel.addEventListener("message", ({ data: { to, message } }) => {
    if (to === self) port.onmessage({ data: message });
    else if (to === "all") onNewHub();
  });
  navigator.locks.request(name, async () => {
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
    pass = startHub((to, message) => {
      if (to === self) port.onmessage({ data: message });
      else channel.postMessage({ to, message });
    });
    for (const [from, message] of heard) pass(from, message);
    await new Promise(() => {}); // the lock is this tab's as long as it lives
  });
  return port;
}

// Returns what takes a tab's message to a new hub in this page; `answer` takes the hub's to a tab.
function startHub(answer) {
  const hub = new Hub();
  const ends = new Map();
  return (from, message) => {
    if (!ends.has(from)) {
      const end = { postMessage: (told) => answer(from, told) };
      ends.set(from, end);
      hub.attach(end);
    }
    ends.get(from).onmessage({ data: message });
    if (message.type === "bye") ends.delete(from);
  };
}
