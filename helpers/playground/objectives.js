// Objectives: one bell against two bumps; six objectives, the slope of each, and where its descent ends.
//
// The data are 0.4 N(−0.25 − gap/2, 0.5²) + 0.6 N(−0.25 + gap/2, 0.4²), the model is N(mean, sd²). Every objective
// is a sum over 601 points; its slope in mean and log sd is taken by differences.
// state: gap, model: [mean, sd], objective: a key of NAMES.
// params: { advice: "what to try" }, optional.
import { button, calm, chart, choice, colour, figure, follow, frame, h, keepDrawn, listing, readout, setAll, sharp, slider } from "./controls.js";
import { clamp, draggable, logNormal, logSum } from "./line.js";

const STEP = 0.03;
const XS = Float64Array.from({ length: 601 }, (_, i) => (i - 300) * STEP);
const NAMES = {
  kl: "Likelihood: KL(data ‖ model)", reverse: "Reverse: KL(model ‖ data)", game: "GAN game: 2 JS − log 4",
  nonsaturating: "Non-saturating: 2 KL(half ‖ data)", w1: "Wasserstein-1", fisher: "Score matching: Fisher",
};
const LETTERS = { kl: "L", reverse: "R", game: "G", nonsaturating: "N", w1: "W", fisher: "S" };
const UNITS = { kl: "nats", reverse: "nats", game: "nats", nonsaturating: "nats", w1: "units", fisher: "per unit²" };
const LIMITS = { mean: [-4, 4], sd: [0.2, 3], gap: [0, 6] };

let kept = {};
/** Log-density, density and score of the data on XS. */
export function dataOf(gap) {
  if (kept.gap === gap) return kept;
  const [logP, p, score] = [0, 1, 2].map(() => new Float64Array(XS.length));
  XS.forEach((x, i) => {
    const [left, right] = [-0.25 - gap / 2, -0.25 + gap / 2];
    const a = Math.log(0.4) + logNormal(x, left, 0.5);
    const b = Math.log(0.6) + logNormal(x, right, 0.4);
    logP[i] = logSum(a, b);
    p[i] = Math.exp(logP[i]);
    score[i] = (Math.exp(a - logP[i]) * (left - x)) / 0.25 + (Math.exp(b - logP[i]) * (right - x)) / 0.16;
  });
  return (kept = { gap, logP, p, score });
}

/** One objective at model [mean, sd]. */
export function value(objective, gap, [mean, sd]) {
  const { logP, p, score } = dataOf(gap);
  let [total, below, last] = [0, 0, 0];
  for (let i = 0; i < XS.length; i++) {
    const logQ = logNormal(XS[i], mean, sd);
    if (objective === "kl") total += p[i] * (logP[i] - logQ);
    else if (objective === "reverse") total += Math.exp(logQ) * (logQ - logP[i]);
    else if (objective === "fisher") total += 0.5 * p[i] * (score[i] + (XS[i] - mean) / sd ** 2) ** 2;
    else if (objective === "w1") {
      const difference = p[i] - Math.exp(logQ);
      below += (STEP * (difference + last)) / 2; // F − G, by the trapezium rule
      last = difference;
      total += Math.abs(below);
    } else {
      const logM = logSum(logP[i], logQ) - Math.LN2;
      if (objective === "game") total += p[i] * (logP[i] - logM) + Math.exp(logQ) * (logQ - logM);
      else total += 2 * Math.exp(logM) * (logM - logP[i]);
    }
  }
  return STEP * total - (objective === "game" ? Math.log(4) : 0);
}

/** Its slope in mean and log sd. */
export function slope(objective, gap, [mean, sd]) {
  const e = 1e-4;
  const at = (a, b) => value(objective, gap, [mean + a, sd * Math.exp(b)]);
  return [(at(e, 0) - at(-e, 0)) / (2 * e), (at(0, e) - at(0, -e)) / (2 * e)];
}

