// Five ways to make more points like those you have: choose or draw the data, choose a way, and watch its density and
// its samples follow. Every model is fitted here, in the page.
//
// params: {
//   sets: { pinwheel: { train: [[x, y], …], held: [[x, y], …], entropy: nats a point of the true density }, … } }
// state: data (a name in sets), way (a name in WAYS), size (bins, components or units),
//   points (those that the reader drew: then data is "drawn")
import { button, choice, colour, figure, follow, frame, h, keepDrawn, plane, readout, setAll, sharp, slider } from "./controls.js";
import { Copies, EDGE, Histogram, Mixture, Neural, Noise, normal, randomFrom } from "./density_models.js";

const WAYS = {
  noise: { text: "random: uniform noise", Model: Noise },
  copies: { text: "deterministic: copy the data", Model: Copies },
  histogram: { text: "histogram", Model: Histogram, size: { label: "Bins along each axis", min: 2, max: 60, start: 16 } },
  mixture: { text: "mixture of Gaussians", Model: Mixture, size: { label: "Components", min: 1, max: 40, start: 12 } },
  neural: { text: "neural network", Model: Neural, size: { label: "Hidden units", min: 1, max: 48, start: 24 } },
};
const CELLS = 72; // of the picture of the density, along each side
const SAMPLES = 400;
const FEWEST = 10;

