// What every playground is made of: the frame with its themes, sliders, planes, the line that is read aloud.
// Colours mean the same here as in the book's figures.

const STYLE = `
.playground { --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --ground: #fff; --panel: #f6f8fa;
  --data: #0072b2; --model: #d55e00; --prior: #7a5ba6; --latent: #00795a; --focus: #0969da;
  font: 15px/1.45 system-ui, sans-serif; color: var(--ink); container-type: inline-size; margin: 1rem 0; max-width: 46rem; }
.playground[data-theme=dark] { --ink: #e6edf3; --soft: #a0aab4; --line: #3d444d; --ground: #14181e; --panel: #1c2128;
  --data: #4fb3e8; --model: #ff8f3f; --prior: #b39ddb; --latent: #2fc79a; --focus: #58a6ff; }
.playground *, .playground *::before { box-sizing: border-box; }
.playground p { margin: 0; }
.playground .try { margin-bottom: .75rem; color: var(--ink); }
.playground .try b { font-weight: 600; }
.playground .stage { display: grid; gap: 1rem 1.5rem; grid-template-columns: minmax(0, 1fr); }
@container (min-width: 34rem) { .playground .stage { grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); } }
.playground figure { margin: 0; min-width: 0; }
.playground figcaption { margin: .35rem 0 0; font-size: 13px; color: var(--soft); text-align: left; font-style: normal; font-weight: 400; }
.playground canvas { display: block; width: 100%; border-radius: 6px; }
.playground .side { display: flex; flex-direction: column; gap: .9rem; }
@container (max-width: 33.99rem) { .playground .side { display: grid; grid-template-columns: 2fr 3fr; align-items: start; } }
.playground .sliders { display: grid; gap: .6rem; }
.playground label { display: grid; grid-template-columns: 1fr auto; column-gap: .5rem; font-size: 13px; color: var(--soft); margin: 0; }
.playground output { font-variant-numeric: tabular-nums; color: var(--ink); }
.playground input[type=range] { grid-column: 1 / -1; width: 100%; min-height: 24px; margin: 0; accent-color: var(--latent); }
.playground select { grid-column: 1 / -1; font: inherit; font-size: 14px; color: var(--ink); background: var(--panel);
  border: 1px solid var(--line); border-radius: 6px; min-height: 32px; width: 100%; padding: 0 .4rem; }
.playground .buttons { display: flex; flex-wrap: wrap; gap: .5rem; }
.playground button { font: inherit; font-size: 13px; color: var(--ink); background: var(--panel); cursor: pointer;
  border: 1px solid var(--line); border-radius: 6px; min-height: 32px; padding: 0 .8rem; justify-self: start; align-self: start; }
.playground button:hover { border-color: var(--soft); }
.playground :focus-visible, .playground .plane:focus-within { outline: 2px solid var(--focus); outline-offset: 2px; }
.playground .plane { position: relative; border-radius: 6px; }
.playground .plane canvas { touch-action: none; cursor: crosshair; }
.playground .plane input { position: absolute; inset: auto 0 0 0; opacity: 0; pointer-events: none; height: 1px; min-height: 0; }
.playground select { font: inherit; font-size: 13px; color: var(--ink); background: var(--panel); border: 1px solid var(--line);
  border-radius: 6px; min-height: 32px; padding: 0 .4rem; max-width: 100%; }
.playground .values { display: grid; grid-template-columns: 1fr auto; gap: .15rem .75rem; font-size: 13px; margin: 0; }
.playground .values span { color: var(--soft); }
.playground .values output { text-align: right; }
.playground .values > .chosen { color: var(--ink); font-weight: 600; }
.playground .readout { margin-top: .75rem; font-size: 13px; color: var(--soft); min-height: 2.9em; }
@media (forced-colors: active) { .playground button { border-color: ButtonText; } }
`;

/** An element with attributes and children: h("p", { class: "try" }, "Drag."). */
export function h(tag, attributes = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
  el.append(...children);
  return el;
}

/** An SVG element with attributes and children, as `h` makes HTML. */
export function svg(tag, attributes = {}, ...children) {
  const el = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
  el.append(...children);
  return el;
}

