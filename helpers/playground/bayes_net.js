// A Bayesian network: the reader clicks what is known, and every other variable's posterior follows.
//
// params: { variables: [{ name, values: ["no", "yes"], parents: [indices], at: [x, y] in the drawing, table }], width,
//   height of the drawing, evidence: { index: value } at first, advice }
// table: p(own value | parents) as nested lists, one level for each parent in order, the innermost over own values.
// state: { evidence: for each variable the value that is known, or −1 }
import { button, figure, follow, frame, h, keepDrawn, pressable, readout, svg } from "./controls.js";

const [BOX, HEAD, LINE, NAME, BAR] = [132, 22, 24, 32, 42];

/** Sums over every combination of values: p(evidence) and, for each variable, its posterior. */
function marginals(variables, evidence) {
  const sums = variables.map(({ values }) => values.map(() => 0));
  let all = 0;
  const order = [];
  while (order.length < variables.length) {
    variables.forEach(({ parents }, i) => !order.includes(i) && parents.every((j) => order.includes(j)) && order.push(i));
  }
  const value = variables.map(() => 0);
  (function descend(depth, p) {
    if (p === 0) return;
    if (depth === order.length) {
      all += p;
      value.forEach((v, i) => (sums[i][v] += p));
      return;
    }
    const i = order[depth];
    const row = variables[i].parents.reduce((table, j) => table[value[j]], variables[i].table);
    row.forEach((q, v) => {
      if (evidence[i] >= 0 && evidence[i] !== v) return;
      value[i] = v;
      descend(depth + 1, p * q);
    });
  })(0, 1);
  return { evidence: all, posterior: sums.map((row) => row.map((s) => s / all)) };
}

