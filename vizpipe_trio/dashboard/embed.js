// The pipeline on a page of your own, over the connection that it shares with open dashboards.

import { Account } from "./account.js";
import { Link } from "./link.js";
import { Pipeline } from "./pipeline.js";

const FIGURES_MS = 250;
const now = () => performance.now() / 1000;

// Fills an element, and returns what lets an event run through it out of turn: run(event). The options are
// told in docs/dashboard.md.
export function showPipeline(element, options) {
  const { token = null, query = "", stages = [], seconds = 120, heartbeat, state, items } = options;
  const account = new Account(now(), stages);
  const pipeline = new Pipeline(element, { stages });
  const link = new Link({
    state: (told) => state?.(told),
    items(told) {
      for (const { data } of told) {
        if (data === undefined) continue;
        const event = JSON.parse(data);
        account.event(event, now());
        pipeline.run(event);
      }
      items?.(told);
    },
  });
  const draw = () => pipeline.show(account.stages(seconds, now()), account.window(seconds, now()).sum("staged"));
  setInterval(draw, FIGURES_MS);
  link.watch({ query, token, heartbeat });
  return { run: (event) => pipeline.run(event, { always: true }) };
}
