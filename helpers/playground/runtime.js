// Executes in the page what helpers/playground/export.py wrote: a list of operations and their weights.
//
//   const decode = new Graph(json);
//   const [image] = decode.run({ z: tensor([1, 2], [0.5, -1]) });   // image.shape, image.data
//   decode.weights["0.bias"].data[3] = 7;                            // changes what the next run answers
//
// A tensor is { shape, data }: row-major numbers in a Float32Array. Sums are taken in double precision. Operations
// never change their inputs, but results may share memory with them (reshape).

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

// ---- weights ----

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
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// ---- shapes ----

const make = (shape) => ({ shape, data: new Float32Array(count(shape)) });
const size = (s, n) => (typeof s === "number" ? s : s[0] + s[1] * n); // [a, b] means a + b·n, n the batch size
const sizes = (shape, n) => shape.map((s) => size(s, n));

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
  const out = make(shape);
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

const expand = (x, shape) => (count(shape) === x.data.length ? { shape, data: x.data } : gather(x, shape, broadcastStrides(x, shape)));

/** [rows before, size, rows after] around a dimension. */
const around = (shape, dim) => [count(shape.slice(0, dim)), shape[dim], count(shape.slice(dim + 1))];

// ---- one number at a time ----

/** erfc to 1.2e-7 relative: Numerical Recipes, section 6.2. */
function erfc(x) {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const terms = [0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368];
  let sum = 0;
  for (const c of terms) sum = t * sum + c;
  const r = t * Math.exp(-x * x - 1.26551223 + t * sum);
  return x >= 0 ? r : 2 - r;
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

const unary = {
  relu: (x) => (x > 0 ? x : 0),
  gelu: (x) => 0.5 * x * erfc(-x * Math.SQRT1_2),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(0.7978845608028654 * (x + 0.044715 * x ** 3))),
  silu: (x) => x * sigmoid(x),
  sigmoid,
  tanh: Math.tanh,
  softplus: (x, { beta, threshold }) => (x * beta > threshold ? x : Math.log1p(Math.exp(beta * x)) / beta),
  leaky_relu: (x, { slope }) => (x > 0 ? x : slope * x),
  elu: (x, { alpha, scale, rate }) => scale * (x > 0 ? x : alpha * Math.expm1(rate * x)),
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  rsqrt: (x) => 1 / Math.sqrt(x),
  reciprocal: (x) => 1 / x,
  neg: (x) => -x,
  abs: Math.abs,
  sign: Math.sign,
  floor: Math.floor,
  sin: Math.sin,
  cos: Math.cos,
  erf: (x) => 1 - erfc(x),
  not: (x) => (x ? 0 : 1),
};

const binary = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  pow: (a, b) => (b === 2 ? a * a : a ** b),
  maximum: Math.max,
  minimum: Math.min,
  gt: (a, b) => (a > b ? 1 : 0),
  ge: (a, b) => (a >= b ? 1 : 0),
  lt: (a, b) => (a < b ? 1 : 0),
  le: (a, b) => (a <= b ? 1 : 0),
  eq: (a, b) => (a === b ? 1 : 0),
  ne: (a, b) => (a !== b ? 1 : 0),
};

function apply(f, [x], settings) {
  const out = make(x.shape);
  for (let i = 0; i < out.data.length; i++) out.data[i] = f(x.data[i], settings);
  return out;
}

function combine(f, [a, b]) {
  const out = make(broadcastShape(a.shape, b.shape));
  const n = out.data.length;
  const whole = (x) => (x.data.length === n || x.data.length === 1 ? x.data : expand(x, out.shape).data);
  const [p, q] = [whole(a), whole(b)];
  const [ps, qs] = [p.length === 1 ? 0 : 1, q.length === 1 ? 0 : 1];
  for (let i = 0; i < n; i++) out.data[i] = f(p[i * ps], q[i * qs]);
  return out;
}

// ---- products ----

