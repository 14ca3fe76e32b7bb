// Expectation propagation, one site at a time: points in clutter that one drags, and the cavity, the tilted
// distribution, the new site and the approximation after every visit, against the truth.
//
// Factors: t_n(θ) = ½ N(x_n; θ, 1) + ½ N(x_n; 0, 10). All is computed here, the truth by a sum over a grid.
// state: points [x, …], step (0.1 to 1: how far a site moves towards its match).
// params: { prior: variance of the prior N(0, prior), default 16; advice: "what to try" }
import { button, chart, figure, follow, frame, h, keepDrawn, readout, setAll, slider } from "./controls.js";

const RANGE = 8;
const CLUTTER = 10; // its variance
const XS = Array.from({ length: 1601 }, (_, i) => ((i - 800) * 2 * RANGE) / 800); // twice as far as the chart reaches
const WIDTH = XS[1] - XS[0];
const SHOWN = XS.filter((x) => Math.abs(x) <= RANGE);
const clamp = (x) => Math.max(-RANGE, Math.min(RANGE, x));

const logNormal = (x, mean, variance) => -0.5 * ((x - mean) ** 2 / variance + Math.log(2 * Math.PI * variance));
const logSum = (a, b) => Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));
const logFactor = (x, theta) => logSum(logNormal(x, theta, 1), logNormal(x, 0, CLUTTER)) - Math.LN2;
const logPartition = ({ precision, shift }) => 0.5 * (Math.log((2 * Math.PI) / precision) + shift ** 2 / precision);

/** log Z, mean and variance of N(θ; mean, variance) times the factor of x. */
export function tilted(x, mean, variance) {
  const signal = logNormal(x, mean, variance + 1) - Math.LN2;
  const clutter = logNormal(x, 0, CLUTTER) - Math.LN2;
  const rho = 1 / (1 + Math.exp(clutter - signal));
  const gain = variance / (variance + 1);
  const moved = gain * (x - mean);
  const bend = rho * (1 - rho) * moved ** 2;
  return { logZ: logSum(signal, clutter), mean: mean + rho * moved, variance: variance - rho * gain * variance + bend };
}

/** The approximation: prior times sites, in natural parameters. */
export function approximation(sites, prior) {
  const precision = sites.reduce((sum, s) => sum + s.precision, 1 / prior);
  return { precision, shift: sites.reduce((sum, s) => sum + s.shift, 0) };
}

const without = (q, site) => ({ precision: q.precision - site.precision, shift: q.shift - site.shift });

/** One visit to site n: the cavity, the tilted moments, and all sites with this one moved; `proper` is false where the
 * cavity is no distribution, and then nothing moves. */
export function visit(points, sites, n, step, prior) {
  const cavity = without(approximation(sites, prior), sites[n]);
  if (!(cavity.precision > 1e-9)) return { n, cavity, proper: false, sites };
  const { precision, shift } = cavity;
  const t = tilted(points[n], shift / precision, 1 / precision);
  const match = { precision: 1 / t.variance - precision, shift: t.mean / t.variance - shift };
  const toward = (key) => sites[n][key] + step * (match[key] - sites[n][key]);
  const moved = { precision: toward("precision"), shift: toward("shift") };
  return { n, cavity, proper: true, tilted: t, sites: sites.map((s, i) => (i === n ? moved : s)) };
}

/** Mean, variance and log evidence of the approximation; `logZ` is null where a cavity is improper. */
export function summary(points, sites, prior) {
  const q = approximation(sites, prior);
  let logZ = logPartition(q) - logPartition({ precision: 1 / prior, shift: 0 });
  points.forEach((x, n) => {
    const cavity = without(q, sites[n]);
    if (!(cavity.precision > 1e-9)) return (logZ = NaN);
    logZ += tilted(x, cavity.shift / cavity.precision, 1 / cavity.precision).logZ + logPartition(cavity) - logPartition(q);
  });
  return { mean: q.shift / q.precision, variance: 1 / q.precision, logZ: Number.isNaN(logZ) ? null : logZ };
}

