// A multilayer perceptron whose hidden units one sees: each is a line in the plane, to be dragged, while the net trains.
//
// p(1 | x) = σ(Σ_j v_j relu(w_j · x + b_j) + c), for points of two classes in the plane.
//
// state: units, how many hidden units (2 to 8), data, a name in params.sets.
// params: {
//   sets: { xor: [[x, y, class], …], … }, class 0 or 1, names: what the list calls them, by the same keys,
//   range: the plane reaches from −range to range, rate: of Adam (default 0.03), advice: "what to try" }
import { button, choice, colour, figure, follow, frame, h, keepDrawn, readout, setAll, sharp, slider } from "./controls.js";
import { stroke, zeroLine } from "./contours.js";

const CELLS = 56; // of the picture of p, along each side
const LONGEST = 1500; // steps after which training pauses

const sigmoid = (a) => 1 / (1 + Math.exp(-a));
const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
const act = (net, j, [x, y]) => net.w[j][0] * x + net.w[j][1] * y + net.b[j];
const logit = (net, x) => net.v.reduce((sum, v, j) => sum + v * Math.max(act(net, j, x), 0), net.c);

/** Nats a point, and how many points are on the wrong side. */
function score(net, points) {
  let [loss, wrong] = [0, 0];
  for (const [x, y, t] of points) {
    const a = logit(net, [x, y]);
    loss += softplus(t ? -a : a) / points.length;
    wrong += a > 0 !== (t === 1);
  }
  return { loss, wrong };
}

/** The gradient of the loss by back-propagation, as one list: w, b, v of each unit, then c. */
function gradients(net, points) {
  const units = net.v.length;
  const g = new Array(4 * units + 1).fill(0);
  for (const [x, y, t] of points) {
    const delta2 = (sigmoid(logit(net, [x, y])) - t) / points.length;
    for (let j = 0; j < units; j++) {
      const a = act(net, j, [x, y]);
      if (a <= 0) continue;
      const delta1 = delta2 * net.v[j];
      g[4 * j] += delta1 * x;
      g[4 * j + 1] += delta1 * y;
      g[4 * j + 2] += delta1;
      g[4 * j + 3] += delta2 * a;
    }
    g[4 * units] += delta2;
  }
  return g;
}

/** One step of Adam (Kingma & Ba 2015); `memory` holds its two averages. */
function adam(net, points, memory, rate) {
  memory.t = (memory.t ?? 0) + 1;
  memory.m ??= new Array(4 * net.v.length + 1).fill(0);
  memory.s ??= [...memory.m];
  const step = gradients(net, points).map((g, k) => {
    memory.m[k] = 0.9 * memory.m[k] + 0.1 * g;
    memory.s[k] = 0.999 * memory.s[k] + 0.001 * g * g;
    return (rate * memory.m[k]) / (1 - 0.9 ** memory.t) / (Math.sqrt(memory.s[k] / (1 - 0.999 ** memory.t)) + 1e-8);
  });
  net.v.forEach((_, j) => {
    net.w[j][0] -= step[4 * j];
    net.w[j][1] -= step[4 * j + 1];
    net.b[j] -= step[4 * j + 2];
    net.v[j] -= step[4 * j + 3];
  });
  net.c -= step.at(-1);
}

/** Into how many pieces the units' lines cut the square: one, one more for each line, one more for each crossing inside. */
function regions(net, range) {
  const corners = [[-1, -1], [-1, 1], [1, -1], [1, 1]].map((p) => p.map((v) => v * range));
  const lines = net.v.map((_, j) => j).filter((j) => {
    const sides = corners.map((p) => act(net, j, p));
    return Math.min(...sides) < 0 && Math.max(...sides) > 0;
  });
  let count = 1 + lines.length;
  lines.forEach((i, k) =>
    lines.slice(k + 1).forEach((j) => {
      const [[a, b], [c, d]] = [net.w[i], net.w[j]];
      const det = a * d - b * c;
      const [x, y] = [(b * net.b[j] - d * net.b[i]) / det, (c * net.b[i] - a * net.b[j]) / det];
      count += Math.abs(x) < range && Math.abs(y) < range;
    }),
  );
  return count;
}

/** Of the unit's line the point nearest to the middle. */
function foot(net, j) {
  const size = net.w[j][0] ** 2 + net.w[j][1] ** 2 || 1e-12;
  return net.w[j].map((w) => (-net.b[j] * w) / size);
}

/** Moves the line so that `foot` is at p, as steep as before; near the middle it keeps its direction. */
function moveLine(net, j, [x, y]) {
  const [steep, far] = [Math.hypot(...net.w[j]), Math.hypot(x, y)];
  if (far > 0.1) {
    const sign = net.w[j][0] * x + net.w[j][1] * y < 0 ? -1 : 1;
    net.w[j] = [(sign * steep * x) / far, (sign * steep * y) / far];
  }
  net.b[j] = -(net.w[j][0] * x + net.w[j][1] * y);
}

