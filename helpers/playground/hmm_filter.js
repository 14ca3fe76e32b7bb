// What a hidden Markov model believes: the reader sets observations, and sees the forward pass, smoothing, Viterbi.
//
// params: { states: two names, symbols: names of what can be observed, initial: [K], transition: [K][K] (row: from),
//   table: [K][A], start: the first observations (codes, −1: none), read: how many of them at first, advice }
// state: { x: the observations, read: how many are taken into account }
import { button, figure, follow, frame, h, keepDrawn, pressable, readout, slider, svg } from "./controls.js";

const [CELL, GAP, HEAD, TALL] = [28, 4, 20, 48];

const total = (p) => p.reduce((a, b) => a + b, 0);
const share = (p) => ((sum) => p.map((v) => v / sum))(total(p));

/** Exact inference for one sequence; −1: nothing was observed. Likelihood 0: no posterior. */
function infer({ initial, transition, table }, x) {
  const states = initial.map((_, k) => k);
  const emission = x.map((symbol) => states.map((k) => (symbol < 0 ? 1 : table[k][symbol])));
  const filtered = [];
  let logLikelihood = 0;
  emission.forEach((e, t) => {
    const before = t ? states.map((k) => total(states.map((j) => filtered[t - 1][j] * transition[j][k]))) : initial;
    const joint = states.map((k) => before[k] * e[k]);
    logLikelihood += Math.log(total(joint));
    filtered.push(share(joint));
  });
  const smoothed = [...filtered];
  let after = states.map(() => 1); // p(x_t+1.. | z_t), up to a factor
  for (let t = x.length - 2; t >= 0; t--) {
    after = share(states.map((j) => total(states.map((k) => transition[j][k] * emission[t + 1][k] * after[k]))));
    smoothed[t] = share(states.map((j) => filtered[t][j] * after[j]));
  }
  let best = states.map((k) => Math.log(initial[k]) + Math.log(emission[0][k]));
  const arrows = [];
  for (let t = 1; t < x.length; t++) {
    const from = states.map((k) => states.reduce((a, j) => (score(j, k) > score(a, k) ? j : a), 0));
    function score(j, k) {
      return best[j] + Math.log(transition[j][k]);
    }
    best = states.map((k) => score(from[k], k) + Math.log(emission[t][k]));
    arrows.push(from);
  }
  const path = [best.indexOf(Math.max(...best))];
  for (const from of arrows.reverse()) path.unshift(from[path[0]]);
  return { logLikelihood, filtered, smoothed, path, score: Math.max(...best) };
}

