// Markov chains on a density that the reader draws: which sampler finds all of it, and do the numbers notice?
//
// No graphs. State: strokes [[[x, y], …], …], width (plane units), sampler (a key of SAMPLERS), step (plane units).
// params: { steps: how many each chain takes (default 400), advice: "what to try" }
// A stroke is a row of grains, SPACING apart; a tap is a stroke of one grain. The density is a mixture of round normal
// bumps, one at each grain, all of the same weight and of standard deviation `width`: its mass lies as the ink does.
import { button, calm, choice, colour, figure, follow, frame, h, keepDrawn, pointing, readout, setAll, sharp, slider } from "./controls.js";

const RANGE = 4; // the plane reaches from −4 to 4
const SPACING = 0.4; // at twice the smallest width a row of bumps is flat to 1.5 %
const [MOST_GRAINS, MOST_STROKES] = [150, 9];
const STARTS = [[-3.5, 3.5], [3.5, 3.5], [3.5, -3.5], [-3.5, -3.5]];
const LEAPFROG = 5;
const STATE = ["strokes", "width", "sampler", "step"];
export const SAMPLERS = {
  walk: "Random-walk Metropolis",
  gibbs: "Gibbs",
  ula: "Langevin, unadjusted",
  mala: "Langevin, adjusted",
  hmc: `Hamiltonian, ${LEAPFROG} leapfrog steps`,
};

/** A generator of uniform numbers (mulberry32) and of normal ones (Box–Muller) from a seed. */
export function randomness(seed) {
  let a = seed >>> 0;
  const uniform = () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normal };
}

/** The stroke, lengthened towards a point by grains SPACING apart, at most `room` of them. */
export function lengthened(stroke, point, room) {
  const grains = [...stroke];
  while (grains.length < stroke.length + room) {
    const last = grains.at(-1);
    const far = Math.sqrt(square(point, last));
    if (far < SPACING) break;
    grains.push(last.map((v, i) => v + (SPACING / far) * (point[i] - v)));
  }
  return grains;
}

