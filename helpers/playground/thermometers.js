// Readings of four instruments that one drags, and what two linear models believe about the quantity behind them:
// factor analysis, which has a noise for each instrument, and PPCA, fitted to the same population with one noise.
//
// state: readings, one number an instrument, in standard deviations of the hidden quantity.
// params: { weight: [w…], noise: [standard deviation…], readings: [x…] at first, range: the axis is −range … range,
//   advice: "what to try" }; the last instrument's noise is the slider's.
import { colour, figure, follow, frame, h, keepDrawn, readout, sharp, slider } from "./controls.js";

const UNIT = { short: "sd", long: "standard deviations" };
const ROW = 34; // pixels an instrument

/** p(z | x) = N(mean, sd²) with prior N(0, 1) and x_d = w_d z + noise of variance psi_d. */
function posterior(weight, psi, x) {
  const precision = weight.reduce((sum, w, d) => sum + (w * w) / psi[d], 1);
  return { mean: weight.reduce((sum, w, d) => sum + (w * x[d]) / psi[d], 0) / precision, sd: precision ** -0.5 };
}

/** PPCA of one latent for readings with covariance w wᵀ + diag(psi): Tipping & Bishop (1999), by power iteration. */
function ppca(weight, psi) {
  const n = weight.length;
  const times = (v) => {
    const along = weight.reduce((sum, w, d) => sum + w * v[d], 0);
    return v.map((x, d) => weight[d] * along + psi[d] * x);
  };
  let [vector, value] = [weight.map(() => 1), 0];
  for (let i = 0; i < 2000; i++) {
    const next = times(vector);
    value = Math.hypot(...next);
    vector = next.map((x) => x / value);
  }
  const trace = weight.reduce((sum, w, d) => sum + w * w + psi[d], 0);
  const variance = (trace - value) / (n - 1);
  return { weight: vector.map((x) => x * Math.sqrt(Math.max(value - variance, 0))), psi: weight.map(() => variance) };
}

