// Prior and posterior: shape a Beta prior of a coin by hand, add tosses, and see which summary says what.
//
// Everything is in closed form, computed at every move; only the interval is read off a sum over 2,000 cells.
// state: prior: [mean, tosses it is worth], data: [ones, zeros], scale: "probability" or "logodds".
// params: { advice: "what to try" }, optional.
import { button, chart, choice, figure, follow, frame, h, keepDrawn, listing, readout, setAll } from "./controls.js";
import { clamp, draggable } from "./line.js";

const CELLS = 2000;
const LIMITS = { mean: [0.02, 0.98], strength: [0.5, 60], count: [0, 500] };
const EDGE = 5; // log-odds are drawn from −5 to 5
const logistic = (u) => 1 / (1 + Math.exp(-u));
const logit = (p) => Math.log(p) - Math.log1p(-p);

/** log Γ(x) for x > 0, by Lanczos with g = 7. */
export function logGamma(x) {
  const c = [
    0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
    12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
  ];
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  const t = x + 6.5;
  const sum = c.slice(1).reduce((s, v, i) => s + v / (x + i), c[0]);
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
}

/** The density of p, or of log-odds at the same p, under Beta(a, b); the latter has the factor dp/du = p (1 − p). */
export function density(p, [a, b], scale) {
  const power = scale === "logodds" ? 0 : 1;
  const constant = logGamma(a + b) - logGamma(a) - logGamma(b);
  return Math.exp(constant + (a - power) * Math.log(p) + (b - power) * Math.log1p(-p));
}

/** Where the density on that scale is highest, as a probability; NaN where two borders or all places tie. */
export function highest([a, b], scale) {
  if (scale === "logodds") return a / (a + b);
  if (a > 1 && b > 1) return (a - 1) / (a + b - 2);
  if (a === 1 && b === 1) return NaN;
  return a <= 1 && b <= 1 ? (a === 1 ? 1 : b === 1 ? 0 : NaN) : a <= 1 ? 0 : 1;
}

/** What the summaries say: { shape: [a, b], mle, map, mean, low, high, evidence }; the last in nats. */
export function summary({ prior: [mean, strength], data: [ones, zeros], scale }) {
  const before = [mean * strength, (1 - mean) * strength];
  const [a, b] = [before[0] + ones, before[1] + zeros];
  const logBeta = (u, v) => logGamma(u) + logGamma(v) - logGamma(u + v);
  let [sum, low, high] = [0, NaN, NaN];
  // Cells of equal width in log-odds: there the density is smooth even where that of p is infinite at a border
  const step = 60 / CELLS;
  for (let i = 0; i < CELLS; i++) {
    const u = -30 + (i + 0.5) * step;
    const mass = step * Math.exp(-logBeta(a, b) - a * Math.log1p(Math.exp(-u)) - b * Math.log1p(Math.exp(u)));
    const cross = (q) => logistic(u - step / 2 + (step * (q - sum)) / mass);
    if (sum < 0.025 && sum + mass >= 0.025) low = cross(0.025);
    if (sum < 0.975 && sum + mass >= 0.975) high = cross(0.975);
    sum += mass;
  }
  return {
    before,
    shape: [a, b],
    mle: ones / (ones + zeros),
    map: highest([a, b], scale),
    mean: a / (a + b),
    low: Number.isNaN(low) ? 0 : low,
    high: Number.isNaN(high) ? 1 : high,
    evidence: logBeta(a, b) - logBeta(...before),
  };
}

/** How many tosses a prior of that mean must be worth to stand so high at its mean, by bisection. */
export function strengthFor(height, mean, scale) {
  let [low, up] = LIMITS.strength.map(Math.log);
  for (let i = 0; i < 40; i++) {
    const s = Math.exp((low + up) / 2);
    if (density(mean, [mean * s, (1 - mean) * s], scale) < height) low = (low + up) / 2;
    else up = (low + up) / 2;
  }
  return Math.exp((low + up) / 2);
}

