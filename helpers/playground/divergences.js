// Divergences: move two densities on a line, and see how far apart four measures find them, and where they look.
//
// The data are two equally likely normal bumps of standard deviation 0.5, the model is one normal distribution. All
// four measures are computed by sums over 2,401 points, at every move.
// state: data: [centre, gap], model: [mean, sd], measure: a key of NAMES.
// params: { advice: "what to try" }, optional.
import { button, chart, figure, follow, frame, h, keepDrawn, listing, readout, setAll, slider } from "./controls.js";
import { clamp, draggable, logNormal, logSum, peakOf, walk } from "./line.js";

const STEP = 0.02;
const XS = Float64Array.from({ length: 2401 }, (_, i) => (i - 1200) * STEP);
const BUMP = 0.5;
const NAMES = { forward: "KL(data ‖ model)", reverse: "KL(model ‖ data)", js: "Jensen–Shannon", w1: "Wasserstein-1" };
const LIMITS = { mean: [-5, 5], sd: [0.4, 3], centre: [-3, 3], gap: [0, 6] };

/** Values of the four measures, and what each of them adds up: { value: { forward, … }, integrand: { forward, … }, p, q }. */
export function divergences([centre, gap], [mean, sd]) {
  const integrand = Object.fromEntries(Object.keys(NAMES).map((name) => [name, new Float64Array(XS.length)]));
  const [p, q] = [new Float64Array(XS.length), new Float64Array(XS.length)];
  let [below, last] = [0, 0]; // F − G, by the trapezium rule
  XS.forEach((x, i) => {
    const logP = logSum(logNormal(x, centre - gap / 2, BUMP), logNormal(x, centre + gap / 2, BUMP)) - Math.LN2;
    const logQ = logNormal(x, mean, sd);
    const logM = logSum(logP, logQ) - Math.LN2;
    [p[i], q[i]] = [Math.exp(logP), Math.exp(logQ)];
    integrand.forward[i] = p[i] * (logP - logQ);
    integrand.reverse[i] = q[i] * (logQ - logP);
    integrand.js[i] = 0.5 * (p[i] * (logP - logM) + q[i] * (logQ - logM));
    below += (STEP * (p[i] - q[i] + last)) / 2;
    last = p[i] - q[i];
    integrand.w1[i] = Math.abs(below);
  });
  const value = Object.fromEntries(Object.entries(integrand).map(([k, v]) => [k, STEP * v.reduce((a, b) => a + b, 0)]));
  return { value, integrand, p, q };
}

/** One step downhill of `measure` in mean and log sd, from `model` by `step`: [model, step], the step halved if stuck. */
export function descend(data, model, measure, step) {
  const tries = [[1, 0], [-1, 0], [0, 1], [0, -1]].map(([a, b]) => [
    clamp(model[0] + a * step, LIMITS.mean),
    clamp(model[1] * Math.exp(b * step), LIMITS.sd),
  ]);
  const cost = (m) => divergences(data, m).value[measure];
  const best = tries.reduce((a, b) => (cost(b) < cost(a) ? b : a));
  return cost(best) < cost(model) ? [best, step] : [model, step / 2];
}