/** Calls `act` when the pointer lets go over an SVG element or a key presses it; a finger that scrolls does neither. */
export function pressable(el, act) {
  el.addEventListener("pointerup", act);
  el.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    act(event);
  });
  el.addEventListener("click", (event) => event.detail === 0 && act(event)); // a screen reader's
}

/** The playground's root inside `el`: style, theme, and the one line that says what to try. */
export function frame(el, title, advice) {
  const root = h("section", { class: "playground", "aria-label": title }, h("style", {}, STYLE));
  root.append(h("p", { class: "try" }, h("b", {}, "Try: "), advice));
  el.append(root);
  return root;
}

/** Light or dark as the page says (the book, JupyterLab, VS Code, Colab), else as the system prefers. */
export function theme() {
  const html = document.documentElement;
  const { body } = document;
  const said =
    html.dataset.theme ||
    html.getAttribute("theme") ||
    { true: "light", false: "dark" }[body.dataset.jpThemeLight] ||
    (/vscode-(dark|light)/.exec(body.className) || [])[1];
  if (said === "dark" || said === "light") return said;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

/** Keeps root's theme as the page's, and calls `redraw` when it changes; returns what stops it. */
function followTheme(root, redraw) {
  const update = () => {
    if (root.dataset.theme === theme()) return;
    root.dataset.theme = theme();
    redraw();
  };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const observer = new MutationObserver(update);
  for (const target of [document.documentElement, document.body]) observer.observe(target, { attributes: true });
  system.addEventListener("change", update);
  update();
  return () => {
    observer.disconnect();
    system.removeEventListener("change", update);
  };
}

export const colour = (root, name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();

/** A number for reading: a true minus sign, and no −0. */
export const figure = (x, digits = 1) => (Math.abs(x) < 0.5 * 10 ** -digits ? 0 : x).toFixed(digits).replace("-", "−");

/** A labelled range input with its value and unit; `slider.show(x)` moves it without calling `change`. */
export function slider({ label, unit, min, max, step, change, digits = 1 }) {
  // A label names the first control in it, which is the output: so the input is named by itself
  const input = h("input", { type: "range", min, max, step, "aria-label": label });
  const value = h("output");
  const row = h("label", {}, h("span", {}, label), value, input);
  const show = (x) => {
    input.value = x;
    value.textContent = `${figure(x, digits)} ${unit.short}`;
    input.setAttribute("aria-valuetext", `${figure(x, digits)} ${unit.long}`);
  };
  input.addEventListener("input", () => change(Number(input.value)));
  return { row, input, show };
}

/** A button, and what a press of it does. */
export function button(text, act) {
  const made = h("button", { type: "button" }, text);
  made.addEventListener("click", act);
  return made;
}

/** Names and numbers in two columns; `show([[name, number, whether it is the chosen one], …])` writes them anew. */
export function listing() {
  const el = h("div", { class: "values" });
  const cells = ([name, number, chosen]) => {
    const mark = chosen ? { class: "chosen" } : {};
    return [h("span", mark, name), h("output", mark, number)];
  };
  return { el, show: (rows) => el.replaceChildren(...rows.flatMap(cells)) };
}

/** A labelled list to choose from, `options` as [[value, text], …]; `choice.show(value)` chooses silently. */
export function choice({ label, options, change }) {
  const input = h("select", {}, ...options.map(([value, text]) => h("option", { value }, text)));
  input.addEventListener("change", () => change(input.value));
  return { row: h("label", {}, h("span", {}, label), input), input, show: (value) => (input.value = value) };
}

/** A canvas that answers to the pointer and to the arrow keys: `range` is [x, y], for −x … x across and −y … y up.
 *
 * `pointed(x, y, down, event)` hears each place, `down` at the beginning of a stroke, `event` where a pointer is; `ended()`
 * the end of one; `entered(event)` the Enter key and the space bar. `show(x, y, text)` tells the keyboard where it is, and
 * a screen reader `text`. An arrow goes `stride` far, the inputs `step`; `name(way)` is what an input is called. */
export function plane({
  label, unit, range, step = 0.1, stride = step, pointed, ended = () => {}, entered = () => {}, name = (way) => `${label}, ${way}`,
}) {
  let place = [0, 0];
  const canvas = h("canvas", { "aria-hidden": "true" });
  const inputs = ["left and right", "down and up"].map((way, k) => {
    const input = h("input", { type: "range", min: -range[k], max: range[k], step, "aria-label": name(way) });
    const moved = (...to) => {
      // At once, and not when it is shown: a second key may come before the next frame
      place = to.map((v, i) => Math.max(-range[i], Math.min(range[i], v)));
      pointed(...place, false);
    };
    input.addEventListener("input", () => moved(...place.map((v, i) => (i === k ? Number(input.value) : v))));
    input.addEventListener("keydown", (event) => {
      const by = event.shiftKey ? 5 * stride : stride;
      const [dx, dy] = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, by], ArrowDown: [0, -by] }[event.key] ?? [];
      if (dx !== undefined) moved(place[0] + dx, place[1] + dy);
      else if (event.key === "Enter" || event.key === " ") entered(event);
      else return;
      event.preventDefault();
    });
    return input;
  });
  const at = (event, down) => {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    pointed(...[2 * x - 1, 1 - 2 * y].map((v, i) => Math.max(-1, Math.min(1, v)) * range[i]), down, event);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    inputs[0].focus({ preventScroll: true });
    event.preventDefault();
    at(event, true);
  });
  canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && at(event, false));
  canvas.addEventListener("lostpointercapture", ended);
  const show = (x, y, text) => {
    place = [x, y];
    inputs.forEach((input, k) => {
      input.value = place[k];
      input.setAttribute("aria-valuetext", text ?? `${figure(place[k])} ${unit}`);
    });
  };
  return { el: h("div", { class: "plane", role: "group", "aria-label": label }, canvas, ...inputs), canvas, show };
}