/** Gradient descent with steps of at most 0.3, halved until they help: every place on the way, the last one at rest. */
export function descend(objective, gap, start, most = 300) {
  const path = [start];
  let [rate, here] = [1, value(objective, gap, start)];
  while (path.length < most) {
    const [mean, sd] = path.at(-1);
    const [a, b] = slope(objective, gap, [mean, sd]);
    const size = Math.hypot(a, b);
    if (size < 5e-5) break;
    rate = Math.min(2 * rate, 0.3 / size);
    let next, there;
    for (; rate * size > 1e-6; rate /= 2) {
      next = [clamp(mean - rate * a, LIMITS.mean), clamp(sd * Math.exp(-rate * b), LIMITS.sd)];
      there = value(objective, gap, next);
      if (there < here - 0.3 * rate * size ** 2) break; // a weaker demand lets it jump from side to side of a valley
    }
    if (!(there < here)) break;
    here = there;
    path.push(next);
  }
  return path;
}

function render({ model: store, el }) {
  const keys = ["gap", "model", "objective"];
  const read = () => Object.fromEntries(keys.map((key) => [key, structuredClone(store.get(key))]));
  const start = read();
  let state = read();
  let [trail, ends, running] = [[], [], 0];

  // ---- what is on the page ----
  const advice =
    store.get("params").advice ??
    "press Descend for one objective after the other from the same start, then From everywhere. " +
      "Which end in more than one place?";
  const root = frame(el, "Objectives playground", advice);
  const upper = h("canvas", { "aria-hidden": "true" });
  const map = h("canvas", { role: "img" });
  const plane = draggable({
    label: "The map of models",
    canvas: map,
    handles: [
      { label: "Model's mean", limits: LIMITS.mean, read: () => state.model[0], write: (x) => move({ model: [x, state.model[1]] }) },
      { label: "Model's standard deviation", limits: LIMITS.sd, read: () => state.model[1], write: (x) => move({ model: [state.model[0], x] }) },
    ],
    drag(event) {
      const box = map.getBoundingClientRect();
      const across = (event.clientX - box.left - LEFT) / (box.width - LEFT);
      const up = 1 - (event.clientY - box.top) / (HEIGHT - FOOT);
      const mean = LIMITS.mean[0] + across * (LIMITS.mean[1] - LIMITS.mean[0]);
      move({ model: [mean, Math.exp(low + clamp(up, [0, 1]) * (high - low))] });
    },
  });
  const options = Object.entries(NAMES);
  const chosen = choice({ label: "Objective", options, change: (objective) => move({ objective }) });
  const gap = slider({
    label: "Gap between the bumps",
    unit: { short: "units", long: "units" },
    min: LIMITS.gap[0],
    max: LIMITS.gap[1],
    step: 0.1,
    change: (x) => ((ends = []), move({ gap: x })),
  });
  const buttons = [button("Descend", () => down()), button("From everywhere", everywhere), button("Reset", reset)];
  const legend =
    "Each place is one model: drag the dot. The fainter the violet, the lower the objective; the arrow is its " +
    "steepest descent; letters mark where descents ended.";
  const values = listing();
  const heard = readout();
  root.append(
    h("div", { class: "stage" },
      h("div", {},
        h("figure", {}, h("div", {}, upper), h("figcaption", {}, "Blue: data. Orange: model.")),
        h("figure", { style: "margin-top: .75rem" }, plane.el,
          h("figcaption", {}, legend))),
      h("div", { class: "sliders", style: "align-content: start" },
        chosen.row,
        h("div", { class: "buttons" }, ...buttons),
        gap.row, values.el)),
    heard.line,
  );

  // ---- moving ----
  function move(changes, descending = false) {
    if (!descending) {
      cancelAnimationFrame(running);
      trail = [];
    }
    const next = { ...state, ...changes };
    next.gap = clamp(next.gap, LIMITS.gap);
    next.model = [clamp(next.model[0], LIMITS.mean), clamp(next.model[1], LIMITS.sd)];
    setAll(store, next); // calls fromPython
    state = next;
    drawing.soon();
  }

  function down() {
    cancelAnimationFrame(running);
    const path = descend(state.objective, state.gap, state.model);
    const finish = () => {
      trail = [path];
      ends.push({ objective: state.objective, at: path.at(-1) });
      move({ model: path.at(-1) }, true);
    };
    if (calm()) return finish();
    let k = 0;
    const step = () => {
      k += 2;
      if (k >= path.length) return finish();
      trail = [path.slice(0, k + 1)];
      move({ model: path[k] }, true);
      running = requestAnimationFrame(step);
    };
    step();
  }

  function everywhere() {
    cancelAnimationFrame(running);
    trail = [];
    const starts = [-3.2, -1.6, 0, 1.6, 3.2].flatMap((mean) => [0.3, 0.7, 2].map((sd) => [mean, sd]));
    for (const place of starts) trail.push(descend(state.objective, state.gap, place));
    for (const path of trail) ends.push({ objective: state.objective, at: path.at(-1) });
    drawing.soon();
  }

  function reset() {
    ends = [];
    move(structuredClone(start));
  }

  const fromPython = () => {
    state = read();
    drawing.soon();
  };

  // ---- the map ----
  const [HEIGHT, FOOT, LEFT] = [250, 32, 34];
  const [low, high] = LIMITS.sd.map(Math.log);
  const wide = () => plane.el.clientWidth || 300;
  const at = ([mean, sd]) => [
    LEFT + ((mean - LIMITS.mean[0]) / (LIMITS.mean[1] - LIMITS.mean[0])) * (wide() - LEFT),
    (HEIGHT - FOOT) * (1 - (Math.log(sd) - low) / (high - low)),
  ];
  let bands = {};
  /** 10 bands of equal area by the value of the objective, on 40 × 28 cells. */
  function bandsOf({ objective, gap }) {
    if (bands.objective === objective && bands.gap === gap) return bands;
    const cells = Array.from({ length: 40 * 28 }, (_, i) => {
      const model = [-3.9 + 0.2 * (i % 40), Math.exp(low + ((Math.floor(i / 40) + 0.5) / 28) * (high - low))];
      return value(objective, gap, model);
    });
    const sorted = [...cells].sort((a, b) => a - b);
    const cuts = Array.from({ length: 9 }, (_, k) => sorted[Math.floor(((k + 1) * cells.length) / 10)]);
    return (bands = { objective, gap, rank: cells.map((v) => cuts.filter((cut) => v >= cut).length) });
  }

  function drawMap() {
    const context = sharp(map, wide(), HEIGHT);
    map.style.height = `${HEIGHT}px`;
    const floor = HEIGHT - FOOT;
    const [cellX, cellY] = [(wide() - LEFT) / 40, floor / 28];
    context.fillStyle = colour(root, "panel");
    context.fillRect(LEFT, 0, wide() - LEFT, floor);
    context.fillStyle = colour(root, "prior");
    bandsOf(state).rank.forEach((rank, i) => {
      context.globalAlpha = 0.07 * rank;
      const [left, top] = [Math.round(LEFT + (i % 40) * cellX), Math.round(floor - (Math.floor(i / 40) + 1) * cellY)];
      const [right, foot] = [Math.round(LEFT + ((i % 40) + 1) * cellX), Math.round(floor - Math.floor(i / 40) * cellY)];
      context.fillRect(left, top, right - left, foot - top); // whole pixels: no seams
    });
    context.globalAlpha = 1;
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = colour(root, "soft");
    for (const mean of [-3, -2, -1, 0, 1, 2, 3]) context.fillText(figure(mean, 0), at([mean, 1])[0], floor + 9);
    context.fillText("mean", (wide() + LEFT) / 2, floor + 24);
    for (const sd of [0.3, 0.5, 1, 2]) context.fillText(figure(sd), LEFT / 2, at([0, sd])[1]);
    context.fillText("sd", LEFT / 2, 8);
    context.lineWidth = 1.5;
    context.strokeStyle = colour(root, "model");
    for (const path of trail) {
      context.beginPath();
      path.forEach((place) => context.lineTo(...at(place)));
      context.stroke();
    }
    context.fillStyle = colour(root, "ink");
    context.font = "bold 14px system-ui, sans-serif";
    const spots = new Map(); // letters that would lie on one another stand side by side
    for (const { objective, at: place } of ends) {
      const [x, y] = at(place);
      const key = [...spots.keys()].find((k) => Math.hypot(spots.get(k).x - x, spots.get(k).y - y) < 12) ?? `${x},${y}`;
      const spot = spots.get(key) ?? { x, y, letters: new Set() };
      spot.letters.add(LETTERS[objective]);
      spots.set(key, spot);
    }
    for (const { x, y, letters } of spots.values()) {
      context.fillRect(x - 2, y - 2, 4, 4);
      context.fillText([...letters].join(""), clamp(x, [LEFT + 6, wide() - 24]), y < 24 ? y + 14 : y - 13);
    }
    const [x, y] = at(state.model);
    const [a, b] = slope(state.objective, state.gap, state.model);
    const [across, up] = [(-a * (wide() - LEFT)) / 8, (b * floor) / (high - low)];
    const size = Math.hypot(across, up);
    if (Math.hypot(a, b) > 1e-3) {
      const long = Math.min(60, 14 + 12 * Math.log1p(20 * Math.hypot(a, b))) / size;
      const [tipX, tipY] = [x + across * long, y + up * long];
      context.strokeStyle = context.fillStyle = colour(root, "ink");
      context.lineWidth = 2.5;
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(tipX, tipY);
      context.stroke();
      const turn = Math.atan2(up, across);
      context.beginPath();
      for (const [r, angle] of [[8, 0], [6, 2.3], [6, -2.3]])
        context.lineTo(tipX + r * Math.cos(turn + angle), tipY + r * Math.sin(turn + angle));
      context.fill();
    }
    context.beginPath();
    context.arc(x, y, 8, 0, 2 * Math.PI);
    context.fillStyle = colour(root, "model");
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = colour(root, "ground");
    context.stroke();
    return [a, b];
  }

  function draw() {
    const { p } = dataOf(state.gap);
    const axes = chart(upper, root, { x: [-6, 6], y: [0, 1.05], height: 150, step: 2, label: "x" });
    const q = XS.map((x) => Math.exp(logNormal(x, ...state.model)));
    axes.area(XS, p, "data");
    axes.line(XS, p, "data");
    axes.line(XS, q, "model", { dash: [9, 3] });
    const [a, b] = drawMap();
    values.show(
      Object.keys(NAMES).map((key) => {
        const shown = figure(value(key, state.gap, state.model), 3);
        return [`${LETTERS[key]} ${NAMES[key]}`, `${shown} ${UNITS[key]}`, key === state.objective];
      }),
    );
    chosen.show(state.objective);
    gap.show(state.gap);
    plane.show();
    const ways = [[-a, "right", "left"], [-b, "wider", "narrower"]].filter(([v]) => Math.abs(v) > 1e-3);
    const downhill = ways.map(([v, more, less]) => (v > 0 ? more : less)).join(" and ") || "nowhere: at rest";
    const own = ends.filter((end) => end.objective === state.objective);
    const places = [...new Set(own.map(({ at: [m, s] }) => `(${figure(m, 2)}, ${figure(s, 2)})`))];
    const [mean, sd] = state.model.map((v) => figure(v, 2));
    const said = `Model: mean ${mean}, sd ${sd}. ${NAMES[state.objective]}: downhill is ${downhill}.`;
    map.setAttribute("aria-label", `Map of the objective over mean and standard deviation. ${said}`);
    heard.say(said + (places.length ? ` Its descents ended at (mean, sd) = ${places.join(", ")}.` : ""));
  }

  const drawing = keepDrawn(root, draw, plane.el, follow(store, keys, fromPython), () => cancelAnimationFrame(running));
  el.playground = { move, state: () => state, ends: () => ends }; // for the console
  draw();
  return drawing.stop;
}

export default { render, value, slope, descend };
