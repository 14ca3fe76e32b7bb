// Two boundaries: place and drag points of two classes; naive Bayes and logistic regression are fitted at every move.
//
// state: points [[x, y, class], …], class 0 or 1.
// params: {
//   extent: the plane reaches from −extent to extent on both axes (default 4), names: of the two classes,
//   tied: one variance for both classes (default true), penalty: of logistic regression (default 1),
//   smoothing: of naive Bayes, the share of the largest variance added to each (default 0.001), advice }
import { button, colour, figure, follow, frame, h, keepDrawn, readout, sharp, slider } from "./controls.js";
import { stroke, zeroLine } from "./contours.js";

const CELLS = 64; // of the grid on which boundaries are traced

function render({ model, el }) {
  const params = model.get("params");
  const { extent = 4, names = ["A", "B"], smoothing = 1e-3 } = params;
  const settings = () => ({ tied: params.tied ?? true, logPenalty: Math.log10(params.penalty ?? 1), adds: 1 });
  let { tied, logPenalty, adds } = settings();
  const start = model.get("points").map((p) => [...p]);
  let points = start.map((p) => [...p]);
  let chosen = 0;

  // ---- what is on the page ----
  const advice = params.advice ?? "drag one point far from its class, and see which of the two boundaries follows it.";
  const root = frame(el, "Boundaries playground", advice);
  const map = h("canvas", { "aria-hidden": "true" });
  const keys = h("input", { type: "range", min: -extent, max: extent, step: 0.1 });
  const help = "arrow keys move the chosen point, page up and page down choose another, space adds one, delete removes it";
  keys.setAttribute("aria-label", `Points: ${help}`);
  const plane = h("div", { class: "plane", role: "group", "aria-label": "Plane of points" }, map, keys);
  const legend = h("figcaption", {}, `● ${names[0]}, ■ ${names[1]}. Orange, solid: naive Bayes. Green, dashed: logistic.`);
  const adding = button("", () => change(() => (adds = 1 - adds)));
  const variances = button("", () => change(() => (tied = !tied)));
  const penalty = slider({
    label: "Penalty, power of ten",
    unit: { short: "", long: "as the power of ten" },
    min: -3,
    max: 3,
    step: 0.5,
    change: (x) => change(() => (logPenalty = x)),
  });
  const reset = button("Reset", () =>
    change(() => {
      ({ tied, logPenalty, adds } = settings());
      points = start.map((p) => [...p]);
      chosen = 0;
    }),
  );
  const heard = readout();
  const side = h("div", { class: "side" }, h("div", { class: "sliders" }, adding, variances, penalty.row, reset), heard.line);
  root.append(h("div", { class: "stage" }, h("figure", {}, plane, legend), side));

  // ---- moving ----
  function change(act) {
    act();
    model.set("points", points.map((p) => [...p]));
    model.save_changes();
    drawing.soon();
  }
  const inside = (v) => Math.max(-extent, Math.min(extent, v));
  const put = (x, y) => change(() => (points[chosen] = [inside(x), inside(y), points[chosen][2]]));
  const add = (x, y) => {
    points.push([inside(x), inside(y), adds]);
    chosen = points.length - 1;
  };

  const place = (event) => {
    const box = map.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * 2 - 1, 1 - ((event.clientY - box.top) / box.height) * 2].map((v) => v * extent);
  };
  map.addEventListener("pointerdown", (event) => {
    const [x, y] = place(event);
    const reach = (14 / map.clientWidth) * 2 * extent; // pixels around a point
    const near = points.map(([a, b], i) => [Math.hypot(a - x, b - y), i]).sort((a, b) => a[0] - b[0])[0];
    change(() => (near && near[0] < reach ? (chosen = near[1]) : add(x, y)));
    map.setPointerCapture(event.pointerId);
    keys.focus({ preventScroll: true });
    event.preventDefault();
  });
  map.addEventListener("pointermove", (event) => map.hasPointerCapture(event.pointerId) && put(...place(event)));
  keys.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.5 : 0.1;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    const turn = { PageUp: -1, PageDown: 1 }[event.key];
    if (way && points.length) put(points[chosen][0] + way[0] * step, points[chosen][1] + way[1] * step);
    else if (turn && points.length) change(() => (chosen = (chosen + turn + points.length) % points.length));
    else if (event.key === " ") change(() => add(0, 0));
    else if (event.key === "Delete" || event.key === "Backspace")
      change(() => {
        points.splice(chosen, 1);
        chosen = Math.max(0, Math.min(chosen, points.length - 1));
      });
    else return;
    event.preventDefault();
  });
  const fromPython = () => {
    points = model.get("points").map((p) => [...p]);
    chosen = Math.max(0, Math.min(chosen, points.length - 1));
    drawing.soon();
  };

  // ---- drawing ----
  function draw() {
    adding.textContent = `New points: ${adds ? "■" : "●"} ${names[adds]}`;
    variances.textContent = `Variances: ${tied ? "shared" : "one per class"}`;
    penalty.show(logPenalty);
    const both = [0, 1].every((c) => points.some((p) => p[2] === c));
    const bayes = both ? naiveBayes(points, tied, smoothing) : null;
    const logistic = both ? logisticRegression(points, 10 ** logPenalty) : null;
    const side = plane.clientWidth || 300;
    const at = (x, y) => [((x / extent + 1) / 2) * side, ((1 - y / extent) / 2) * side];
    const context = sharp(map, side, side);
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, side, side);
    if (both) {
      stroke(context, colour(root, "latent"), 3, [7, 5], () => straight(context, at, logistic.w));
      stroke(context, colour(root, "model"), 3, [], () => trace(context, at, bayes));
    }
    points.forEach(([x, y, c], i) => {
      const [u, v] = at(x, y);
      context.fillStyle = colour(root, c ? "prior" : "data");
      context.beginPath();
      if (c) context.rect(u - 5, v - 5, 10, 10);
      else context.arc(u, v, 5.5, 0, 2 * Math.PI);
      context.fill();
      context.lineWidth = i === chosen ? 3 : 1;
      context.strokeStyle = colour(root, i === chosen ? "ink" : "ground");
      context.stroke();
    });
    say(both, bayes, logistic);
  }

  function say(both, bayes, logistic) {
    const point = points[chosen];
    const where = point ? `${names[point[2]]} at (${figure(point[0])}, ${figure(point[1])})` : "no point";
    keys.setAttribute("aria-valuetext", where);
    if (!both) return heard.say("Each class needs at least one point.");
    const wrong = (odds) => points.filter(([x, y, c]) => odds(x, y) > 0 !== (c === 1)).length;
    const p = (odds) => figure(1 / (1 + Math.exp(-odds(point[0], point[1]))), 3);
    heard.say(
      `Errors on the ${points.length} points: naive Bayes ${wrong(bayes)}, logistic ${wrong(logistic)}. ` +
        `The chosen point, ${where}: p(${names[1]}) is ${p(bayes)} by naive Bayes, ${p(logistic)} by logistic.`,
    );
  }

  /** The curve where the log-odds are 0. */
  function trace(context, at, odds) {
    const corner = (i) => -extent + (i * 2 * extent) / CELLS;
    const value = Array.from({ length: CELLS + 1 }, (_, j) =>
      Array.from({ length: CELLS + 1 }, (_, i) => odds(corner(i), corner(j))),
    );
    zeroLine(context, at, corner, value);
  }

  /** The straight line where w·(x, y, 1) is 0. */
  function straight(context, at, [a, b, c]) {
    const norm = Math.hypot(a, b) || 1e-12;
    const [u, v] = [a / norm, b / norm];
    for (const t of [-3 * extent, 3 * extent]) context.lineTo(...at((-c / norm) * u - t * v, (-c / norm) * v + t * u));
  }

  const drawing = keepDrawn(root, draw, plane, follow(model, ["points"], fromPython));
  el.playground = { naiveBayes, logisticRegression, points: () => points }; // for the console and the tests
  draw();
  return drawing.stop;
}

