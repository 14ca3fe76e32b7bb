// The evidence lower bound by hand: drag a normal q over a posterior, and see ELBO + KL add up to the log evidence.
//
// ELBO and its gradient are averages over q, the KL divergence and the evidence are sums over a fixed grid: two ways.
// state: target: a key of TARGETS, q: [mean, sd]. params: { advice: "what to try" }, optional.
import { button, chart, choice, colour, figure, follow, frame, h, keepDrawn, listing, readout, setAll } from "./controls.js";
import { clamp, draggable, logNormal, logSum, peakOf, walk } from "./line.js";

const STEP = 0.02;
const XS = Float64Array.from({ length: 2601 }, (_, i) => (i - 1300) * STEP);
const NODES = Float64Array.from({ length: 321 }, (_, i) => (i - 160) * 0.05); // of a standard normal q
const LIMITS = { mean: [-5, 5], sd: [0.2, 3] };
const LEFT = -6; // where the bars begin, in nats

const logSigmoid = (x) => -logSum(0, -x);

/** log p(x, z) as a function of z, by name, behind what it is called. */
const TARGETS = {
  two: ["Two bumps", (z) => logSum(Math.log(0.7) + logNormal(z, -2, 0.7), Math.log(0.3) + logNormal(z, 2.2, 0.9)) - 1],
  slope: ["A slope after 6 yes, 1 no", (z) => logNormal(z, 0, 2) + 6 * logSigmoid(z) + logSigmoid(-z)],
  bell: ["A normal posterior", (z) => logNormal(z, 1, 0.8) - 0.5],
};

/** { evidence, elbo, kl, energy, entropy } in nats, and the densities { p, q } on XS. */
export function ledger(target, [mean, sd]) {
  const logJoint = TARGETS[target][1];
  const joint = XS.map(logJoint);
  const evidence = Math.log(STEP * joint.reduce((sum, l) => sum + Math.exp(l), 0));
  const p = joint.map((l) => Math.exp(l - evidence));
  const q = XS.map((x) => Math.exp(logNormal(x, mean, sd)));
  let kl = 0;
  XS.forEach((x, i) => (kl += STEP * q[i] * (logNormal(x, mean, sd) - joint[i] + evidence)));
  let energy = 0;
  for (const u of NODES) energy += 0.05 * Math.exp(logNormal(u, 0, 1)) * logJoint(mean + sd * u);
  const entropy = Math.log(sd) + 0.5 * (1 + Math.log(2 * Math.PI));
  return { evidence, elbo: energy + entropy, kl, energy, entropy, p, q };
}

/** The slope of the ELBO in mean and in log sd, along the path z = mean + sd u. */
export function slope(target, [mean, sd]) {
  const logJoint = TARGETS[target][1];
  let [inMean, inLogSd] = [0, 1];
  for (const u of NODES) {
    const z = mean + sd * u;
    const change = (logJoint(z + 1e-4) - logJoint(z - 1e-4)) / 2e-4;
    const share = 0.05 * Math.exp(logNormal(u, 0, 1)) * change;
    inMean += share;
    inLogSd += share * sd * u;
  }
  return [inMean, inLogSd];
}

/** One natural-gradient step uphill, halved until the ELBO rises: the next q, or the same if none is found. */
export function climb(target, q) {
  const [inMean, inLogSd] = slope(target, q);
  const now = ledger(target, q).elbo;
  for (let rate = 0.3; rate > 1e-3; rate /= 2) {
    const next = [
      clamp(q[0] + rate * q[1] ** 2 * inMean, LIMITS.mean),
      clamp(q[1] * Math.exp(clamp(0.5 * rate * inLogSd, [-0.3, 0.3])), LIMITS.sd),
    ];
    if (ledger(target, next).elbo > now + 1e-7) return next;
  }
  return q;
}

