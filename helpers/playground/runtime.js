// Executes in the page what helpers/playground/export.py wrote: a list of operations and their weights.
//
//   const decode = new Graph(json);
//   const [image] = decode.run({ z: tensor([1, 2], [0.5, -1]) });   // image.shape, image.data
//   decode.weights["0.bias"].data[3] = 7;                            // changes what the next run answers
//
// A tensor is { shape, data }: row-major numbers in a Float32Array. Sums are taken in double precision. Operations
// never change their inputs, but results may share memory with them (reshape, slice).

import { binary, unary } from "./functions.js";

export const count = (shape) => shape.reduce((a, b) => a * b, 1);
export const tensor = (shape, data) => ({ shape, data: data ? Float32Array.from(data) : new Float32Array(count(shape)) });

export class Graph {
  constructor(json) {
    Object.assign(this, { inputs: json.inputs, operations: json.operations, outputs: json.outputs });
    this.weights = readWeights(json.weights);
    // After which operation a value is needed no more: so that memory stays small in long loops.
    this.lastUse = new Map();
    json.operations.forEach((op, i) => op.in.forEach((name) => this.lastUse.set(name, i)));
  }

  /** The outputs, as tensors, for inputs by name; the batch size is the first size of the first input. */
  run(inputs) {
    const values = new Map(Object.entries(this.weights));
    for (const { name, shape } of this.inputs) {
      if (!inputs[name]) throw new Error(`input ${name} is missing`);
      if (inputs[name].shape.length !== shape.length) throw new Error(`input ${name} has another rank than ${shape}`);
      values.set(name, inputs[name]);
    }
    const n = values.get(this.inputs[0].name).shape[0] ?? 1;
    this.operations.forEach((op, i) => {
      const args = op.in.map((x) => (typeof x === "number" ? { shape: [], data: [x] } : values.get(x)));
      values.set(op.out, operations[op.op](args, op, n));
      for (const x of op.in) if (this.lastUse.get(x) === i && !this.outputs.includes(x)) values.delete(x);
    });
    return this.outputs.map((name) => values.get(name));
  }
}

function readWeights({ list, data }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const weights = {};
  for (const { name, shape, type, at } of list) {
    const size = count(shape);
    const numbers =
      type === "float32"
        ? new Float32Array(bytes.buffer, at, size).slice()
        : Float32Array.from(new Uint16Array(bytes.buffer, at, size), fromHalf);
    weights[name] = { shape, data: numbers };
  }
  return weights;
}

function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  if (exponent === 0) return sign * (bits & 1023) * 2 ** -24;
  if (exponent === 31) return bits & 1023 ? NaN : sign * Infinity;
  return sign * (1 + (bits & 1023) / 1024) * 2 ** (exponent - 15);
}

const size = (s, n) => (typeof s === "number" ? s : s[0] + s[1] * n); // [a, b] means a + b·n, n the batch size

function strides(shape) {
  const steps = new Array(shape.length);
  for (let i = shape.length - 1, step = 1; i >= 0; step *= shape[i--]) steps[i] = step;
  return steps;
}

/** The strides with which x is read as if it had this shape: 0 along a dimension that it repeats. */
function broadcastStrides(x, shape) {
  const missing = shape.length - x.shape.length;
  const steps = strides(x.shape);
  return shape.map((s, i) => (i < missing || (x.shape[i - missing] === 1 && s !== 1) ? 0 : steps[i - missing]));
}

function broadcastShape(...shapes) {
  const rank = Math.max(...shapes.map((s) => s.length));
  return Array.from({ length: rank }, (_, i) =>
    shapes.reduce((best, s) => {
      const here = s[i - rank + s.length] ?? 1;
      if (here !== 1 && best !== 1 && here !== best) throw new Error(`shapes do not fit: ${shapes.join(" and ")}`);
      return here === 1 ? best : here;
    }, 1),
  );
}

