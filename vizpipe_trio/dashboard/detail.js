// One event, whole: its fields, a waterfall of its stages, and its JSON to copy.

import { duration, make } from "./words.js";

const FIELDS = {
  Time: "ts",
  Request: "request_id",
  Source: "source",
  Op: "op",
  Actor: "actor_type",
  Status: "status",
  Labels: "labels",
  Results: "result_count",
};

export class Detail {
  #panel;
  #closed;

  // `closed` is called when the panel is closed by somebody.
  constructor(panel, closed) {
    this.#panel = panel;
    this.#closed = closed;
    this.#part("close").addEventListener("click", () => this.close());
    this.#part("copy").addEventListener("click", () => this.#copy());
    panel.addEventListener("keydown", (event) => event.key === "Escape" && this.close());
  }

  show({ event, data }) {
    this.#part("subject").textContent = event.subject || event.request_id || "(no subject)";
    this.#part("fields").replaceChildren(...fieldsOf(event));
    this.#part("waterfall").replaceChildren(...waterfall(event));
    this.#part("no-stages").hidden = Boolean(event.stages?.length);
    this.#part("json").textContent = data;
    this.#part("copied").textContent = "";
    this.#panel.hidden = false;
    this.#part("subject").focus();
  }

  close() {
    this.#panel.hidden = true;
    this.#closed();
  }

  #part(name) {
    return this.#panel.querySelector(`[data-part="${name}"]`);
  }

  async #copy() {
    let copied = false;
    try {
      await navigator.clipboard.writeText(this.#part("json").textContent); // only where the page came by a secure way
      copied = true;
    } catch {
      getSelection().selectAllChildren(this.#part("json"));
      copied = document.execCommand("copy");
      getSelection().removeAllRanges();
    }
    this.#part("copied").textContent = copied ? "Copied" : "This browser does not let a page copy";
  }
}

function fieldsOf(event) {
  const fields = Object.entries(FIELDS).map(([name, field]) => [name, [event[field]].flat().join(", ")]);
  return [...fields, ["Total", duration(event.total_ms)]].flatMap(([name, value]) => [
    make("dt", "", name),
    make("dd", "", value || "–"),
  ]);
}

// Stages follow on each other; what is left of the total lies between them, and is shown last.
function waterfall({ stages, total_ms: total }) {
  if (!stages?.length) return [];
  const inStages = stages.reduce((sum, { ms }) => sum + ms, 0);
  const all = Math.max(total, inStages) || 1;
  let from = 0;
  const rows = stages.map(({ name, ms, hit }) => {
    const row = bar(name, duration(ms), from / all, ms / all);
    row.className = hit ? "hit" : ms === 0 ? "idle" : "";
    if (hit) row.firstElementChild.append(make("em", "", "answered"));
    from += ms;
    return row;
  });
  if (total - inStages > 1e-4) rows.push(bar("between stages", duration(total - inStages), from / all, (total - inStages) / all));
  return rows;
}

function bar(name, time, from, length) {
  const track = make("span", "track");
  track.style.setProperty("--from", from);
  track.style.setProperty("--length", length);
  return make("li", "", make("span", "label", `${name} `), track, make("span", "value", time));
}
