// Markov text: a text that the reader writes on, by hand or by chance, and what comes next according to counts.
//
// params: { text: what is counted, name: what it is called, order: 0 … 6, prompt: the first text, advice: "what to try" }
// state: { prompt: the text so far, order: characters of context }
// Everything is counted here, from params.text, when an order is first asked for.
import { button, figure, follow, frame, h, keepDrawn, pressable, readout, slider, svg } from "./controls.js";

const [ROWS, HIGH, WIDE, LEFT] = [10, 24, 320, 40];
const MAX_ORDER = 6;
const WRITES = 200;

/** By context of k characters: by the character that follows, how often it does. */
function tally(text, k) {
  const table = new Map();
  for (let i = k; i < text.length; i++) {
    const context = text.slice(i - k, i);
    let row = table.get(context);
    if (!row) table.set(context, (row = new Map()));
    row.set(text[i], (row.get(text[i]) ?? 0) + 1);
  }
  return table;
}

/** A chain of one text: `after(history, order)` counts what followed, `write(…)` draws. */
function chain(text) {
  const tables = [];
  const table = (k) => (tables[k] ??= tally(text, k));

  /** After the last `order` characters of `history`, or the longest end of them that the text has with a successor. */
  function after(history, order) {
    for (let k = Math.min(order, history.length); ; k--) {
      const context = history.slice(history.length - k);
      const row = table(k).get(context);
      if (!row) continue;
      const next = [...row].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
      return { context, total: next.reduce((sum, [, n]) => sum + n, 0), next };
    }
  }

  /** `history` and `n` more characters, each drawn by inversion: the first whose cumulative count exceeds u · total. */
  function write(history, order, n, random) {
    for (let i = 0; i < n; i++) {
      const { total, next } = after(history, order);
      let left = random() * total;
      history += (next.find(([, c]) => (left -= c) < 0) ?? next[0])[0];
    }
    return history;
  }
  return { after, write };
}