function render({ model, el }) {
  const params = model.get("params");
  const { range, weight } = params;
  const last = weight.length - 1;
  let [x, noise, grabbed] = [[...model.get("readings")], [...params.noise], 0];

  const advice = params.advice ?? "drag the fourth reading far out, then make that thermometer precise with the slider.";
  const root = frame(el, "Thermometers playground", advice);
  const map = h("canvas", { "aria-hidden": "true" });
  const inputs = weight.map((_, d) => {
    const input = h("input", { type: "range", min: -range, max: range, step: 0.1, "aria-label": `Reading of thermometer ${d + 1}` });
    input.addEventListener("input", () => move(d, Number(input.value)));
    input.addEventListener("focus", () => ((grabbed = d), drawing.soon()));
    return input;
  });
  const plane = h("div", { class: "plane", role: "group", "aria-label": "Readings and beliefs" }, map, ...inputs);
  const row = slider({
    label: "Noise of thermometer 4", unit: UNIT, min: 0.1, max: 3, step: 0.1,
    change: (v) => ((noise[last] = v), drawing.soon()),
  });
  const reset = h("button", { type: "button" }, "Reset");
  const heard = readout();
  root.append(
    h("figure", {}, plane, h("figcaption", {}, "Dots: readings, with the noise of each instrument. Green line: factor analysis. Violet dashes: PPCA. Tick: plain average. Axis in standard deviations of the temperature.")),
    h("div", { class: "sliders", style: "margin-top: .75rem; max-width: 20rem" }, row.row, reset),
    heard.line,
  );

  function move(d, value) {
    x = x.map((old, i) => (i === d ? Math.max(-range, Math.min(range, value)) : old));
    model.set("readings", x);
    model.save_changes();
    drawing.soon();
  }

  const reading = (event) => {
    const box = map.getBoundingClientRect();
    return ((2 * (event.clientX - box.left)) / box.width - 1) * range;
  };
  map.addEventListener("pointerdown", (event) => {
    map.setPointerCapture(event.pointerId);
    grabbed = Math.max(0, Math.min(last, Math.floor((event.clientY - map.getBoundingClientRect().top) / ROW)));
    inputs[grabbed].focus({ preventScroll: true });
    event.preventDefault();
    move(grabbed, reading(event));
  });
  map.addEventListener("pointermove", (event) => map.hasPointerCapture(event.pointerId) && move(grabbed, reading(event)));
  reset.addEventListener("click", () => {
    noise = [...params.noise];
    params.readings.forEach((v, d) => move(d, v));
  });
  const fromPython = () => {
    x = [...model.get("readings")];
    drawing.soon();
  };

  function believe() {
    const psi = noise.map((s) => s * s);
    const equal = ppca(weight, psi);
    const average = x.reduce((a, b) => a + b, 0) / x.length;
    return { factor: posterior(weight, psi, x), ppca: posterior(equal.weight, equal.psi, x), average };
  }

  function draw() {
    const now = believe();
    row.show(noise[last]);
    inputs.forEach((input, d) => {
      input.value = x[d];
      input.setAttribute("aria-valuetext", `${figure(x[d])} ${UNIT.long}`);
    });
    const [width, height] = [plane.clientWidth || 320, ROW * x.length + 150];
    map.style.height = `${height}px`;
    const context = sharp(map, width, height);
    const X = (v) => ((v / range + 1) / 2) * width;
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, width, height);
    context.font = "12px system-ui, sans-serif";
    context.lineWidth = 1.5;
    x.forEach((v, d) => {
      const y = ROW * (d + 0.5);
      context.strokeStyle = context.fillStyle = colour(root, "data");
      line(context, [[X(v - noise[d]), y], [X(v + noise[d]), y]]);
      context.beginPath();
      context.arc(X(v), y, d === grabbed && plane.contains(document.activeElement) ? 9 : 7, 0, 2 * Math.PI);
      context.fill();
      context.fillStyle = colour(root, "soft");
      context.fillText(d + 1, 6, y + 4);
    });
    const [base, scale] = [height - 20, (height - ROW * x.length - 40) / Math.max(0.4 / now.factor.sd, 0.4 / now.ppca.sd)];
    for (const [{ mean, sd }, name, dash, label] of [[now.ppca, "prior", [6, 4], "PPCA"], [now.factor, "latent", [], "factor analysis"]]) {
      context.strokeStyle = context.fillStyle = colour(root, name);
      context.setLineDash(dash);
      context.lineWidth = 2;
      const density = (v) => (Math.exp(-0.5 * ((v - mean) / sd) ** 2) / sd / Math.sqrt(2 * Math.PI)) * scale;
      line(context, Array.from({ length: 241 }, (_, i) => (i / 120 - 1) * range).map((v) => [X(v), base - density(v)]));
      context.setLineDash([]);
      // Each name on the outer side of its curve, unless the edge is near
      const other = name === "prior" ? now.factor : now.ppca;
      const before = mean < other.mean ? X(mean) > 120 : X(mean) > width - 120;
      context.textAlign = before ? "right" : "left";
      context.fillText(label, X(mean) + (before ? -1 : 1) * (6 + (sd * width) / range / 2), base - density(mean) + (name === "prior" ? 24 : 8));
    }
    context.textAlign = "center";
    context.strokeStyle = context.fillStyle = colour(root, "ink");
    line(context, [[X(now.average), base + 2], [X(now.average), base - 12]]);
    context.fillStyle = colour(root, "soft");
    for (const v of [-range / 2, 0, range / 2]) context.fillText(figure(v, 0), X(v), height - 5);
    const say = ({ mean, sd }) => `${figure(mean, 2)} ± ${figure(sd, 2)}`;
    heard.say(`Factor analysis: ${say(now.factor)} sd. PPCA: ${say(now.ppca)} sd. Plain average: ${figure(now.average, 2)} sd.`);
  }

  function line(context, points) {
    context.beginPath();
    points.forEach(([a, b]) => context.lineTo(a, b));
    context.stroke();
  }

  const drawing = keepDrawn(root, draw, plane, follow(model, ["readings"], fromPython));
  el.playground = { move, believe };
  draw();
  return drawing.stop;
}

export default { render };