function render({ model, el }) {
  const params = model.get("params");
  const { states, symbols, start } = params;
  const length = start.length;
  let [x, read] = [[...(model.get("x") ?? start)], model.get("read") ?? params.read ?? length];

  // ---- what is on the page ----
  const advice = params.advice ?? "press an observation to change it, then move the slider and read one more each time.";
  const root = frame(el, "Hidden Markov model playground", advice);
  root.append(h("style", {}, `
.playground .grid text { fill: var(--ink); font: 13px system-ui, sans-serif; } .playground .grid .head { fill: var(--soft); }
.playground .grid .cell { cursor: pointer; } .playground .grid .cell rect { fill: var(--panel); stroke: var(--data); }
.playground .grid .back { fill: var(--panel); cursor: pointer; } .playground .grid .bar { fill: var(--latent); pointer-events: none; }
.playground .grid .path { fill: none; stroke: var(--latent); stroke-width: 2; } .playground .grid .later { opacity: .4; }
.playground .grid .now { stroke: var(--model); stroke-width: 2; }
.playground .buttons { display: flex; flex-wrap: wrap; gap: .5rem; }`));
  const left = (t) => t * CELL + GAP / 2;
  const middle = (t) => (t + 0.5) * CELL;
  const rows = { x: HEAD, filtered: 0, smoothed: 0, path: 0 };
  rows.filtered = rows.x + CELL + HEAD + 4;
  rows.smoothed = rows.filtered + TALL + HEAD + 4;
  rows.path = rows.smoothed + TALL + HEAD + 4;
  const height = rows.path + CELL + 4;
  const heads = {
    x: params.observed ?? "Observed",
    filtered: `Filtered: p(${states[0]}) from this step and those before`,
    smoothed: `Smoothed: p(${states[0]}) from everything read`,
    path: "Viterbi: the likeliest states together",
  };
  const chart = svg("svg", { viewBox: `0 0 ${length * CELL} ${height}`, class: "grid", role: "group",
    "aria-label": "Observations and beliefs", style: "display: block; width: 100%" });
  for (const [name, text] of Object.entries(heads)) chart.append(svg("text", { class: "head", x: 2, y: rows[name] - 6 }, text));
  const columns = x.map((_, t) => {
    const text = svg("text", { x: middle(t), y: rows.x + 18, "text-anchor": "middle" });
    const cell = svg("g", { class: "cell", role: "button", tabindex: t ? -1 : 0 },
      svg("rect", { x: left(t), y: rows.x, width: CELL - GAP, height: CELL - GAP, rx: 4 }), text);
    pressable(cell, () => turn(t, 1));
    cell.addEventListener("keydown", (event) => {
      const to = columns[t + ({ ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? NaN)];
      const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
      if (!to && !step) return;
      event.preventDefault();
      if (step) return turn(t, step);
      columns.forEach((c) => c.cell.setAttribute("tabindex", c === to ? 0 : -1));
      to.cell.focus();
    });
    const bars = ["filtered", "smoothed"].map((name) => {
      const back = svg("rect", { class: "back", x: left(t), y: rows[name], width: CELL - GAP, height: TALL });
      back.addEventListener("pointerup", () => change(x, t + 1));
      const bar = svg("rect", { class: "bar", x: left(t), width: CELL - GAP });
      chart.append(back, bar);
      return bar;
    });
    const letter = svg("text", { x: middle(t), y: rows.path + 17, "text-anchor": "middle" });
    const ring = svg("circle", { class: "path", cx: middle(t), cy: rows.path + 12, r: 11 });
    chart.append(cell, ring, letter);
    return { cell, text, bars, letter, ring };
  });
  const now = svg("path", { class: "now" });
  chart.append(now);
  const unit = { short: "steps", long: `of ${length} observations read` };
  const time = slider({ label: "Read", unit, min: 1, max: length, step: 1, change: (t) => change(x, t) });
  const clear = button("Observe nothing", () => change(x.map(() => -1)));
  const reset = button("Reset", () => change(start, params.read ?? length));
  const legend = h("figcaption", {}, `Right of the line: not yet read, so a forecast. “?” is a step without an observation.`);
  const heard = readout();
  root.append(
    h("div", { class: "stage" }, h("figure", {}, chart, legend), h("div", { class: "sliders", style: "align-content: start" }, time.row, h("div", { class: "buttons" }, clear, reset))),
    heard.line,
  );

  // ---- changing ----
  function change(to, t = read) {
    [x, read] = [[...to], t];
    for (const [name, value] of [["x", [...to]], ["read", t]]) model.set(name, value);
    model.save_changes();
    drawing.soon();
  }
  /** The next symbol at step t: 0, 1, …, then none (−1), and round again. */
  function turn(t, step) {
    const n = symbols.length + 1;
    change(x.map((symbol, i) => (i === t ? ((symbol + 1 + step + n) % n) - 1 : symbol)));
  }
  const toX = () => ((x = [...model.get("x")]), drawing.soon());
  const toRead = () => ((read = model.get("read")), drawing.soon());

  // ---- drawing ----
  function draw() {
    const known = x.map((symbol, t) => (t < read ? symbol : -1));
    const { logLikelihood, filtered, smoothed, path } = infer(params, known);
    columns.forEach(({ cell, text, bars, letter, ring }, t) => {
      const name = x[t] < 0 ? "?" : symbols[x[t]];
      text.textContent = name;
      cell.setAttribute("aria-label", `Step ${t + 1}: ${x[t] < 0 ? "not observed" : name}; press to change`);
      [filtered, smoothed].forEach((p, i) => {
        const tall = p[t][0] * TALL;
        bars[i].setAttribute("y", (i ? rows.smoothed : rows.filtered) + TALL - tall);
        bars[i].setAttribute("height", tall);
      });
      letter.textContent = states[path[t]][0].toUpperCase();
      for (const part of [cell, ...bars, letter, ring]) part.classList.toggle("later", t >= read);
    });
    const at = Math.min(read * CELL, length * CELL - 1);
    const ends = { x: CELL, filtered: TALL, smoothed: TALL, path: CELL };
    now.setAttribute("d", Object.entries(ends).map(([name, tall]) => `M${at} ${rows[name] - 2}v${tall}`).join(""));
    time.show(read);
    const count = `${read} of ${length}`;
    time.row.querySelector("output").textContent = count;
    time.input.setAttribute("aria-valuetext", `${count} observations read`);
    const moved = smoothed.map((p, t) => (t < read ? Math.abs(p[0] - filtered[t][0]) : -1));
    const t = moved.indexOf(Math.max(...moved));
    const back = moved[t] > 0.005 ? ` Looking back, step ${t + 1} goes from ${figure(filtered[t][0], 2)} to ${figure(smoothed[t][0], 2)}.` : "";
    const best = path.slice(0, read).map((k) => states[k][0].toUpperCase());
    heard.say(
      `After ${read} steps p(${states[0]}) is ${figure(filtered[read - 1][0], 2)}; log-likelihood ${figure(logLikelihood, 2)} nats.${back} Likeliest: ${best.join(" ")}.`,
    );
  }

  const drawing = keepDrawn(root, draw, null, follow(model, ["x"], toX), follow(model, ["read"], toRead));
  el.playground = { infer: (x) => infer(params, x), change };
  draw();
  return drawing.stop;
}

export default { render };
