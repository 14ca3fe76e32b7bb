// Five small models of points in the plane, each fitted in the page: new Model(train, size, random) starts one,
// step() improves it once and says whether more steps would, logDensity(x, y) is in nats, sample(random) draws a point,
// and `numbers` says of how many it consists.

export const EDGE = 3; // the window reaches from −3 to 3 on both axes
const LOG_2PI = Math.log(2 * Math.PI);

/** Random numbers in [0, 1), the same at each visit (mulberry32). */
export const randomFrom = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
};
export const normal = (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
const drawn = (weights, random) => {
  let left = random() * weights.reduce((a, b) => a + b, 0);
  const k = weights.findIndex((w) => (left -= w) < 0);
  return k < 0 ? weights.length - 1 : k;
};
const logSum = (terms) => {
  const top = Math.max(...terms);
  return top + Math.log(terms.reduce((sum, x) => sum + Math.exp(x - top), 0));
};

export class Noise {
  numbers = 0;
  step = () => false;
  logDensity = () => -2 * Math.log(2 * EDGE);
  sample = (random) => [0, 0].map(() => (2 * random() - 1) * EDGE);
}

export class Copies {
  next = 0;
  constructor(train) {
    Object.assign(this, { train, numbers: 2 * train.length });
  }
  step = () => false;
  logDensity = () => -Infinity; // all the mass sits on the training points: between them there is none
  sample = () => this.train[this.next++ % this.train.length];
}

export class Histogram {
  constructor(train, bins, _, start = 0.1) {
    Object.assign(this, { bins, width: (2 * EDGE) / bins, numbers: bins * bins - 1 });
    this.mass = new Array(bins * bins).fill(start / (train.length + start * bins * bins));
    for (const p of train) this.mass[this.cell(...p)] += 1 / (train.length + start * bins * bins);
  }
  cell(x, y) {
    const [i, j] = [x, y].map((v) => Math.floor((v + EDGE) / this.width));
    return Math.min(i, j) < 0 || Math.max(i, j) >= this.bins ? -1 : i * this.bins + j;
  }
  step = () => false;
  logDensity = (x, y) => Math.log((this.mass[this.cell(x, y)] ?? 0) / this.width ** 2);
  sample(random) {
    const cell = drawn(this.mass, random);
    return [Math.floor(cell / this.bins), cell % this.bins].map((i) => (i + random()) * this.width - EDGE);
  }
}

/** Gaussians by EM. A ridge on the covariances, as in helpers.models.gaussian_mixture, keeps them from collapsing. */
export class Mixture {
  constructor(train, size, random) {
    const [n, k] = [train.length, Math.min(size, train.length)];
    const mean = [0, 1].map((d) => train.reduce((sum, p) => sum + p[d], 0) / n);
    const variance = train.reduce((sum, p) => sum + (p[0] - mean[0]) ** 2 + (p[1] - mean[1]) ** 2, 0) / n / 2;
    let distance = train.map(() => 1);
    const means = Array.from({ length: k }, () => {
      const c = train[drawn(distance, random)]; // far from those before it, by k-means++
      distance = train.map((p, i) => Math.min(distance[i] === 1 ? Infinity : distance[i], (p[0] - c[0]) ** 2 + (p[1] - c[1]) ** 2));
      return c;
    });
    const wide = Math.max(distance.reduce((a, b) => a + b, 0) / n / 2, 1e-3);
    Object.assign(this, { train, means, numbers: 6 * k - 1, steps: 0, ridge: 1e-3 * variance + 1e-9, last: -Infinity });
    this.weights = means.map(() => 1 / k);
    this.covariances = means.map(() => [wide, 0, wide]); // xx, xy, yy
  }
  joint(x, y) {
    return this.means.map(([a, b], k) => {
      const [xx, xy, yy] = this.covariances[k];
      const [dx, dy, det] = [x - a, y - b, xx * yy - xy * xy];
      return Math.log(this.weights[k]) - LOG_2PI - (Math.log(det) + (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / det) / 2;
    });
  }
  logDensity = (x, y) => logSum(this.joint(x, y));
  step() {
    const sums = this.means.map(() => [0, 0, 0, 0, 0, 0]);
    let total = 0;
    for (const [x, y] of this.train) {
      const joint = this.joint(x, y);
      const evidence = logSum(joint);
      total += evidence / this.train.length;
      joint.forEach((log, k) => {
        const r = Math.exp(log - evidence); // the responsibility of component k for the point
        [1, x, y, x * x, x * y, y * y].forEach((f, i) => (sums[k][i] += r * f));
      });
    }
    this.weights = sums.map(([r]) => Math.max(r, 1e-9) / this.train.length);
    this.means = sums.map(([r, x, y]) => [x / r, y / r]);
    this.covariances = sums.map(([r, x, y, xx, xy, yy], k) => {
      const extra = this.ridge / (sums.length * this.weights[k]);
      return [xx / r - (x / r) ** 2 + extra, xy / r - (x * y) / r ** 2, yy / r - (y / r) ** 2 + extra];
    });
    const gain = total - this.last;
    this.last = total;
    return ++this.steps < 150 && gain > 1e-4;
  }
  sample(random) {
    const k = drawn(this.weights, random);
    const [xx, xy, yy] = this.covariances[k];
    const [u, v, a] = [normal(random), normal(random), Math.sqrt(xx)];
    return [this.means[k][0] + a * u, this.means[k][1] + (xy / a) * u + Math.sqrt(yy - (xy / a) ** 2) * v];
  }
}

/** p(x) p(y | x), each a mixture of 6 normal densities; a network with one layer of tanh units gives the second one's
 * parameters. Learnt by Adam, the gradient by hand. theta: first (3·6), then w, b (units), V (18 × units), c (18). */
export class Neural {
  static K = 6;
  static LEAST = 0.03; // no normal density is narrower
  constructor(train, units, random) {
    const K = Neural.K;
    const start = [...Array(3 * K).keys()].map((j) => (j < K ? 0 : j < 2 * K ? -2 + (4 * (j - K)) / (K - 1) : Math.log(0.5)));
    const first = [...start, ...Array.from({ length: 2 * units }, () => 1.5 * normal(random))];
    const theta = [...first, ...Array.from({ length: 3 * K * units }, () => (0.5 * normal(random)) / Math.sqrt(units)), ...start];
    Object.assign(this, { train, units, theta: Float64Array.from(theta), numbers: theta.length - 2, steps: 0 });
    [this.m, this.v] = [theta, theta].map((t) => new Float64Array(t.length));
  }
  hidden(x) {
    return Float64Array.from({ length: this.units }, (_, j) => Math.tanh(this.theta[18 + j] * x + this.theta[18 + this.units + j]));
  }
  outputs(hidden) {
    const [at, c] = [18 + 2 * this.units, this.theta.length - 18];
    return Float64Array.from({ length: 18 }, (_, i) => {
      let sum = this.theta[c + i];
      for (let j = 0; j < this.units; j++) sum += this.theta[at + i * this.units + j] * hidden[j];
      return sum;
    });
  }
  /** Log-density of `x`, where `p` holds 6 logits, 6 means and 6 logarithms of widths; adds −gradient to `slope`. */
  one(p, x, slope, scale = 1) {
    const K = Neural.K;
    const top = logSum(Array.from(p.subarray(0, K)));
    const width = Array.from({ length: K }, (_, k) => Neural.LEAST + Math.exp(p[2 * K + k]));
    const terms = width.map((s, k) => p[k] - top - Math.log(s) - LOG_2PI / 2 - ((x - p[K + k]) / s) ** 2 / 2);
    const total = logSum(terms);
    if (slope)
      for (let k = 0; k < K; k++) {
        const [r, z, s] = [Math.exp(terms[k] - total), (x - p[K + k]) / width[k], width[k]];
        slope[k] += scale * (Math.exp(p[k] - top) - r);
        slope[K + k] -= (scale * r * z) / s;
        slope[2 * K + k] += (scale * r * (1 - z * z) * (s - Neural.LEAST)) / s;
      }
    return total;
  }
  logDensity = (x, y) => {
    if (this.seen !== x || this.at !== this.steps) [this.seen, this.at, this.out] = [x, this.steps, this.outputs(this.hidden(x))];
    return this.one(this.theta.subarray(0, 18), x) + this.one(this.out, y);
  };
  /** Gradient of the mean negative log-density of the training points. */
  gradient() {
    const { units, theta, train } = this;
    const g = new Float64Array(theta.length);
    const [at, c] = [18 + 2 * units, theta.length - 18];
    for (const [x, y] of train) {
      this.one(theta.subarray(0, 18), x, g, 1 / train.length);
      const hidden = this.hidden(x);
      const slope = new Float64Array(18);
      this.one(this.outputs(hidden), y, slope, 1 / train.length);
      for (let i = 0; i < 18; i++) g[c + i] += slope[i];
      for (let j = 0; j < units; j++) {
        let back = 0;
        for (let i = 0; i < 18; i++) {
          g[at + i * units + j] += slope[i] * hidden[j];
          back += slope[i] * theta[at + i * units + j];
        }
        back *= 1 - hidden[j] ** 2;
        g[18 + j] += back * x;
        g[18 + units + j] += back;
      }
    }
    return g;
  }
  step() {
    const last = 600;
    const rate = 0.03 * Math.min(1, (1 + this.steps) / 20) * (0.5 + 0.5 * Math.cos((Math.PI * this.steps) / last));
    const g = this.gradient();
    this.steps++;
    for (let i = 0; i < g.length; i++) {
      this.m[i] += 0.1 * (g[i] - this.m[i]);
      this.v[i] += 0.01 * (g[i] ** 2 - this.v[i]);
      const [m, v] = [this.m[i] / (1 - 0.9 ** this.steps), this.v[i] / (1 - 0.99 ** this.steps)];
      this.theta[i] -= (rate * m) / (Math.sqrt(v) + 1e-8);
    }
    return this.steps < last;
  }
  draw(p, random) {
    const k = drawn(Array.from(p.subarray(0, Neural.K), Math.exp), random);
    return p[Neural.K + k] + (Neural.LEAST + Math.exp(p[2 * Neural.K + k])) * normal(random);
  }
  sample(random) {
    const x = this.draw(this.theta.subarray(0, 18), random);
    return [x, this.draw(this.outputs(this.hidden(x)), random)];
  }
}
