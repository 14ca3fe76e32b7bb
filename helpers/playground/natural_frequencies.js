// Natural frequencies: set how common a kind is and how often each kind carries a sign; see Bayes' rule in a crowd.
//
// A person of the crowd is a pair of uniform numbers (u, v), a place in the unit square: of the kind A if u < prior,
// with the sign if v < hit (A) or v < alarm (not A). So areas of the square are probabilities, and dots are draws.
// state: story: a place in the list of stories, prior, hit, alarm: in 0 … 1, seed: a whole number.
// params: { stories: [{ name, a, other, sign, prior, hit, alarm }], advice: "what to try" (optional) }.
import { button, choice, colour, figure, follow, frame, h, keepDrawn, listing, readout, setAll, sharp, slider } from "./controls.js";

const CROWD = 400;
const clamp = (x) => Math.max(0, Math.min(1, x));

/** The four cells of the joint table, its margin p(sign), and p(A | sign), null where nobody has the sign. */
export function table({ prior, hit, alarm }) {
  const cells = {
    both: prior * hit,
    missed: prior * (1 - hit),
    alarmed: (1 - prior) * alarm,
    clear: (1 - prior) * (1 - alarm),
  };
  const sign = cells.both + cells.alarmed;
  return { ...cells, sign, posterior: sign > 0 ? cells.both / sign : null };
}

