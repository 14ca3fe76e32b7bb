// What the playgrounds with densities over one variable share: their numbers, and a chart that is dragged.
import { calm, figure, h } from "./controls.js";

export const clamp = (x, [low, high]) => Math.max(low, Math.min(high, x));
export const logNormal = (x, mean, sd) => -0.5 * ((x - mean) / sd) ** 2 - Math.log(sd) - 0.5 * Math.log(2 * Math.PI);
export const logSum = (a, b) => Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));

/** The height of a normal density's peak, from its standard deviation; and the same the other way round. */
export const peakOf = (sd) => 1 / (sd * Math.sqrt(2 * Math.PI));

/**
 * `canvas` to drag on, and for the keyboard an input for each of `handles`: { label, limits: [min, max], read, write,
 * step = 0.1, text = how a value is read aloud }. `drag(event)` hears the pointer; `grab(event)` says at a press which
 * handle that is, by its place in the list; `ended()` hears the end. `show()` brings the inputs up to date.
 */
export function draggable({ label, canvas, handles, drag, grab = () => 0, ended = () => {} }) {
  const inputs = handles.map(({ label, limits: [min, max], step = 0.1, write }) => {
    const input = h("input", { type: "range", min, max, step, "aria-label": label });
    input.addEventListener("input", () => write(Number(input.value)));
    return input;
  });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    inputs[grab(event)].focus({ preventScroll: true });
    event.preventDefault();
    drag(event);
  });
  canvas.addEventListener("pointermove", (event) => canvas.hasPointerCapture(event.pointerId) && drag(event));
  canvas.addEventListener("lostpointercapture", ended);
  const show = () =>
    handles.forEach(({ read, text = (x) => `${figure(x)} units` }, k) => {
      inputs[k].value = read();
      inputs[k].setAttribute("aria-valuetext", text(read()));
    });
  return { el: h("div", { class: "plane", role: "group", "aria-label": label }, canvas, ...inputs), show };
}

/** Calls `once` frame by frame while it returns true, or at a stretch for who wants less motion; `stop()` ends it. */
export function walk() {
  let running = 0;
  const stop = () => cancelAnimationFrame(running);
  function go(once) {
    stop();
    if (calm()) while (once());
    else {
      const frame = () => once() && (running = requestAnimationFrame(frame));
      frame();
    }
  }
  return { go, stop };
}
