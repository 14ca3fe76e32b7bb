// Lines on a plane: of one stroke, and where a function is zero.

/** Strokes what `path` draws. */
export function stroke(context, colour, width, dash, path) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.beginPath();
  path();
  context.stroke();
  context.setLineDash([]);
}

/**
 * The path where a function is 0, by marching squares, from its values [j][i] at (corner(i), corner(j)); `at` makes
 * pixels of a place.
 */
export function zeroLine(context, at, corner, value) {
  const cells = value.length - 1;
  for (let j = 0; j < cells; j++)
    for (let i = 0; i < cells; i++) {
      const ring = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
      let cuts = 0;
      ring.forEach(([a, b], k) => {
        const [c, d] = ring[(k + 1) % 4];
        const [from, to] = [value[b][a], value[d][c]];
        if (from > 0 === to > 0) return;
        const share = from / (from - to);
        const cut = at(corner(a + share * (c - a)), corner(b + share * (d - b)));
        if (cuts++ % 2) context.lineTo(...cut);
        else context.moveTo(...cut);
      });
    }
}