/** out[i, j] = Σ_k a[i, k] b[k, j], for (rows, inner) by (inner, columns) numbers that begin at aAt, bAt, at. */
function product(a, aAt, b, bAt, out, at, rows, inner, columns) {
  const sums = new Float64Array(4 * columns); // four rows at once: each b is read once for four products
  const [s0, s1, s2, s3] = [0, 1, 2, 3].map((r) => sums.subarray(r * columns, (r + 1) * columns));
  for (let i = 0; i < rows; i += 4) {
    const height = Math.min(4, rows - i);
    sums.fill(0);
    for (let k = 0; k < inner; k++) {
      const from = aAt + i * inner + k;
      const to = bAt + k * columns;
      const a0 = a[from];
      if (height === 4) {
        const [a1, a2, a3] = [a[from + inner], a[from + 2 * inner], a[from + 3 * inner]];
        for (let j = 0; j < columns; j++) {
          const y = b[to + j];
          s0[j] += a0 * y;
          s1[j] += a1 * y;
          s2[j] += a2 * y;
          s3[j] += a3 * y;
        }
      } else {
        for (let r = 0; r < height; r++) {
          const [x, row] = [a[from + r * inner], r * columns];
          for (let j = 0; j < columns; j++) sums[row + j] += x * b[to + j];
        }
      }
    }
    out.set(sums.subarray(0, height * columns), at + i * columns);
  }
}

/** x Wᵀ + bias over the last dimension, W (out, in): every row of W is read in order. */
function linear([x, w, bias]) {
  const [outs, ins] = w.shape;
  const rows = x.data.length / ins;
  const out = make([...x.shape.slice(0, -1), outs]);
  for (let o = 0; o < outs; o++) {
    const at = o * ins;
    const shift = bias ? bias.data[o % bias.data.length] : 0;
    for (let r = 0; r < rows; r++) {
      let [s0, s1] = [shift, 0];
      const from = r * ins;
      let k = 0;
      for (; k + 1 < ins; k += 2) {
        s0 += x.data[from + k] * w.data[at + k];
        s1 += x.data[from + k + 1] * w.data[at + k + 1];
      }
      if (k < ins) s0 += x.data[from + k] * w.data[at + k];
      out.data[r * outs + o] = s0 + s1;
    }
  }
  return out;
}

function matmul([a, b]) {
  const [rows, inner] = a.shape.slice(-2);
  const columns = b.shape.at(-1);
  const batch = broadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const left = expand(a, [...batch, rows, inner]).data;
  const right = expand(b, [...batch, inner, columns]).data;
  const out = make([...batch, rows, columns]);
  for (let i = 0; i < count(batch); i++) {
    product(left, i * rows * inner, right, i * inner * columns, out.data, i * rows * columns, rows, inner, columns);
  }
  return out;
}

/** Convolution as a product: the patches under the kernel become the columns of a matrix. */
function conv2d([x, w, bias], { stride, padding, dilation, groups }) {
  const [n, channels, height, width] = x.shape;
  const [outs, ins, kh, kw] = w.shape;
  const oh = Math.floor((height + 2 * padding[0] - dilation[0] * (kh - 1) - 1) / stride[0]) + 1;
  const ow = Math.floor((width + 2 * padding[1] - dilation[1] * (kw - 1) - 1) / stride[1]) + 1;
  const out = make([n, outs, oh, ow]);
  const patches = new Float32Array(ins * kh * kw * oh * ow);
  for (let i = 0; i < n; i++) {
    for (let g = 0; g < groups; g++) {
      let to = 0;
      for (let c = 0; c < ins; c++) {
        const plane = ((i * channels + g * ins + c) * height) * width;
        for (let p = 0; p < kh; p++) {
          for (let q = 0; q < kw; q++) {
            for (let y = 0; y < oh; y++) {
              const row = y * stride[0] - padding[0] + p * dilation[0];
              for (let z = 0; z < ow; z++) {
                const column = z * stride[1] - padding[1] + q * dilation[1];
                const inside = row >= 0 && row < height && column >= 0 && column < width;
                patches[to++] = inside ? x.data[plane + row * width + column] : 0;
              }
            }
          }
        }
      }
      const rows = outs / groups;
      const inner = ins * kh * kw;
      product(w.data, g * rows * inner, patches, 0, out.data, (i * outs + g * rows) * oh * ow, rows, inner, oh * ow);
    }
  }
  return bias ? addToChannels(out, bias) : out;
}