function render({ model, el }) {
  const { sets } = model.get("params");
  const first = Object.fromEntries(["data", "way", "size"].map((name) => [name, model.get(name)]));
  let [fitted, train, held, working, stale] = [null, [], [], false, true];
  const pen = { x: 0, y: 0, down: false, last: null };

  // ---- what is on the page ----
  const root = frame(el, "Five ways playground", "draw in the left square, or choose other data; then move the size until the held-out number is lowest.");
  const names = [...Object.keys(sets), "drawn"].map((name) => [name, { drawn: "drawn by you" }[name] ?? name.replace(/\d/, " $&")]);
  const data = choice({ label: "Data", options: names, change: (value) => set({ data: value }) });
  const ways = Object.entries(WAYS).map(([name, { text }]) => [name, text]);
  const way = choice({ label: "Way to generate", options: ways, change: (value) => set({ way: value, size: WAYS[value].size?.start ?? 0 }) });
  const size = slider({ label: "", unit: { short: "", long: "" }, min: 1, max: 60, step: 1, digits: 0, change: (value) => set({ size: value }) });
  const clear = button("Clear, to draw", () => set({ data: "drawn", points: [] }));
  const reset = button("Reset", () => set({ ...first, points: [] }));
  const paper = plane({
    label: "Data plane: arrow keys move the pen, Enter draws", unit: "", range: [EDGE, EDGE], step: 0.15,
    pointed: (x, y, down) => moved(x, y, down), ended: () => (pen.down = false), entered: () => add(pen.x, pen.y),
  });
  const sheet = h("canvas", { role: "img" });
  for (const canvas of [paper.canvas, sheet]) canvas.style.border = "1px solid var(--line)";
  const [left, right, scores] = [h("figcaption"), h("figcaption"), h("p", { style: "margin-top: .75rem; font-variant-numeric: tabular-nums" })];
  const heard = readout();
  root.append(
    h("div", { style: "display: grid; gap: .75rem; grid-template-columns: 1fr 1fr" },
      h("figure", {}, paper.el, left), h("figure", {}, sheet, right)),
    scores,
    h("div", { style: "display: grid; gap: .6rem 1.5rem; grid-template-columns: repeat(auto-fit, minmax(12rem, 1fr)); margin-top: .75rem" },
      data.row, way.row, size.row, h("div", { class: "buttons", style: "align-items: end" }, clear, reset)),
    heard.line,
  );

  // ---- data and model ----
  const random = randomFrom(7);
  function set(changes) {
    setAll(model, changes);
    restart();
  }

  function restart() {
    stale = true;
    drawing.soon();
  }

  function start() {
    stale = false;
    const points = model.get("points");
    const base = sets[model.get("data")];
    // Of a drawing every fourth point is kept from the model.
    train = base ? base.train : points.filter((_, i) => i % 4);
    held = base ? base.held : points.filter((_, i) => i % 4 === 0);
    const { Model } = WAYS[model.get("way")];
    fitted = train.length < FEWEST ? null : new Model(train, Math.max(1, Math.round(model.get("size"))), randomFrom(1));
    working = fitted !== null;
  }

  function moved(x, y, down) {
    const far = !pen.last || Math.hypot(x - pen.last[0], y - pen.last[1]) > 0.1;
    const stroke = down || (pen.down && far);
    Object.assign(pen, { x, y, down: pen.down || down });
    if (stroke) add(x, y);
    else drawing.soon();
  }

  /** A few points around the pen. The first stroke on a set of the book begins a drawing of its own. */
  function add(x, y) {
    const old = model.get("data") === "drawn" ? model.get("points") : [];
    const near = (v) => Math.max(-EDGE, Math.min(EDGE - 1e-6, v + 0.07 * normal(random)));
    pen.last = [x, y];
    set({ data: "drawn", points: [...old, ...[0, 1, 2, 3].map(() => [near(x), near(y)])] });
  }

  // ---- drawing ----
  function draw() {
    if (stale) start();
    const until = performance.now() + 25; // milliseconds of learning a frame
    while (working && performance.now() < until) {
      working = fitted.step();
      if (fitted instanceof Mixture) break; // a step of EM is worth seeing
    }
    const name = model.get("way");
    const limits = WAYS[name].size;
    data.show(model.get("data"));
    way.show(name);
    size.row.style.visibility = limits ? "" : "hidden";
    if (limits) {
      Object.assign(size.input, { min: limits.min, max: limits.max });
      size.row.firstChild.textContent = limits.label;
      size.show(model.get("size"));
    }
    paper.show(pen.x, pen.y, `pen at ${figure(pen.x)}, ${figure(pen.y)}`);
    const again = randomFrom(3); // the same random numbers at each frame: what moves is the model
    if (fitted && "next" in fitted) fitted.next = 0;
    const samples = fitted ? Array.from({ length: SAMPLES }, () => fitted.sample(again)) : [];
    const one = drawSquare(paper.canvas);
    if (fitted) drawDensity(one);
    dots(one, train, "data", "disc");
    cross(one);
    dots(drawSquare(sheet), samples, "model", "triangle");
    say();
    if (working) drawing.soon();
  }

  function say() {
    left.textContent = `${train.length} training points (blue), the model's density (orange). Draw here.`;
    right.textContent = fitted ? `${SAMPLES} points that the model makes${working ? ", while it learns" : ""}.` : `Draw ${FEWEST} points or more.`;
    if (!fitted) return scores.replaceChildren();
    const nats = (points) => -points.reduce((sum, p) => sum + fitted.logDensity(...p), 0) / points.length;
    const write = (x) => (Number.isFinite(x) ? figure(x, 2) : "∞");
    const floor = sets[model.get("data")]?.entropy;
    const [known, fresh] = [train, held].map(nats);
    scores.replaceChildren(
      ...[["Held out ", h("b", {}, write(fresh))], [`, training ${fitted instanceof Copies ? "−∞" : write(known)}`],
        [floor === undefined ? "" : `; the truth itself ${write(floor)}`], [" nats a point. Lower is better."]].flat(),
    );
    const what = `${WAYS[model.get("way")].text}, ${fitted.numbers} numbers`;
    sheet.setAttribute("aria-label", `Samples of the model: ${what}`);
    if (!working) heard.say(`${what}. ${scores.textContent}`);
  }

  function drawSquare(canvas) {
    const side = canvas.clientWidth || 300;
    const context = sharp(canvas, side, side);
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, side, side);
    return context;
  }

  const at = (context, [x, y]) => {
    const side = context.canvas.clientWidth || 300;
    return [((x / EDGE + 1) / 2) * side, ((1 - y / EDGE) / 2) * side];
  };

  function dots(context, points, meaning, shape) {
    context.fillStyle = colour(root, meaning);
    context.globalAlpha = 0.75;
    for (const p of points) {
      const [x, y] = at(context, p);
      context.beginPath();
      if (shape === "disc") context.arc(x, y, 1.7, 0, 2 * Math.PI);
      else for (const [dx, dy] of [[0, -2.6], [2.4, 1.8], [-2.4, 1.8]]) context.lineTo(x + dx, y + dy);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  /** The density as orange veil: its opacity is the root of the density, relative to the 99th percentile. */
  function drawDensity(context) {
    const place = (i) => (2 * EDGE * (i + 0.5)) / CELLS - EDGE;
    const values = new Float64Array(CELLS * CELLS);
    for (let i = 0; i < CELLS; i++) for (let j = 0; j < CELLS; j++) values[j * CELLS + i] = Math.exp(fitted.logDensity(place(i), -place(j)));
    const top = [...values].sort((a, b) => a - b)[Math.floor(0.99 * values.length)] || 1;
    const veil = h("canvas", { width: CELLS, height: CELLS });
    const pixels = veil.getContext("2d").createImageData(CELLS, CELLS);
    const [r, g, b] = colour(root, "model").match(/\w\w/g).map((hex) => parseInt(hex, 16));
    values.forEach((p, i) => pixels.data.set([r, g, b, 190 * Math.sqrt(Math.min(1, p / top))], 4 * i));
    veil.getContext("2d").putImageData(pixels, 0, 0);
    const side = context.canvas.clientWidth || 300;
    context.imageSmoothingEnabled = !(fitted instanceof Histogram);
    context.drawImage(veil, 0, 0, side, side);
  }

  function cross(context) {
    if (!paper.el.contains(document.activeElement)) return;
    const [x, y] = at(context, [pen.x, pen.y]);
    context.strokeStyle = colour(root, "ink");
    context.beginPath();
    for (const [dx, dy] of [[5, 0], [0, 5]]) {
      context.moveTo(x - dx, y - dy);
      context.lineTo(x + dx, y + dy);
    }
    context.stroke();
  }

  const drawing = keepDrawn(root, draw, paper.el, follow(model, ["data", "way", "size", "points"], restart));
  el.playground = { set, now: () => ({ fitted, train, held, working }) }; // for the console
  draw();
  return drawing.stop;
}

export default { render };
