// The SharedWorker's script: one hub for all tabs of this browser.

import { Hub } from "./hub.js";

const hub = new Hub();

self.addEventListener("connect", ({ ports: [port] }) => hub.attach(port));
self.addEventListener("error", (event) => hub.complain(event.message));
self.addEventListener("unhandledrejection", (event) => hub.complain(String(event.reason)));
