// EM by hand: points that one places, the E step and the M step as two buttons, likelihood and bound drawn as they go.
//
// state: components, how many Gaussians (1 to 4).
// params: {
//   points: [[x, y], …], the first points, centres: [[x, y], …], where components start (4 of them),
//   components: how many at first, range: the plane reaches from −range to range,
//   ridge: of the log-prior −(ridge/2K) Σ_k tr Σ_k⁻¹ a point, which both curves include; advice: "what to try" }
import { button, colour, figure, follow, frame, h, keepDrawn, pointing, readout, sharp, slider } from "./controls.js";

const COLOURS = ["model", "data", "latent", "prior"]; // one a component; the number and the marker say it too
const SHOWN = 10; // half steps in the lower picture

/** log π_k + log N(x; μ_k, Σ_k) of one point, (K). */
function logJoint([x, y], theta) {
  return theta.map(({ weight, mean, cov: [a, b, c] }) => {
    const [u, v] = [x - mean[0], y - mean[1]];
    const det = a * c - b * b;
    const distance = (c * u * u - 2 * b * u * v + a * v * v) / det;
    return Math.log(weight) - 0.5 * (distance + Math.log(det)) - Math.log(2 * Math.PI);
  });
}

const logSum = (logs) => {
  const top = Math.max(...logs);
  return top + Math.log(logs.reduce((sum, l) => sum + Math.exp(l - top), 0));
};

const logPrior = (theta, ridge) =>
  (-0.5 * ridge * theta.reduce((sum, { cov: [a, b, c] }) => sum + (a + c) / (a * c - b * b), 0)) / theta.length;

/** The responsibilities: the posterior of the component, (N, K). */
function eStep(points, theta) {
  return points.map((p) => {
    const logs = logJoint(p, theta);
    const total = logSum(logs);
    return logs.map((l) => Math.exp(l - total));
  });
}

/** Weighted averages; ridge/(K π_k) on the diagonal is what the prior adds. */
function mStep(points, q, ridge) {
  const [n, k] = [points.length, q[0].length];
  return Array.from({ length: k }, (_, j) => {
    const total = Math.max(q.reduce((sum, row) => sum + row[j], 0), 1e-12);
    const average = (f) => points.reduce((sum, p, i) => sum + q[i][j] * f(p), 0) / total;
    const mean = [average((p) => p[0]), average((p) => p[1])];
    const about = (i, l) => average((p) => (p[i] - mean[i]) * (p[l] - mean[l]));
    const extra = ridge / (k * (total / n));
    return { weight: total / n, mean, cov: [about(0, 0) + extra, about(0, 1), about(1, 1) + extra] };
  });
}

/** Log-likelihood L and bound F, nats per point. */
function score(points, theta, q, ridge) {
  let [likelihood, bound] = [0, 0];
  points.forEach((p, i) => {
    const logs = logJoint(p, theta);
    likelihood += logSum(logs) / points.length;
    q[i].forEach((r, j) => (bound += r > 0 ? (r * (logs[j] - Math.log(r))) / points.length : 0));
  });
  const prior = logPrior(theta, ridge);
  return { likelihood: likelihood + prior, bound: bound + prior };
}