/** Uniform numbers from a seed (mulberry32), so that a reset brings the same text again. */
function uniform(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const sign = (c) => ({ " ": "␣", "\n": "⏎" })[c] ?? c;
const word = (c) => ({ " ": "space", "\n": "new line" })[c] ?? c;
const quoted = (context) => `“${[...context].map(sign).join("")}”`;

function render({ model, el }) {
  const params = model.get("params");
  const { name = "the text", order: first = 3, prompt: opening = "th" } = params;
  const { after, write } = chain(params.text);
  let [text, order] = [model.get("prompt") ?? opening, model.get("order") ?? first];
  let random = uniform(1);

  // ---- what is on the page ----
  const advice =
    params.advice ?? "let it write at order 1, then at 3 and 6; press a bar to choose the next character yourself.";
  const root = frame(el, "Markov text playground", advice);
  root.append(h("style", {}, `
.playground .follower { cursor: pointer; } .playground .follower rect.hit { fill: transparent; }
.playground .follower:hover rect.hit, .playground .follower:focus-visible rect.hit { fill: var(--panel); }
.playground .follower text { fill: var(--ink); font: 13px system-ui, sans-serif; } .playground .follower rect.bar { fill: var(--model); }
.playground textarea { width: 100%; min-height: 9rem; font: 14px/1.4 ui-monospace, monospace; color: var(--ink);
  background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .5rem; resize: vertical; }
.playground .buttons { display: flex; flex-wrap: wrap; gap: .5rem; }`));
  const rows = Array.from({ length: ROWS }, (_, i) => {
    const parts = {
      hit: svg("rect", { class: "hit", x: 0, y: i * HIGH, width: WIDE, height: HIGH }),
      name: svg("text", { x: LEFT - 8, y: i * HIGH + 17, "text-anchor": "end" }),
      bar: svg("rect", { class: "bar", x: LEFT, y: i * HIGH + 4, height: HIGH - 8 }),
      share: svg("text", { y: i * HIGH + 17 }),
    };
    const g = svg("g", { class: "follower", role: "button", tabindex: i ? -1 : 0 }, ...Object.values(parts));
    pressable(g, () => shown[i] && change(text + shown[i][0]));
    g.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const to = rows[i + step];
      if (!step || !to || to.g.style.display === "none") return;
      event.preventDefault();
      rows.forEach((row) => row.g.setAttribute("tabindex", row === to ? 0 : -1));
      to.g.focus();
    });
    return { g, ...parts };
  });
  const chart = svg(
    "svg",
    { viewBox: `0 0 ${WIDE} ${ROWS * HIGH}`, role: "group", "aria-label": "The next character", style: "display: block; width: 100%" },
    ...rows.map((row) => row.g),
  );
  const caption = h("figcaption");
  const unit = { short: "characters", long: "characters of context" };
  const memory = slider({ label: "Order", unit, min: 0, max: MAX_ORDER, step: 1, change: (k) => change(text, k) });
  const more = button(`Write ${WRITES} characters`, () => change(write(text, order, WRITES, random)));
  const reset = h("button", { type: "button" }, "Reset");
  const page = h("textarea", { "aria-label": "The text so far: type, or let the chain write", spellcheck: "false" });
  const heard = readout();
  root.append(
    h(
      "div",
      { class: "stage" },
      h("figure", {}, chart, caption),
      h("div", { class: "sliders", style: "align-content: start" }, memory.row, h("div", { class: "buttons" }, more, reset), page),
    ),
    heard.line,
  );

  // ---- changing ----
  function change(to, k = order) {
    [text, order] = [to, k];
    for (const [name, value] of [["prompt", to], ["order", k]]) model.set(name, value);
    model.save_changes();
    drawing.soon();
  }
  page.addEventListener("input", () => change(page.value));
  reset.addEventListener("click", () => {
    random = uniform(1);
    change(opening, first);
  });
  const toText = () => ((text = model.get("prompt")), drawing.soon());
  const toOrder = () => ((order = model.get("order")), drawing.soon());

  // ---- drawing ----
  let shown = [];

  function draw() {
    const { context, total, next } = after(text, order);
    shown = next.slice(0, ROWS);
    rows.forEach((row, i) => {
      row.g.style.display = shown[i] ? "" : "none";
      if (!shown[i]) return;
      const [c, n] = shown[i];
      const length = Math.max(1, (n / total) * (WIDE - LEFT - 58));
      row.name.textContent = sign(c);
      row.bar.setAttribute("width", length);
      row.share.setAttribute("x", LEFT + length + 6);
      row.share.textContent = `${figure((100 * n) / total)} %`;
      row.g.setAttribute("aria-label", `${word(c)}, ${figure((100 * n) / total)} %: append`);
    });
    const others = next.length - shown.length;
    caption.textContent = `After ${context ? quoted(context) : "anything"}${others ? `; ${others} others are rarer` : ""}.`;
    memory.show(order);
    const characters = `${order} ${order === 1 ? "character" : "characters"}`;
    memory.row.querySelector("output").textContent = characters;
    memory.input.setAttribute("aria-valuetext", `${characters} of context`);
    if (page.value !== text) {
      page.value = text;
      page.scrollTop = page.scrollHeight;
    }
    const entropy = next.reduce((sum, [, n]) => sum - (n / total) * Math.log(n / total), 0);
    const wanted = text.slice(Math.max(0, text.length - order));
    const missing = context.length < wanted.length ? `${quoted(wanted)} never occurs in ${name}; ` : "";
    const times = context ? `${quoted(context)} occurs ${total.toLocaleString("en")} times` : "without context";
    const kinds = `${next.length} ${next.length === 1 ? "character follows" : "different characters follow"}`;
    heard.say(`${missing}${times}, ${kinds}: entropy ${figure(entropy, 2)} nats, as a fair choice of ${figure(Math.exp(entropy))}.`);
  }

  const drawing = keepDrawn(root, draw, null, follow(model, ["prompt"], toText), follow(model, ["order"], toOrder));
  el.playground = { after, write, change };
  draw();
  return drawing.stop;
}

export default { render };