/**
 * A square plane with a cursor: `press([x, y], event)` at a pointer's press or Enter, `drag([x, y])` while one moves.
 * The arrow keys move `cursor`, in −range … range, from 0.2 to 1 a step; `changed` is called when it moves or shows.
 */
export function pointing({ label, hint, range, press, drag = () => {}, changed }) {
  const pad = plane({
    label,
    range: [range, range],
    stride: 0.2,
    name: (way) => `Cursor, ${way}; ${hint}`,
    pointed(x, y, down, event) {
      made.cursor = [x, y];
      pad.show(x, y, `cursor at ${figure(x)}, ${figure(y)}`);
      changed();
      if (event) (down ? press : drag)(made.cursor, event);
    },
    entered: (event) => press([...made.cursor], event),
  });
  const made = { ...pad, cursor: [0, 0], get shown() { return pad.el.contains(document.activeElement); } };
  for (const event of ["focusin", "focusout"]) pad.el.addEventListener(event, () => changed());
  return made;
}

/** A visible line that a screen reader reads once the reader pauses; not at every step of a drag. */
export function readout() {
  const line = h("p", { class: "readout", role: "status", "aria-live": "polite" });
  let timer;
  const say = (text, wait = 250) => {
    clearTimeout(timer);
    timer = setTimeout(() => (line.textContent = text), wait);
  };
  return { line, say };
}

/** Calls `work` at most once a frame, and only while `el` is on the screen; `soon()` asks for it. */
function whenSeen(el, work) {
  let [seen, wanted, frame] = [true, false, 0];
  const soon = () => {
    wanted = true;
    if (seen) frame ||= requestAnimationFrame(run);
  };
  const run = () => {
    frame = 0;
    if (!wanted) return;
    wanted = false;
    work();
  };
  const observer = new IntersectionObserver((entries) => {
    seen = entries.at(-1).isIntersecting;
    if (seen && wanted) soon();
  });
  observer.observe(el);
  const stop = () => {
    observer.disconnect();
    cancelAnimationFrame(frame);
  };
  return { soon, stop };
}

