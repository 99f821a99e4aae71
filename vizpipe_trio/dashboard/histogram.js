// Quantiles over a sliding window, within 5 %, in a fixed amount of memory.
//
// Each bucket is a tenth wider than the one before it, from a microsecond to a day; the last has all that took longer. A slot of the
// window has its own counts, which are taken off the total when it leaves the window.

const LEAST_MS = 0.001;
const GROWTH = Math.log(1.1);
const BUCKETS = 267;

export function bucketOf(ms) {
  if (!(ms > LEAST_MS)) return 0;
  return Math.min(Math.ceil(Math.log(ms / LEAST_MS) / GROWTH), BUCKETS - 1);
}

const middleOf = (bucket) => (bucket === 0 ? 0 : LEAST_MS * Math.exp(GROWTH * (bucket - 0.5)));
export const MOST_MS = LEAST_MS * Math.exp(GROWTH * (BUCKETS - 2)); // what is longer is in the last one

export const total = (numbers) => numbers.reduce((sum, number) => sum + number, 0);

export class Histogram {
  #slots;
  #total = new Uint32Array(BUCKETS);

  constructor(slots) {
    this.#slots = new Uint32Array(slots * BUCKETS);
  }

  add(slot, bucket) {
    this.#slots[slot * BUCKETS + bucket] += 1;
    this.#total[bucket] += 1;
  }

  clear(slot) {
    const start = slot * BUCKETS;
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) this.#total[bucket] -= this.#slots[start + bucket];
    this.#slots.fill(0, start, start + BUCKETS);
  }

  #sum(slots) {
    const sum = new Uint32Array(BUCKETS);
    for (const slot of slots) {
      for (let bucket = 0; bucket < BUCKETS; bucket += 1) sum[bucket] += this.#slots[slot * BUCKETS + bucket];
    }
    return sum;
  }

  // The quantiles of the whole window, or of some slots; NaN where there is nothing. Shares ascend.
  quantiles(shares, slots) {
    const counts = slots ? this.#sum(slots) : this.#total;
    const all = total(counts);
    if (all === 0) return shares.map(() => NaN);
    let bucket = 0;
    let below = counts[0];
    return shares.map((share) => {
      while (below < share * all && bucket < BUCKETS - 1) below += counts[(bucket += 1)];
      return middleOf(bucket);
    });
  }
}