function render({ model, el }) {
  const params = model.get("params");
  const { range, ridge } = params;
  let points, theta, q, history, grabbed;

  // ---- what is on the page ----
  const advice =
    params.advice ?? "press M, then E, and so on. Click to add points, drag a numbered component, and find a start that ends badly.";
  const root = frame(el, "Expectation maximisation playground", advice);
  const pad = pointing({
    label: "Plane of points",
    hint: "Enter adds a point there",
    range,
    press(point, { type }) {
      const reach = (14 / pad.canvas.clientWidth) * 2 * range;
      const near = ({ mean }) => Math.hypot(mean[0] - point[0], mean[1] - point[1]) < reach;
      grabbed = type === "pointerdown" ? theta.find(near) : null;
      if (!grabbed) change(() => points.push(point));
    },
    drag(point) {
      if (!grabbed) return;
      grabbed.mean = point;
      if (history.at(-1)?.kind === "moved") history.pop();
      note("moved");
    },
    changed: () => drawing.soon(),
  });
  const chart = h("canvas", { role: "img" });
  const acts = { "E step": () => step("E"), "M step": () => step("M"), "Clear points": () => change(() => (points = [])), Reset: reset };
  const steps = h("div", { style: "display: flex; gap: .5rem; flex-wrap: wrap" });
  for (const [name, act] of Object.entries(acts)) steps.append(button(name, act));
  const count = slider({
    label: "Components", unit: { short: "", long: "components" }, min: 1, max: 4, step: 1,
    change: (k) => (model.set("components", k), model.save_changes()),
  });
  const heard = readout();
  root.append(
    h("div", { class: "stage" },
      h("figure", {}, pad.el, h("figcaption", {}, "A point has the marker of the component that answers for most of it, and a mixture of their colours. Ellipses: 2 standard deviations.")),
      h("div", { class: "side", style: "grid-template-columns: 1fr" },
        h("figure", {}, chart, h("figcaption", {}, "Nats per point: likelihood L (line) and bound F (dashes), the last 10 half steps")),
        h("div", { class: "sliders" }, steps, count.row))),
    heard.line,
  );

  // ---- what one can do ----
  function reset() {
    points = params.points.map((p) => [...p]);
    restart();
  }

  function restart() {
    const k = Math.max(1, Math.min(4, Math.round(model.get("components") || params.components)));
    theta = params.centres.slice(0, k).map((mean) => ({ weight: 1 / k, mean: [...mean], cov: [1, 0, 1] }));
    change(() => {});
  }

  /** Other points: the curves begin anew. */
  function change(act) {
    act();
    q = eStep(points, theta);
    history = [];
    note("E");
  }

  function step(kind) {
    if (!points.length) return;
    if (kind === "E") q = eStep(points, theta);
    else theta = mStep(points, q, ridge);
    if (history.at(-1).kind !== kind) note(kind);
  }

  function note(kind) {
    if (points.length) history.push({ kind, ...score(points, theta, q, ridge) });
    drawing.soon();
  }


  // ---- drawing ----
  const side = () => pad.el.clientWidth || 300;
  const at = ([x, y]) => [((x / range + 1) / 2) * side(), ((1 - y / range) / 2) * side()];

  function draw() {
    count.show(theta.length);
    count.row.querySelector("output").textContent = theta.length;
    count.input.setAttribute("aria-valuetext", `${theta.length} components`);
    drawPlane();
    drawChart();
    const last = history.at(-1);
    const did = { E: "After the E step", M: "After the M step", moved: "A component moved" }[last?.kind];
    const values = last && [last.likelihood, last.bound, last.likelihood - last.bound].map((v) => figure(v, 3));
    const text = last
      ? `${points.length} points. ${did}: L = ${values[0]}, F = ${values[1]} nats per point, gap ${values[2]}. Next: ${last.kind === "E" ? "M" : "E"}.`
      : "No points: click in the plane, or move the cursor with the arrow keys and press Enter.";
    chart.setAttribute("aria-label", `Likelihood and bound, step by step. ${text}`);
    heard.say(text);
  }

  function write(context, text, x, y, size, align = "center") {
    context.font = `${size}px system-ui, sans-serif`;
    Object.assign(context, { textAlign: align, textBaseline: "middle" });
    context.fillText(text, x, y);
  }

  const rgb = (name) => colour(root, name).match(/\w\w/g).map((x) => parseInt(x, 16));

  function drawPlane() {
    const context = sharp(pad.canvas, side(), side());
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, side(), side());
    const palette = COLOURS.map(rgb);
    points.forEach((p, i) => {
      const mixed = [0, 1, 2].map((c) => Math.round(q[i].reduce((sum, r, j) => sum + r * palette[j][c], 0)));
      context.fillStyle = `rgb(${mixed})`;
      write(context, "●■▲◆"[q[i].indexOf(Math.max(...q[i]))], ...at(p), 11);
    });
    theta.forEach(({ mean, cov: [a, b, c] }, j) => {
      const [middle, spread] = [(a + c) / 2, Math.hypot((a - c) / 2, b)];
      const scale = side() / range; // half the side is one range: 2 standard deviations
      const [x, y] = at(mean);
      context.strokeStyle = colour(root, COLOURS[j]);
      context.lineWidth = 2;
      context.beginPath();
      context.ellipse(x, y, Math.sqrt(middle + spread) * scale, Math.sqrt(Math.max(middle - spread, 0)) * scale, -Math.atan2(2 * b, a - c) / 2, 0, 2 * Math.PI);
      context.stroke();
      context.fillStyle = colour(root, COLOURS[j]);
      write(context, "●", x, y, 30);
      context.fillStyle = colour(root, "ground");
      write(context, j + 1, x, y, 13);
    });
    if (!pad.shown) return;
    const [x, y] = at(pad.cursor);
    context.fillStyle = colour(root, "ink");
    context.fillRect(x - 7, y - 0.75, 14, 1.5);
    context.fillRect(x - 0.75, y - 7, 1.5, 14);
  }

  function drawChart() {
    const [width, height] = [chart.parentElement.clientWidth || 200, 170];
    chart.style.height = `${height}px`;
    const context = sharp(chart, width, height);
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, width, height);
    const recent = history.slice(-SHOWN);
    if (!recent.length) return;
    const values = recent.flatMap((s) => [s.likelihood, s.bound]);
    const low = Math.min(...values);
    const high = Math.max(...values, low + 0.1);
    const X = (i) => 12 + (i / Math.max(SHOWN / 2, recent.length - 1)) * (width - 44);
    const Y = (v) => height - 34 - ((v - low) / (high - low)) * (height - 56); // below: room for F and the number
    for (const [key, name, dash] of [["bound", "latent", [5, 3]], ["likelihood", "model", []]]) {
      context.strokeStyle = context.fillStyle = colour(root, name);
      context.lineWidth = 2;
      context.setLineDash(dash);
      context.beginPath();
      recent.forEach((s, i) => context.lineTo(X(i), Y(s[key])));
      context.stroke();
      recent.forEach((s, i) => context.fillRect(X(i) - 2, Y(s[key]) - 2, 4, 4));
    }
    const [end, last] = [X(recent.length - 1) + 8, recent.at(-1)];
    const apart = Math.max(0, (14 - Y(last.bound) + Y(last.likelihood)) / 2);
    write(context, "L", end, Y(last.likelihood) - apart, 12, "left");
    context.fillStyle = colour(root, "latent");
    write(context, "F", end, Y(last.bound) + apart, 12, "left");
    context.fillStyle = colour(root, "soft");
    write(context, figure(high, 2), 4, 9, 12, "left");
    write(context, figure(low, 2), 4, height - 8, 12, "left");
  }

  const drawing = keepDrawn(root, draw, pad.el, follow(model, ["components"], restart));
  el.playground = { step, now: () => ({ points, theta, q, history }), parts: { eStep, mStep, score } };
  reset();
  draw();
  return drawing.stop;
}

export default { render };