function render({ model: store, el }) {
  const start = { target: store.get("target"), q: [...store.get("q")] };
  let state = structuredClone(start);

  // ---- what is on the page ----
  const advice =
    store.get("params").advice ??
    "drag the orange peak: across moves q, up makes it narrow. Make KL as small as you can, then press Climb.";
  const root = frame(el, "Evidence lower bound playground", advice);
  const upper = h("canvas", { "aria-hidden": "true" });
  const lower = h("canvas", { role: "img" });
  const text = (x) => `${figure(x, 2)} units`;
  const plane = draggable({
    label: "Posterior and q",
    canvas: upper,
    handles: [
      { label: "Mean of q", limits: LIMITS.mean, text, read: () => state.q[0], write: (x) => move({ q: [x, state.q[1]] }) },
      { label: "Standard deviation of q", limits: LIMITS.sd, text, read: () => state.q[1], write: (x) => move({ q: [state.q[0], x] }) },
    ],
    drag(event) {
      const [x, y] = axes.from(event);
      move({ q: [x, peakOf(Math.max(y, 0.01))] });
    },
  });
  const options = Object.entries(TARGETS).map(([key, [name]]) => [key, name]);
  const chosen = choice({ label: "Posterior", options, change: (target) => move({ target }) });
  const up = button("Climb", ascend);
  const reset = button("Reset", () => move(structuredClone(start)));
  const values = listing();
  const heard = readout();
  root.append(
    h("div", { class: "stage" },
      h("div", {},
        h("figure", {}, plane.el, h("figcaption", {}, "Green: the posterior of z. Orange, dashed: q.")),
        h("figure", { style: "margin-top: .75rem" }, h("div", {}, lower),
          h("figcaption", {}, "Above: log evidence, grey. Below: ELBO, orange, and KL, violet; together as long."))),
      h("div", { class: "sliders", style: "align-content: start" },
        chosen.row, h("div", { class: "buttons" }, up, reset), values.el)),
    heard.line,
  );

  // ---- moving ----
  const ascent = walk();
  let axes = null;
  function move(changes, climbing = false) {
    if (!climbing) ascent.stop();
    const next = { ...state, ...changes };
    next.q = [clamp(next.q[0], LIMITS.mean), clamp(next.q[1], LIMITS.sd)];
    setAll(store, next); // calls fromPython
    state = next;
    drawing.soon();
  }

  function ascend() {
    let left = 300;
    ascent.go(() => {
      const next = climb(state.target, state.q);
      const moved = next.some((v, i) => v !== state.q[i]);
      move({ q: next }, true);
      return moved && --left > 0;
    });
  }

  const fromPython = () => {
    state = { target: store.get("target"), q: [...store.get("q")] };
    drawing.soon();
  };

  // ---- drawing ----
  function draw() {
    const now = ledger(state.target, state.q);
    axes = chart(upper, root, { x: [-7, 7], y: [0, 1.05], height: 230, step: 2, label: "z" });
    axes.area(XS, now.p, "latent");
    axes.line(XS, now.p, "latent");
    axes.line(XS, now.q, "model", { dash: [9, 3] });
    axes.mark(state.q[0], Math.min(1.02, peakOf(state.q[1])), "model");
    const bars = chart(lower, root, { x: [LEFT, 0], y: [0, 2], height: 118, step: 1, label: "nats" });
    const bar = (from, to, row, name) => {
      const [left, top] = bars.at(Math.max(from, LEFT), row + 0.88);
      const [right, bottom] = bars.at(Math.max(to, LEFT), row + 0.12);
      bars.context.fillStyle = colour(root, name);
      bars.context.fillRect(left, top, right - left, bottom - top);
    };
    bar(LEFT, now.evidence, 1, "soft");
    bar(LEFT, now.elbo, 0, "model");
    bar(now.elbo, now.elbo + now.kl, 0, "prior");
    const shown = {
      "E[log p(x, z)] under q": now.energy, "+ entropy of q": now.entropy, "= ELBO": now.elbo,
      "+ KL(q ‖ posterior)": now.kl, "= log evidence": now.evidence,
    };
    values.show(Object.entries(shown).map(([name, value]) => [name, `${figure(value, 3)} nats`, name.startsWith("=")]));
    const [elbo, kl, evidence] = [now.elbo, now.kl, now.evidence].map((v) => figure(v, 3));
    const text = `ELBO ${elbo} plus KL ${kl} is the log evidence, ${evidence} nats.`;
    lower.setAttribute("aria-label", `Two bars of equal length. ${text}`);
    chosen.show(state.target);
    plane.show();
    heard.say(`q has mean ${figure(state.q[0], 2)} and standard deviation ${figure(state.q[1], 2)}. ${text}`);
  }

  const drawing = keepDrawn(root, draw, plane.el, follow(store, Object.keys(start), fromPython), ascent.stop);
  el.playground = { move, state: () => state }; // for the console
  draw();
  return drawing.stop;
}

export default { render, ledger, slope, climb };
