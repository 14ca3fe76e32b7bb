"""The hundred-line autograd against torch.autograd and finite differences; with mutants that are found."""

from __future__ import annotations

import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.inference import autograd
from helpers.inference.autograd import Variable

SOURCE = Path(autograd.__file__).read_text(encoding="utf-8")


def mutant(old: str, new: str):
    """The module with one mistake in it."""
    assert SOURCE.count(old) == 1, f"{old!r} is there {SOURCE.count(old)} times"
    module = types.ModuleType(autograd.__name__)
    exec(compile(SOURCE.replace(old, new), "mutant", "exec"), module.__dict__)
    return module


def inputs(*shapes, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.uniform(0.5, 2.0, shape) * generator.choice([-1, 1], shape) for shape in shapes]


# Each takes what has torch's and our common operations: name -> (function, shapes).
EXPRESSIONS = {
    "sum of products": (lambda a, b: (a * b + b).sum(), [(3, 4), (3, 4)]),
    "a bias is broadcast": (lambda a, b: ((a + b) * (a + b)).sum(), [(5, 3), (3,)]),
    "an axis of one is broadcast": (lambda a, b: (a * b * b).sum(), [(5, 3), (5, 1)]),
    "a number is broadcast": (lambda a, b: (a / b - b / (a * a)).sum(), [(2, 3), ()]),
    "matrices": (lambda a, b: ((a @ b) ** 2).sum(), [(4, 3), (3, 2)]),
    "tanh": (lambda a: (a.tanh() * a).sum(), [(3, 4)]),
    "relu": (lambda a: (a.relu() * a + a).mean(), [(3, 4)]),
    "exp, log": (lambda a: ((a * a).log() * (0.3 * a).exp()).sum(), [(4,)]),
    "powers": (lambda a: ((a * a) ** 1.5 - 3 / a + (1 - a) ** 3).sum(), [(4,)]),
    "sums along an axis": (lambda a: (a.sum(0) * a.mean(1, True) * a.sum(1, True)).sum(), [(3, 4)]),
    "logsumexp": (lambda a: (a.logsumexp(1) ** 2).sum(), [(3, 4)]),
}


def used_often(a):  # y is used by z and by w, w by z: the order of visits matters
    y = a * a
    w = y.tanh() * y + a
    return (y * w + w * w + a).sum()


EXPRESSIONS["one value, many uses"] = (used_often, [(3,)])


def ours(name, module=autograd):
    function, shapes = EXPRESSIONS[name]
    leaves = [module.Variable(x) for x in inputs(*shapes)]
    y = function(*leaves)
    y.backward()
    return y.value, [leaf.grad for leaf in leaves]


def torchs(name):
    function, shapes = EXPRESSIONS[name]
    leaves = [torch.tensor(x, requires_grad=True) for x in inputs(*shapes)]
    y = function(*leaves)
    y.backward()
    return y.detach().numpy(), [leaf.grad.numpy() for leaf in leaves]


def agrees(name, module=autograd) -> bool:
    try:
        value, grads = ours(name, module)
    except (ValueError, KeyError):
        return False
    wanted, true = torchs(name)
    pairs = zip(grads, true, strict=True)
    same = [g is not None and g.shape == t.shape and np.allclose(g, t, rtol=1e-12) for g, t in pairs]
    return bool(np.allclose(value, wanted, rtol=1e-12)) and all(same)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_gradients_are_torchs(name):
    assert agrees(name)


MUTANTS = {
    "the last use replaces the others (no +=)": ("grads.get(id(parent), 0) + rule(grad)", "rule(grad)"),
    "no sum over what was broadcast": ("axis=tuple(i for i, n in enumerate(shape) if n == 1)", "axis=()"),
    "no sum over new axes": ("grad = grad.sum(axis=tuple(range(grad.ndim - len(shape))))", "pass"),
    "children before parents": ("for node in reversed(order)", "for node in order"),
    "breadth first": ("node, inputs_listed = stack.pop()", "node, inputs_listed = stack.pop(0)"),
    "listed when met": (
        "                stack.append((node, True))\n",
        "                order.insert(0, node)\n",
    ),
    "tanh": ("g * (1 - y**2)", "g * (1 - y)"),
    "relu": ("g * (self.value > 0)", "g"),
    "log": ("lambda g: g / self.value", "lambda g: g * self.value"),
    "exp": ("lambda g: g * y)", "lambda g: g)"),
    "the divisor": ("-g * a / b**2", "g * a / b**2"),
    "powers": ("g * exponent * a ** (exponent - 1.0)", "g * a ** (exponent - 1.0)"),
    "matrices": ("lambda g: a.T @ g", "lambda g: a.T @ (g * 0 + 1)"),
    "mean": ("total.value.size / self.value.size", "1 / total.value.size"),
}  # fmt: skip