function render({ model: store, el }) {
  const read = () => ({ prior: [...store.get("prior")], data: [...store.get("data")], scale: store.get("scale") });
  const start = read();
  let state = read();

  // ---- what is on the page ----
  const advice =
    store.get("params").advice ??
    "add three 1s and compare the three answers; then drag the violet dot up, and then switch to log-odds.";
  const root = frame(el, "Prior and posterior playground", advice);
  const canvas = h("canvas", { "aria-hidden": "true" });
  const plane = draggable({
    label: "Prior, likelihood and posterior",
    canvas,
    handles: [
      { label: "Prior's mean", limits: LIMITS.mean, step: 0.02, text: (x) => figure(x, 2),
        read: () => state.prior[0], write: (x) => move({ prior: [x, state.prior[1]] }) },
      { label: "Tosses that the prior is worth", limits: LIMITS.strength, step: 0.5, text: (x) => `${figure(x)} tosses`,
        read: () => state.prior[1], write: (x) => move({ prior: [state.prior[0], x] }) },
    ],
    grab() {
      held = true; // the vertical axis keeps still under the hand
      return 0;
    },
    drag(event) {
      const [x, y] = axes.from(event);
      const mean = clamp(state.scale === "logodds" ? logistic(x) : x, LIMITS.mean);
      move({ prior: [mean, strengthFor(Math.max(y, 1e-3), mean, state.scale)] });
    },
    ended() {
      held = false;
      drawing.soon();
    },
  });
  const add = (k) => move({ data: state.data.map((n, i) => n + (i === k)) });
  const scale = choice({
    label: "Horizontal axis",
    options: [["probability", "probability p"], ["logodds", "log-odds of p"]],
    change: (value) => move({ scale: value }),
  });
  const reset = button("Reset", () => move(structuredClone(start)));
  const buttons = h("div", { class: "buttons" }, button("Add a 1", () => add(0)), button("Add a 0", () => add(1)), reset);
  const values = listing();
  const heard = readout();
  const caption = "Violet, dotted: prior; drag its dot across and up. Blue, dashed: likelihood, scaled. Green: posterior.";
  root.append(
    h(
      "div",
      { class: "stage" },
      h("figure", {}, plane.el, h("figcaption", {}, `${caption} Dots: blue MLE, green MAP, orange mean.`)),
      h("div", { class: "sliders", style: "align-content: start" }, buttons, scale.row, values.el),
    ),
    heard.line,
  );

  // ---- moving ----
  function move(changes) {
    const next = { ...state, ...changes };
    next.prior = [clamp(next.prior[0], LIMITS.mean), clamp(next.prior[1], LIMITS.strength)];
    next.data = next.data.map((n) => clamp(n, LIMITS.count));
    setAll(store, next); // calls fromPython
    state = next;
    drawing.soon();
  }
  let [axes, top, held] = [null, 3, false];
  const across = (p) => (state.scale === "logodds" ? clamp(logit(p), [-EDGE, EDGE]) : p);
  const fromPython = () => {
    state = read();
    drawing.soon();
  };

  // ---- drawing ----
  function draw() {
    const now = summary(state);
    const log = state.scale === "logodds";
    const range = log ? [-EDGE, EDGE] : [0, 1];
    const us = Float64Array.from({ length: 801 }, (_, i) => range[0] + (i / 800) * (range[1] - range[0]));
    const ps = us.map((u) => clamp(log ? logistic(u) : u, [1e-9, 1 - 1e-9]));
    const heights = (shape) => ps.map((p) => Math.min(density(p, shape, state.scale), 1e3));
    const [prior, posterior] = [heights(now.before), heights(now.shape)];
    const peak = (v) => v.slice(8, -8).reduce((a, b) => Math.max(a, b), 0);
    if (!held) top = 1.15 * Math.max(peak(prior), peak(posterior), log ? 0.35 : 1.5);
    const [ones, zeros] = state.data;
    const n = ones + zeros;
    const best = n ? now.mle : 0.5;
    const term = (count, p) => (count ? count * Math.log(p) : 0);
    const tall = peak(posterior) * 0.9;
    const likelihood = ps.map((p) => tall * Math.exp(term(ones, p) + term(zeros, 1 - p) - term(ones, best) - term(zeros, 1 - best)));
    const label = log ? "log-odds of p" : "probability p of a 1";
    axes = chart(canvas, root, { x: range, y: [0, top], height: 250, step: log ? 1 : 0.2, label });
    axes.area(us, posterior, "latent");
    axes.line(us, prior, "prior", { dash: [2, 3] });
    if (n) axes.line(us, likelihood, "data", { dash: [9, 4], wide: 1.5 });
    axes.line(us, posterior, "latent");
    const at = (p, shape) => Math.min(density(clamp(p, [1e-4, 1 - 1e-4]), shape, state.scale), top);
    const rest = (9 / (250 - 34 - 8)) * top; // the dots stand on the axis and leave its numbers free
    if (n) axes.mark(across(now.mle), rest, "data");
    if (!Number.isNaN(now.map)) axes.mark(across(now.map), at(now.map, now.shape), "latent");
    axes.mark(across(now.mean), rest, "model");
    axes.mark(across(state.prior[0]), at(state.prior[0], now.before), "prior");
    const say = (p) => (Number.isNaN(p) ? "no single one" : figure(p, 3));
    const rows = [
      ["tosses: 1s, 0s", `${ones}, ${zeros}`],
      ["prior: a, b", now.before.map((v) => figure(v, 1)).join(", ")],
      ["MLE", n ? figure(now.mle, 3) : "none yet"],
      [log ? "MAP of the log-odds, as p" : "MAP of p", say(now.map)],
      ["mean = next toss is 1", figure(now.mean, 3)],
      ["95 % interval", `${figure(now.low, 2)} to ${figure(now.high, 2)}`],
      ["log evidence", `${figure(now.evidence, 2)} nats`],
    ];
    values.show(rows);
    scale.show(state.scale);
    plane.show();
    heard.say(
      `${ones} ones and ${zeros} zeros; MLE ${n ? figure(now.mle, 3) : "none yet"}, ` +
        `MAP of ${log ? "the log-odds" : "p"} ${say(now.map)}, mean ${figure(now.mean, 3)}.`,
    );
  }

  const drawing = keepDrawn(root, draw, plane.el, follow(store, Object.keys(start), fromPython));
  el.playground = { move, state: () => state }; // for the console
  draw();
  return drawing.stop;
}

export default { render, summary, density, highest, strengthFor, logGamma };
