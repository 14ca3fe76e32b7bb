// Noise becomes data: move the time, and each grain of noise travels to a place where there are data. Put your own grain
// anywhere, at any time, and see where it came from and where it goes.
//
// The probability flow of x_t = (1 − t)·noise + t·data is known exactly here, since the data are a mixture of round normal
// distributions, of standard deviation `width`, around the points of the shape. The page integrates it as it goes.
//
// params: { shapes: { spirals: [[x, y], …], … }, the first is shown first, width, grains: [[x, y], …] noise }
// state: shape (a name in shapes), t from 0 (noise) to 1 (data), place [x, y] of the reader's grain at that time
import { button, calm, choice, colour, figure, follow, frame, h, keepDrawn, plane, readout, setAll, sharp, slider } from "./controls.js";

const RANGE = [4.2, 2.8]; // from the middle to the edge, across and up
const STEPS = 64; // of the integration; they shrink towards the data, where the flow is fastest
const TIMES = Array.from({ length: STEPS + 1 }, (_, k) => 1 - (1 - k / STEPS) ** 1.6);
const SECONDS = 4;

/** Velocity [u, v] of the flow at (x, y) and time t, and the log-density there, nats. */
export function velocity(data, width, x, y, t) {
  const variance = (1 - t) ** 2 + (t * width) ** 2;
  let [top, sum, mx, my] = [-Infinity, 0, 0, 0];
  for (const [a, b] of data) {
    const log = -((x - t * a) ** 2 + (y - t * b) ** 2) / (2 * variance);
    if (log > top) {
      const less = Math.exp(top - log); // what was summed up so far counts less against the new largest
      [top, sum, mx, my] = [log, sum * less, mx * less, my * less];
    }
    const weight = Math.exp(log - top);
    sum += weight;
    mx += weight * a;
    my += weight * b;
  }
  const density = top + Math.log(sum / data.length / (2 * Math.PI * variance));
  [mx, my] = [mx / sum, my / sum]; // the mean of the data, given where the grain is
  const rate = (t * width * width - (1 - t)) / variance;
  return [mx + rate * (x - t * mx), my + rate * (y - t * my), density];
}

/** One step of Heun's method from time t to time u. */
export function heun(data, width, [x, y], t, u) {
  const [a, b] = velocity(data, width, x, y, t);
  const [c, d] = velocity(data, width, x + (u - t) * a, y + (u - t) * b, u);
  return [x + ((u - t) * (a + c)) / 2, y + ((u - t) * (b + d)) / 2];
}