/** Log-odds of class 1 at (x, y): log p(1) + log N(x | 1) + log N(y | 1), less the same of class 0. */
function naiveBayes(points, tied, smoothing) {
  const rows = [0, 1].map((c) => points.filter((p) => p[2] === c));
  const mean = (list, k) => list.reduce((sum, p) => sum + p[k], 0) / list.length;
  const squares = (list, k, m = mean(list, k)) => list.reduce((sum, p) => sum + (p[k] - m) ** 2, 0);
  const floor = smoothing * Math.max(...[0, 1].map((k) => squares(points, k) / points.length)) || 1e-6;
  const pooled = [0, 1].map((k) => (squares(rows[0], k) + squares(rows[1], k)) / points.length);
  const part = rows.map((list) =>
    [0, 1].map((k) => [mean(list, k), (tied ? pooled[k] : squares(list, k) / list.length) + floor]),
  );
  const prior = Math.log(rows[1].length / rows[0].length);
  const log = ([m, s], x) => -0.5 * (Math.log(s) + (x - m) ** 2 / s);
  return (x, y) => prior + log(part[1][0], x) + log(part[1][1], y) - log(part[0][0], x) - log(part[0][1], y);
}

/** Log-odds w·(x, y) + b that minimise Σ −log p(class) + penalty/2 · ‖w‖², by Newton's method. */
function logisticRegression(points, penalty) {
  const weight = [penalty, penalty, 0];
  const dot = (w, p) => w[0] * p[0] + w[1] * p[1] + w[2];
  const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
  const value = (w) =>
    points.reduce((sum, p) => sum + softplus(p[2] ? -dot(w, p) : dot(w, p)), 0) + 0.5 * penalty * (w[0] ** 2 + w[1] ** 2);
  let w = [0, 0, 0];
  for (let step = 0; step < 50; step++) {
    const g = w.map((v, k) => weight[k] * v);
    const H = [0, 1, 2].map((i) => [0, 1, 2].map((j) => (i === j ? weight[i] + 1e-12 : 0)));
    for (const p of points) {
      const input = [p[0], p[1], 1];
      const q = 1 / (1 + Math.exp(-dot(w, p)));
      for (let i = 0; i < 3; i++) {
        g[i] += (q - p[2]) * input[i];
        for (let j = 0; j < 3; j++) H[i][j] += q * (1 - q) * input[i] * input[j];
      }
    }
    const d = solve(H, g);
    let [length, now] = [1, value(w)];
    while (length > 1e-9 && value(w.map((v, k) => v - length * d[k])) > now) length /= 2;
    w = w.map((v, k) => v - length * d[k]);
    if (Math.max(...d.map(Math.abs)) < 1e-10) break;
  }
  return Object.assign((x, y) => dot(w, [x, y]), { w });
}

/** H v = g by elimination with row exchanges. */
function solve(H, g) {
  const a = H.map((row, i) => [...row, g[i]]);
  for (let i = 0; i < 3; i++) {
    const best = a.slice(i).reduce((at, row, k) => (Math.abs(row[i]) > Math.abs(a[at][i]) ? i + k : at), i);
    [a[i], a[best]] = [a[best], a[i]];
    for (let k = 0; k < 3; k++) if (k !== i) a[k] = a[k].map((v, j) => v - (a[k][i] / a[i][i]) * a[i][j]);
  }
  return a.map((row, i) => row[3] / row[i]);
}

export default { render };