function render({ model, el }) {
  const params = model.get("params");
  const { variables, width, height } = params;
  const first = variables.map((_, i) => params.evidence?.[i] ?? -1);
  let known = [...(model.get("evidence") ?? first)];
  let before = null; // the posterior before the last change

  // ---- what is on the page ----
  const advice = params.advice ?? "press a value to say that it was observed; press it again to forget it.";
  const root = frame(el, "Bayesian network playground", advice);
  root.append(h("style", {}, `
.playground .net text { fill: var(--ink); font: 12px system-ui, sans-serif; } .playground .net .name { font-weight: 600; }
.playground .net .box { fill: var(--ground); stroke: var(--line); } .playground .net .known .box { stroke: var(--data); stroke-width: 2; }
.playground .net .arrow { stroke: var(--soft); stroke-width: 1.5; } .playground .net marker path { fill: var(--soft); }
.playground .net .value { cursor: pointer; } .playground .net .hit { fill: transparent; }
.playground .net .value:hover .hit, .playground .net .value:focus-visible .hit { fill: var(--panel); }
.playground .net .bar { fill: var(--latent); } .playground .net .known .bar { fill: var(--data); }
.playground .net .was { stroke: var(--ink); stroke-width: 2; }`));
  const id = `arrow-${Math.random().toString(36).slice(2, 9)}`;
  const head = svg("marker", { id, viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto" },
    svg("path", { d: "M0 0L8 4L0 8z" }));
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "net", role: "group",
    "aria-label": "The network", style: "display: block; width: 100%; max-width: 30rem" }, svg("defs", {}, head));
  const tall = ({ values }) => HEAD + LINE * values.length + 2;
  for (const child of variables) {
    for (const j of child.parents) {
      const [from, to] = [variables[j], child];
      const [x1, y1] = [from.at[0] + BOX / 2, from.at[1] + tall(from)];
      const [x2, y2] = [to.at[0] + BOX / 2 + Math.sign(x1 - to.at[0] - BOX / 2) * BOX * 0.25, to.at[1] - 1];
      chart.append(svg("line", { class: "arrow", x1, y1, x2, y2, "marker-end": `url(#${id})` }));
    }
  }
  const buttons = [];
  const nodes = variables.map(({ name, values, at: [left, top] }, i) => {
    const box = svg("rect", { class: "box", x: left, y: top, width: BOX, height: tall(variables[i]), rx: 5 });
    const title = svg("text", { class: "name", x: left + 8, y: top + 16 }, name);
    const rows = values.map((label, v) => {
      const y = top + HEAD + v * LINE;
      const parts = {
        hit: svg("rect", { class: "hit", x: left + 2, y, width: BOX - 4, height: LINE }),
        bar: svg("rect", { class: "bar", x: left + NAME, y: y + 5, height: LINE - 10 }),
        was: svg("line", { class: "was", y1: y + 2, y2: y + LINE - 2 }),
        share: svg("text", { x: left + BOX - 5, y: y + 16, "text-anchor": "end" }),
      };
      const text = svg("text", { x: left + 8, y: y + 16 }, label);
      const g = svg("g", { class: "value", role: "button", tabindex: buttons.length ? -1 : 0 }, parts.hit, text, parts.bar, parts.was, parts.share);
      pressable(g, () => change(known.map((was, j) => (j === i ? (was === v ? -1 : v) : was))));
      const place = buttons.push(g) - 1;
      g.addEventListener("keydown", (event) => {
        const to = buttons[place + ({ ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key] ?? NaN)];
        if (!to) return;
        event.preventDefault();
        buttons.forEach((b) => b.setAttribute("tabindex", b === to ? 0 : -1));
        to.focus();
      });
      return { g, ...parts };
    });
    const node = svg("g", {}, box, title, ...rows.map((row) => row.g));
    chart.append(node);
    return { node, rows };
  });
  const reset = button("Forget all evidence", () => change(variables.map(() => -1)));
  const caption = h("figcaption", {}, "Green: posteriors. Blue: what you said is observed. Upright mark: where the bar was before your last press.");
  const heard = readout();
  root.append(h("figure", {}, chart, caption), reset, heard.line);

  // ---- changing ----
  function change(to) {
    before = marginals(variables, known);
    known = [...to];
    model.set("evidence", [...to]);
    model.save_changes();
    drawing.soon();
  }
  const fromPython = () => ((known = [...model.get("evidence")]), drawing.soon());

  // ---- drawing ----
  const percent = (p) => `${figure(100 * p)} %`;

  function draw() {
    const { evidence, posterior } = marginals(variables, known);
    const given = known.flatMap((v, i) => (v < 0 ? [] : [`${variables[i].name} = ${variables[i].values[v]}`]));
    const possible = evidence > 0;
    nodes.forEach(({ node, rows }, i) => {
      node.setAttribute("class", known[i] < 0 ? "" : "known");
      rows.forEach(({ g, bar, was, share }, v) => {
        const [p, old] = [possible ? posterior[i][v] : 0, before?.evidence > 0 ? before.posterior[i][v] : null];
        bar.setAttribute("width", BAR * p);
        share.textContent = possible ? percent(p) : "–";
        for (const end of ["x1", "x2"]) was.setAttribute(end, variables[i].at[0] + NAME + BAR * (old ?? 0));
        was.style.display = old === null || Math.abs(old - p) < 0.005 ? "none" : "";
        g.setAttribute("aria-pressed", known[i] === v);
        g.setAttribute("aria-label", `${variables[i].name} = ${variables[i].values[v]}, ${percent(p)}`);
      });
    });
    const said = given.length ? `Given ${given.join(", ")} (probability ${percent(evidence)})` : "Nothing observed";
    const moved = nodes
      .map((_, i) => [i, before?.evidence > 0 && possible && known[i] < 0 ? posterior[i].at(-1) - before.posterior[i].at(-1) : 0])
      .sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]))[0];
    const { name, values } = variables[moved[0]];
    const was = Math.abs(moved[1]) < 0.0005 ? "." : `: ${name} = ${values.at(-1)} goes from ${percent(before.posterior[moved[0]].at(-1))} to ${percent(posterior[moved[0]].at(-1))}.`;
    heard.say(possible ? said + was : `${given.join(", ")}: this combination has probability zero, so there is no posterior.`);
  }

  const drawing = keepDrawn(root, draw, null, follow(model, ["evidence"], fromPython));
  el.playground = { marginals: (evidence) => marginals(variables, evidence), change };
  draw();
  return drawing.stop;
}

export default { render };