@pytest.mark.parametrize("fault", MUTANTS)
def test_mutants_are_found(fault):
    module = mutant(*MUTANTS[fault])
    assert not all(agrees(name, module) for name in EXPRESSIONS)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_gradients_are_central_differences(name):
    function, shapes = EXPRESSIONS[name]
    values, (_, grads) = [np.array(x) for x in inputs(*shapes)], ours(name)
    for k, x in enumerate(values):
        for index in np.ndindex(x.shape):
            ends = []
            for sign in (1, -1):
                moved = [v.copy() for v in values]
                moved[k][index] += sign * 1e-5
                ends.append(function(*[Variable(v) for v in moved]).value)
            assert grads[k][index] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6, abs=1e-7)


def test_a_network_with_cross_entropy_is_torchs():
    x, w, b, v = inputs((20, 6), (6, 8), (8,), (8, 3))
    y = np.eye(3)[np.arange(20) % 3]
    w_, b_, v_ = Variable(w), Variable(b), Variable(v)
    logits = (x @ w_ + b_).relu() @ v_
    loss = (logits.logsumexp(1) - (logits * y).sum(1, True)).mean()
    loss.backward()
    t = [torch.tensor(a, requires_grad=True) for a in (w, b, v)]
    true = torch.nn.functional.cross_entropy((torch.tensor(x) @ t[0] + t[1]).relu() @ t[2], torch.arange(20) % 3)
    true.backward()
    assert loss.value == pytest.approx(true.item(), rel=1e-12)
    for mine, theirs in zip((w_, b_, v_), t, strict=True):
        assert np.allclose(mine.grad, theirs.grad, rtol=1e-10, atol=1e-14)


def test_gradients_add_up_over_calls_and_depth_is_no_limit():
    a = Variable([1.0, 2.0])
    (a * a).sum().backward()
    (a * a).sum().backward()
    assert np.allclose(a.grad, [4, 8])  # as torch: until the caller clears it
    a.grad -= 1  # it is an array of its own, also where a rule only repeated a number
    b = Variable(np.ones((2, 2)))
    b.sum().backward()
    b.grad += 1
    assert np.allclose(b.grad, 2)
    y = Variable(1.0)
    x = y
    for _ in range(5000):
        y = y * 1.0
    y.backward()
    assert x.grad == 1
    z = Variable(np.ones((2, 2)))
    (3 * z).backward(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert np.allclose(z.grad, [[3, 6], [9, 12]])


def test_constants_get_no_gradient_and_numpy_gives_way():
    a = Variable(np.ones((2, 3)))
    for y in (np.ones((4, 2)) @ a, np.ones((2, 3)) * a, np.ones(3) + a, np.float64(2) - a, np.float64(2) / a):
        assert isinstance(y, Variable) and [p for p, _ in y.parents]
    constant = np.full((2, 2), 5.0)
    (constant @ a).sum().backward()
    assert np.allclose(a.grad, 10)


BAD = st.sampled_from([float("nan"), float("inf"), "text", None, 1j, [1.0, float("nan")], {"a": 1}])


@given(BAD)
def test_what_is_no_finite_number_is_refused(bad):
    with pytest.raises(ValueError, match="wanted finite real numbers"):
        Variable(bad)
    for operation in (lambda: Variable(1.0) + bad, lambda: Variable(1.0) * bad, lambda: Variable(1.0) / bad):
        with pytest.raises(ValueError, match="wanted finite real numbers"):
            operation()
    with pytest.raises(ValueError, match="wanted"):
        Variable(1.0).backward(bad) if bad is not None else Variable(1.0) ** bad


@given(st.lists(st.integers(1, 4), max_size=3), st.lists(st.integers(1, 4), max_size=3))
def test_shapes_broadcast_as_numpys_or_are_refused(left, right):
    a, b = Variable(np.ones(left)), Variable(np.full(right, 2.0))
    try:
        shape = np.broadcast_shapes(tuple(left), tuple(right))
    except ValueError:
        with pytest.raises(ValueError):
            a + b
        return
    (a * b).sum().backward()
    count = np.prod(shape)
    assert a.grad.shape == tuple(left) and np.allclose(a.grad, 2 * count / max(np.prod(left), 1))
    assert b.grad.shape == tuple(right) and np.allclose(b.grad, count / max(np.prod(right), 1))


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda: Variable([1.0, 0.0]).log(), "log gives -inf"),
        (lambda: Variable(-1.0).log(), "log gives nan"),
        (lambda: Variable(1000.0).exp(), "exp gives inf"),
        (lambda: Variable(1.0) / 0.0, "/ gives inf"),
        (lambda: Variable(-1.0) ** 0.5, r"\*\* gives nan"),
        (lambda: Variable(1.0) ** float("nan"), "wanted a number"),
        (lambda: Variable(np.ones(3)) @ np.ones((3, 2)), "wanted"),
        (lambda: Variable(np.ones((2, 3))) @ np.ones((2, 3)), "wanted"),
        (lambda: Variable([1.0, 2.0]).backward(), "sum it to one number"),
        (lambda: Variable([1.0, 2.0]).backward([1.0]), "wanted"),
        (lambda: Variable(np.ones((0, 3))), "wanted finite real numbers"),
        (lambda: (Variable([1.0, 0.0]) ** 0.5).sum().backward(), "the gradient of shape .* is inf"),
    ],
)
def test_errors_say_what_was_got_and_wanted(operation, message):
    with pytest.raises(ValueError, match=message):
        operation()
