// A language model that writes: type a beginning, watch the distribution of the next character, draw from it.
//
// graphs.step: one symbol of decoding with a cache of fixed size (GPT.step in helpers/models/gpt.py):
//   window (recent,), at (1,), keys and values (layers, heads, slots, D) → logits, key and value for the slot `at`.
// state: prompt, the text.
// params: { symbols: ["\n", " ", …], begin: code of the begin symbol, seed: of the draws, advice: "what to try" }
import { Graph, tensor } from "./runtime.js";
import { button, colour, figure, follow, frame, h, keepDrawn, readout, sharp, slider } from "./controls.js";

const ROW = 22; // pixels of a bar
const SHOWN = 12;
const LONGEST = 4000; // characters, where a stream ends
const START = { temperature: 1, k: Infinity, p: 1 };

/** What a cached model has read; `read` a symbol, and it knows the logits of the next. */
class Reader {
  constructor(graph, begin) {
    Object.assign(this, { graph, begin });
    const shape = (name) => graph.inputs.find((input) => input.name === name).shape;
    this.recent = shape("window")[0];
    [this.keys, this.values] = [tensor(shape("keys")), tensor(shape("values"))];
    this.slots = shape("keys")[2];
    this.restart([]);
  }

  restart(codes) {
    this.codes = [];
    for (const code of [this.begin, ...codes]) this.feed(code);
  }

  /** When the context is full, reading starts anew with the later half of it, as in GPT.sample. */
  read(code) {
    if (this.codes.length < this.slots) this.feed(code);
    else this.restart([...this.codes, code].slice(this.slots + 1 - Math.floor(this.slots / 2)));
  }

  feed(code) {
    const at = this.codes.length;
    this.codes.push(code);
    const before = Array(this.recent).fill(this.begin);
    const window = tensor([this.recent], [...before, ...this.codes].slice(-this.recent));
    const { keys, values, slots } = this;
    const [logits, key, value] = this.graph.run({ window, at: tensor([1], [at]), keys, values });
    const size = key.shape[3];
    for (let row = 0; row < key.data.length / size; row++) {
      const [from, to] = [row * size, (row * slots + at) * size];
      keys.data.set(key.data.subarray(from, from + size), to);
      values.data.set(value.data.subarray(from, from + size), to);
    }
    this.logits = Array.from(logits.data);
  }
}

function shares(logits) {
  const top = Math.max(...logits);
  const weights = logits.map((x) => Math.exp(x - top));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((w) => w / sum);
}

/** Probabilities after temperature, then top-k, then top-p: helpers.decoding.adjust. */
function adjust(logits, { temperature, k, p }) {
  const order = logits.map((_, i) => i).sort((a, b) => logits[b] - logits[a]);
  if (temperature === 0) return logits.map((_, i) => (i === order[0] ? 1 : 0));
  const least = logits[order[Math.min(k, logits.length) - 1]];
  const q = shares(logits.map((x) => (x < least ? -Infinity : x / temperature)));
  let mass = 0;
  for (const i of order) {
    const before = mass;
    mass += q[i];
    if (before >= p && p < 1) q[i] = 0;
  }
  const sum = q.reduce((a, b) => a + b);
  return q.map((x) => x / sum);
}

const shown = (symbol) => ({ "\n": "⏎ new line", " ": "␣ space" })[symbol] ?? symbol;