/** log-density (nats), score and the grains' posterior weights at a point. */
export function mixture(x, { grains, width }) {
  const logs = grains.map((m) => -square(x, m) / (2 * width * width));
  const top = Math.max(...logs);
  const weights = logs.map((l) => Math.exp(l - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  const shares = weights.map((w) => w / sum);
  const score = [0, 1].map((i) => grains.reduce((s, m, k) => s + shares[k] * ((m[i] - x[i]) / (width * width)), 0));
  return { log: top + Math.log(sum / grains.length / (2 * Math.PI * width * width)), score, shares };
}

/** Each stroke's share of the points: the mean of its posterior weight, whose expectation under the density is its ink. */
export function shareOfPoints(points, strokes, width) {
  const owner = strokes.flatMap((stroke, k) => stroke.map(() => k));
  const sums = strokes.map(() => 0);
  for (const x of points) mixture(x, { grains: strokes.flat(), width }).shares.forEach((w, j) => (sums[owner[j]] += w));
  return sums.map((sum) => sum / points.length);
}

/** One step of one chain: the new point, and the probability with which the proposal was to be accepted. */
export function advance(sampler, x, density, step, random) {
  const { uniform, normal } = random;
  const { grains, width } = density;
  const accept = (y, logRatio) => {
    const chance = Math.exp(Math.min(0, logRatio)) || 0; // a NaN is a trajectory that exploded
    return { x: uniform() < chance ? y : x, chance };
  };
  if (sampler === "gibbs") {
    const point = [...x];
    for (const i of [0, 1]) {
      const weights = grains.map((m) => Math.exp(-((point[1 - i] - m[1 - i]) ** 2) / (2 * width * width)) + 1e-300);
      let left = uniform() * weights.reduce((a, b) => a + b, 0);
      const k = Math.max(0, weights.findIndex((w) => (left -= w) < 0));
      point[i] = grains[k][i] + width * normal();
    }
    return { x: point, chance: 1 };
  }
  const here = mixture(x, density);
  if (sampler === "walk") {
    const y = x.map((v) => v + step * normal());
    return accept(y, mixture(y, density).log - here.log);
  }
  if (sampler === "hmc") {
    let y = [...x];
    let p = [normal(), normal()];
    const energy = (p[0] ** 2 + p[1] ** 2) / 2 - here.log;
    let now = here;
    for (let i = 0; i < LEAPFROG; i++) {
      p = p.map((v, j) => v + 0.5 * step * now.score[j]);
      y = y.map((v, j) => v + step * p[j]);
      now = mixture(y, density);
      p = p.map((v, j) => v + 0.5 * step * now.score[j]);
    }
    return accept(y, energy - (p[0] ** 2 + p[1] ** 2) / 2 + now.log);
  }
  const epsilon = (step * step) / 2; // so that the noise √(2ε) has standard deviation `step`
  const drift = (point, score) => point.map((v, j) => v + epsilon * score[j]);
  const y = drift(x, here.score).map((v) => v + step * normal());
  if (sampler === "ula") return { x: y, chance: 1 };
  const there = mixture(y, density);
  const correction = (square(y, drift(x, here.score)) - square(x, drift(y, there.score))) / (4 * epsilon);
  return accept(y, there.log - here.log + correction);
}

const label = (stroke) => stroke[Math.floor(stroke.length / 2)]; // the grain that bears the stroke's number
const square = (a, b) => (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2;
const mean = (a) => a.reduce((s, v) => s + v, 0) / a.length;
const variance = (a) => a.reduce((s, v) => s + (v - mean(a)) ** 2, 0) / (a.length - 1);

/** Effective sample size of chains [[…], …] of one number a step, as helpers.inference.monte_carlo. */
export function effectiveSize(chains) {
  const [n, m] = [chains[0].length, chains.length];
  const centred = chains.map((c) => ((middle) => c.map((v) => v - middle))(mean(c)));
  const covariance = (t) => mean(centred.map((c) => c.reduce((s, v, i) => (i + t < n ? s + v * c[i + t] : s), 0) / n));
  const first = covariance(0);
  const within = (first * n) / (n - 1);
  const total = first + (m > 1 ? variance(chains.map(mean)) : 0);
  const rho = (t) => (t ? 1 - (within - covariance(t)) / total : 1);
  let [length, least] = [-1, Infinity];
  for (let t = 0; t + 1 < n; t += 2) {
    const pair = rho(t) + rho(t + 1);
    if (!(pair > 0)) break;
    least = Math.min(least, pair);
    length += 2 * least;
  }
  return (n * m) / Math.max(length, 1 / Math.log10(Math.max(n * m, 11)));
}

/** Split R̂ of the same. */
export function rHat(chains) {
  const n = Math.floor(chains[0].length / 2);
  const halves = chains.flatMap((c) => [c.slice(0, n), c.slice(c.length - n)]);
  return Math.sqrt((n - 1) / n + variance(halves.map(mean)) / mean(halves.map(variance)));
}

function render({ model, el }) {
  const { steps = 400, advice } = model.get("params");
  const start = Object.fromEntries(STATE.map((name) => [name, structuredClone(model.get(name))]));
  let { strokes, width, sampler, step } = start;
  let [seed, chains, chance, random, shades] = [1];
  let grip = null; // what the pointer or the keys do: "ink" lengthens the last stroke, { k, origin, from } moves one

  // ---- what is on the page ----
  const root = frame(el, "Markov chains", advice ?? "draw a density of your own: clear the plane, then draw lines and dots. Drag a number to move its stroke. Which sampler finds all of the ink?");
  const pad = pointing({ label: "Density and chains", hint: "Enter begins and ends a stroke, or takes hold of a number", range: RANGE, press, changed });
  pad.el.addEventListener("pointerdown", lift, true); // before the press
  pad.el.addEventListener("focusout", lift);
  pad.canvas.addEventListener("lostpointercapture", lift);
  const trace = h("canvas", { role: "img", style: "height: 150px" });
  const chosen = choice({ label: "Sampler", options: Object.entries(SAMPLERS), change: (x) => change({ sampler: x }) });
  const long = { short: "", long: "units of the plane" };
  const size = slider({ label: "Step size", unit: long, min: 0.1, max: 2, step: 0.1, change: (x) => change({ step: x }) });
  const breadth = slider({ label: "Width of the ink", unit: long, min: 0.2, max: 0.8, step: 0.05, digits: 2, change: (x) => change({ width: x }) });
  const acts = {
    "Run again": () => ((seed += 1), restart()),
    "Erase last": () => change({ strokes: strokes.slice(0, -1) }),
    Clear: () => change({ strokes: [] }),
    Reset: () => ((seed = 1), change(structuredClone(start))),
  };
  const buttons = h("div", { class: "buttons" });
  for (const [name, act] of Object.entries(acts)) buttons.append(button(name, () => (lift(), act())));
  const heard = readout();
  const controls = h("div", { class: "sliders" }, chosen.row, size.row, breadth.row, buttons);
  root.append(
    h("div", { class: "stage" },
      h("figure", {}, pad.el, h("figcaption", {}, "Blue: the density, its strokes numbered. Orange: where four chains have been; squares: where they are.")),
      h("div", { class: "side", style: "grid-template-columns: 1fr" }, h("figure", {}, trace, h("figcaption", {}, "The first coordinate of each chain, step by step")), controls)),
    heard.line,
  );

  // ---- what one can do ----
  function change(values) {
    setAll(model, values);
  }
  function fromModel() {
    [strokes, width, sampler, step] = STATE.map((name) => model.get(name));
    restart();
  }
  function lift() {
    grip = null;
    drawing.soon();
  }
  function room() {
    return MOST_GRAINS - strokes.flat().length;
  }
  function press(point, event) {
    if (grip) return lift(); // Enter again; a pointer has lifted already
    const reach = ((18 / pad.canvas.clientWidth) * 2 * RANGE) ** 2;
    const k = strokes.findLastIndex((stroke) => square(label(stroke), point) < reach);
    if (k >= 0) grip = { k, origin: strokes[k], from: point };
    else if (room() > 0 && strokes.length < MOST_STROKES) {
      change({ strokes: [...strokes, [point]] });
      grip = "ink";
    }
    drawing.soon();
  }
  function changed() {
    if (grip === "ink" && strokes.length) {
      const last = strokes.at(-1);
      const longer = lengthened(last, pad.cursor, room());
      if (longer.length > last.length) change({ strokes: [...strokes.slice(0, -1), longer] });
    } else if (grip?.origin) {
      const { k, origin, from } = grip;
      const by = from.map((v, i) => {
        const places = origin.map((m) => m[i]);
        return Math.max(-RANGE - Math.min(...places), Math.min(RANGE - Math.max(...places), pad.cursor[i] - v));
      });
      change({ strokes: strokes.map((stroke, j) => (j === k ? origin.map((m) => m.map((v, i) => v + by[i])) : stroke)) });
    }
    drawing.soon();
  }

  // ---- the chains ----
  function restart() {
    random = randomness(seed);
    chains = STARTS.map((x) => [x]);
    [chance, shades] = [0, null];
    drawing.soon();
  }
  function run(count) {
    const density = { grains: strokes.flat(), width };
    for (let i = 0; i < count && strokes.length && chains[0].length <= steps; i++) {
      for (const chain of chains) {
        const next = advance(sampler, chain.at(-1), density, step, random);
        chain.push(next.x.every((v) => Math.abs(v) < 1e6) ? next.x : chain.at(-1));
        chance += next.chance;
      }
    }
  }

  // ---- drawing ----
  function draw() {
    run(calm() ? steps : 3);
    chosen.show(sampler);
    size.show(step);
    breadth.show(width);
    drawPlane();
    drawTrace();
    tell();
    if (strokes.length && chains[0].length <= steps) drawing.soon();
  }

  function tell() {
    const n = chains[0].length - 1;
    const half = chains.map((c) => c.slice(1 + Math.floor(n / 2)));
    const moved = n >= 16 && half.every((c) => c.some((x) => x[0] !== c[0][0]));
    const wild = half.flat().some((x) => Math.abs(x[0]) > 20 || Math.abs(x[1]) > 20);
    const first = half.map((c) => c.map((x) => x[0]));
    const percent = (v) => `${figure(100 * v, 0)} %`;
    const numbers = wild ? "the step is too large: the walk leaves the plane" : moved
      ? `second half: ESS ${figure(effectiveSize(first), 0)} of ${first.flat().length}, R̂ ${figure(rHat(first), 2)}`
      : n < 16 ? "…" : "a chain has not moved: no ESS, no R̂";
    const visits = n ? shareOfPoints(half.flat(), strokes, width) : [];
    const all = strokes.flat().length;
    const shares = visits.map((s, k) => `${k + 1}: ${percent(s)} (${percent(strokes[k].length / all)})`).join(", ");
    const full = room() <= 0 || strokes.length === MOST_STROKES ? ` The pen is dry: at most ${MOST_GRAINS} grains, ${MOST_STROKES} strokes.` : "";
    const text = strokes.length
      ? `${n} steps; mean acceptance ${percent(chance / Math.max(1, 4 * n))}; ${numbers}; each stroke’s share of the visits (of the ink): ${shares}.${full}`
      : "An empty plane has no density: draw one.";
    trace.setAttribute("aria-label", `Traces of the first coordinate of four chains of ${SAMPLERS[sampler]}, ${n} steps.`);
    heard.say(text, n > steps - 3 ? 0 : 250);
    el.playground.numbers = text;
  }

  function drawPlane() {
    const side = pad.el.clientWidth || 300;
    const context = sharp(pad.canvas, side, side);
    const at = (x) => [((x[0] / RANGE + 1) / 2) * side, ((1 - x[1] / RANGE) / 2) * side];
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, side, side);
    const cells = 64;
    const middle = (i) => [i % cells, Math.floor(i / cells)].map((v) => ((2 * v + 1) / cells - 1) * RANGE);
    const density = { grains: strokes.flat(), width };
    shades ??= Array.from({ length: cells * cells }, (_, i) => Math.exp(mixture(middle(i), density).log));
    const peak = Math.max(...shades);
    context.fillStyle = colour(root, "data");
    shades.forEach((p, i) => {
      context.globalAlpha = 0.6 * (p / peak || 0);
      const [x, y] = middle(i);
      const [left, top] = at([x - RANGE / cells, y + RANGE / cells]);
      if (context.globalAlpha > 0.01) context.fillRect(left, top, side / cells + 0.5, side / cells + 0.5);
    });
    context.fillStyle = colour(root, "model");
    context.globalAlpha = 0.55;
    for (const x of chains.flat()) context.fillRect(at(x)[0] - 1.2, at(x)[1] - 1.2, 2.4, 2.4);
    context.globalAlpha = 1;
    for (const chain of chains) {
      context.strokeStyle = colour(root, "model");
      context.beginPath();
      for (const x of chain.slice(-12)) context.lineTo(...at(x));
      context.stroke();
      const [x, y] = at(chain.at(-1));
      context.fillRect(x - 5, y - 5, 10, 10);
      context.strokeStyle = colour(root, "ground");
      context.strokeRect(x - 5, y - 5, 10, 10);
    }
    context.font = "600 12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    strokes.forEach((stroke, k) => {
      const [x, y] = at(label(stroke));
      const held = grip && (grip === "ink" ? k === strokes.length - 1 : k === grip.k);
      context.beginPath();
      context.arc(x, y, 10, 0, 2 * Math.PI);
      context.fillStyle = colour(root, "ground");
      context.fill();
      context.strokeStyle = colour(root, held ? "ink" : "data");
      context.lineWidth = held ? 3 : 2;
      context.stroke();
      context.fillStyle = colour(root, "ink");
      context.fillText(k + 1, x, y);
    });
    context.lineWidth = 1;
    if (!pad.shown) return;
    const [x, y] = at(pad.cursor);
    context.strokeStyle = colour(root, "ink");
    for (const [dx, dy] of [[9, 0], [0, 9]]) {
      context.beginPath();
      context.moveTo(x - dx, y - dy);
      context.lineTo(x + dx, y + dy);
      context.stroke();
    }
  }

  function drawTrace() {
    const [across, height] = [trace.clientWidth || 200, 150];
    const context = sharp(trace, across, height);
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, across, height);
    context.strokeStyle = colour(root, "model");
    chains.forEach((chain, c) => {
      context.globalAlpha = [1, 0.75, 0.55, 0.4][c];
      context.beginPath();
      chain.forEach((x, t) => context.lineTo((t / steps) * across, ((1 - Math.max(-5, Math.min(5, x[0])) / RANGE) / 2) * height));
      context.stroke();
    });
    context.globalAlpha = 1;
  }

  const drawing = keepDrawn(root, draw, pad.el, follow(model, STATE, fromModel));
  el.playground = { change, strokes: () => strokes, chains: () => chains, numbers: "" };
  fromModel();
  draw();
  return drawing.stop;
}

export default { render };
