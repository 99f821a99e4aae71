// The three charts: rates by op, latencies, and what policy said.

import { Chart } from "./chart.js";
import { SLOTS } from "./window.js";
import { clock, make, part, quantile, rate, share, write } from "./words.js";

const QUANTILES = [0.5, 0.95, 0.99];
const SMOOTH = 3; // slots that a quantile is of: one alone has too few events
const NOW_SECONDS = 5; // what "now" is an average of

export class Charts {
  #figures = {};
  #charts = {};
  #colours = null;
  #pictures = null;

  constructor(root) {
    // By the keys it is for the ear too, once a key.
    const redraw = (name, byKey) => {
      if (this.#pictures === null) return;
      const text = this.#show(name);
      if (byKey) write(part("announced"), text);
    };
    for (const figure of root.querySelectorAll("figure")) {
      const name = figure.dataset.chart;
      this.#figures[name] = figure;
      this.#charts[name] = new Chart(figure, (byKey) => redraw(name, byKey));
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.#colours = null;
      for (const name in this.#figures) redraw(name);
    });
  }

  draw(account, seconds, now, isLive, isPaused) {
    const window = account.window(seconds, now);
    const frame = frameOf(window, seconds);
    frame.end = isPaused ? clock(new Date()).slice(0, 8) : "now";
    frame.isLowerBound = frame.note !== "" || !isLive;
    const recent = isLive ? rate(rateNow(account.window(30, now), now), frame.note !== "") : "–";
    this.#pictures = {
      rates: { ...frame, ...ratesOf(window, frame, now), headline: recent },
      latencies: { ...frame, ...latenciesOf(window, frame) },
      decisions: { ...frame, ...sharesOf(window, frame) },
    };
    write(this.#figures.rates.querySelector(".now"), isPaused ? `at ${frame.end}` : "now");
    for (const name in this.#figures) this.#show(name);
  }

  // Draws what was last counted, also when that is a while ago; returns it in words.
  #show(name) {
    this.#colours ??= coloursOf(this.#figures.rates);
    const [figure, picture, { hover }] = [this.#figures[name], this.#pictures[name], this.#charts[name]];
    this.#charts[name].draw({ ...picture, colours: this.#colours });
    const texts = picture.series.map(({ name: key, colour, values, all }) => {
      const text = hover === null ? all : picture.text(values[hover], hover);
      write(figure.querySelector(`[data-value="${key}"]`) ?? legendOf(figure, key, colour), text);
      return `${key} ${text}`;
    });
    const words = texts.join(", ");
    Object.assign(figure.querySelector("canvas"), { role: "img", ariaLabel: words });
    write(figure.querySelector(".headline"), picture.headline);
    const at = hover === null ? picture.note : agoOf(hover, picture);
    write(figure.querySelector(".at"), at);
    return `${at} ${words}`;
  }
}

// Of each chart: its series (NaN where there is no place), with what they say of the whole window and (by `text`)
// of one slot, and the headline.

function ratesOf(window, { places, marks, isLowerBound }, now) {
  const seen = Math.max(window.seconds(now), 1);
  const series = ["QUERY", "WRITE"].map((name, index) => ({
    name,
    values: places.map((place) => window.series[name][place] / window.slotSeconds),
    colour: ["accent", "second"][index],
    all: rate(window.sum(name) / seen, isLowerBound),
  }));
  return { kind: "areas", series, text: (value, slot) => rate(value, isLowerBound && marks[slot] !== "") };
}

function latenciesOf(window, { places }) {
  const some = (index) => places.slice(Math.max(index - SMOOTH + 1, 0), index + 1).filter((place) => place !== null);
  const slots = places.map((_, index) => window.quantiles(QUANTILES, some(index)));
  const all = window.quantiles(QUANTILES).map(quantile);
  const series = [
    { name: "p50", colour: "accent", thick: 2 },
    { name: "p95", colour: "second", thick: 1.5 },
    { name: "p99", colour: "soft", dash: [2, 2], thick: 1 },
  ].map((line, index) => ({ ...line, values: slots.map((values) => values[index]), all: all[index] }));
  return { kind: "lines", series, text: quantile, headline: all[0] };
}

function sharesOf(window, { places }) {
  const names = ["ALLOWED", "FILTERED", "DENIED"];
  const all = (place) => names.reduce((sum, name) => sum + window.series[name][place], 0);
  const total = names.reduce((sum, name) => sum + window.sum(name), 0);
  const series = names.map((name, index) => ({
    name,
    values: places.map((place) => window.series[name][place] / all(place)),
    colour: ["second", "warn", "bad"][index],
    all: share(window.sum(name), total),
  }));
  return { kind: "shares", series, text: (value) => share(value, 1), headline: series[0].all };
}

// Returns where a series' figure is written.
function legendOf(figure, name, colour) {
  const value = make("b", "");
  value.dataset.value = name;
  const item = make("li", "", `${name} `, value);
  item.style.setProperty("--swatch", `var(--${colour})`);
  const legend = figure.querySelector(".legend");
  legend.insertBefore(item, legend.querySelector("[data-mark]"));
  return value;
}

function frameOf(window, seconds) {
  const places = window.places();
  const { missed, away } = window.series;
  const marks = places.map((place) => (missed[place] ? "missed" : away[place] ? "away" : ""));
  return { places, marks, seconds, note: window.sum("missed") > 0 ? "some are missing" : "" };
}

function rateNow(window, now) {
  const slots = NOW_SECONDS / window.slotSeconds;
  const recent = window.places().slice(-slots).filter((place) => place !== null);
  const seen = recent.reduce((sum, place) => sum + window.series.QUERY[place] + window.series.WRITE[place], 0);
  return seen / Math.max(Math.min(NOW_SECONDS, window.seconds(now - (now % window.slotSeconds))), 1);
}

function agoOf(slot, { seconds, end }) {
  const ago = seconds * (1 - slot / SLOTS);
  const text = ago < 60 ? `${ago.toFixed(seconds > 100 ? 0 : 1)} s` : `${(ago / 60).toFixed(1)} min`;
  return `${text} ${end === "now" ? "ago" : "earlier"}`;
}

// The style's colours, as they are in the scheme of the moment.
function coloursOf(element) {
  const colours = {};
  for (const name of ["accent", "second", "soft", "line", "warn", "bad", "missed", "away"]) {
    element.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(element).color;
  }
  element.style.color = "";
  return colours;
}
