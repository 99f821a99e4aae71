// The three charts: rates by op, latencies, and what policy said.

import { Chart } from "./chart.js";
import { SLOTS } from "./window.js";
import { duration, rate, share, write } from "./words.js";

const QUANTILES = [0.5, 0.95, 0.99];
const SMOOTH = 3; // slots that a quantile is of: one alone has too few events
const NOW_SECONDS = 5; // what "now" is an average of

export class Charts {
  #figures;
  #charts;
  #colours = null;
  #last = null;

  constructor(root) {
    this.#figures = Object.fromEntries(
      [...root.querySelectorAll("figure")].map((figure) => [figure.dataset.chart, figure]),
    );
    const redraw = () => this.#last && this.draw(...this.#last);
    this.#charts = Object.fromEntries(
      Object.entries(this.#figures).map(([name, figure]) => [name, new Chart(figure, redraw)]),
    );
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.#colours = null;
      redraw();
    });
  }

  draw(account, seconds, now, isLive) {
    this.#last = [account, seconds, now, isLive];
    this.#colours ??= coloursOf(this.#figures.rates);
    const window = account.window(seconds, now);
    const frame = frameOf(window, seconds, this.#colours);
    frame.isLowerBound = frame.lost || !isLive;
    this.#drawRates(account, window, frame, now, isLive);
    this.#drawLatencies(window, frame);
    this.#drawShares(window, frame);
    for (const [name, figure] of Object.entries(this.#figures)) {
      const { hover } = this.#charts[name];
      write(figure.querySelector(".at"), hover === null ? frame.note : agoOf(hover, seconds));
    }
  }

  #drawRates(account, window, frame, now, isLive) {
    const { places, colours } = frame;
    const perSecond = (name) => places.map((place) => (place === null ? NaN : window.series[name][place] / window.slotSeconds));
    const series = [
      { values: perSecond("QUERY"), colour: colours.accent },
      { values: perSecond("WRITE"), colour: colours.second },
    ];
    const chart = this.#charts.rates;
    chart.draw({ ...frame, kind: "areas", series });
    const seen = Math.max(window.seconds(now), 1);
    const shown = (index, name) =>
      rate(chart.hover === null ? window.sum(name) / seen : series[index].values[chart.hover] || 0, chart.hover === null && frame.isLowerBound);
    this.#label("rates", { QUERY: shown(0, "QUERY"), WRITE: shown(1, "WRITE") });
    const recent = rateNow(account.window(30, now), now);
    write(this.#figures.rates.querySelector(".headline"), isLive ? rate(recent, frame.lost) : "–");
  }

  #drawLatencies(window, frame) {
    const { places, colours } = frame;
    const some = (index) => places.slice(Math.max(index - SMOOTH + 1, 0), index + 1).filter((place) => place !== null);
    const slots = places.map((_, index) => window.quantilesOf(some(index), QUANTILES));
    const line = (index) => slots.map((values) => values[index]);
    const series = [
      { values: line(2), colour: colours.soft, dash: [2, 2], thick: 1 },
      { values: line(1), colour: colours.second, thick: 1.5 },
      { values: line(0), colour: colours.accent, thick: 2 },
    ];
    const chart = this.#charts.latencies;
    chart.draw({ ...frame, kind: "lines", series });
    const [p50, p95, p99] = chart.hover === null ? window.quantiles(QUANTILES) : slots[chart.hover];
    this.#label("latencies", { p50: duration(p50), p95: duration(p95), p99: duration(p99) });
    write(this.#figures.latencies.querySelector(".headline"), duration(p50));
  }

  #drawShares(window, frame) {
    const { places, colours } = frame;
    const names = ["ALLOWED", "FILTERED", "DENIED"];
    const all = (place) => names.reduce((sum, name) => sum + window.series[name][place], 0);
    const part = (name) => places.map((place) => (place === null ? NaN : window.series[name][place] / all(place)));
    const fills = [colours.quiet, colours.warn, colours.bad];
    const series = names.map((name, index) => ({ values: part(name), colour: fills[index] }));
    const chart = this.#charts.decisions;
    chart.draw({ ...frame, kind: "shares", series });
    const counts = names.map((name) => window.sum(name));
    const total = counts.reduce((sum, number) => sum + number, 0);
    const shown = names.map((name, index) => {
      const at = chart.hover === null ? null : series[index].values[chart.hover];
      return [name, at === null ? share(counts[index], total) : share(at || 0, Number.isNaN(at) ? 0 : 1)];
    });
    this.#label("decisions", Object.fromEntries(shown));
    write(this.#figures.decisions.querySelector(".headline"), share(counts[0], total));
  }

  #label(name, values) {
    for (const [key, text] of Object.entries(values)) {
      write(this.#figures[name].querySelector(`[data-value="${key}"]`), text);
    }
    const words = Object.entries(values).map(([key, text]) => `${key} ${text}`);
    this.#figures[name].querySelector("canvas").setAttribute("aria-label", words.join(", "));
  }
}

function frameOf(window, seconds, colours) {
  const places = window.places();
  const { missed, unknown, away } = window.series;
  const marks = places.map((place) =>
    place === null ? "" : missed[place] || unknown[place] ? "missed" : away[place] ? "away" : "",
  );
  const lost = window.sum("missed") > 0 || window.sum("unknown") > 0;
  return { places, marks, seconds, colours, lost, note: lost ? "some are missing" : "" };
}

function rateNow(window, now) {
  const slots = NOW_SECONDS / window.slotSeconds;
  const recent = window.places().slice(-slots).filter((place) => place !== null);
  const seen = recent.reduce((sum, place) => sum + window.series.QUERY[place] + window.series.WRITE[place], 0);
  return seen / Math.max(Math.min(NOW_SECONDS, window.seconds(now)), 1);
}

function agoOf(slot, seconds) {
  const ago = seconds * (1 - slot / SLOTS);
  return ago < 60 ? `${ago.toFixed(seconds > 100 ? 0 : 1)} s ago` : `${(ago / 60).toFixed(1)} min ago`;
}

// The style's colours, as they are in the scheme of the moment.
function coloursOf(element) {
  const colours = {};
  for (const name of ["accent", "second", "quiet", "soft", "line", "warn", "bad", "missed", "away"]) {
    element.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(element).color;
  }
  element.style.color = "";
  return colours;
}