/** Copies x into a new tensor of this shape, reading x from `start` with these strides. */
function gather(x, shape, steps, start = 0) {
  const out = tensor(shape);
  const rank = shape.length;
  const last = rank ? shape[rank - 1] : 1;
  const step = rank ? steps[rank - 1] : 0;
  const index = new Array(rank).fill(0);
  for (let i = 0, from = start; i < out.data.length; ) {
    for (let j = 0, k = from; j < last; j++, k += step) out.data[i++] = x.data[k];
    for (let d = rank - 2; d >= 0; d--) {
      from += steps[d];
      if (++index[d] < shape[d]) break;
      from -= steps[d] * shape[d];
      index[d] = 0;
    }
  }
  return out;
}

const expand = (x, shape) =>
  count(shape) === x.data.length ? { shape, data: x.data } : gather(x, shape, broadcastStrides(x, shape));

/** [rows before, size, rows after] around a dimension. */
const around = (shape, dim) => [count(shape.slice(0, dim)), shape[dim], count(shape.slice(dim + 1))];

function apply(f, [x], settings) {
  const out = tensor(x.shape);
  for (let i = 0; i < out.data.length; i++) out.data[i] = f(x.data[i], settings);
  return out;
}

function combine(f, [a, b]) {
  const out = tensor(broadcastShape(a.shape, b.shape));
  const n = out.data.length;
  const whole = (x) => (x.data.length === n || x.data.length === 1 ? x.data : expand(x, out.shape).data);
  const [p, q] = [whole(a), whole(b)];
  const [ps, qs] = [p.length === 1 ? 0 : 1, q.length === 1 ? 0 : 1];
  for (let i = 0; i < n; i++) out.data[i] = f(p[i * ps], q[i * qs]);
  return out;
}

/**
 * out[i, j] = Σ_k a[i, k] b[j, k]: rows of a by rows of b, each read in order, from aAt, bAt into at. Eight sums at once
 * (four rows by two), so that each number that is read is used several times; at the edges a row is taken twice.
 */
function product(a, aAt, b, bAt, out, at, rows, inner, columns) {
  if (columns === 1) return timesVector(a, aAt, b, bAt, out, at, rows, inner);
  for (let i = 0; i < rows; i += 4) {
    const [p0, p1, p2, p3] = [0, 1, 2, 3].map((r) => aAt + Math.min(i + r, rows - 1) * inner);
    for (let j = 0; j < columns; j += 2) {
      const q0 = bAt + j * inner;
      const q1 = j + 1 < columns ? q0 + inner : q0;
      let [s0, s1, s2, s3, t0, t1, t2, t3] = [0, 0, 0, 0, 0, 0, 0, 0]; // plain numbers below: no arrays in this loop
      for (let k = 0; k < inner; k++) {
        const x = b[q0 + k];
        const y = b[q1 + k];
        s0 += a[p0 + k] * x;
        s1 += a[p1 + k] * x;
        s2 += a[p2 + k] * x;
        s3 += a[p3 + k] * x;
        t0 += a[p0 + k] * y;
        t1 += a[p1 + k] * y;
        t2 += a[p2 + k] * y;
        t3 += a[p3 + k] * y;
      }
      const sums = [s0, t0, s1, t1, s2, t2, s3, t3];
      for (let r = 0; r < 4 && i + r < rows; r++) {
        for (let c = 0; c < 2 && j + c < columns; c++) out[at + (i + r) * columns + j + c] = sums[2 * r + c];
      }
    }
  }
}

/** The product with one row of b: four rows of a at once. */
function timesVector(a, aAt, b, bAt, out, at, rows, inner) {
  for (let i = 0; i < rows; i += 4) {
    const [p0, p1, p2, p3] = [0, 1, 2, 3].map((r) => aAt + Math.min(i + r, rows - 1) * inner);
    let [s0, s1, s2, s3] = [0, 0, 0, 0];
    for (let k = 0; k < inner; k++) {
      const x = b[bAt + k];
      s0 += a[p0 + k] * x;
      s1 += a[p1 + k] * x;
      s2 += a[p2 + k] * x;
      s3 += a[p3 + k] * x;
    }
    const sums = [s0, s1, s2, s3];
    for (let r = 0; r < 4 && i + r < rows; r++) out[at + i + r] = sums[r];
  }
}

