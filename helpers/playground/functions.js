// The runtime's functions of one number and of two: torch's, by torch's names.

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

export const unary = {
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

export const binary = {
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