/** The posterior by a sum over the grid: density at XS, mean, variance, log evidence. */
export function truth(points, prior) {
  const logs = XS.map((theta) => points.reduce((sum, x) => sum + logFactor(x, theta), logNormal(theta, 0, prior)));
  const top = Math.max(...logs);
  const total = logs.reduce((sum, l) => sum + Math.exp(l - top), 0) * WIDTH;
  const density = logs.map((l) => Math.exp(l - top) / total);
  const mean = density.reduce((sum, p, i) => sum + p * XS[i] * WIDTH, 0);
  const variance = density.reduce((sum, p, i) => sum + p * (XS[i] - mean) ** 2 * WIDTH, 0);
  return { density, mean, variance, logZ: top + Math.log(total) };
}

function render({ model, el }) {
  const { prior = 16, advice } = model.get("params");
  const start = { points: [...model.get("points")], step: model.get("step") };
  let [points, step, held, visits] = [[...start.points], start.step, 0, 0];
  let sites, last, exact;

  // ---- what is on the page ----
  const root = frame(el, "Expectation propagation", advice ??
    "press Next site and watch it move; then drag a point far out and go on: its site turns negative, and the green curve widens.");
  const upper = h("canvas", { role: "img" });
  const middle = h("canvas", { role: "img" });
  const lower = h("canvas", { role: "img" });
  const inputs = points.map((_, n) => {
    const input = h("input", { type: "range", min: -RANGE, max: RANGE, step: 0.1, "aria-label": `Point ${n + 1}` });
    input.addEventListener("input", () => move(n, Number(input.value)));
    input.addEventListener("focus", () => ((held = n), drawing.soon()));
    return input;
  });
  const plane = h("div", { class: "plane", role: "group", "aria-label": "Points and posterior" }, upper, ...inputs);
  const damping = slider({
    label: "Step", unit: { short: "", long: "of the way to the match" }, min: 0.1, max: 1, step: 0.1,
    change: (x) => change({ step: x }),
  });
  const values = h("div", { class: "values", style: "grid-template-columns: 1fr auto auto" });
  const caption = h("figcaption");
  const heard = readout();
  const margin = { style: "margin-top: .75rem" };
  root.append(
    h("div", { class: "stage" },
      h("div", {},
        h("figure", {}, plane, h("figcaption", {}, "Green: the approximation. Grey, dashed: the posterior. Blue: the points, drag them; the ring is the one visited.")),
        h("figure", margin, h("div", {}, middle), h("figcaption", {}, "Violet: the cavity. Orange, dashed: the cavity times the factor of that point (tilted).")),
        h("figure", margin, h("div", {}, lower), caption)),
      h("div", { class: "sliders", style: "align-content: start" },
        h("div", { class: "buttons" }, button("Next site", () => go(1)), button("Sweep", () => go(points.length)), button("Reset", reset)),
        damping.row, values)),
    heard.line,
  );

  // ---- what one can do ----
  function change(changes) {
    setAll(model, changes);
  }
  function move(n, x) {
    held = n;
    change({ points: points.map((old, i) => (i === n ? Math.round(10 * clamp(x)) / 10 : old)) });
  }
  function reset() {
    sites = null;
    change({ points: [...start.points], step: start.step });
    fromModel();
  }
  function go(count) {
    for (let i = 0; i < count; i++) {
      last = visit(points, sites, visits % points.length, step, prior);
      [sites, visits] = [last.sites, visits + 1];
    }
    drawing.soon();
  }
  /** Other points: the sites begin anew, flat, and the first is visited. */
  function fromModel() {
    const next = model.get("points");
    const same = sites && next.every((x, n) => x === points[n]);
    [points, step] = [[...next], model.get("step")];
    if (!same) {
      [sites, visits] = [points.map(() => ({ precision: 0, shift: 0 })), 0];
      exact = truth(points, prior);
      go(1);
    }
    drawing.soon();
  }

  let axes = null;
  const drag = (event) => move(held, axes.from(event)[0]);
  upper.addEventListener("pointerdown", (event) => {
    upper.setPointerCapture(event.pointerId);
    const [x] = axes.from(event);
    const far = points.map((p) => Math.abs(p - x));
    held = far.indexOf(Math.min(...far));
    inputs[held].focus({ preventScroll: true });
    event.preventDefault();
    drag(event);
  });
  upper.addEventListener("pointermove", (event) => upper.hasPointerCapture(event.pointerId) && drag(event));

  // ---- drawing ----
  function draw() {
    const now = summary(points, sites, prior);
    const q = SHOWN.map((x) => Math.exp(logNormal(x, now.mean, now.variance)));
    const posterior = exact.density.filter((_, i) => Math.abs(XS[i]) <= RANGE);
    const peak = 1.15 * Math.max(...q, ...posterior);
    axes = chart(upper, root, { x: [-RANGE, RANGE], y: [-0.12 * peak, peak], height: 210, step: 2, label: "θ" });
    axes.area(SHOWN, q, "latent");
    axes.line(SHOWN, q, "latent");
    axes.line(SHOWN, posterior, "soft", { dash: [6, 4] });
    points.forEach((x, n) => {
      axes.mark(x, 0, "data");
      if (n !== last.n) return;
      const [left, top] = axes.at(x, 0);
      axes.context.beginPath();
      axes.context.arc(left, top, 12, 0, 2 * Math.PI);
      axes.context.strokeStyle = axes.context.fillStyle;
      axes.context.stroke();
    });
    const x = points[last.n];
    const text = last.proper ? drawVisit(x) : "its cavity is improper, so it was passed over";
    if (!last.proper) for (const canvas of [middle, lower]) chart(canvas, root, { x: [-RANGE, RANGE], y: [0, 1], height: 110, step: 2, label: "θ" });
    tell(now, x, text);
  }

  function drawVisit(x) {
    const { cavity, tilted: t } = last;
    const [mean, variance] = [cavity.shift / cavity.precision, 1 / cavity.precision];
    const before = SHOWN.map((u) => Math.exp(logNormal(u, mean, variance)));
    const after = SHOWN.map((u, i) => before[i] * Math.exp(logFactor(x, u) - t.logZ));
    const two = chart(middle, root, { x: [-RANGE, RANGE], y: [0, 1.15 * Math.max(...before, ...after)], height: 140, step: 2, label: "θ" });
    two.line(SHOWN, before, "prior", { dash: [2, 2] });
    two.line(SHOWN, after, "model", { dash: [9, 3] });
    const site = sites[last.n];
    // c_n makes cavity times site integrate to Z_n
    const whole = { precision: cavity.precision + site.precision, shift: cavity.shift + site.shift };
    const logC = t.logZ + logPartition(cavity) - logPartition(whole);
    const factor = SHOWN.map((u) => Math.exp(logFactor(x, u)));
    const stand = SHOWN.map((u) => Math.exp(Math.min(9, logC + site.shift * u - 0.5 * site.precision * u * u)));
    const three = chart(lower, root, { x: [-RANGE, RANGE], y: [0, 0.26], height: 140, step: 2, label: "θ" });
    three.line(SHOWN, factor, "data");
    three.line(SHOWN, stand, "latent", { dash: [6, 2, 1, 2] });
    const sign = site.precision < 0 ? ", negative: it widens the approximation" : "";
    return `precision of its site ${figure(site.precision, 2)}${sign}`;
  }

  function tell(now, x, text) {
    const n = last.n + 1;
    const rows = [["", "EP", "truth"], ["mean", figure(now.mean, 3), figure(exact.mean, 3)],
      ["sd", figure(Math.sqrt(now.variance), 3), figure(Math.sqrt(exact.variance), 3)],
      ["log evidence", now.logZ === null ? "none" : figure(now.logZ, 3), figure(exact.logZ, 3)]];
    values.replaceChildren(...rows.flatMap(([name, a, b]) => [h("span", {}, name), h("output", {}, a), h("output", {}, b)]));
    caption.textContent = `Blue: the factor of point ${n} as a function of θ. Green: its site.`;
    const sweep = Math.ceil(visits / points.length);
    const said = `Visit ${visits}, sweep ${sweep}: point ${n} at ${figure(x)}, ${text}. ` +
      `EP: mean ${rows[1][1]}, sd ${rows[2][1]}; truth: ${rows[1][2]}, ${rows[2][2]}.`;
    upper.setAttribute("aria-label", `The approximation against the posterior. ${said}`);
    middle.setAttribute("aria-label", `Cavity and tilted distribution of point ${n}.`);
    lower.setAttribute("aria-label", `Factor and site of point ${n}: ${text}.`);
    inputs.forEach((input, i) => {
      input.value = points[i];
      input.setAttribute("aria-valuetext", `point ${i + 1} at ${figure(points[i])}`);
    });
    damping.show(step);
    heard.say(said);
  }

  const drawing = keepDrawn(root, draw, plane, follow(model, ["points", "step"], fromModel));
  el.playground = { change, move, go, now: () => ({ points, sites, last, visits, exact }) };
  fromModel();
  draw();
  return drawing.stop;
}

export default { render };