function render({ model, el }) {
  const { shapes, width, grains } = model.get("params");
  const first = { shape: model.get("shape"), t: model.get("t"), place: [...model.get("place")] };
  let [data, paths, own, stale] = [[], [], [], true];
  let playing = null; // the time of the clock at which t was 0

  // ---- what is on the page ----
  const root = frame(el, "Noise to data playground", "drag in the picture to move your grain, and drag the time back and forth.");
  const square = plane({ label: "Plane with your grain", unit: "", range: RANGE, step: 0.1, pointed: (x, y) => set({ place: [x, y] }) });
  const time = slider({
    label: "Time", unit: { short: "", long: "from noise at 0 to data at 1" }, min: 0, max: 1, step: 0.01, digits: 2,
    change: (t) => carry(t),
  });
  const names = Object.keys(shapes).map((name) => [name, name]);
  const shape = choice({ label: "Data", options: names, change: (name) => set({ shape: name, place: first.place, t: first.t }) });
  const play = button("Play", () => (playing === null ? begin() : stop()));
  const reset = button("Reset", () => set({ ...first, place: [...first.place] }));
  const heard = readout();
  const ends = h("div", { style: "display: flex; justify-content: space-between; font-size: 13px; color: var(--soft)" },
    h("span", {}, "noise"), h("span", {}, "data"));
  root.append(
    square.el,
    h("div", { style: "display: grid; gap: .6rem 1.5rem; margin-top: .75rem; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr))" },
      h("div", {}, time.row, ends), shape.row, h("div", { class: "buttons", style: "align-items: end" }, play, reset)),
    heard.line,
  );
  square.canvas.style.border = "1px solid var(--line)";

  // ---- moving ----
  function set(changes, goingOn = false) {
    if (!goingOn) stop();
    setAll(model, changes);
    restart();
  }

  function restart() {
    stale = true;
    drawing.soon();
  }

  /** To time t, the reader's grain along its path. */
  function carry(t, goingOn = false) {
    if (stale) start();
    set({ t, place: along(own, t) }, goingOn);
    stale = false; // its path is the same
  }

  function begin() {
    playing = performance.now() - (model.get("t") < 1 ? model.get("t") : 0) * SECONDS * 1000;
    play.textContent = "Pause";
    drawing.soon();
  }

  function stop() {
    playing = null;
    play.textContent = "Play";
  }

  // ---- the flow ----
  function start() {
    stale = false;
    const now = shapes[model.get("shape")];
    if (now !== data) [data, paths] = [now, grains.map((p) => [p])];
    own = ownPath(model.get("place"), model.get("t"));
  }

  /** The whole path, [x, y] at each of TIMES, of the grain that is at `place` at time t. */
  function ownPath(place, t) {
    const path = [];
    const next = TIMES.findIndex((u) => u >= t);
    for (const [start, by] of [[next, 1], [next - 1, -1]])
      for (let [k, p, u] = [start, place, t]; k >= 0 && k <= STEPS; k += by) {
        path[k] = p = heun(data, width, p, u, TIMES[k]);
        u = TIMES[k];
      }
    return path;
  }

  /** Integrates the grains as far as time t needs. */
  function reach(t) {
    const last = Math.max(1, TIMES.findIndex((u) => u >= t));
    for (const path of paths) while (path.length <= last) path.push(heun(data, width, path.at(-1), TIMES[path.length - 1], TIMES[path.length]));
  }

  function along(path, t) {
    const k = Math.max(1, TIMES.findIndex((u) => u >= t));
    const part = (t - TIMES[k - 1]) / (TIMES[k] - TIMES[k - 1]);
    return path[k - 1].map((x, d) => x + part * (path[k][d] - x));
  }

  // ---- drawing ----
  function draw() {
    if (playing !== null) {
      const t = Math.min(1, (performance.now() - playing) / 1000 / SECONDS);
      carry(t, true);
      if (t === 1) stop();
    }
    if (stale) start();
    const t = model.get("t");
    reach(t);
    time.show(t);
    shape.show(model.get("shape"));
    const wide = square.el.clientWidth || 300;
    const high = (wide * RANGE[1]) / RANGE[0];
    const context = sharp(square.canvas, wide, high);
    const at = ([x, y]) => [((x / RANGE[0] + 1) / 2) * wide, ((1 - y / RANGE[1]) / 2) * high];
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, wide, high);
    const [noise, made, known] = ["prior", "model", "data"].map((name) => colour(root, name));
    context.fillStyle = known;
    context.globalAlpha = 0.3;
    for (const p of data) disc(context, at(p), Math.max(0.8, wide / 420));
    // Each grain with a tail of where it was just before
    const tint = mix(noise, made, t);
    context.lineWidth = Math.max(0.7, wide / 640);
    context.strokeStyle = context.fillStyle = tint;
    context.globalAlpha = 0.4;
    context.beginPath();
    for (const path of paths)
      for (let u = Math.max(0, t - 0.1 * (1 - t)), k = 0; k <= 4; k++) {
        const [x, y] = at(along(path, u + ((t - u) * k) / 4));
        if (k) context.lineTo(x, y);
        else context.moveTo(x, y);
      }
    context.stroke();
    context.globalAlpha = 0.9;
    for (const path of paths) disc(context, at(along(path, t)), Math.max(0.9, wide / 380));
    context.globalAlpha = 1;
    drawOwn(context, at, noise, made);
    say(t);
    if (playing !== null) drawing.soon();
  }

  function drawOwn(context, at, noise, made) {
    const ink = colour(root, "ink");
    context.lineWidth = 1.8;
    context.strokeStyle = ink;
    context.beginPath();
    for (const p of own) context.lineTo(...at(p));
    context.stroke();
    for (const [p, fill, radius] of [[own[0], noise, 5], [own[STEPS], made, 5], [model.get("place"), colour(root, "ground"), 8]]) {
      context.fillStyle = fill;
      disc(context, at(p), radius);
      context.stroke();
    }
  }

  function say(t) {
    const place = model.get("place");
    const write = (p) => `(${p.map((x) => figure(x, 1)).join(", ")})`;
    const here = Math.exp(velocity(data, width, ...place, t)[2]);
    const density = here < 0.005 ? "Hardly any grain comes by where it is now" : `The density where it is now is ${figure(here, 2)}`;
    square.show(...place, `your grain at ${write(place)}, time ${figure(t, 2)}`);
    if (playing === null) heard.say(`Your grain is at ${write(place)}. It was noise at ${write(own[0])} and becomes data at ${write(own[STEPS])}. ${density}.`);
  }

  const drawing = keepDrawn(root, draw, square.el, follow(model, ["shape", "t", "place"], restart));
  el.playground = { set, carry, velocity, heun, own: () => own }; // for the console
  draw();
  if (!calm()) begin();
  return drawing.stop;
}

function disc(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

/** Between two colours of six hexadecimal digits. */
function mix(from, to, t) {
  const [a, b] = [from, to].map((hex) => hex.match(/\w\w/g).map((two) => parseInt(two, 16)));
  return `rgb(${a.map((x, i) => Math.round(x + t * (b[i] - x))).join(" ")})`;
}

export default { render };