/** Calls `act` when one of `keys` of the model is set, by Python or the page; returns what stops it. */
export function follow(model, keys, act) {
  for (const key of keys) model.on(`change:${key}`, act);
  return () => {
    for (const key of keys) model.off(`change:${key}`, act);
  };
}

/** Sets values of the model by name, and tells Python: each calls what follows it. */
export function setAll(model, values) {
  for (const [name, value] of Object.entries(values)) model.set(name, value);
  model.save_changes();
}

/**
 * Draws while `root` is seen: when `soon()` asks for it, when the size of `box` (or null) changes, and the page's theme.
 * `stop()` ends it, after each of `stops`.
 */
export function keepDrawn(root, draw, box, ...stops) {
  const drawing = whenSeen(root, draw);
  const resized = new ResizeObserver(drawing.soon);
  if (box) resized.observe(box);
  const stopTheme = followTheme(root, drawing.soon);
  const stop = () => {
    for (const end of [...stops, drawing.stop, () => resized.disconnect(), stopTheme]) end();
  };
  return { soon: drawing.soon, stop };
}

/** Whether the reader asked the system for less motion. */
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/**
 * Axes for lines over one variable, drawn anew on `canvas`: `x` and `y` are [from, to], ticks `step` apart stand below.
 * Returns `at` (data → pixels), `from` (a pointer event → data), `line`, `area` (to the zero line) and `mark` (a handle).
 */
export function chart(canvas, root, { x, y, height, step = 1, label = "" }) {
  const width = canvas.parentElement.clientWidth || 300;
  const context = sharp(canvas, width, height);
  const floor = height - 34;
  const at = (u, v) => [((u - x[0]) / (x[1] - x[0])) * width, 8 + (floor - 8) * (1 - (v - y[0]) / (y[1] - y[0]))];
  context.fillStyle = colour(root, "panel");
  context.fillRect(0, 0, width, floor);
  context.font = "12px system-ui, sans-serif";
  context.textAlign = "center";
  context.fillStyle = colour(root, "soft");
  for (let u = Math.ceil(x[0] / step) * step; u <= x[1] + 1e-9; u += step) {
    const [left] = at(u, 0);
    if (left > 12 && left < width - 12) context.fillText(figure(u, step < 1 ? 1 : 0), left, floor + 14);
    context.fillRect(left, floor, 1, 3);
  }
  context.fillText(label, width / 2, floor + 29);
  context.fillRect(0, at(0, Math.max(y[0], 0))[1], width, 1);
  const path = (us, vs) => {
    context.beginPath();
    us.forEach((u, i) => context.lineTo(...at(u, Math.max(y[0] - 1, Math.min(y[1] + 1, vs[i])))));
  };
  const clipped = (draw) => {
    context.save();
    context.beginPath();
    context.rect(0, 0, width, floor);
    context.clip();
    draw();
    context.restore();
  };
  const line = (us, vs, name, { dash = [], wide = 2 } = {}) =>
    clipped(() => {
      context.strokeStyle = colour(root, name);
      context.lineWidth = wide;
      context.setLineDash(dash);
      path(us, vs);
      context.stroke();
    });
  const area = (us, vs, name, opacity = 0.25) =>
    clipped(() => {
      context.globalAlpha = opacity;
      context.fillStyle = colour(root, name);
      path(us, vs);
      context.lineTo(...at(us.at(-1), 0));
      context.lineTo(...at(us[0], 0));
      context.fill();
    });
  const mark = (u, v, name) => {
    const [left, top] = at(u, v);
    context.beginPath();
    context.arc(left, top, 8, 0, 2 * Math.PI);
    context.fillStyle = colour(root, name);
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = colour(root, "ground");
    context.stroke();
  };
  const from = (event) => {
    const box = canvas.getBoundingClientRect();
    const [across, down] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return [x[0] + across * (x[1] - x[0]), y[0] + (1 - (down * height - 8) / (floor - 8)) * (y[1] - y[0])];
  };
  return { context, at, from, line, area, mark };
}

/** The canvas's drawing context in CSS pixels, sharp on every screen. */
export function sharp(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return context;
}
