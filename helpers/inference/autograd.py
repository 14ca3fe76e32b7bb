"""Reverse-mode automatic differentiation of numpy arrays, in about a hundred lines (Griewank & Walther 2008).

An operation computes its value at once, and keeps for each of its inputs a rule that turns the gradient with respect to
its result into that with respect to the input: a vector–Jacobian product. ``backward`` applies the rules from the last
operation to the first. Numbers and arrays are constants; only a ``Variable`` gets a gradient.
"""

import math

import numpy as np


class Variable:
    """A float64 array ``value`` of any shape that remembers what it was made from.

    After ``y.backward()``, ``x.grad`` holds ∂y/∂x, shaped as x, for every Variable x that was not made by an operation.
    Values that are no finite real numbers, now or as the result of an operation: ``ValueError``.
    """

    __array_ufunc__ = None  # so that `array * variable` comes here, and not to numpy

    def __init__(self, value, parents=()):
        self.value, self.parents, self.grad = _real(value), tuple(parents), None

    def backward(self, seed=None) -> None:
        """Add the gradient of ``self`` to ``grad`` of each Variable that it depends on.

        ``seed``: of self's shape, the gradient of the final quantity with respect to self; 1 for a single number.
        """
        if seed is None and self.value.size != 1:
            raise ValueError(f"backward of shape {self.value.shape}: sum it to one number, or give a seed")
        seed = np.ones(self.value.shape) if seed is None else _real(seed)
        if seed.shape != self.value.shape:
            raise ValueError(f"seed: got shape {seed.shape}, wanted {self.value.shape}")
        order, seen, stack = [], set(), [(self, False)]
        while stack:  # depth first without recursion: a node is listed once all that it was made from is
            node, inputs_listed = stack.pop()
            if inputs_listed:
                order.append(node)
            elif id(node) not in seen:
                seen.add(id(node))
                stack.append((node, True))
                stack += [(parent, False) for parent, _ in node.parents]
        grads = {id(self): seed}
        for node in reversed(order):  # so a node's gradient is complete before it is passed on
            grad = np.asarray(grads.pop(id(node)))
            if not node.parents:
                if not np.isfinite(grad).all():
                    raise ValueError(f"the gradient of shape {grad.shape} is {grad[~np.isfinite(grad)][0]} somewhere")
                node.grad = grad + (0.0 if node.grad is None else node.grad)
            for parent, rule in node.parents:
                grads[id(parent)] = grads.get(id(parent), 0) + rule(grad)

    def __add__(self, other):
        a, b = self.value, _real(other)
        return _result("+", np.add, (a, b), (self, lambda g: _fit(g, a.shape)), (other, lambda g: _fit(g, b.shape)))

    def __mul__(self, other):
        a, b = self.value, _real(other)
        to_a, to_b = (lambda g: _fit(g * b, a.shape)), (lambda g: _fit(g * a, b.shape))
        return _result("*", np.multiply, (a, b), (self, to_a), (other, to_b))

    def __pow__(self, exponent):
        if isinstance(exponent, bool) or not isinstance(exponent, int | float) or not math.isfinite(exponent):
            raise ValueError(f"**: got an exponent {exponent!r}, wanted a number")
        a = self.value
        return _result("**", np.power, (a, float(exponent)), (self, lambda g: g * exponent * a ** (exponent - 1.0)))

    def __matmul__(self, other):
        return _matmul(self, other)

    def __rmatmul__(self, other):
        return _matmul(other, self)

    __radd__, __rmul__ = __add__, __mul__  # shapes broadcast as numpy's

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + (-other if isinstance(other, Variable) else -_real(other))

    def __rsub__(self, other):
        return -self + other

    def __truediv__(self, other):
        a, b = self.value, _real(other)
        to_a, to_b = (lambda g: _fit(g / b, a.shape)), (lambda g: _fit(-g * a / b**2, b.shape))
        return _result("/", np.divide, (a, b), (self, to_a), (other, to_b))

    def __rtruediv__(self, other):
        return self**-1 * other

    def exp(self):
        y = _result("exp", np.exp, (self.value,)).value
        return Variable(y, [(self, lambda g: g * y)])

    def log(self):
        return _result("log", np.log, (self.value,), (self, lambda g: g / self.value))

    def tanh(self):
        y = np.tanh(self.value)
        return Variable(y, [(self, lambda g: g * (1 - y**2))])

    def relu(self):
        return Variable(np.maximum(self.value, 0), [(self, lambda g: g * (self.value > 0))])

    def sum(self, axis=None, keepdims=False):
        kept = self.value.sum(axis=axis, keepdims=True).shape
        rule = [(self, lambda g: np.broadcast_to(g.reshape(kept), self.value.shape))]
        return Variable(self.value.sum(axis=axis, keepdims=keepdims), rule)

    def mean(self, axis=None, keepdims=False):
        total = self.sum(axis, keepdims)
        return total * (total.value.size / self.value.size)

    def logsumexp(self, axis):
        """log Σ exp along ``axis``, which stays with length 1; values of any size are safe."""
        top = self.value.max(axis=axis, keepdims=True)
        return (self - top).exp().sum(axis, keepdims=True).log() + top


def _real(value) -> np.ndarray:
    if isinstance(value, Variable):
        return value.value
    array = np.asarray(value)
    if array.dtype.kind not in "iufb" or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"got {str(array)[:60]} of type {array.dtype}, wanted finite real numbers")
    return array.astype(np.float64)


def _matmul(left, right) -> Variable:
    a, b = _real(left), _real(right)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"@: got shapes {a.shape} and {b.shape}, wanted (N, K) and (K, M)")
    return _result("@", np.matmul, (a, b), (left, lambda g: g @ b.T), (right, lambda g: a.T @ g))


def _result(name: str, operation, inputs, *parents) -> Variable:
    with np.errstate(all="ignore"):
        value = operation(*inputs)
    if not np.isfinite(value).all():
        raise ValueError(f"{name} gives {value[~np.isfinite(value)][0]} in a result of shape {np.shape(value)}")
    return Variable(value, [(p, rule) for p, rule in parents if isinstance(p, Variable)])


def _fit(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The sum of ``grad`` over the axes along which an array of ``shape`` was repeated to broadcast."""
    grad = grad.sum(axis=tuple(range(grad.ndim - len(shape))))
    return grad.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)