/** The last two dimensions of x from `start` on, exchanged: (rows, columns) to (columns, rows). */
const turned = (data, rows, columns, start = 0) => gather({ data }, [columns, rows], [1, columns], start).data;

/** x Wᵀ + bias over the last dimension, W (out, in). */
function linear([x, w, bias]) {
  const [outs, ins] = w.shape;
  const out = tensor([...x.shape.slice(0, -1), outs]);
  const rows = x.data.length / ins;
  if (rows > 1) product(x.data, 0, w.data, 0, out.data, 0, rows, ins, outs);
  else product(w.data, 0, x.data, 0, out.data, 0, outs, ins, 1); // the same numbers, four at once
  return bias ? combine(binary.add, [out, bias]) : out;
}

function matmul([a, b]) {
  const [rows, inner] = a.shape.slice(-2);
  const columns = b.shape.at(-1);
  const batch = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const left = expand(a, [...batch, rows, inner]).data;
  const right = expand(b, [...batch, inner, columns]).data;
  const out = tensor([...batch, rows, columns]);
  for (let i = 0; i < count(batch); i++) {
    const [aAt, bAt, at] = [i * rows * inner, i * inner * columns, i * rows * columns];
    if (rows === 1) vectorTimes(left, aAt, right, bAt, out.data, at, inner, columns);
    else product(left, aAt, turned(right, inner, columns, bAt), 0, out.data, at, rows, inner, columns);
  }
  return out;
}

/** A row of a by (inner, columns) of b, which is read in order: nothing has to be turned. */
function vectorTimes(a, aAt, b, bAt, out, at, inner, columns) {
  const sums = new Float64Array(columns);
  for (let k = 0; k < inner; k++) {
    const x = a[aAt + k];
    const from = bAt + k * columns;
    for (let j = 0; j < columns; j++) sums[j] += x * b[from + j];
  }
  out.set(sums, at);
}

/**
 * Which number of an image (channels, height, width) lies under which place of the kernel, for every place of the
 * kernel: row (y, x), column (channel, p, q) of a matrix; −1 outside the image. Computed once for each size.
 */
function patches(op, channels, height, width, kh, kw, oh, ow) {
  const key = [channels, height, width].join();
  if (op.patchKey === key) return op.patches;
  const index = new Int32Array(channels * kh * kw * oh * ow);
  let to = 0;
  for (let row = 0; row < oh * ow; row++) {
    const [top, left] = [Math.floor(row / ow) * op.stride[0] - op.padding[0], (row % ow) * op.stride[1] - op.padding[1]];
    for (let column = 0; column < channels * kh * kw; column++) {
      const y = top + (Math.floor(column / kw) % kh) * op.dilation[0];
      const x = left + (column % kw) * op.dilation[1];
      const inside = y >= 0 && y < height && x >= 0 && x < width;
      index[to++] = inside ? (Math.floor(column / (kh * kw)) * height + y) * width + x : -1;
    }
  }
  Object.assign(op, { patchKey: key, patches: index });
  return index;
}

/** The patches under the kernel become the rows of a matrix, the convolution a product. */
function conv2d([x, w, bias], op) {
  const [n, channels, height, width] = x.shape;
  const [outs, ins, kh, kw] = w.shape;
  const extent = (size, k, d) => Math.floor((size + 2 * op.padding[d] - op.dilation[d] * (k - 1) - 1) / op.stride[d]) + 1;
  const [oh, ow] = [extent(height, kh, 0), extent(width, kw, 1)];
  const index = patches(op, ins, height, width, kh, kw, oh, ow);
  const out = tensor([n, outs, oh, ow]);
  const seen = new Float32Array(index.length);
  const [rows, inner, area] = [outs / op.groups, ins * kh * kw, oh * ow];
  for (let i = 0; i < n * op.groups; i++) {
    const from = i * ins * height * width;
    for (let j = 0; j < index.length; j++) seen[j] = index[j] < 0 ? 0 : x.data[from + index[j]];
    product(w.data, (i % op.groups) * rows * inner, seen, 0, out.data, i * rows * area, rows, inner, area);
  }
  return bias ? addToChannels(out, bias) : out;
}