function render({ model: store, el }) {
  const start = { data: [...store.get("data")], model: [...store.get("model")], measure: store.get("measure") };
  let state = structuredClone(start);

  // ---- what is on the page ----
  const advice =
    store.get("params").advice ??
    "choose a measure, press Minimise, and see where the model settles; then drag it to the other bump and minimise again.";
  const root = frame(el, "Divergence playground", advice);
  const upper = h("canvas", { "aria-hidden": "true" });
  const lower = h("canvas", { role: "img" });
  const plane = draggable({
    label: "The two densities",
    canvas: upper,
    handles: [
      { label: "Model's mean", limits: LIMITS.mean, read: () => state.model[0], write: (x) => move({ model: [x, state.model[1]] }) },
      { label: "Model's standard deviation", limits: LIMITS.sd, read: () => state.model[1], write: (x) => move({ model: [state.model[0], x] }) },
      { label: "Centre of the data", limits: LIMITS.centre, read: () => state.data[0], write: (x) => move({ data: [x, state.data[1]] }) },
    ],
    grab(event) {
      const box = upper.getBoundingClientRect();
      const [left, top] = axes.at(state.data[0], 0);
      const away = Math.hypot(event.clientX - box.left - left, event.clientY - box.top - top);
      grabbed = away < 24 ? "data" : "model";
      return grabbed === "data" ? 2 : 0;
    },
    drag(event) {
      const [x, y] = axes.from(event);
      if (grabbed === "data") move({ data: [x, state.data[1]] });
      else move({ model: [x, peakOf(Math.max(y, 0.01))] });
    },
  });
  const chosen = h("select", { "aria-label": "Measure" });
  for (const [key, name] of Object.entries(NAMES)) chosen.append(h("option", { value: key }, name));
  const gap = slider({
    label: "Gap between the bumps",
    unit: { short: "units", long: "units" },
    min: LIMITS.gap[0],
    max: LIMITS.gap[1],
    step: 0.1,
    change: (x) => move({ data: [state.data[0], x] }),
  });
  const minimise = button("Minimise", down);
  const reset = button("Reset", () => move(structuredClone(start)));
  const values = listing();
  const caption = h("figcaption");
  const heard = readout();
  root.append(
    h(
      "div",
      { class: "stage" },
      h(
        "div",
        {},
        h("figure", {}, plane.el, h("figcaption", {}, "Blue: data. Orange: model; drag its peak across and up, drag the blue dot across.")),
        h("figure", { style: "margin-top: .75rem" }, h("div", {}, lower), caption),
      ),
      h("div", { class: "sliders", style: "align-content: start" }, chosen, minimise, gap.row, reset, values.el),
    ),
    heard.line,
  );

  // ---- moving ----
  const descent = walk();
  let [axes, grabbed] = [null, "model"];
  function move(changes, descending = false) {
    if (!descending) descent.stop();
    const next = { ...state, ...changes };
    next.model = [clamp(next.model[0], LIMITS.mean), clamp(next.model[1], LIMITS.sd)];
    next.data = [clamp(next.data[0], LIMITS.centre), clamp(next.data[1], LIMITS.gap)];
    setAll(store, next); // calls fromPython
    state = next;
    drawing.soon();
  }

  function down() {
    let step = 0.25;
    descent.go(() => {
      const [next, size] = descend(state.data, state.model, state.measure, step);
      step = size;
      move({ model: next }, true);
      return step > 0.002;
    });
  }

  chosen.addEventListener("change", () => move({ measure: chosen.value }));
  const fromPython = () => {
    state = { data: [...store.get("data")], model: [...store.get("model")], measure: store.get("measure") };
    drawing.soon();
  };

  // ---- drawing ----
  function draw() {
    const { value, integrand, p, q } = divergences(state.data, state.model);
    axes = chart(upper, root, { x: [-7, 7], y: [0, 1.05], height: 210, step: 2, label: "x" });
    axes.area(XS, p, "data");
    axes.line(XS, p, "data");
    axes.line(XS, q, "model", { dash: [9, 3] });
    axes.mark(state.data[0], 0, "data");
    axes.mark(state.model[0], peakOf(state.model[1]), "model");
    const shown = integrand[state.measure];
    const [least, most] = shown.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [0, 0]);
    const room = Math.max(0.2, (most - least) * 1.1);
    const foot = least < 0 ? least * 1.1 - 0.02 : 0;
    const where = chart(lower, root, { x: [-7, 7], y: [foot, foot + room], height: 150, step: 2, label: "x" });
    where.area(XS, shown, "prior", 0.45);
    where.line(XS, shown, "prior", { wide: 1.5 });
    const unit = state.measure === "w1" ? "units" : "nats";
    const name = NAMES[state.measure];
    const parts = state.measure === "w1" ? "the distance between the distribution functions" : "what each place adds";
    caption.textContent = `Violet: ${parts}; its area${least < -1e-3 ? ", below the line counted as negative," : ""} is ${name}.`;
    lower.setAttribute("aria-label", `${caption.textContent} It is ${figure(value[state.measure], 3)} ${unit}.`);
    const rows = Object.entries(NAMES).map(([key, name]) => {
      return [name, `${figure(value[key], 3)} ${key === "w1" ? "units" : "nats"}`, key === state.measure];
    });
    values.show(rows);
    chosen.value = state.measure;
    gap.show(state.data[1]);
    plane.show();
    heard.say(
      `Model: mean ${figure(state.model[0])}, standard deviation ${figure(state.model[1], 2)}. ` +
        `${name} = ${figure(value[state.measure], 3)} ${unit}.`,
    );
  }

  const drawing = keepDrawn(root, draw, plane.el, follow(store, Object.keys(start), fromPython), descent.stop);
  el.playground = { move, state: () => state }; // for the console
  draw();
  return drawing.stop;
}

export default { render, divergences, descend };
