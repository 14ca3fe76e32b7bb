// Conditioning a digit: paint or erase pixels, say which digit it is, and see the exact conditional of all the rest.
//
// params: { weights: [K], pixels: [K][H·W][levels], labels: [K][digits], all in positive counts that need not sum
//   to 1, start: the evidence at first, advice }
// state: { x: [H·W + 1], the level of each pixel and then the label, −1 where nothing is given }
import { button, choice, colour, figure, follow, frame, h, keepDrawn, plane, readout, sharp } from "./controls.js";

const share = (row) => {
  const sum = row.reduce((a, b) => a + b, 0);
  return row.map((v) => v / sum);
};

/** The mixture's tables, each normalised. */
function tables({ weights, pixels, labels }) {
  return { weights: share(weights), pixels: pixels.map((k) => k.map(share)), labels: labels.map(share) };
}

/** log p(what is given); p(template | it); p(label | it); and of each pixel p(level | it). */
function conditional({ weights, pixels, labels }, x) {
  const side = x.length - 1;
  const logs = weights.map((w, k) => {
    let sum = Math.log(w);
    for (let d = 0; d < side; d++) if (x[d] >= 0) sum += Math.log(pixels[k][d][x[d]]);
    return x[side] >= 0 ? sum + Math.log(labels[k][x[side]]) : sum;
  });
  const top = Math.max(...logs);
  const total = logs.reduce((sum, v) => sum + Math.exp(v - top), 0);
  const posterior = logs.map((v) => Math.exp(v - top) / total);
  const mixed = (known, rows) =>
    rows[0].map((_, v) =>
      known >= 0 ? Number(v === known) : posterior.reduce((sum, r, k) => sum + r * rows[k][v], 0),
    );
  return {
    logProbability: top + Math.log(total),
    posterior,
    labels: mixed(x[side], labels),
    pixels: Array.from({ length: side }, (_, d) => mixed(x[d], pixels.map((k) => k[d]))),
  };
}

/** The index that a number u in 0 … 1 draws from probabilities. */
function pick(row, u) {
  let sum = 0;
  const i = row.findIndex((p) => (sum += p) > u);
  return i < 0 ? row.length - 1 : i;
}

/** One example that agrees with x: a template from its posterior, then each pixel that is not given. */
function drawn(table, { posterior }, x, random) {
  const k = pick(posterior, random());
  return x.slice(0, -1).map((v, d) => (v >= 0 ? v : pick(table.pixels[k][d], random())));
}

