// Numbers and losses in words, and words in elements, the same everywhere on the page.

import { MOST_MS } from "./histogram.js";

const whole = new Intl.NumberFormat("en");
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });

const REASONS = {
  slow: "this page was too slow",
  overload: "the pipe’s entrance was full",
  history: "gone before this page came back",
  relay: "lost between the server’s processes",
};

export const part = (id) => document.getElementById(id);

// Puts a text into an element, unless it is there already.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function make(tag, className, ...children) {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
}

export const count = (number) => whole.format(number);

export function share(part, all) {
  const value = part / all;
  if (Number.isNaN(value)) return "–";
  if (value === 0 || value === 1) return `${value * 100}%`;
  return value < 0.001 ? "< 0.1%" : value > 0.999 ? "> 99.9%" : percent.format(value);
}

// A rate, with as many digits as mean something; "≥" if it is a lower bound.
export function rate(perSecond, isLowerBound) {
  if (Number.isNaN(perSecond)) return "–";
  const digits = perSecond >= 100 || perSecond === 0 ? 0 : perSecond >= 10 ? 1 : perSecond >= 0.1 ? 2 : 3;
  const number = perSecond >= 1000 ? count(Math.round(perSecond)) : perSecond.toFixed(digits);
  return (isLowerBound ? "≥ " : "") + number;
}

export function duration(ms) {
  if (Number.isNaN(ms)) return "–";
  if (ms === 0) return "0 ms";
  if (ms > 0 && ms < 0.00995) return `${(ms * 1000).toFixed(1)} µs`;
  if (ms >= 9995) return `${(ms / 1000).toFixed(1)} s`;
  if (ms >= 999.5) return `${(ms / 1000).toFixed(2)} s`;
  return ms >= 99.5 ? `${ms.toFixed(0)} ms` : ms >= 9.95 ? `${ms.toFixed(1)} ms` : `${ms.toFixed(2)} ms`;
}

export const quantile = (ms) => (ms > MOST_MS ? `≥ ${duration(MOST_MS)}` : duration(ms));

// How many are missing: null is an unknown number, and `known` says that there were others beside it.
export function missing({ known, unknown }) {
  if (!unknown) return count(known);
  return known > 0 ? `≥ ${count(known)}` : "?";
}

export function gapText({ missed, reason }) {
  const events = missed === null ? "An unknown number of events" : missed === 1 ? "1 event" : `${count(missed)} events`;
  return `${events} missing here: ${REASONS[reason] ?? reason}`;
}

// A moment as this machine's clock shows it, to the millisecond.
export function clock(date) {
  return `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}
