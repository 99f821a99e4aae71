// The connection's state and what was lost, in words: for the eye at once, for the ear without chatter.

import { count, missing } from "./words.js";

const BETWEEN_LOSSES_MS = 15000; // in which a loss is announced once

const part = (id) => document.getElementById(id);

const WORDS = {
  connecting: "Connecting…",
  live: "Live",
  waiting: "Reconnecting",
  refused: "Refused",
  full: "Over the limit",
  ended: "Ended",
};

const NOTICES = {
  refused: "The server refuses this page",
  full: "The server has no place left for this page",
  ended: "The pipeline’s feed has ended",
};

export class StateLine {
  #state = { name: "connecting" };
  #losses = "0";
  #lossesAt = -Infinity;

  constructor({ tryNow, openWith }) {
    part("try-now").addEventListener("click", tryNow);
    part("try-again").addEventListener("click", tryNow);
    part("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      openWith(part("token").value);
      part("token").value = "";
    });
  }

  get live() {
    return this.#state.name === "live" && this.#state;
  }

  become(state) {
    this.#state = state;
    part("state").dataset.state = state.name;
    part("try-now").hidden = state.until === undefined;
    this.#announce(WORDS[state.name]);
    this.#notice(state);
    this.tick();
  }

  // Counts down; not for the ear.
  tick() {
    const { name, until } = this.#state;
    const seconds = Math.max(Math.ceil((until - Date.now()) / 1000), 0);
    const soon = name === "waiting" ? ` in ${seconds} s` : `, next try in ${seconds} s`;
    const words = WORDS[name] + (until === undefined ? "" : seconds > 0 ? soon : "…");
    if (part("words").textContent !== words) part("words").textContent = words;
  }

  noteMissed(total) {
    const text = missing(total);
    if (text === this.#losses || performance.now() < this.#lossesAt + BETWEEN_LOSSES_MS) return;
    this.#losses = text;
    if (text === "0") return;
    this.#lossesAt = performance.now();
    this.#announce(total.unknown ? `At least ${count(total.known)} events missed so far` : `${text} events missed so far`);
  }

  #announce(text) {
    if (part("announced").textContent !== text) part("announced").textContent = text;
  }

  #notice({ name, status, why, allowed }) {
    part("notice").hidden = !(name in NOTICES);
    if (!(name in NOTICES)) return;
    part("notice-words").textContent = status === 401 ? "This stream needs a token" : NOTICES[name];
    const choices = allowed ? `. There are: ${allowed.join(", ")}` : "";
    part("notice-why").textContent = `${status ? `${status}: ` : ""}${why}${choices}`;
    part("token-form").hidden = status !== 401;
    part("try-again").hidden = name !== "refused" || status === 401;
  }
}