function render({ model, el }) {
  const params = model.get("params");
  const table = tables(params);
  const pixels = params.pixels[0].length;
  const side = Math.round(Math.sqrt(pixels));
  const levels = params.pixels[0][0].length;
  const digits = params.labels[0].map((_, v) => String(v));
  let x = [...(model.get("x")?.length ? model.get("x") : params.start)];
  let [brush, painting, cursor, seed] = [levels - 1, false, [3, 3], 1]; // the cursor: column and row
  let follows = null; // what follows from x

  // ---- what is on the page ----
  const advice = params.advice ?? "paint a bar of ink on the left, then choose a digit that it contradicts.";
  const root = frame(el, "Conditional digits playground", advice);
  const range = [side / 2, side / 2];
  const pad = plane({ label: "Evidence", unit: "pixels", range, step: 1, pointed, ended, entered });
  const canvases = ["Expected", "A draw", "Another"].map((label) => [
    label,
    h("canvas", { role: "img", "aria-label": label }),
  ]);
  const bars = h("canvas", { role: "img" });
  const brushes = choice({
    label: "Brush",
    options: [[levels - 1, "ink"], [0, "paper"], [-1, "forget"]],
    change: (v) => (brush = Number(v)),
  });
  const given = choice({
    label: "Digit",
    options: [[-1, "not given"], ...digits.map((d, v) => [v, d])],
    change: (v) => change([...x.slice(0, -1), Number(v)]),
  });
  const again = button("Draw again", () => (seed++, drawing.soon()));
  const nothing = button("Forget all", () => change(x.map(() => -1)));
  const reset = h("button", { type: "button" }, "Reset");
  const heard = readout();
  const legend = "Blue frame: given. The rest shows what the model expects there. Arrow keys move, Enter paints.";
  root.append(
    h(
      "div",
      { class: "stage" },
      h("figure", {}, pad.el, h("figcaption", {}, legend)),
      h(
        "div",
        { class: "side", style: "display: flex" }, // one column, on a phone too
        h("div", { style: "display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem" },
          ...canvases.map(([label, canvas]) => h("figure", {}, canvas, h("figcaption", {}, label)))),
        h("figure", {}, bars, h("figcaption", {}, "Probability of each digit")),
        h("div", { class: "sliders" }, brushes.row, given.row, h("div", { class: "buttons" }, again, nothing, reset)),
      ),
    ),
    heard.line,
  );
  brushes.show(brush);

  // ---- changing ----
  function change(to) {
    x = [...to];
    model.set("x", [...to]);
    model.save_changes();
    drawing.soon();
  }
  function paint() {
    const at = cursor[1] * side + cursor[0];
    if (x[at] !== brush) change(x.map((v, d) => (d === at ? brush : v)));
  }
  function pointed(across, up, down) {
    cursor = [across + side / 2, side / 2 - up].map((v) => Math.max(0, Math.min(side - 1, Math.floor(v))));
    painting ||= down;
    if (painting) paint();
    drawing.soon();
  }
  function ended() {
    painting = false;
  }
  function entered() {
    paint();
  }
  reset.addEventListener("click", () => {
    brushes.show((brush = levels - 1));
    change(params.start);
  });
  const fromPython = () => ((x = [...model.get("x")]), drawing.soon());

  // ---- drawing ----
  function ink(context, value, left, top, size) {
    const [paper, black] = root.dataset.theme === "dark" ? [28, 240] : [255, 20];
    const grey = Math.round(paper + (black - paper) * value);
    context.fillStyle = `rgb(${grey} ${grey} ${grey})`;
    context.fillRect(left, top, size + 0.5, size + 0.5);
  }

  function picture(canvas, values) {
    const size = canvas.parentElement.clientWidth || 80;
    canvas.style.height = `${size}px`;
    const context = sharp(canvas, size, size);
    const cell = size / side;
    values.forEach((v, d) => ink(context, v / (levels - 1), (d % side) * cell, Math.floor(d / side) * cell, cell));
    context.strokeStyle = colour(root, "line");
    context.strokeRect(0.5, 0.5, size - 1, size - 1);
  }

  function drawPad(mean) {
    const size = pad.el.clientWidth || 260;
    const cell = size / side;
    pad.canvas.style.height = `${size}px`;
    const context = sharp(pad.canvas, size, size);
    mean.forEach((v, d) => {
      const [left, top] = [(d % side) * cell, Math.floor(d / side) * cell];
      ink(context, v / (levels - 1), left, top, cell);
      if (x[d] < 0) return;
      context.strokeStyle = colour(root, "data");
      context.lineWidth = 2;
      context.strokeRect(left + 2, top + 2, cell - 4, cell - 4);
    });
    context.strokeStyle = colour(root, "model");
    context.lineWidth = 3;
    context.strokeRect(cursor[0] * cell + 1.5, cursor[1] * cell + 1.5, cell - 3, cell - 3);
  }

  function drawBars(row) {
    const [width, height] = [bars.parentElement.clientWidth || 240, 84];
    bars.style.height = `${height}px`;
    const context = sharp(bars, width, height);
    context.font = "12px system-ui, sans-serif";
    context.textAlign = "center";
    row.forEach((p, v) => {
      const middle = ((v + 0.5) * width) / row.length;
      context.fillStyle = colour(root, x.at(-1) === v ? "data" : "latent");
      context.fillRect(middle - (0.35 * width) / row.length, 66 * (1 - p), (0.7 * width) / row.length, 66 * p);
      context.fillStyle = colour(root, "ink");
      context.fillText(digits[v], middle, 80);
    });
    const said = row.map((p, v) => `${digits[v]} ${figure(100 * p, 0)} %`);
    bars.setAttribute("aria-label", `Probability: ${said.join(", ")}`);
  }

  function draw() {
    follows = conditional(table, x);
    const mean = follows.pixels.map((row) => row.reduce((sum, p, v) => sum + p * v, 0));
    let state = seed * 2654435761;
    const random = () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0), state / 2 ** 32);
    drawPad(mean);
    const images = [mean, drawn(table, follows, x, random), drawn(table, follows, x, random)];
    canvases.forEach(([, canvas], i) => picture(canvas, images[i]));
    drawBars(follows.labels);
    given.show(x.at(-1));
    const at = cursor[1] * side + cursor[0];
    const known = x[at] < 0 ? `expected ${figure(mean[at])}` : `given ${x[at]}`;
    const place = `row ${cursor[1] + 1}, column ${cursor[0] + 1}: ${known} of ${levels - 1}`;
    pad.show(cursor[0] + 0.5 - side / 2, side / 2 - cursor[1] - 0.5, place);
    const count = x.slice(0, -1).filter((v) => v >= 0).length;
    const best = follows.labels.indexOf(Math.max(...follows.labels));
    const told = x.at(-1) < 0 ? "" : ` and the digit ${digits[x.at(-1)]}`;
    const belief = x.at(-1) < 0 ? `; most probably a ${digits[best]} (${figure(100 * follows.labels[best], 0)} %)` : "";
    const nats = figure(follows.logProbability);
    heard.say(`Given ${count} of ${pixels} pixels${told}: log-probability ${nats} nats${belief}.`);
  }

  const drawing = keepDrawn(root, draw, pad.el, follow(model, ["x"], fromPython));
  el.playground = { conditional: (evidence) => conditional(table, evidence), change };
  draw();
  return drawing.stop;
}

export default { render };
