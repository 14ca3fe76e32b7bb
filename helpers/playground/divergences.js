// Divergences: move two densities on a line, and see how far apart four measures find them, and where they look.
//
// The data are two equally likely normal bumps of standard deviation 0.5, the model is one normal distribution. All
// four measures are computed by sums over 2,401 points, at every move.
// state: data: [centre, gap], model: [mean, sd], measure: a key of NAMES.
// params: { advice: "what to try" }, optional.
import { chart, figure, followTheme, frame, h, readout, slider, whenSeen } from "./controls.js";

const STEP = 0.02;
const XS = Float64Array.from({ length: 2401 }, (_, i) => (i - 1200) * STEP);
const BUMP = 0.5;
const NAMES = { forward: "KL(data ‖ model)", reverse: "KL(model ‖ data)", js: "Jensen–Shannon", w1: "Wasserstein-1" };
const LIMITS = { mean: [-5, 5], sd: [0.4, 3], centre: [-3, 3], gap: [0, 6] };
const clamp = (x, [low, high]) => Math.max(low, Math.min(high, x));

const logNormal = (x, mean, sd) => -0.5 * ((x - mean) / sd) ** 2 - Math.log(sd) - 0.5 * Math.log(2 * Math.PI);
const logSum = (a, b) => Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));

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
  const hidden = (label, limits, read, write) => {
    const input = h("input", { type: "range", min: limits[0], max: limits[1], step: 0.1, "aria-label": label });
    input.addEventListener("input", () => move(write(Number(input.value))));
    return { input, show: () => ((input.value = read()), input.setAttribute("aria-valuetext", `${figure(read())} units`)) };
  };
  const inputs = [
    hidden("Model's mean", LIMITS.mean, () => state.model[0], (x) => ({ model: [x, state.model[1]] })),
    hidden("Model's standard deviation", LIMITS.sd, () => state.model[1], (x) => ({ model: [state.model[0], x] })),
    hidden("Centre of the data", LIMITS.centre, () => state.data[0], (x) => ({ data: [x, state.data[1]] })),
  ];
  const plane = h("div", { class: "plane", role: "group", "aria-label": "The two densities" }, upper, ...inputs.map((i) => i.input));
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
  const minimise = h("button", { type: "button" }, "Minimise");
  const reset = h("button", { type: "button" }, "Reset");
  const values = h("div", { class: "values" });
  const caption = h("figcaption");
  const heard = readout();
  root.append(
    h(
      "div",
      { class: "stage" },
      h(
        "div",
        {},
        h("figure", {}, plane, h("figcaption", {}, "Blue: data. Orange: model; drag its peak across and up, drag the blue dot across.")),
        h("figure", { style: "margin-top: .75rem" }, h("div", {}, lower), caption),
      ),
      h("div", { class: "sliders", style: "align-content: start" }, chosen, minimise, gap.row, reset, values),
    ),
    heard.line,
  );

  // ---- moving ----
  let running = 0;
  function move(changes, descending = false) {
    if (!descending) cancelAnimationFrame(running);
    const next = { ...state, ...changes };
    next.model = [clamp(next.model[0], LIMITS.mean), clamp(next.model[1], LIMITS.sd)];
    next.data = [clamp(next.data[0], LIMITS.centre), clamp(next.data[1], LIMITS.gap)];
    for (const key of Object.keys(next)) store.set(key, next[key]); // each calls fromPython
    store.save_changes();
    state = next;
    drawing.soon();
  }

  function down() {
    let step = 0.25;
    const once = () => {
      const [next, size] = descend(state.data, state.model, state.measure, step);
      step = size;
      move({ model: next }, true);
      return step > 0.002;
    };
    cancelAnimationFrame(running);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) while (once());
    else {
      const frameByFrame = () => once() && (running = requestAnimationFrame(frameByFrame));
      frameByFrame();
    }
  }

  const peak = () => 1 / (state.model[1] * Math.sqrt(2 * Math.PI));
  let [axes, grabbed] = [null, "model"];
  function drag(event) {
    const [x, y] = axes.from(event);
    if (grabbed === "data") move({ data: [x, state.data[1]] });
    else move({ model: [x, 1 / (Math.max(y, 0.01) * Math.sqrt(2 * Math.PI))] });
  }
  upper.addEventListener("pointerdown", (event) => {
    upper.setPointerCapture(event.pointerId);
    const box = upper.getBoundingClientRect();
    const [left, top] = axes.at(state.data[0], 0);
    const away = Math.hypot(event.clientX - box.left - left, event.clientY - box.top - top);
    grabbed = away < 24 ? "data" : "model";
    inputs[grabbed === "data" ? 2 : 0].input.focus({ preventScroll: true });
    event.preventDefault();
    drag(event);
  });
  upper.addEventListener("pointermove", (event) => upper.hasPointerCapture(event.pointerId) && drag(event));
  chosen.addEventListener("change", () => move({ measure: chosen.value }));
  minimise.addEventListener("click", down);
  reset.addEventListener("click", () => move(structuredClone(start)));
  const fromPython = () => {
    state = { data: [...store.get("data")], model: [...store.get("model")], measure: store.get("measure") };
    drawing.soon();
  };
  for (const key of Object.keys(start)) store.on(`change:${key}`, fromPython);

  // ---- drawing ----
  function draw() {
    const { value, integrand, p, q } = divergences(state.data, state.model);
    axes = chart(upper, root, { x: [-7, 7], y: [0, 1.05], height: 210, step: 2, label: "x" });
    axes.area(XS, p, "data");
    axes.line(XS, p, "data");
    axes.line(XS, q, "model", { dash: [9, 3] });
    axes.mark(state.data[0], 0, "data");
    axes.mark(state.model[0], peak(), "model");
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
    values.replaceChildren(
      ...Object.keys(NAMES).flatMap((key) => {
        const mark = key === state.measure ? { class: "chosen" } : {};
        return [h("span", mark, NAMES[key]), h("output", mark, `${figure(value[key], 3)} ${key === "w1" ? "units" : "nats"}`)];
      }),
    );
    chosen.value = state.measure;
    gap.show(state.data[1]);
    inputs.forEach((input) => input.show());
    heard.say(
      `Model: mean ${figure(state.model[0])}, standard deviation ${figure(state.model[1], 2)}. ` +
        `${name} = ${figure(value[state.measure], 3)} ${unit}.`,
    );
  }

  const drawing = whenSeen(root, draw);
  const resized = new ResizeObserver(drawing.soon);
  resized.observe(plane);
  const stopTheme = followTheme(root, drawing.soon);
  el.playground = { move, state: () => state }; // for the console
  draw();
  return () => {
    for (const key of Object.keys(start)) store.off(`change:${key}`, fromPython);
    cancelAnimationFrame(running);
    drawing.stop();
    resized.disconnect();
    stopTheme();
  };
}

export default { render, divergences, descend };