/** The adjoint of conv2d: every input number adds its kernel to the output. */
function convTranspose2d([x, w, bias], { stride, padding, dilation, groups, output_padding }) {
  const [n, channels, height, width] = x.shape;
  const [, outs, kh, kw] = w.shape; // (in, out / groups, kh, kw)
  const oh = (height - 1) * stride[0] - 2 * padding[0] + dilation[0] * (kh - 1) + output_padding[0] + 1;
  const ow = (width - 1) * stride[1] - 2 * padding[1] + dilation[1] * (kw - 1) + output_padding[1] + 1;
  const out = make([n, outs * groups, oh, ow]);
  const sums = new Float64Array(outs * groups * oh * ow);
  for (let i = 0; i < n; i++) {
    sums.fill(0);
    for (let c = 0; c < channels; c++) {
      const group = Math.floor(c / (channels / groups));
      for (let o = 0; o < outs; o++) {
        const plane = (group * outs + o) * oh * ow;
        for (let p = 0; p < kh; p++) {
          for (let q = 0; q < kw; q++) {
            const weight = w.data[((c * outs + o) * kh + p) * kw + q];
            for (let y = 0; y < height; y++) {
              const row = y * stride[0] - padding[0] + p * dilation[0];
              if (row < 0 || row >= oh) continue;
              const from = ((i * channels + c) * height + y) * width;
              for (let z = 0; z < width; z++) {
                const column = z * stride[1] - padding[1] + q * dilation[1];
                if (column >= 0 && column < ow) sums[plane + row * ow + column] += x.data[from + z] * weight;
              }
            }
          }
        }
      }
    }
    out.data.set(sums, i * sums.length);
  }
  return bias ? addToChannels(out, bias) : out;
}

function addToChannels(out, bias) {
  const area = out.shape[2] * out.shape[3];
  for (let i = 0; i < out.data.length; i++) out.data[i] += bias.data[Math.floor(i / area) % bias.data.length];
  return out;
}

// ---- along a dimension ----

/** Calls f(start, step, length) for every line of numbers along a dimension. */
function lines(shape, dim, f) {
  const [before, length, after] = around(shape, dim);
  for (let i = 0; i < before; i++) for (let j = 0; j < after; j++) f(i * length * after + j, after, length);
}

function softmax([x], { dim }, log) {
  const out = make(x.shape);
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
  const out = make(x.shape);
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
    const out = make(t.shape.map((s, i) => (i === dim ? 1 : s)));
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
  const out = make(x.shape);
  lines(x.shape, dim, (start, step, length) => {
    for (let i = 0, sum = 0; i < length; i++) out.data[start + i * step] = sum += x.data[start + i * step];
  });
  return out;
}

function argmax([x]) {
  const out = make(x.shape.slice(0, -1));
  const length = x.shape.at(-1);
  out.data.forEach((_, r) => {
    const row = x.data.subarray(r * length, (r + 1) * length);
    out.data[r] = row.indexOf(row.reduce((a, b) => Math.max(a, b)));
  });
  return out;
}

/** x[:, :, index]: embedding is dimension 0. */
function take([x, index], { dim }) {
  const [before, length, after] = around(x.shape, dim);
  const out = make([...x.shape.slice(0, dim), ...index.shape, ...x.shape.slice(dim + 1)]);
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
  const out = make(shape);
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
  steps[dim] *= step;
  return gather(x, shape, steps, from);
}

function upsample([x], { by: [p, q] }) {
  const [n, c, h, w] = x.shape;
  const rows = gather(x, [n * c * h, p, w, q], [w, 0, 1, 0]);
  return { shape: [n, c, h * p, w * q], data: rows.data };
}

function where([condition, a, b]) {
  const shape = broadcastShape(condition.shape, a.shape, b.shape);
  const [c, p, q] = [condition, a, b].map((x) => expand(x, shape).data);
  return { shape, data: Float32Array.from(c, (yes, i) => (yes ? p[i] : q[i])) };
}

// ---- the table ----

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
  reshape: ([x], { shape }, n) => ({ shape: sizes(shape, n), data: x.data }),
  expand: ([x], { shape }, n) => expand(x, sizes(shape, n)),
  permute: ([x], { order }) => gather(x, order.map((d) => x.shape[d]), order.map((d) => strides(x.shape)[d])),
};
for (const [name, f] of Object.entries(unary)) operations[name] = (args, settings) => apply(f, args, settings);
for (const [name, f] of Object.entries(binary)) operations[name] = (args) => combine(f, args);
