// The connection's state and what was lost, in words: for the eye at once, for the ear without chatter.

import { missing, part, write } from "./words.js";

const BETWEEN_LOSSES_MS = 15000; // in which a loss is announced once

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
    part("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      openWith(part("token").value);
    });
  }

  get live() {
    return this.#state.name === "live" && this.#state;
  }

  become(state) {
    this.#state = state;
    part("state").dataset.state = state.name;
    hide(part("try-now"), state.until === undefined && (state.name !== "refused" || state.status === 401));
    write(part("announced"), WORDS[state.name]);
    this.#notice(state);
    this.tick();
  }

  // Counts down; not for the ear.
  tick() {
    const { name, until } = this.#state;
    const seconds = Math.max(Math.ceil((until - Date.now()) / 1000), 0);
    const soon = `${name === "waiting" ? "" : ", next try"} in ${seconds} s`;
    const words = WORDS[name] + (until === undefined ? "" : seconds > 0 ? soon : "…");
    write(part("words"), words);
  }

  noteMissed(total) {
    const text = missing(total);
    if (text === this.#losses || performance.now() < this.#lossesAt + BETWEEN_LOSSES_MS) return;
    this.#losses = text;
    if (text === "0") return;
    this.#lossesAt = performance.now();
    write(part("announced"), `${text.replace("≥", "At least").replace("?", "Some")} events missed so far`);
  }

  #notice({ name, status, why, allowed, token }) {
    if (name === "connecting") return; // what was refused may be so again
    hide(part("notice"), !(name in NOTICES));
    if (!(name in NOTICES)) {
      part("token").value = "";
      return;
    }
    const needs = token ? "The server does not take this token" : "This stream needs a token";
    part("notice-words").textContent = status === 401 ? needs : NOTICES[name];
    const choices = allowed ? `. There are: ${allowed.join(", ")}` : "";
    part("notice-why").textContent = `${status ? `${status}: ` : ""}${why}${choices}`;
    part("token-form").hidden = status !== 401;
  }
}

// The focus, if it is in there, goes to the state.
function hide(element, isHidden) {
  if (isHidden && element.contains(document.activeElement)) part("state").focus();
  element.hidden = isHidden;
}