function render({ model, el }) {
  const { symbols, begin, seed = 1, advice } = model.get("params");
  const code = new Map(symbols.map((symbol, i) => [symbol, i]));
  const start = model.get("prompt");
  const reader = new Reader(new Graph(model.get("graphs").step), begin);
  let [text, note, random, settings, marked, streaming, rate] = ["", "", seed, { ...START }, 0, 0, 0];

  // ---- what is on the page ----
  const root = frame(el, "Text model playground", advice ?? "type a name in capitals and a colon, then press Stream.");
  const box = h("textarea", { rows: 7, "aria-label": "Text so far, your prompt", spellcheck: "false", style: BOX });
  const chart = h("canvas", { "aria-hidden": "true" });
  const rank = h("input", { type: "range", min: 0, max: SHOWN - 1, step: 1, "aria-label": "Next character, by rank" });
  const plane = h("div", { class: "plane", role: "group", "aria-label": "Next characters" }, chart, rank);
  const unit = (short, long) => ({ short, long });
  const set = (name) => (x) => change({ [name]: name === "k" && x === symbols.length ? Infinity : x });
  const rows = {
    temperature: slider({ label: "Temperature", unit: unit("", "temperature"), min: 0, max: 2, step: 0.1, change: set("temperature") }),
    k: slider({ label: "Top-k", unit: unit("symbols", "symbols"), min: 1, max: symbols.length, step: 1, digits: 0, change: set("k") }),
    p: slider({ label: "Top-p", unit: unit("", "of the probability"), min: 0.05, max: 1, step: 0.05, digits: 2, change: set("p") }),
  };
  const stream = button("Stream", () => (streaming ? (halt(), drawing.soon()) : run()));
  const buttons = h("div", { style: "display: flex; gap: .5rem; flex-wrap: wrap" });
  buttons.append(button("Step", () => (halt(), step(), drawing.soon())), stream, button("Reset", reset));
  const heard = readout();
  const caption = h("figcaption", {}, "Orange: what can be drawn. Outline: what top-k and top-p leave out. Click a bar to take it.");
  const sliders = h("div", { class: "sliders" }, ...Object.values(rows).map((r) => r.row));
  const left = h("div", { style: "display: grid; gap: .6rem; align-content: start" }, box, buttons, sliders);
  root.append(h("div", { class: "stage even" }, left, h("figure", {}, plane, caption)), heard.line);

  // ---- the text ----
  /** Makes `next` the text: reads what is new of it, or everything if it does not go on from what was read. */
  function write(next) {
    const known = [...next].filter((c) => code.has(c));
    const [old, half] = [[...text], Math.floor(reader.slots / 2)];
    if (old.every((c, i) => c === known[i])) for (const c of known.slice(old.length)) reader.read(code.get(c));
    else reader.restart(known.slice(known.length < reader.slots ? 0 : -half).map((c) => code.get(c)));
    const strange = [...new Set([...next].filter((c) => !code.has(c)))];
    text = known.join("");
    marked = 0;
    note = strange.length ? `The model does not know ${strange.join(" ")} and passes over it. ` : "";
  }

  function showText() {
    box.value = text;
    box.scrollTop = box.scrollHeight;
  }

  function put(next) {
    write(next);
    showText();
  }

  /** Draws the next character; what the page shows of it comes later, for a stream once a frame. */
  function advance() {
    random = (random + 0x6d2b79f5) | 0; // mulberry32
    let t = Math.imul(random ^ (random >>> 15), 1 | random);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    let u = ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    const q = adjust(reader.logits, settings);
    let i = q.findIndex((x) => (u -= x) < 0);
    if (i < 0) i = q.indexOf(Math.max(...q)); // rounding
    reader.read(i);
    [text, marked, note] = [text + symbols[i], 0, ""];
  }

  const step = () => (advance(), showText());

  function run() {
    stream.textContent = "Stop";
    heard.say("Streaming: the numbers come when it stops.", 0);
    const [began, length] = [performance.now(), text.length];
    const work = () => {
      const until = performance.now() + 12; // of a frame's 16 ms
      do advance();
      while (performance.now() < until && text.length < LONGEST);
      rate = (1000 * (text.length - length)) / (performance.now() - began);
      showText();
      draw();
      if (text.length < LONGEST) streaming = requestAnimationFrame(work);
      else (halt(), drawing.soon());
    };
    streaming = requestAnimationFrame(work);
  }

  function halt() {
    cancelAnimationFrame(streaming);
    streaming = 0;
    stream.textContent = "Stream";
    model.set("prompt", text);
    model.save_changes();
  }

  function change(changes) {
    Object.assign(settings, changes);
    drawing.soon();
  }

  function reset() {
    [random, settings, rate] = [seed, { ...START }, 0];
    put(start);
    halt();
    drawing.soon();
  }

  box.addEventListener("input", () => {
    halt();
    write(box.value);
    drawing.soon();
  });
  const ranked = () => reader.logits.map((_, i) => i).sort((a, b) => reader.logits[b] - reader.logits[a]);
  const take = (i) => (halt(), put(text + symbols[ranked()[i]]), drawing.soon());
  rank.addEventListener("input", () => ((marked = Number(rank.value)), drawing.soon()));
  rank.addEventListener("keydown", (event) => {
    const way = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (event.key === "Enter") take(marked);
    if (way === undefined) return;
    event.preventDefault();
    marked = Math.max(0, Math.min(SHOWN - 1, marked + way));
    drawing.soon();
  });
  const bar = (event) => Math.floor((event.clientY - chart.getBoundingClientRect().top) / ROW);
  chart.addEventListener("click", (event) => bar(event) < SHOWN && take(Math.max(0, bar(event))));
  const fromPython = () => model.get("prompt") !== text && (put(model.get("prompt")), drawing.soon());

  // ---- drawing ----
  function draw() {
    const [raw, q, order] = [shares(reader.logits), adjust(reader.logits, settings), ranked()];
    const width = plane.clientWidth || 300;
    const context = sharp(chart, width, SHOWN * ROW);
    chart.style.height = `${SHOWN * ROW}px`;
    context.font = "13px ui-monospace, monospace";
    context.textBaseline = "middle";
    const [from, room] = [92, width - 92 - 52];
    order.slice(0, SHOWN).forEach((i, row) => {
      const y = row * ROW;
      context.fillStyle = colour(root, "panel");
      if (row === marked) context.fillRect(0, y, width, ROW);
      context.fillStyle = colour(root, q[i] ? "ink" : "soft");
      context.textAlign = "right";
      context.fillText(shown(symbols[i]), from - 8, y + ROW / 2);
      context.fillStyle = context.strokeStyle = colour(root, "model");
      context.fillRect(from, y + 5, Math.max(q[i] && 1, q[i] * room), ROW - 10);
      context.strokeRect(from + 0.5, y + 5.5, Math.max(1, raw[i] * room - 1), ROW - 11);
      context.fillStyle = colour(root, "ink");
      context.textAlign = "left";
      context.fillText(`${figure(100 * q[i])} %`, from + Math.max(q[i], raw[i]) * room + 6, y + ROW / 2);
    });
    rows.temperature.show(settings.temperature);
    rows.k.show(Math.min(settings.k, symbols.length));
    rows.p.show(settings.p);
    rank.value = marked;
    const here = order[marked];
    rank.setAttribute("aria-valuetext", `${shown(symbols[here])}, ${figure(100 * q[here])} percent`);
    const entropy = -q.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0);
    const tail = shown([...text].at(-1) ?? "");
    const speed = rate ? `; ${figure(rate, 0)} characters a second` : "";
    const possible = q.filter((x) => x > 0).length;
    const best = `likeliest ${shown(symbols[order[0]])}, ${figure(100 * q[order[0]])} %`;
    if (!streaming) heard.say(`${note}After “${tail}”: ${best}; ${possible} of ${symbols.length} symbols possible, entropy ${figure(entropy, 2)} nats${speed}.`);
  }

  const drawing = keepDrawn(root, draw, plane, follow(model, ["prompt"], fromPython), halt);
  el.playground = { reader, step, put, change, probabilities: () => adjust(reader.logits, settings), text: () => text };
  put(start);
  draw();
  return drawing.stop;
}

const BOX = `width: 100%; font: 13px/1.45 ui-monospace, monospace; color: var(--ink); background: var(--panel);
  border: 1px solid var(--line); border-radius: 6px; padding: .5rem; resize: vertical`;

export default { render };
