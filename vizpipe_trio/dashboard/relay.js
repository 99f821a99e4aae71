// Says when the server's processes have lost the relay between them.

import { write } from "./words.js";

const STATS = new URL("../api/viz/stats", import.meta.url);
let askAt = 0;

// Without a relay it is asked once.
export async function watchRelay(line, { token }) {
  if (document.hidden || Date.now() < askAt) return;
  askAt = Date.now() + 20000;
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const { relay } = await fetch(STATS, { headers }).then((answer) => answer.json()).catch(() => ({}));
  if (relay === null) askAt = Infinity;
  line.hidden = relay?.connected ?? true;
  write(line, `Other processes’ events are late: ${relay?.fault}`);
}