/** The adjoint of conv2d: the product's numbers are added where conv2d would have read them. */
function convTranspose2d([x, w, bias], op) {
  const [n, channels, height, width] = x.shape;
  const [, outs, kh, kw] = w.shape; // (in, out / groups, kh, kw)
  const extent = (size, k, d) =>
    (size - 1) * op.stride[d] - 2 * op.padding[d] + op.dilation[d] * (k - 1) + op.output_padding[d] + 1;
  const [oh, ow] = [extent(height, kh, 0), extent(width, kw, 1)];
  const index = patches(op, outs, oh, ow, kh, kw, height, width);
  const out = tensor([n, outs * op.groups, oh, ow]);
  const made = new Float32Array(index.length);
  const [ins, inner, area] = [channels / op.groups, outs * kh * kw, height * width];
  for (let i = 0; i < n * op.groups; i++) {
    const kernel = turned(w.data, ins, inner, (i % op.groups) * ins * inner);
    product(turned(x.data, ins, area, i * ins * area), 0, kernel, 0, made, 0, area, ins, inner);
    const to = i * outs * oh * ow;
    for (let j = 0; j < index.length; j++) if (index[j] >= 0) out.data[to + index[j]] += made[j];
  }
  return bias ? addToChannels(out, bias) : out;
}

const addToChannels = (out, bias) => combine(binary.add, [out, { shape: [bias.data.length, 1, 1], data: bias.data }]);

/** Calls f(start, step, length) for every line of numbers along a dimension. */
function lines(shape, dim, f) {
  const [before, length, after] = around(shape, dim);
  for (let i = 0; i < before; i++) for (let j = 0; j < after; j++) f(i * length * after + j, after, length);
}

function softmax([x], { dim }, log) {
  const out = tensor(x.shape);
  lines(x.shape, dim, (start, step, length) => {
    let [top, sum] = [-Infinity, 0];
    for (let i = 0; i < length; i++) top = Math.max(top, x.data[start + i * step]);
    if (top === -Infinity) return; // everything is masked: zeros, as in attention
    for (let i = 0; i < length; i++) sum += Math.exp(x.data[start + i * step] - top);
    for (let i = 0; i < length; i++) {
      const at = start + i * step;
      out.data[at] = log ? x.data[at] - top - Math.log(sum) : Math.exp(x.data[at] - top) / sum;
    }
  });
  return out;
}

/** Mean 0 and variance 1 over runs of `length` numbers, then weight and bias chosen by `channel(i)`. */
function normalise([x, weight, bias], length, eps, channel) {
  const out = tensor(x.shape);
  for (let start = 0; start < x.data.length; start += length) {
    let [mean, square] = [0, 0];
    for (let i = start; i < start + length; i++) mean += x.data[i] / length;
    for (let i = start; i < start + length; i++) square += (x.data[i] - mean) ** 2 / length;
    const scale = 1 / Math.sqrt(square + eps);
    for (let i = start; i < start + length; i++) {
      const c = channel(i);
      out.data[i] = (x.data[i] - mean) * scale * (weight ? weight.data[c] : 1) + (bias ? bias.data[c] : 0);
    }
  }
  return out;
}

function groupNorm(args, { groups, eps }) {
  const [, channels, ...rest] = args[0].shape;
  const area = count(rest);
  return normalise(args, (channels / groups) * area, eps, (i) => Math.floor(i / area) % channels);
}

/** Reduces the dimensions to size 1, one after the other. */
function reduce(x, dims, first, f, finish = (sum) => sum) {
  return dims.reduce((t, dim) => {
    const out = tensor(t.shape.map((s, i) => (i === dim ? 1 : s)));
    let to = 0;
    lines(t.shape, dim, (start, step, length) => {
      let sum = first;
      for (let i = 0; i < length; i++) sum = f(sum, t.data[start + i * step]);
      out.data[to++] = finish(sum, length);
    });
    return out;
  }, x);
}

