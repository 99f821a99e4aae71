// A small chart on a canvas: stacked areas, lines on a logarithmic scale, or stacked shares.

const LEFT = 60; // pixels, for the scale
const BOTTOM = 18;
const TOP = 10;
const FONT = "11px Inter, system-ui, sans-serif";

export class Chart {
  hover = null; // the slot under the pointer
  #canvas;
  #context;
  #size = { width: 0, height: 0 };
  #spec = null;

  // `onHover` is called when the slot under the pointer, or (then with true) chosen by keys, is another one.
  constructor(figure, onHover) {
    this.#canvas = figure.querySelector("canvas");
    this.#context = this.#canvas.getContext("2d");
    new ResizeObserver(() => this.#fit()).observe(this.#canvas);
    const point = (slot, byKey) => {
      if (slot === this.hover) return;
      this.hover = slot;
      onHover(byKey);
    };
    this.#canvas.addEventListener("pointermove", ({ offsetX }) => point(this.#slotAt(offsetX)));
    this.#canvas.addEventListener("pointerleave", () => point(null));
    figure.addEventListener("blur", () => point(null));
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const slots = this.#spec?.marks.length ?? 0;
      if (step === undefined && event.key !== "Escape") return;
      event.preventDefault();
      point(step ? Math.min(Math.max((this.hover ?? slots) + step, 0), slots - 1) : null, true);
    });
  }

  // spec: {kind, series: [{values, colour, dash}], marks: ["missed" | "away" | ""], seconds, end, colours}. A
  // value that is NaN is not drawn; the first series is on top.
  draw(spec) {
    this.#spec = spec;
    const { width, height } = this.#size;
    if (width === 0) return;
    const context = this.#context;
    context.clearRect(0, 0, width, height);
    context.font = FONT;
    const scale = SCALES[spec.kind](spec.series);
    const box = { left: LEFT, top: TOP, width: width - LEFT, height: height - TOP - BOTTOM };
    const x = (slot) => box.left + ((slot + 0.5) / spec.marks.length) * box.width;
    const y = (value) => box.top + (1 - scale.place(value)) * box.height;
    drawMarks(context, box, spec);
    drawAxes(context, box, spec, scale, y);
    if (spec.kind === "lines") for (const line of spec.series.toReversed()) drawLine(context, line, spec.colours, x, y);
    else drawStack(context, spec, x, y);
    if (this.hover !== null) {
      context.fillStyle = spec.colours.soft;
      context.fillRect(Math.round(x(this.hover)), box.top, 1, box.height);
    }
  }

  #fit() {
    const ratio = devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    this.#size = { width, height };
    this.#canvas.width = width * ratio;
    this.#canvas.height = height * ratio;
    this.#context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (this.#spec) this.draw(this.#spec);
  }

  #slotAt(offsetX) {
    const slots = this.#spec?.marks.length ?? 0;
    const slot = Math.floor(((offsetX - LEFT) / (this.#size.width - LEFT)) * slots);
    return slot >= 0 && slot < slots ? slot : null;
  }
}

const SCALES = {
  areas(series) {
    const sums = series[0].values.map((_, slot) => series.reduce((sum, { values }) => sum + (values[slot] || 0), 0));
    const top = roundUp(Math.max(...sums, 1));
    return { ticks: [0, top / 2, top], text: (value) => short(value), place: (value) => value / top };
  },
  shares() {
    return { ticks: [0, 0.5, 1], text: (value) => `${value * 100}%`, place: (value) => value };
  },
  lines(series) {
    const values = series.flatMap((line) => line.values.filter((value) => value > 0));
    const low = Math.floor(Math.log10(values.length ? Math.min(...values) : 0.1));
    const high = Math.max(Math.ceil(Math.log10(values.length ? Math.max(...values) : 10)), low + 1);
    const every = Math.ceil((high - low) / 3);
    const ticks = [];
    for (let power = low; power <= high; power += every) ticks.push(10 ** power);
    const place = (value) => Math.max((Math.log10(value) - low) / (high - low), 0);
    return { ticks, text: (value) => (value >= 1000 ? `${short(value / 1000)} s` : `${short(value)} ms`), place };
  },
};

function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value) * power;
}

function short(value) {
  return value >= 10000 ? `${value / 1000}k` : String(Number(value.toPrecision(3)));
}

function drawMarks(context, { left, top, width, height }, { marks, colours }) {
  const each = width / marks.length;
  marks.forEach((mark, slot) => {
    if (mark === "") return;
    context.fillStyle = colours[mark];
    context.fillRect(left + slot * each, top, each + 0.5, height);
    context.fillStyle = mark === "missed" ? colours.bad : colours.soft;
    context.fillRect(left + slot * each, top - 5, each + 0.5, 3); // above what is drawn
  });
}

function drawAxes(context, { left, top, width, height }, { seconds, end, colours }, scale, y) {
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const tick of scale.ticks) {
    const at = Math.round(y(tick));
    context.fillStyle = colours.line;
    context.fillRect(left, at, width, 1);
    context.fillStyle = colours.soft;
    context.fillText(scale.text(tick), left - 7, Math.min(Math.max(at, top + 2), top + height));
  }
  context.textBaseline = "alphabetic";
  const bottom = top + height + BOTTOM - 4;
  const ago = seconds < 60 ? `−${seconds} s` : `−${seconds / 60} min`;
  context.textAlign = "left";
  context.fillText(ago, left, bottom);
  context.textAlign = "right";
  context.fillText(end, left + width, bottom);
}

function drawLine(context, { values, colour, dash = [], thick }, colours, x, y) {
  context.beginPath();
  let before = NaN;
  values.forEach((value, slot) => {
    if (Number.isNaN(value)) {
      // Alone between two empty slots it would be a line of no length.
      if (!Number.isNaN(before)) context.lineTo(x(slot - 0.5), y(before));
    } else if (Number.isNaN(before)) {
      context.moveTo(x(slot - 0.5), y(value));
      context.lineTo(x(slot), y(value));
    } else context.lineTo(x(slot), y(value));
    before = value;
  });
  context.strokeStyle = colours[colour];
  context.lineWidth = thick;
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

// Each series on top of those before it, as steps: a slot's count is one number and not a slope. Between two is
// a line of nothing, so that they need not be told apart by colour alone.
function drawStack(context, { series, kind, marks, colours }, x, y) {
  const base = marks.map(() => 0);
  for (const { values, colour } of series) {
    context.fillStyle = colours[colour];
    for (let slot = 0; slot < marks.length; slot += 1) {
      const value = values[slot];
      if (!(value > 0)) continue;
      const [from, to] = [x(slot - 0.5), x(slot + 0.5)];
      const [low, high] = [y(base[slot]), y(base[slot] + value)];
      const tall = low - high - (base[slot] && low - high > 2);
      context.fillRect(from, high, Math.max(to - from - 0.75, 1), Math.max(tall, kind === "shares" ? 0 : 1));
      base[slot] += value;
    }
  }
}
