// Four optimisers race down a surface from where the reader starts them: which arrives, and at which learning rate?
//
// No graphs. State: surface (a key of SURFACES), rate (the learning rate of all four), momentum (β of the momentum
// method, and β₁ of Adam), start [x, y].
// params: { steps: of each racer (default 150), advice: "what to try" }
import { button, calm, chart, choice, colour, figure, follow, frame, h, keepDrawn, plane, readout, setAll, sharp, slider } from "./controls.js";

const RANGE = 3; // the plane reaches from −3 to 3
const FAR = 1e3; // who is farther out has left the plane for good
const STATE = ["surface", "rate", "momentum", "start"];

/** Each surface: its value and gradient at (x, y), its lowest value, and how its contours are spaced. */
export const SURFACES = {
  valley: {
    name: "A long valley, curved 1 and 20",
    value: (x, y) => 0.5 * (x * x + 20 * y * y),
    slope: (x, y) => [x, 20 * y],
    lowest: 0,
  },
  banana: {
    name: "A bent valley",
    value: (x, y) => 0.5 * (1 - x) ** 2 + 5 * (y - 0.5 * x * x) ** 2,
    slope: (x, y) => [x - 1 - 10 * x * (y - 0.5 * x * x), 10 * (y - 0.5 * x * x)],
    lowest: 0,
  },
  saddle: {
    name: "Two hollows and a saddle between",
    value: (x, y) => x ** 4 / 16 - x * x / 2 + 0.15 * x + y * y,
    slope: (x, y) => [x ** 3 / 4 - x + 0.15, 2 * y],
    lowest: -1.305428483743916, // at x = −2.0712, y = 0
  },
  hole: {
    name: "A hole in a plain",
    value: (x, y) => 1 - Math.exp(-0.5 * (x * x + y * y) / 0.64),
    slope: (x, y) => [x, y].map((v) => (v / 0.64) * Math.exp(-0.5 * (x * x + y * y) / 0.64)),
    lowest: 0,
  },
};

/** Each racer: one step from the gradient g, in the memory `m`, which it may change; returns what is taken off a point. */
export const RACERS = {
  descent: { name: "Gradient descent", colour: "data", step: (g, rate) => g.map((v) => rate * v) },
  momentum: {
    name: "Momentum",
    colour: "model",
    step(g, rate, beta, m) {
      m.v = g.map((v, i) => beta * (m.v?.[i] ?? 0) + v);
      return m.v.map((v) => rate * v);
    },
  },
  rmsprop: {
    name: "RMSProp",
    colour: "prior",
    step(g, rate, beta, m) {
      m.s = g.map((v, i) => 0.99 * (m.s?.[i] ?? 0) + 0.01 * v * v);
      return g.map((v, i) => (rate * v) / (Math.sqrt(m.s[i]) + 1e-8));
    },
  },
  adam: {
    name: "Adam",
    colour: "latent",
    step(g, rate, beta, m) {
      m.t = (m.t ?? 0) + 1;
      m.v = g.map((v, i) => beta * (m.v?.[i] ?? 0) + (1 - beta) * v);
      m.s = g.map((v, i) => 0.999 * (m.s?.[i] ?? 0) + 0.001 * v * v);
      const [first, second] = [1 - beta ** m.t, 1 - 0.999 ** m.t];
      return m.v.map((v, i) => (rate * (v / first)) / (Math.sqrt(m.s[i] / second) + 1e-8));
    },
  },
};

/** The points [[x, y], …] of a racer, the start first; it stays where it is once it is FAR out. */
export function race(racer, surface, start, rate, beta, steps) {
  const { slope } = SURFACES[surface];
  const path = [[...start]];
  const memory = {};
  for (let t = 0; t < steps; t++) {
    const x = path.at(-1);
    const taken = RACERS[racer].step(slope(...x), rate, beta, memory);
    path.push(Math.hypot(...x) < FAR ? x.map((v, i) => v - taken[i]) : x);
  }
  return path;
}