function cumsum([x], { dim }) {
  const out = tensor(x.shape);
  lines(x.shape, dim, (start, step, length) => {
    for (let i = 0, sum = 0; i < length; i++) out.data[start + i * step] = sum += x.data[start + i * step];
  });
  return out;
}

function argmax([x]) {
  const length = x.shape.at(-1);
  const row = (r) => x.data.subarray(r * length, (r + 1) * length);
  const best = (numbers) => numbers.indexOf(numbers.reduce((a, b) => Math.max(a, b)));
  return tensor(x.shape.slice(0, -1), Array.from({ length: x.data.length / length }, (_, r) => best(row(r))));
}

/** x[:, :, index]: embedding is dimension 0. */
function take([x, index], { dim }) {
  const [before, length, after] = around(x.shape, dim);
  const out = tensor([...x.shape.slice(0, dim), ...index.shape, ...x.shape.slice(dim + 1)]);
  let to = 0;
  for (let i = 0; i < before; i++) {
    for (let at of index.data) {
      if (at < 0) at += length;
      if (!(at >= 0 && at < length)) throw new Error(`index ${at} is outside 0 … ${length - 1}`);
      const from = (i * length + at) * after;
      out.data.set(x.data.subarray(from, from + after), to);
      to += after;
    }
  }
  return out;
}

function cat(tensors, { dim }) {
  const shape = [...tensors[0].shape];
  shape[dim] = tensors.reduce((sum, t) => sum + t.shape[dim], 0);
  const out = tensor(shape);
  const [before, length, after] = around(shape, dim);
  let offset = 0;
  for (const t of tensors) {
    const run = t.shape[dim] * after;
    for (let i = 0; i < before; i++) out.data.set(t.data.subarray(i * run, (i + 1) * run), i * length * after + offset);
    offset += run;
  }
  return out;
}

function slice([x], { dim, start, length, step }, n) {
  const shape = [...x.shape];
  shape[dim] = size(length, n);
  const first = size(start, n);
  const steps = strides(x.shape);
  const from = (first < 0 ? first + x.shape[dim] : first) * steps[dim];
  const whole = step === 1 && count(shape.slice(0, dim)) === 1; // a piece of the numbers as they lie
  if (whole) return { shape, data: x.data.subarray(from, from + count(shape)) };
  steps[dim] *= step;
  return gather(x, shape, steps, from);
}

function upsample([x], { by: [p, q] }) {
  const [n, c, h, w] = x.shape;
  return { shape: [n, c, h * p, w * q], data: gather(x, [n * c * h, p, w, q], [w, 0, 1, 0]).data };
}

function where([condition, a, b]) {
  const shape = broadcastShape(condition.shape, a.shape, b.shape);
  const [c, p, q] = [condition, a, b].map((x) => expand(x, shape).data);
  return { shape, data: Float32Array.from(c, (yes, i) => (yes ? p[i] : q[i])) };
}

const operations = {
  linear,
  matmul,
  conv2d,
  conv_transpose2d: convTranspose2d,
  softmax: (args, settings) => softmax(args, settings, false),
  log_softmax: (args, settings) => softmax(args, settings, true),
  layer_norm: (args, { size, eps }) => normalise(args, size, eps, (i) => i % size),
  group_norm: groupNorm,
  sum: ([x], { dims }) => reduce(x, dims, 0, (a, b) => a + b),
  mean: ([x], { dims }) => reduce(x, dims, 0, (a, b) => a + b, (sum, n) => sum / n),
  max: ([x], { dims }) => reduce(x, dims, -Infinity, Math.max),
  cumsum,
  argmax,
  take,
  cat,
  slice,
  upsample,
  where,
  reshape: ([x], { shape }, n) => ({ shape: shape.map((s) => size(s, n)), data: x.data }),
  expand: ([x], { shape }, n) => expand(x, shape.map((s) => size(s, n))),
  permute: ([x], { order }) => gather(x, order.map((d) => x.shape[d]), order.map((d) => strides(x.shape)[d])),
};
for (const [name, f] of Object.entries(unary)) operations[name] = (args, settings) => apply(f, args, settings);
for (const [name, f] of Object.entries(binary)) operations[name] = (args) => combine(f, args);
