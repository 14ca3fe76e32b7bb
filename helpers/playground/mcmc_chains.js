// Markov chains on a density that the reader drags about: which sampler finds the bumps, and do the numbers notice?
//
// No graphs. State: bumps [[x, y], …], sampler (a key of SAMPLERS), step (plane units).
// params: { steps: how many each chain takes (default 400), advice: "what to try" }
// The density is a mixture of round normal bumps of equal weight, of standard deviation SD.
import { colour, figure, followTheme, frame, h, readout, sharp, slider, whenSeen } from "./controls.js";

export const SD = 0.6;
const RANGE = 4; // the plane reaches from −4 to 4
const STARTS = [[-3.5, 3.5], [3.5, 3.5], [3.5, -3.5], [-3.5, -3.5]];
const LEAPFROG = 5;
const STATE = ["bumps", "sampler", "step"];
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

/** log-density (nats) and score of the mixture at a point. */
export function mixture(x, bumps) {
  const logs = bumps.map((m) => -square(x, m) / (2 * SD * SD));
  const top = Math.max(...logs);
  const weights = logs.map((l) => Math.exp(l - top));
  const sum = weights.reduce((a, b) => a + b, 0);
  const score = [0, 1].map((i) => bumps.reduce((s, m, k) => s + (weights[k] / sum) * ((m[i] - x[i]) / (SD * SD)), 0));
  return { log: top + Math.log(sum / bumps.length / (2 * Math.PI * SD * SD)), score };
}

