// Change of variables: draw a function g, and see the density and the draws of y = g(x), for x of a known density.
//
// x lies between −3 and 3. g is given at 61 places and runs smoothly between them (cubic Hermite pieces). The line is
// cut into 1,200 cells; the mass of a cell is spread evenly over the stretch of y on which g lays it, so where g is
// steep the density is low, folds add up, and a flat piece puts its mass into one bin.
// state: name: a key of FUNCTIONS or "drawn", g: 61 heights, base: a key of BASES, seed: a whole number.
// params: { advice: "what to try" }, optional.
import { button, choice, colour, figure, follow, frame, h, keepDrawn, listing, plane, readout, setAll, sharp } from "./controls.js";

const [KNOTS, FINE, BINS, REACH, DRAWS] = [61, 1200, 120, 3, 1000];
const WIDE = (2 * REACH) / BINS;
const clamp = (y) => Math.max(-REACH, Math.min(REACH, y));
const knot = (i) => (2 * REACH * i) / (KNOTS - 1) - REACH;
const bump = (x, mean, sd) => Math.exp(-0.5 * ((x - mean) / sd) ** 2);
const BASES = {
  normal: ["normal", (x) => bump(x, 0, 1)],
  uniform: ["uniform on −2 … 2", (x) => (Math.abs(x) <= 2 ? 1 : 0)],
  two: ["two bumps", (x) => bump(x, -1.2, 0.4) + bump(x, 1.2, 0.4)],
};
export const FUNCTIONS = {
  tanh: ["y = 2 tanh(1.2 x)", (x) => 2 * Math.tanh(1.2 * x)],
  half: ["y = x / 2", (x) => x / 2],
  bend: ["y = exp(x / 2) − 2", (x) => Math.exp(x / 2) - 2],
  square: ["y = x² / 2 − 2", (x) => x ** 2 / 2 - 2],
  wave: ["y = x / 2 + sin(2 x)", (x) => x / 2 + Math.sin(2 * x)],
};
export const heights = (name) => Array.from({ length: KNOTS }, (_, i) => clamp(FUNCTIONS[name][1](knot(i))));

/** g between its 61 heights, at the 1,201 edges of the cells. */
export function curve(g) {
  return Float64Array.from({ length: FINE + 1 }, (_, j) => {
    const at = (j * (KNOTS - 1)) / FINE;
    const i = Math.min(KNOTS - 2, Math.floor(at));
    const t = at - i;
    const [b, c] = [g[i], g[i + 1]];
    const [a, d] = [g[i - 1] ?? 2 * b - c, g[i + 2] ?? 2 * c - b];
    const [m, n] = [(c - a) / 2, (d - b) / 2];
    return clamp(b + t * (m + t * (3 * (c - b) - 2 * m - n + t * (2 * (b - c) + m + n))));
  });
}

/** Masses of the 1,200 cells of the line, summing to 1. */
export function masses(base) {
  const mass = Float64Array.from({ length: FINE }, (_, j) => BASES[base][1](((j + 0.5) * 2 * REACH) / FINE - REACH));
  const total = mass.reduce((a, b) => a + b, 0);
  return mass.map((m) => m / total);
}

/** Densities of y in 120 bins: `right`, and `wrong`, which forgets to divide by |g′|; each with its area. */
export function pushforward(base, g) {
  const [edges, mass] = [curve(g), masses(base)];
  const [right, wrong] = [new Float64Array(BINS), new Float64Array(BINS)];
  const dx = (2 * REACH) / FINE;
  mass.forEach((m, j) => {
    const [low, high] = [Math.min(edges[j], edges[j + 1]), Math.max(edges[j], edges[j + 1])];
    const first = Math.min(BINS - 1, Math.max(0, Math.floor((low + REACH) / WIDE)));
    for (let k = first; k < BINS; k++) {
      const inside = Math.min(high, (k + 1) * WIDE - REACH) - Math.max(low, k * WIDE - REACH);
      if (k > first && inside <= 0) break;
      right[k] += (m * (high > low ? inside / (high - low) : 1)) / WIDE;
      wrong[k] += ((m / dx) * Math.max(0, inside)) / WIDE;
    }
  });
  const area = (v) => v.reduce((a, b) => a + b, 0) * WIDE;
  return { right, wrong, areas: [area(right), area(wrong)] };
}

/** `n` draws of x by inversion from a seed, with y = g(x): [[x, y], …]; the u of one draw lie in n equal parts. */
export function draws(base, g, seed, n = DRAWS) {
  const [edges, mass] = [curve(g), masses(base)];
  let [j, below, s] = [0, 0, seed >>> 0];
  return Array.from({ length: n }, (_, i) => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    const u = (i + s / 4294967296) / n;
    while (j < FINE - 1 && below + mass[j] < u) below += mass[j++];
    const t = mass[j] > 0 ? Math.min(1, (u - below) / mass[j]) : 0;
    return [((j + t) * 2 * REACH) / FINE - REACH, edges[j] + t * (edges[j + 1] - edges[j])];
  });
}