/** `n` places in the unit square, from a seed (the generator mulberry32). */
export function crowd(seed, n = CROWD) {
  let s = seed >>> 0;
  const next = () => {
    s = (s + 0x6d2b79f5) >>> 0;
    let t = s;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return Array.from({ length: n }, () => [next(), next()]);
}

/** How many of the crowd are in each cell of the table. */
export function count(people, { prior, hit, alarm }) {
  const found = { both: 0, missed: 0, alarmed: 0, clear: 0 };
  for (const [u, v] of people) found[u < prior ? (v < hit ? "both" : "missed") : v < alarm ? "alarmed" : "clear"] += 1;
  return found;
}

const KEYS = ["story", "prior", "hit", "alarm", "seed"];

function render({ model: store, el }) {
  const { stories, advice } = store.get("params");
  const read = () => Object.fromEntries(KEYS.map((key) => [key, store.get(key)]));
  const start = read();
  let state = { ...start };

  // ---- what is on the page ----
  const root = frame(
    el,
    "Natural frequencies",
    advice ??
      "drag the upright line to the left, to make the green rare: the sign gets no worse, yet most who carry it are blue.",
  );
  const square = h("canvas", { role: "img" });
  const row = h("canvas", { role: "img" });
  const percent = { short: "%", long: "percent" };
  const rate = (key) =>
    slider({ label: key, unit: percent, min: 0, max: 100, step: 0.5, change: (x) => move({ [key]: x / 100 }) });
  const rates = { prior: rate("prior"), hit: rate("hit"), alarm: rate("alarm") };
  const story = choice({
    label: "Story",
    options: stories.map(({ name }, i) => [i, name]),
    change: (i) => {
      const { prior, hit, alarm } = stories[Number(i)];
      move({ story: Number(i), prior, hit, alarm });
    },
  });
  const again = button("Draw 400 others", () => move({ seed: state.seed + 1 }));
  const reset = button("Reset", () => move({ ...start }));
  const values = listing();
  const [upper, lower] = [h("figcaption"), h("figcaption")];
  const heard = readout();
  root.append(
    h(
      "div",
      { class: "stage" },
      h(
        "div",
        {},
        h("figure", {}, h("div", { class: "plane" }, square), upper),
        h("figure", { style: "margin-top: .75rem" }, h("div", {}, row), lower),
      ),
      h(
        "div",
        { class: "sliders", style: "align-content: start" },
        ...[story, rates.prior, rates.hit, rates.alarm].map((control) => control.row),
        h("div", { class: "buttons" }, again, reset),
        values.el,
      ),
    ),
    heard.line,
  );

  // ---- moving ----
  function move(changes) {
    const next = { ...state, ...changes };
    for (const key of ["prior", "hit", "alarm"]) next[key] = clamp(next[key]);
    setAll(store, next); // calls fromPython
    state = next;
    drawing.soon();
  }
  const handles = () => [
    ["prior", state.prior, 0.98],
    ["hit", state.prior / 2, state.hit],
    ["alarm", (1 + state.prior) / 2, state.alarm],
  ];
  let grabbed = null;
  const place = (event) => {
    const box = square.getBoundingClientRect();
    return [clamp((event.clientX - box.left) / box.width), clamp(1 - (event.clientY - box.top) / box.height)];
  };
  const drag = (event) => {
    const [u, v] = place(event);
    move({ [grabbed]: Math.round(200 * (grabbed === "prior" ? u : v)) / 200 });
  };
  square.addEventListener("pointerdown", (event) => {
    const [u, v] = place(event);
    const away = handles().map(([key, x, y]) => [Math.hypot(x - u, y - v), key]);
    grabbed = away.reduce((a, b) => (b[0] < a[0] ? b : a))[1];
    square.setPointerCapture(event.pointerId);
    rates[grabbed].input.focus({ preventScroll: true });
    event.preventDefault();
    drag(event);
  });
  square.addEventListener("pointermove", (event) => square.hasPointerCapture(event.pointerId) && drag(event));
  const fromPython = () => {
    state = read();
    drawing.soon();
  };

  // ---- drawing ----
  function icon(context, x, y, r, a, strong) {
    context.globalAlpha = strong ? 1 : 0.35;
    context.fillStyle = colour(root, a ? "latent" : "data");
    context.beginPath();
    if (a) context.arc(x, y, r, 0, 2 * Math.PI);
    else context.rect(x - 0.8 * r, y - 0.8 * r, 1.6 * r, 1.6 * r);
    context.fill();
    context.globalAlpha = 1;
  }

  function drawSquare(people) {
    const width = square.parentElement.clientWidth || 300;
    const context = sharp(square, width, width);
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, width, width);
    const block = (u0, u1, height, name) => {
      context.globalAlpha = 0.16;
      context.fillStyle = colour(root, name);
      context.fillRect(u0 * width, (1 - height) * width, (u1 - u0) * width, height * width);
      context.globalAlpha = 1;
    };
    block(0, state.prior, state.hit, "latent");
    block(state.prior, 1, state.alarm, "data");
    for (const [u, v] of people) {
      const a = u < state.prior;
      icon(context, u * width, (1 - v) * width, 3.2, a, v < (a ? state.hit : state.alarm));
    }
    context.fillStyle = colour(root, "ink");
    context.fillRect(state.prior * width - 1, 0, 2, width);
    context.fillRect(0, (1 - state.hit) * width - 1, state.prior * width, 2);
    context.fillRect(state.prior * width, (1 - state.alarm) * width - 1, (1 - state.prior) * width, 2);
    for (const [key, u, v] of handles()) {
      context.beginPath();
      context.arc(u * width, (1 - v) * width, 8, 0, 2 * Math.PI);
      context.fillStyle = colour(root, { prior: "prior", hit: "latent", alarm: "data" }[key]);
      context.fill();
      context.lineWidth = 2;
      context.strokeStyle = colour(root, "ground");
      context.stroke();
    }
  }

  function drawRow({ both, alarmed }) {
    const width = row.parentElement.clientWidth || 300;
    const cell = width / 40;
    const context = sharp(row, width, 10 * cell);
    context.fillStyle = colour(root, "panel");
    context.fillRect(0, 0, width, 10 * cell);
    for (let i = 0; i < both + alarmed; i++)
      icon(context, ((i % 40) + 0.5) * cell, (Math.floor(i / 40) + 0.5) * cell, 0.38 * cell, i < both, true);
  }

  function draw() {
    const { a, other, sign } = stories[state.story];
    const people = crowd(state.seed);
    const [exact, found] = [table(state), count(people, state)];
    const carriers = found.both + found.alarmed;
    drawSquare(people);
    drawRow(found);
    const names = { prior: `p(${a})`, hit: `p(${sign} | ${a})`, alarm: `p(${sign} | ${other})` };
    for (const [key, control] of Object.entries(rates)) {
      control.row.firstChild.textContent = names[key];
      control.input.setAttribute("aria-label", names[key]);
      control.show(100 * state[key]);
    }
    story.show(state.story);
    upper.textContent =
      `Green discs: ${a}; blue squares: ${other}; strong, below the lines: ${sign}. ` + "Drag a line by its dot.";
    lower.textContent = `Only those with the sign ${sign}: ${carriers} of ${CROWD}.`;
    square.setAttribute(
      "aria-label",
      `${CROWD} people: ${found.both} ${a} with ${sign}, ${found.missed} without; ` +
        `${found.alarmed} ${other} with, ${found.clear} without.`,
    );
    row.setAttribute("aria-label", `${carriers} people with ${sign}, of whom ${found.both} are ${a}.`);
    const share = (x) => (x === null ? "–" : `${figure(100 * x)} %`);
    const lines = [
      [`p(${a}, ${sign})`, share(exact.both), `${found.both} of ${CROWD}`],
      [`p(${sign})`, share(exact.sign), `${carriers} of ${CROWD}`],
      [`p(${a} | ${sign})`, share(exact.posterior), `${found.both} of ${carriers}`],
    ];
    values.show(lines.map(([name, value, seen], i) => [name, `${value}; ${seen}`, i === 2]));
    heard.say(
      exact.posterior === null
        ? `Nobody has the sign ${sign}: there is nothing to condition on.`
        : `Of those with the sign ${sign}, ${share(exact.posterior)} are ${a} by Bayes' rule; ` +
            `in this crowd ${found.both} of ${carriers}.`,
    );
  }

  const drawing = keepDrawn(root, draw, square.parentElement, follow(store, KEYS, fromPython));
  el.playground = { move, state: () => state }; // for the console
  draw();
  return drawing.stop;
}

export default { render, table, crowd, count };