/** One step of one chain: the new point, and the probability with which the proposal was to be accepted. */
export function advance(sampler, x, bumps, step, random) {
  const { uniform, normal } = random;
  const accept = (y, logRatio) => {
    const chance = Math.exp(Math.min(0, logRatio)) || 0; // a NaN is a trajectory that exploded
    return { x: uniform() < chance ? y : x, chance };
  };
  if (sampler === "gibbs") {
    const point = [...x];
    for (const i of [0, 1]) {
      const weights = bumps.map((m) => Math.exp(-((point[1 - i] - m[1 - i]) ** 2) / (2 * SD * SD)) + 1e-300);
      let left = uniform() * weights.reduce((a, b) => a + b, 0);
      const k = Math.max(0, weights.findIndex((w) => (left -= w) < 0));
      point[i] = bumps[k][i] + SD * normal();
    }
    return { x: point, chance: 1 };
  }
  const here = mixture(x, bumps);
  if (sampler === "walk") {
    const y = x.map((v) => v + step * normal());
    return accept(y, mixture(y, bumps).log - here.log);
  }
  if (sampler === "hmc") {
    let y = [...x];
    let p = [normal(), normal()];
    const energy = (p[0] ** 2 + p[1] ** 2) / 2 - here.log;
    let now = here;
    for (let i = 0; i < LEAPFROG; i++) {
      p = p.map((v, j) => v + 0.5 * step * now.score[j]);
      y = y.map((v, j) => v + step * p[j]);
      now = mixture(y, bumps);
      p = p.map((v, j) => v + 0.5 * step * now.score[j]);
    }
    return accept(y, energy - (p[0] ** 2 + p[1] ** 2) / 2 + now.log);
  }
  const epsilon = (step * step) / 2; // so that the noise √(2ε) has standard deviation `step`
  const drift = (point, score) => point.map((v, j) => v + epsilon * score[j]);
  const y = drift(x, here.score).map((v) => v + step * normal());
  if (sampler === "ula") return { x: y, chance: 1 };
  const there = mixture(y, bumps);
  const correction = (square(y, drift(x, here.score)) - square(x, drift(y, there.score))) / (4 * epsilon);
  return accept(y, there.log - here.log + correction);
}

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
  let { bumps, sampler, step } = start;
  let [seed, held, chains, chance, random] = [1, 0];

  const root = frame(el, "Markov chains", advice ?? "drag a bump away from the others, then change the sampler: do all four chains still find it?");
  const map = h("canvas", { role: "img" });
  const handles = bumps.map((_, k) => {
    const input = h("input", { type: "range", min: -RANGE, max: RANGE, step: 0.1, "aria-label": `Bump ${k + 1}, arrow keys move it` });
    input.addEventListener("focus", () => ((held = k), drawing.soon()));
    input.addEventListener("keydown", (event) => {
      const size = event.shiftKey ? 0.5 : 0.1;
      const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [];
      if (dx === undefined) return;
      event.preventDefault();
      move(k, [bumps[k][0] + dx * size, bumps[k][1] + dy * size]);
    });
    return input;
  });
  const plane = h("div", { class: "plane", role: "group", "aria-label": "Density and chains" }, map, ...handles);
  const trace = h("canvas", { role: "img", style: "height: 150px" });
  const choice = h("select", { style: "font: inherit; grid-column: 1 / -1; min-height: 32px; max-width: 100%; color: var(--ink); background: var(--panel); border: 1px solid var(--line); border-radius: 6px" });
  for (const [key, name] of Object.entries(SAMPLERS)) choice.append(h("option", { value: key }, name));
  choice.addEventListener("change", () => change({ sampler: choice.value }));
  const size = slider({ label: "Step size", unit: { short: "", long: "units of the plane" }, min: 0.1, max: 2, step: 0.1, change: (x) => change({ step: x }) });
  const again = h("button", { type: "button" }, "Run again");
  const reset = h("button", { type: "button" }, "Reset");
  again.addEventListener("click", () => ((seed += 1), restart()));
  reset.addEventListener("click", () => ((seed = 1), change(structuredClone(start))));
  const heard = readout();
  const buttons = h("div", { style: "display: flex; gap: .5rem" }, again, reset);
  const controls = h("div", { class: "sliders" }, h("label", {}, h("span", {}, "Sampler"), choice), size.row, buttons);
  root.append(
    h("div", { class: "stage" },
      h("figure", {}, plane, h("figcaption", {}, "Blue: the density, its bumps numbered. Orange: where four chains have been; squares: where they are.")),
      h("div", { class: "side", style: "grid-template-columns: 1fr" }, h("figure", {}, trace, h("figcaption", {}, "The first coordinate of each chain, step by step")), controls)),
    heard.line,
  );

  function change(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value); // each calls fromModel
    model.save_changes();
  }
  function fromModel() {
    [bumps, sampler, step] = STATE.map((name) => model.get(name));
    restart();
  }
  function move(k, point) {
    const clamp = (v) => Math.round(10 * Math.max(-RANGE, Math.min(RANGE, v))) / 10;
    change({ bumps: bumps.map((m, j) => (j === k ? point.map(clamp) : m)) });
  }
  function closest(point) {
    const far = bumps.map((m) => square(m, point));
    return far.indexOf(Math.min(...far));
  }
  function moveTo(event, nearest) {
    const box = map.getBoundingClientRect();
    const point = [(2 * (event.clientX - box.left) / box.width - 1) * RANGE, (1 - 2 * (event.clientY - box.top) / box.height) * RANGE];
    if (nearest) held = closest(point);
    move(held, point);
  }
  map.addEventListener("pointerdown", (event) => {
    map.setPointerCapture(event.pointerId);
    event.preventDefault();
    moveTo(event, true);
    handles[held].focus({ preventScroll: true });
  });
  map.addEventListener("pointermove", (event) => map.hasPointerCapture(event.pointerId) && moveTo(event, false));

  function restart() {
    random = randomness(seed);
    chains = STARTS.map((x) => [x]);
    chance = 0;
    drawing.soon();
  }
  function run(count) {
    for (let i = 0; i < count && chains[0].length <= steps; i++) {
      for (const chain of chains) {
        const next = advance(sampler, chain.at(-1), bumps, step, random);
        chain.push(next.x.every((v) => Math.abs(v) < 1e6) ? next.x : chain.at(-1));
        chance += next.chance;
      }
    }
  }

  function draw() {
    run(matchMedia("(prefers-reduced-motion: reduce)").matches ? steps : 3);
    choice.value = sampler;
    size.show(step);
    drawPlane();
    drawTrace();
    tell();
    if (chains[0].length <= steps) drawing.soon();
  }

  function tell() {
    const n = chains[0].length - 1;
    const half = chains.map((c) => c.slice(1 + Math.floor(n / 2)));
    const moved = n >= 16 && half.every((c) => c.some((x) => x[0] !== c[0][0]));
    const wild = half.flat().some((x) => Math.abs(x[0]) > 20 || Math.abs(x[1]) > 20);
    const first = half.map((c) => c.map((x) => x[0]));
    const shares = bumps.map((_, k) => half.flat().filter((x) => closest(x) === k).length / half.flat().length);
    const percent = (v) => `${figure(100 * v, 0)} %`;
    const numbers = wild ? "the step is too large: the walk leaves the plane" : moved
      ? `second half: ESS ${figure(effectiveSize(first), 0)} of ${first.flat().length}, R̂ ${figure(rHat(first), 2)}`
      : n < 16 ? "…" : "a chain has not moved: no ESS, no R̂";
    const text = `${n} steps; mean acceptance ${percent(chance / Math.max(1, 4 * n))}; ${numbers}; visits nearest to bump ${shares.map((s, k) => `${k + 1}: ${percent(s)}`).join(", ")}.`;
    map.setAttribute("aria-label", `Four chains of ${SAMPLERS[sampler]} on ${bumps.length} bumps. ${text}`);
    trace.setAttribute("aria-label", `Traces of the first coordinate over ${n} steps.`);
    heard.say(text, n > steps - 3 ? 0 : 250);
    el.playground.numbers = text;
  }

  function drawPlane() {
    const side = plane.clientWidth || 300;
    const context = sharp(map, side, side);
    const at = (x) => [((x[0] / RANGE + 1) / 2) * side, ((1 - x[1] / RANGE) / 2) * side];
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, side, side);
    context.fillStyle = colour(root, "data");
    const [cells, peak] = [64, 1 / (2 * Math.PI * SD * SD * bumps.length)];
    for (let i = 0; i < cells * cells; i++) {
      const x = [i % cells, Math.floor(i / cells)].map((v) => ((2 * v + 1) / cells - 1) * RANGE);
      context.globalAlpha = Math.min(1, 0.6 * (Math.exp(mixture(x, bumps).log) / peak));
      const [left, top] = at([x[0] - RANGE / cells, x[1] + RANGE / cells]);
      if (context.globalAlpha > 0.01) context.fillRect(left, top, side / cells + 0.5, side / cells + 0.5);
    }
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
    context.font = "600 13px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    bumps.forEach((m, k) => {
      const [x, y] = at(m);
      context.beginPath();
      context.arc(x, y, 12, 0, 2 * Math.PI);
      context.fillStyle = colour(root, "ground");
      context.fill();
      context.strokeStyle = colour(root, k === held ? "ink" : "data");
      context.lineWidth = 2;
      context.stroke();
      context.lineWidth = 1;
      context.fillStyle = colour(root, "ink");
      context.fillText(k + 1, x, y);
    });
  }

  function drawTrace() {
    const [width, height] = [trace.clientWidth || 200, 150];
    const context = sharp(trace, width, height);
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, width, height);
    context.strokeStyle = colour(root, "model");
    chains.forEach((chain, c) => {
      context.globalAlpha = [1, 0.75, 0.55, 0.4][c];
      context.beginPath();
      chain.forEach((x, t) => context.lineTo((t / steps) * width, ((1 - Math.max(-5, Math.min(5, x[0])) / RANGE) / 2) * height));
      context.stroke();
    });
    context.globalAlpha = 1;
  }

  const drawing = whenSeen(root, draw);
  const resized = new ResizeObserver(drawing.soon);
  resized.observe(plane);
  for (const name of STATE) model.on(`change:${name}`, fromModel);
  el.playground = { change, move, chains: () => chains, numbers: "" };
  fromModel();
  const stopTheme = followTheme(root, drawing.soon);
  draw();
  return () => {
    for (const name of STATE) model.off(`change:${name}`, fromModel);
    drawing.stop();
    resized.disconnect();
    stopTheme();
  };
}

export default { render };
