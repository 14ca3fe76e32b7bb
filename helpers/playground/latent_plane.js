// The latent plane: drag in it, and the decoder draws the image of that point.
//
// graphs.decode: z (N, latents) → images (N, H, W) or (N, H, W, 3), in the data's units.
// state: z, one number a latent.
// params: {
//   levels: grey levels or colour levels of the data; an image holds 0 … levels − 1,
//   points: [[…]], latents of encoded training examples, labels: [0, 3, …], names: ["0", …] of the labels,
//   axes: [i, j], the latents of the plane (default [0, 1]), sliders: [k, …], at most three others (default: none),
//   range: the plane and the sliders reach from −range to range (default 3), start: [z…] (default: the first point),
//   images: true for a plane papered with decoded images, advice: "what to try" }
import { Graph, tensor } from "./runtime.js";
import { button, colour, figure, follow, frame, h, keepDrawn, readout, sharp, slider } from "./controls.js";

const UNIT = { short: "sd", long: "standard deviations of the prior" };
const TILES = 13;

function render({ model, el }) {
  const { decode } = Object.fromEntries(Object.entries(model.get("graphs")).map(([k, json]) => [k, new Graph(json)]));
  const params = model.get("params");
  const { levels, points = [], labels = [], names = [], axes = [0, 1], sliders: others = [], range = 3 } = params;
  const start = params.start ?? points[0] ?? model.get("z");
  const [ax, ay] = axes;
  let z = model.get("z").some((x) => x) ? [...model.get("z")] : [...start];

  // ---- what is on the page ----
  const advice = params.advice ?? "drag in the plane, or press the arrow keys, and watch one image become another.";
  const root = frame(el, "Latent plane playground", advice);
  const map = h("canvas", { "aria-hidden": "true" });
  const across = hiddenSlider(ax, "left and right");
  const up = hiddenSlider(ay, "down and up");
  const plane = h("div", { class: "plane", role: "group", "aria-label": "Latent plane" }, map, across, up);
  const picture = h("canvas", { role: "img", style: "image-rendering: pixelated; border: 1px solid var(--line)" });
  const size = h("figcaption");
  const rows = others.map((k) =>
    slider({ label: `Latent z${sub(k)}`, unit: UNIT, min: -range, max: range, step: 0.1, change: (x) => move({ [k]: x }) }),
  );
  const reset = button("Reset", () => move({ ...start }));
  const heard = readout();
  const controls = h("div", { class: "sliders" }, ...rows.map((r) => r.row), reset);
  root.append(
    h(
      "div",
      { class: "stage" },
      h("figure", {}, plane, h("figcaption", {}, legend())),
      h("div", { class: "side" }, h("figure", {}, picture, size), controls),
    ),
    heard.line,
  );

  function legend() {
    const shown = names.length ? "Green: where the encoder puts training examples. " : "";
    return `${shown}Violet: 1 and 2 standard deviations (sd) of the prior. Orange: your point.`;
  }

  function hiddenSlider(k, way) {
    const input = h("input", { type: "range", min: -range, max: range, step: 0.1, "aria-label": `Latent z${k + 1}, ${way}` });
    input.addEventListener("input", () => move({ [k]: Number(input.value) }));
    input.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 0.5 : 0.1;
      const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key] ?? [];
      if (dx === undefined) return;
      event.preventDefault();
      move({ [ax]: z[ax] + dx * step, [ay]: z[ay] + dy * step });
    });
    return input;
  }

  // ---- moving ----
  function move(changes) {
    z = z.map((x, k) => (k in changes ? Math.max(-range, Math.min(range, changes[k])) : x));
    model.set("z", z);
    model.save_changes();
    drawing.soon();
  }

  function moveTo(event) {
    const box = map.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    move({ [ax]: (2 * x - 1) * range, [ay]: (1 - 2 * y) * range });
  }

  map.addEventListener("pointerdown", (event) => {
    map.setPointerCapture(event.pointerId);
    across.focus({ preventScroll: true });
    event.preventDefault();
    moveTo(event);
  });
  map.addEventListener("pointermove", (event) => map.hasPointerCapture(event.pointerId) && moveTo(event));
  const fromPython = () => {
    z = [...model.get("z")];
    drawing.soon();
  };

  // ---- drawing ----
  let background = null; // the plane without the reader's point, drawn again only when something in it changed
  let drawnFor = "";

  function draw() {
    const [image] = decode.run({ z: tensor([1, z.length], z) });
    const values = drawImage(picture, image, levels, root.dataset.theme);
    const near = nearest();
    drawPlane(near);
    const [x, y] = [figure(z[ax]), figure(z[ay])];
    rows.forEach((row, i) => row.show(z[others[i]]));
    for (const [input, k] of [[across, ax], [up, ay]]) {
      input.value = z[k];
      input.setAttribute("aria-valuetext", `${figure(z[k])} ${UNIT.long}`);
    }
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const label = near === null ? "" : `nearest training examples: ${names[near]}; `;
    const text = `z${sub(ax)} = ${x} sd, z${sub(ay)} = ${y} sd; ${label}mean level ${figure(mean)} of ${levels - 1}.`;
    picture.setAttribute("aria-label", `Decoded image: ${text}`);
    const [height, width] = image.shape.slice(1);
    size.textContent = `The decoder's image, ${width} × ${height} pixels`;
    heard.say(text);
  }

  /** The label of most of the five training examples that are nearest in all latents. */
  function nearest() {
    if (!names.length || !points.length) return null;
    const distance = (p) => p.reduce((sum, x, k) => sum + (x - z[k]) ** 2, 0);
    const order = points.map((p, i) => [distance(p), labels[i]]).sort((a, b) => a[0] - b[0]);
    const votes = new Map(); // the nearest comes first and wins a tie
    for (const [, label] of order.slice(0, 5)) votes.set(label, (votes.get(label) ?? 0) + 1);
    return [...votes].reduce((a, b) => (b[1] > a[1] ? b : a))[0];
  }

  function drawPlane(near) {
    const side = plane.clientWidth || 300;
    const at = (x, y) => [((x / range + 1) / 2) * side, ((1 - y / range) / 2) * side];
    const paper = [side, root.dataset.theme, near, params.images && z.filter((_, k) => k !== ax && k !== ay)].join();
    if (paper !== drawnFor) {
      background = document.createElement("canvas");
      drawBackground(sharp(background, side, side), side, at, near);
      drawnFor = paper;
    }
    const context = sharp(map, side, side);
    context.drawImage(background, 0, 0, side, side);
    const [x, y] = at(z[ax], z[ay]);
    context.lineWidth = 3;
    circle(context, x, y, 9, colour(root, "model"));
    context.lineWidth = 1;
    circle(context, x, y, 11.5, colour(root, "ground"));
    context.fillStyle = colour(root, "model");
    context.fillRect(x - 1.5, y - 1.5, 3, 3);
  }

  function drawBackground(context, side, at, near) {
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, side, side);
    if (params.images) drawTiles(context, side);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colour(root, "latent");
    points.forEach((p, i) => {
      const [x, y] = at(p[ax], p[ay]);
      context.globalAlpha = labels[i] === near ? 1 : 0.35;
      context.font = `${labels[i] === near ? 600 : 400} 11px system-ui, sans-serif`;
      if (names.length) context.fillText(names[labels[i]].slice(0, 2), x, y);
      else context.fillRect(x - 1.5, y - 1.5, 3, 3);
    });
    context.globalAlpha = 1;
    context.setLineDash([3, 4]);
    for (const radius of [1, 2]) circle(context, ...at(0, 0), (radius / range / 2) * side, colour(root, "prior"));
    context.setLineDash([]);
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = colour(root, "prior");
    for (const radius of [1, 2]) context.fillText(`${radius} sd`, at(0, 0)[0], at(0, radius)[1] - 8);
    context.fillStyle = colour(root, "soft");
    context.fillText(`z${sub(ax)} →`, side - 22, side / 2 + 10);
    context.fillText(`↑ z${sub(ay)}`, side / 2 + 20, 12);
  }

  /** The plane papered with the images of its own points, the other latents as they are. */
  function drawTiles(context, side) {
    const place = (i) => ((2 * i + 1) / TILES - 1) * range;
    const all = Array.from({ length: TILES * TILES }, (_, i) =>
      z.map((x, k) => (k === ax ? place(i % TILES) : k === ay ? -place(Math.floor(i / TILES)) : x)),
    );
    const [images] = decode.run({ z: tensor([all.length, z.length], all.flat()) });
    const one = images.data.length / all.length;
    const tile = document.createElement("canvas");
    context.globalAlpha = 0.22;
    context.imageSmoothingEnabled = false;
    all.forEach((_, i) => {
      const image = { shape: [1, ...images.shape.slice(1)], data: images.data.subarray(i * one, (i + 1) * one) };
      drawImage(tile, image, levels, root.dataset.theme);
      const [x, y] = [i % TILES, Math.floor(i / TILES)].map((t) => ((t + 0.1) * side) / TILES);
      context.drawImage(tile, x, y, (0.8 * side) / TILES, (0.8 * side) / TILES);
    });
    context.globalAlpha = 1;
  }

  function circle(context, x, y, radius, stroke) {
    context.strokeStyle = stroke;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }

  const drawing = keepDrawn(root, draw, plane, follow(model, ["z"], fromPython));
  el.playground = { decode, move }; // for the console: change el.playground.decode.weights, then move
  draw();
  return drawing.stop;
}

const sub = (k) => String(k + 1).replace(/\d/g, (d) => "₀₁₂₃₄₅₆₇₈₉"[d]);

/** One image on a canvas of its own pixels: grey as ink on the theme's paper, or colour. Returns its numbers. */
function drawImage(canvas, { shape, data }, levels, theme) {
  const [paper, ink] = theme === "dark" ? [28, 240] : [255, 20];
  const [, height, width, channels = 1] = shape;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    for (let c = 0; c < 3; c++) {
      const value = data[i * channels + (channels === 1 ? 0 : c)] / (levels - 1);
      pixels.data[4 * i + c] = channels === 1 ? paper + (ink - paper) * value : 255 * value;
    }
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  return data;
}

export default { render };