/** The heights after a stroke of the pen from one place to another. */
export function stroke(g, [x0, y0], [x1, y1]) {
  const [low, high] = [Math.min(x0, x1) - 0.051, Math.max(x0, x1) + 0.051];
  const line = (x) => (x1 === x0 ? y1 : y0 + (y1 - y0) * Math.max(0, Math.min(1, (x - x0) / (x1 - x0))));
  return g.map((y, i) => (knot(i) >= low && knot(i) <= high ? clamp(line(knot(i))) : y));
}

/** The heights after the hand's tremor between two x has been smoothed. */
export function smoothed(g, [low, high]) {
  const inside = (i) => i > 0 && i < KNOTS - 1 && knot(i) >= low && knot(i) <= high;
  const once = (v) => v.map((y, i) => (inside(i) ? (v[i - 1] + 2 * y + v[i + 1]) / 4 : y));
  return once(once(once(g)));
}

const KEYS = ["name", "g", "base", "seed"];

function render({ model: store, el }) {
  const read = () => structuredClone(Object.fromEntries(KEYS.map((key) => [key, store.get(key)])));
  const start = read();
  let state = structuredClone(start);

  // ---- what is on the page ----
  const root = frame(
    el,
    "Change of variables",
    store.get("params").advice ??
      "draw over the curve. Where you make it flat, the rays crowd and the density of y rises; where steep, it falls.",
  );
  let [pen, touched, cursor] = [null, [0, 0], [0, 0]];
  const sheet = plane({
    label: "The function g; the arrow keys up and down lift or lower it at the cursor",
    unit: "units",
    range: [REACH, REACH],
    pointed: (x, y, down) => {
      if (down) [pen, touched] = [[x, y], [x, x]];
      if (pen) {
        draw_on(stroke(state.g, pen, [x, y]));
        [pen, touched] = [[x, y], [Math.min(touched[0], x), Math.max(touched[1], x)]];
      } else if (y !== cursor[1]) draw_on(state.g.map((v, i) => clamp(v + (y - cursor[1]) * bump(knot(i), x, 0.3))));
      cursor = [x, y];
      drawing.soon();
    },
    ended: () => {
      pen = null;
      draw_on(smoothed(state.g, touched));
    },
  });
  const below = h("canvas", { role: "img" });
  const right = h("canvas", { role: "img" });
  const chosen = choice({
    label: "Function g",
    options: [...Object.entries(FUNCTIONS).map(([key, [text]]) => [key, text]), ["drawn", "as drawn"]],
    change: (name) => (name === "drawn" ? move({ name }) : move({ name, g: heights(name) })),
  });
  const base = choice({
    label: "Density of x",
    options: Object.entries(BASES).map(([key, [text]]) => [key, text]),
    change: (key) => move({ base: key }),
  });
  const again = button("Draw 1,000 others", () => move({ seed: state.seed + 1 }));
  const reset = button("Reset", () => move(structuredClone(start)));
  const values = listing();
  const heard = readout();
  root.append(
    h(
      "div",
      { class: "stage" },
      h(
        "figure",
        {},
        h(
          "div",
          { style: "display: grid; grid-template-columns: minmax(0, 2fr) minmax(0, 1fr); gap: 6px" },
          sheet.el,
          h("div", {}, right),
          h("div", {}, below),
        ),
        h(
          "figcaption",
          {},
          "Violet, below: density of x; each ray carries 1/24 of it. Orange, right: density of y, " +
            "with bars for 1,000 draws; dotted: without the division by |g′|.",
        ),
      ),
      h(
        "div",
        { class: "sliders", style: "align-content: start" },
        chosen.row,
        base.row,
        h("div", { class: "buttons" }, again, reset),
        values.el,
      ),
    ),
    heard.line,
  );

  // ---- moving ----
  function move(changes) {
    const next = { ...state, ...changes };
    setAll(store, next); // calls fromPython
    state = next;
    drawing.soon();
  }
  const draw_on = (g) => move({ name: "drawn", g: g.map((y) => Math.round(1000 * y) / 1000) });
  const fromPython = () => {
    state = read();
    drawing.soon();
  };

  // ---- drawing ----
  function drawSheet(width, edges, rays) {
    const context = sharp(sheet.canvas, width, width);
    const at = (x, y) => [((x / REACH + 1) * width) / 2, ((1 - y / REACH) * width) / 2];
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, width, width);
    context.lineWidth = 1;
    context.strokeStyle = colour(root, "prior");
    context.globalAlpha = 0.6;
    for (const [x, y] of rays) {
      const [left, top] = at(x, y);
      context.beginPath();
      context.moveTo(left, width);
      context.lineTo(left, top);
      context.lineTo(width, top);
      context.stroke();
    }
    context.globalAlpha = 1;
    context.strokeStyle = colour(root, "ink");
    context.lineWidth = 2.5;
    context.beginPath();
    edges.forEach((y, j) => context.lineTo(...at((2 * REACH * j) / FINE - REACH, y)));
    context.stroke();
    context.fillStyle = colour(root, "soft");
    context.font = "12px system-ui, sans-serif";
    context.fillText("y = g(x)", 6, 16);
    if (sheet.el.contains(document.activeElement)) {
      context.beginPath();
      context.arc(...at(cursor[0], cursor[1]), 6, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  function panel(canvas, wide, high) {
    const context = sharp(canvas, wide, high);
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, wide, high);
    context.font = "12px system-ui, sans-serif";
    return context;
  }

  function drawBelow(width, mass) {
    const high = width / 3;
    const context = panel(below, width, high);
    const top = Math.max(...mass);
    context.fillStyle = colour(root, "prior");
    context.beginPath();
    context.moveTo(0, high - 16);
    mass.forEach((m, j) => context.lineTo((j / FINE) * width, (high - 16) * (1 - (0.9 * m) / top)));
    context.lineTo(width, high - 16);
    context.fill();
    context.fillStyle = colour(root, "soft");
    context.textAlign = "center";
    for (const x of [-2, -1, 0, 1, 2]) context.fillText(figure(x, 0), ((x / REACH + 1) * width) / 2, high - 3);
    context.fillText("x", width - 8, high - 3);
  }

  function drawRight(high, made, sampled) {
    const wide = right.parentElement.clientWidth || 100;
    const context = panel(right, wide, high);
    const most = Math.max(0.6, Math.min(3, 1.15 * Math.max(...made.right)));
    const across = (p) => Math.min(1, p / most) * (wide - 24) + 20;
    const up = (y) => ((1 - y / REACH) * high) / 2;
    context.fillStyle = colour(root, "model");
    context.globalAlpha = 0.3;
    const bars = new Float64Array(40);
    for (const [, y] of sampled) bars[Math.min(39, Math.floor(((y + REACH) * 20) / REACH))] += 1 / DRAWS / 0.15;
    bars.forEach((p, k) => context.fillRect(20, up(-REACH + 0.15 * (k + 1)), across(p) - 20, (0.15 * high) / 6));
    context.globalAlpha = 1;
    for (const [name, heightsOf, dash, line] of [["ink", made.wrong, [2, 3], 1.5], ["model", made.right, [], 2]]) {
      context.strokeStyle = colour(root, name);
      context.setLineDash(dash);
      context.lineWidth = line;
      context.beginPath();
      heightsOf.forEach((p, k) => context.lineTo(across(p), up((k + 0.5) * WIDE - REACH)));
      context.stroke();
    }
    context.setLineDash([]);
    context.fillStyle = colour(root, "soft");
    for (const y of [-2, -1, 0, 1, 2]) context.fillText(figure(y, 0), 2, up(y) + 4);
    context.fillText("y", 4, 14);
  }

  function draw() {
    const width = sheet.el.clientWidth || 200;
    const [edges, mass, made] = [curve(state.g), masses(state.base), pushforward(state.base, state.g)];
    const sampled = draws(state.base, state.g, state.seed);
    const rays = Array.from({ length: 24 }, (_, i) => draws(state.base, state.g, 0, 2400)[100 * i + 50]);
    drawSheet(width, edges, rays);
    drawBelow(width, mass);
    drawRight(width, made, sampled);
    const at = Math.round(((cursor[0] + REACH) * FINE) / (2 * REACH));
    if (!pen) cursor = [cursor[0], Math.round(100 * edges[at]) / 100];
    sheet.show(...cursor, `x ${figure(cursor[0])}, y ${figure(cursor[1], 2)}`);
    chosen.show(state.name);
    base.show(state.base);
    const peak = made.right.indexOf(Math.max(...made.right));
    const highest = (peak + 0.5) * WIDE - REACH;
    const names = ["Area of the density of y", "Area without the division"];
    values.show(names.map((name, i) => [name, figure(made.areas[i], 3)]));
    const said = `The density of y is highest at ${figure(highest)}: ${figure(made.right[peak], 2)} per unit.`;
    below.setAttribute("aria-label", `Density of x: ${BASES[state.base][0]}.`);
    right.setAttribute("aria-label", said);
    const [area, wrong] = made.areas.map((v) => figure(v, 3));
    heard.say(`${said} Its area is ${area}; without the division by |g′| it would be ${wrong}.`);
  }

  const drawing = keepDrawn(root, draw, sheet.el, follow(store, KEYS, fromPython));
  for (const event of ["focusin", "focusout"]) sheet.el.addEventListener(event, () => drawing.soon());
  el.playground = { move, state: () => state }; // for the console
  draw();
  return drawing.stop;
}

export default { render, heights, curve, masses, pushforward, draws, stroke, smoothed };