/** Numbers in [0, 1) from a seed (Mulberry32). */
function uniform(seed) {
  let s = seed >>> 0;
  return () => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = Math.imul(s ^ (s >>> 15), s | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Lines in random directions, each through a random point; output weights near 0. */
function begin(points, units, seed) {
  const random = uniform(seed);
  const net = { w: [], b: [], v: [], c: 0 };
  for (let j = 0; j < units; j++) {
    const angle = 2 * Math.PI * random();
    const [x, y] = points[Math.floor(random() * points.length)];
    net.w.push([Math.cos(angle), Math.sin(angle)]);
    net.b.push(-(x * Math.cos(angle) + y * Math.sin(angle)));
    net.v.push(random() - 0.5);
  }
  return net;
}

function render({ model, el }) {
  const params = model.get("params");
  const { sets, range, names = {}, rate = 0.03 } = params;
  const first = { units: model.get("units"), data: model.get("data") };
  let [net, memory, points, seed, steps, chosen, running] = [null, {}, [], 1, 0, 0, false];

  // ---- what is on the page ----
  const advice =
    params.advice ?? "press Train. Then drag a numbered line to where it does not help, train on, and watch which lines come back.";
  const root = frame(el, "Hidden units playground", advice);
  const map = h("canvas", { "aria-hidden": "true" });
  const keys = h("input", { type: "range", min: -range, max: range, step: 0.1 });
  keys.setAttribute("aria-label", "Lines: arrow keys move the chosen line, page up and page down choose another");
  const plane = h("div", { class: "plane", role: "group", "aria-label": "Plane with the lines of the hidden units" }, map, keys);
  const legend = h("figcaption", {}, "Green dashes: where a hidden unit switches on, on the side of its tick. Orange: p = ½. ● class 0, ■ class 1.");
  const train = button("Train", () => run(!running));
  const again = button("New start", () => restart(seed + 1));
  const reset = button("Reset", () => {
    setAll(model, first);
    restart(1);
  });
  const list = choice({
    label: "Data", options: Object.keys(sets).map((name) => [name, names[name] ?? name]),
    change: (value) => (model.set("data", value), model.save_changes()),
  });
  const count = slider({
    label: "Hidden units", unit: { short: "", long: "hidden units" }, min: 2, max: 8, step: 1, digits: 0,
    change: (value) => (model.set("units", value), model.save_changes()),
  });
  const [shown, heard] = [h("div", { class: "values" }), readout()];
  root.append(
    h("div", { class: "stage" }, h("figure", {}, plane, legend),
      h("div", { class: "side" }, h("div", { class: "sliders" }, h("div", { class: "buttons" }, train, again, reset), count.row, list.row), shown)),
    heard.line,
  );

  // ---- what one can do ----
  function restart(next = seed) {
    seed = next;
    points = sets[model.get("data")] ?? Object.values(sets)[0];
    net = begin(points, Math.max(2, Math.min(8, Math.round(model.get("units")))), seed);
    [memory, steps, chosen] = [{}, 0, 0];
    run(false);
  }

  function run(on) {
    running = on;
    if (on && steps >= LONGEST) steps = 0;
    train.textContent = on ? "Pause" : "Train";
    drawing.soon();
  }

  function move(p) {
    moveLine(net, chosen, p.map((v) => Math.max(-range, Math.min(range, v))));
    memory = {};
    drawing.soon();
  }

  const place = (event) => {
    const box = map.getBoundingClientRect();
    return [(2 * (event.clientX - box.left)) / box.width - 1, 1 - (2 * (event.clientY - box.top)) / box.height].map((v) => v * range);
  };
  map.addEventListener("pointerdown", (event) => {
    const [x, y] = place(event);
    const far = net.w.map((w, j) => [Math.abs(act(net, j, [x, y])) / Math.hypot(...w), j]).sort((a, b) => a[0] - b[0]);
    const near = net.w.map((_, j) => [Math.hypot(foot(net, j)[0] - x, foot(net, j)[1] - y), j]).sort((a, b) => a[0] - b[0])[0];
    chosen = near[0] < (24 / map.clientWidth) * 2 * range ? near[1] : far[0][1]; // a number, else the nearest line
    map.setPointerCapture(event.pointerId);
    keys.focus({ preventScroll: true });
    event.preventDefault();
    move([x, y]);
  });
  map.addEventListener("pointermove", (event) => map.hasPointerCapture(event.pointerId) && move(place(event)));
  keys.addEventListener("keydown", (event) => {
    const by = event.shiftKey ? 0.5 : 0.1;
    const way = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, by], ArrowDown: [0, -by] }[event.key];
    const turn = { PageUp: -1, PageDown: 1 }[event.key];
    if (way) move(foot(net, chosen).map((v, k) => Math.max(-range, Math.min(range, v)) + way[k]));
    else if (turn) [chosen] = [(chosen + turn + net.v.length) % net.v.length, drawing.soon()];
    else return;
    event.preventDefault();
  });
  const fromPython = () => restart();

  // ---- drawing ----
  function draw() {
    for (let k = 0; running && k < 4; k++) {
      adam(net, points, memory, rate);
      if (++steps >= LONGEST) run(false);
    }
    count.show(net.v.length);
    list.show(model.get("data"));
    drawPlane();
    say();
    if (running) drawing.soon();
  }

  function drawPlane() {
    const side = plane.clientWidth || 300;
    const classes = ["data", "prior"].map((name) => colour(root, name));
    const green = colour(root, "latent");
    const at = (x, y) => [((x / range + 1) / 2) * side, ((1 - y / range) / 2) * side];
    const context = sharp(map, side, side);
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, side, side);
    const corner = (i) => -range + (2 * range * i) / CELLS;
    const value = Array.from({ length: CELLS + 1 }, (_, j) => Array.from({ length: CELLS + 1 }, (_, i) => logit(net, [corner(i), corner(j)])));
    for (let j = 0; j < CELLS; j++)
      for (let i = 0; i < CELLS; i++) {
        const p = sigmoid((value[j][i] + value[j + 1][i] + value[j][i + 1] + value[j + 1][i + 1]) / 4);
        context.globalAlpha = 0.6 * Math.abs(p - 0.5);
        context.fillStyle = classes[p > 0.5 ? 1 : 0];
        const [[left, top], [right, bottom]] = [at(corner(i), corner(j + 1)), at(corner(i + 1), corner(j))].map((p) => p.map(Math.round));
        context.fillRect(left, top, right - left, bottom - top);
      }
    context.globalAlpha = 1;
    stroke(context, colour(root, "model"), 2.5, [], () => zeroLine(context, at, corner, value)); // the log-odds are 0
    for (const [x, y, t] of points) {
      const [u, v] = at(x, y);
      context.fillStyle = classes[t];
      context.beginPath();
      if (t) context.rect(u - 3.5, v - 3.5, 7, 7);
      else context.arc(u, v, 4, 0, 2 * Math.PI);
      context.fill();
    }
    net.w.forEach((w, j) => {
      const norm = Math.hypot(...w) || 1e-12;
      const [[x, y], [a, b]] = [foot(net, j), w.map((v) => v / norm)];
      stroke(context, green, 2.5, [6, 4], () => {
        for (const t of [-4 * range, 4 * range]) context.lineTo(...at(x - t * b, y + t * a));
      });
      stroke(context, green, 2.5, [], () => [0, 0.09 * range].forEach((t) => context.lineTo(...at(x + t * a, y + t * b))));
      const [u, v] = at(x, y);
      context.beginPath();
      context.arc(u, v, 9, 0, 2 * Math.PI);
      context.fillStyle = colour(root, "latent");
      context.fill();
      context.lineWidth = j === chosen ? 3 : 1;
      context.strokeStyle = colour(root, j === chosen ? "ink" : "ground");
      context.stroke();
      context.fillStyle = colour(root, "ground");
      context.font = "bold 12px system-ui, sans-serif";
      Object.assign(context, { textAlign: "center", textBaseline: "middle" });
      context.fillText(j + 1, u, v);
    });
  }

  function say() {
    const { loss, wrong } = score(net, points);
    const pieces = regions(net, range);
    const rows = [["Step", steps], ["Loss, nats a point", figure(loss, 3)], ["Wrong, of " + points.length, wrong], ["Regions", pieces]];
    shown.replaceChildren(...rows.flatMap(([name, value]) => [h("span", {}, name), h("output", { "aria-live": "off" }, value)]));
    const [x, y] = foot(net, chosen);
    const line = `Line ${chosen + 1} is nearest to the middle at (${figure(x)}, ${figure(y)}), output weight ${figure(net.v[chosen], 2)}.`;
    keys.setAttribute("aria-valuetext", line);
    if (running) return;
    heard.say(
      `${steps} steps: ${figure(loss, 3)} nats a point (a coin: 0.693), ${wrong} of ${points.length} wrong. ` +
        `${net.v.length} lines cut the square into ${pieces} regions, in each of which the log-odds are linear. ${line}`,
    );
  }

  const drawing = keepDrawn(root, draw, plane, follow(model, ["units", "data"], fromPython), () => (running = false));
  el.playground = { now: () => ({ net, steps, chosen, running, points }) };
  restart();
  draw();
  return drawing.stop;
}

export default { render };