function render({ model, el }) {
  const { steps = 150, advice } = model.get("params");
  const first = Object.fromEntries(STATE.map((name) => [name, structuredClone(model.get(name))]));
  let { surface, rate, momentum, start } = first;
  let [paths, shown] = [{}, 0];

  const root = frame(el, "Optimisers", advice ?? "raise the learning rate in the long valley past 0.10: who flies out first, and whom does momentum save?");
  const clamp = (v) => Math.max(-RANGE, Math.min(RANGE, Math.round(v * 20) / 20));
  const pad = plane({
    label: "Start of the race",
    unit: "",
    range: [RANGE, RANGE],
    pointed: (x, y) => change({ start: [clamp(x), clamp(y)] }),
    entered: () => restart(),
  });
  const curve = h("canvas", { role: "img" });
  const which = choice({ label: "Surface", options: Object.entries(SURFACES).map(([key, s]) => [key, s.name]), change: (v) => change({ surface: v }) });
  const pace = slider({ label: "Learning rate", unit: { short: "", long: "" }, min: 0.005, max: 0.3, step: 0.005, digits: 3, change: (v) => change({ rate: v }) });
  const inertia = slider({ label: "Momentum β", unit: { short: "", long: "" }, min: 0, max: 0.98, step: 0.02, digits: 2, change: (v) => change({ momentum: v }) });
  const reset = button("Reset", () => change(structuredClone(first)));
  const heard = readout();
  const legend = h("p", { style: "display: flex; flex-wrap: wrap; gap: .1rem .8rem; font-size: 13px" });
  Object.values(RACERS).forEach(({ name, colour }, k) => {
    legend.append(h("span", {}, h("b", { style: `color: var(--${colour})` }, `${k + 1} `), name));
  });
  const picture = h("figure", {}, pad.el, h("figcaption", {}, "Click or press an arrow key to start elsewhere, Enter to run again. The stronger the shade, the lower; the numbers are the racers."));
  const controls = h("div", { class: "sliders" }, which.row, pace.row, inertia.row, h("div", { class: "buttons" }, reset));
  const losses = h("figure", {}, curve, h("figcaption", {}, "log₁₀ of the height above the lowest place, by step"));
  root.append(h("div", { class: "stage" }, picture, h("div", { class: "side", style: "grid-template-columns: 1fr" }, legend, losses, controls)), heard.line);

  function change(values) {
    setAll(model, values);
  }
  function fromModel() {
    [surface, rate, momentum, start] = STATE.map((name) => model.get(name));
    restart();
  }
  function restart() {
    paths = Object.fromEntries(Object.keys(RACERS).map((name) => [name, race(name, surface, start, rate, momentum, steps)]));
    shown = 0;
    drawing.soon();
  }
  const height = (x) => Math.max(SURFACES[surface].value(...x) - SURFACES[surface].lowest, 1e-12);

  function draw() {
    shown = Math.min(steps, calm() ? steps : shown + 2);
    which.show(surface);
    pace.show(rate);
    inertia.show(momentum);
    drawPlane();
    drawLosses();
    tell();
    if (shown < steps) drawing.soon();
  }

  function tell() {
    const out = (x) => Math.max(...x.map(Math.abs)) > 100;
    const said = Object.entries(RACERS).map(([name, { name: title }]) => {
      const x = paths[name][shown];
      return `${title} ${out(x) ? "has flown out" : `is ${figure(height(x), 4)} above the lowest place`}`;
    });
    const text = `Step ${shown} from ${start.map((v) => figure(v, 2)).join(", ")}: ${said.join("; ")}.`;
    pad.show(...start, `start at ${start.map((v) => figure(v, 2)).join(", ")}`);
    curve.setAttribute("aria-label", `Heights by step. ${text}`);
    heard.say(text, shown === steps ? 0 : 250);
    el.playground.numbers = text;
  }

  function drawPlane() {
    const side = pad.el.clientWidth || 300;
    const context = sharp(pad.canvas, side, side);
    const at = ([x, y]) => [((x / RANGE + 1) / 2) * side, ((1 - y / RANGE) / 2) * side];
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, side, side);
    const cells = 60;
    const middle = (i) => ((2 * i + 1) / cells - 1) * RANGE;
    const heights = Array.from({ length: cells * cells }, (_, i) => height([middle(i % cells), middle(Math.floor(i / cells))]));
    const [low, top] = [Math.min(...heights), Math.max(...heights)];
    context.fillStyle = colour(root, "soft");
    heights.forEach((v, i) => {
      const level = Math.round(12 * Math.sqrt((v - low) / (top - low))) / 12; // a root, so that the bottom is not all one
      context.globalAlpha = 0.6 * (1 - level);
      const [left, above] = [Math.round((side * (i % cells)) / cells), Math.round(side * (1 - (Math.floor(i / cells) + 1) / cells))];
      const [right, below] = [Math.round((side * ((i % cells) + 1)) / cells), Math.round(side * (1 - Math.floor(i / cells) / cells))];
      context.fillRect(left, above, right - left, below - above); // whole pixels, so that no seams show
    });
    context.globalAlpha = 1;
    context.font = "600 13px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    Object.entries(RACERS).forEach(([name, { colour: hue }], k) => {
      context.strokeStyle = colour(root, hue);
      context.lineWidth = 2;
      context.beginPath();
      for (const x of paths[name].slice(0, shown + 1)) context.lineTo(...at(x));
      context.stroke();
      const [x, y] = at(paths[name][shown].map(clamp));
      context.beginPath();
      context.arc(x, y, 9, 0, 2 * Math.PI);
      context.fillStyle = colour(root, "ground");
      context.fill();
      context.stroke();
      context.fillStyle = colour(root, "ink");
      context.fillText(k + 1, x, y);
    });
    const [x, y] = at(start);
    context.strokeStyle = colour(root, "ink");
    context.strokeRect(x - 5, y - 5, 10, 10);
  }

  function drawLosses() {
    const { line } = chart(curve, root, { x: [0, steps], y: [-8, 3], height: 170, step: 50, label: "step" });
    const dashes = [[], [7, 3], [2, 3], [8, 3, 2, 3]];
    Object.entries(RACERS).forEach(([name, { colour: hue }], k) => {
      const us = paths[name].slice(0, shown + 1);
      line(us.map((_, t) => t), us.map((x) => Math.max(-9, Math.log10(height(x)))), hue, { dash: dashes[k] });
    });
  }

  const drawing = keepDrawn(root, draw, pad.el, follow(model, STATE, fromModel));
  el.playground = { change, paths: () => paths, numbers: "" };
  fromModel();
  draw();
  return drawing.stop;
}

export default { render };
