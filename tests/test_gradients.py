"""Gradient estimators are unbiased, against quadrature, enumeration and closed forms; with mutants that are found."""

from __future__ import annotations

import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.inference import gradients

SOURCE = Path(gradients.__file__).read_text(encoding="utf-8")
THETA = torch.tensor([0.4, -0.3], dtype=torch.float64)  # mean and log standard deviation


def mutant(old: str, new: str):
    """The module with one mistake in it."""
    assert SOURCE.count(old) == 1, f"{old!r} is there {SOURCE.count(old)} times"
    module = types.ModuleType(gradients.__name__)
    exec(compile(SOURCE.replace(old, new), "mutant", "exec"), module.__dict__)
    return module


def f(x):
    return torch.sin(2 * x) + 0.5 * x**2 + 3


def log_prob(theta, x):
    mean, log_s = theta.unbind(1)
    return -0.5 * ((x - mean) / log_s.exp()) ** 2 - log_s


def sample(theta, noise):
    return theta[:, 0] + theta[:, 1].exp() * noise


def by_quadrature(function, theta=THETA, h=1e-4):
    """∂ of the Gauss–Hermite sum, by central differences: no estimator, no autograd."""
    node, weight = np.polynomial.hermite_e.hermegauss(80)

    def mean(m, log_s):
        return (weight * function(torch.tensor(m + np.exp(log_s) * node)).numpy()).sum() / weight.sum()

    m, s = theta.tolist()
    return torch.tensor([(mean(m + h, s) - mean(m - h, s)) / (2 * h), (mean(m, s + h) - mean(m, s - h)) / (2 * h)])


TRUTH = by_quadrature(f)


def distance(rows, truth=TRUTH):
    """The farthest coordinate of the mean from the truth, in standard errors of that mean."""
    return ((rows.mean(0) - truth).abs() / (rows.std(0) / len(rows) ** 0.5)).max().item()


def noise(n, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def small_batches(estimate, n=4, repeats=2000):
    """Means of many batches of n draws: where a bias of order 1/n is seen."""
    batches = noise(n * repeats, 5).view(repeats, n)
    return torch.stack([estimate(batch).mean(0) for batch in batches])


ESTIMATES = {
    "pathwise": lambda m, e: m.pathwise(f, sample, THETA, e),
    "score": lambda m, e: m.score_function(f, log_prob, THETA, sample(THETA[None], e)),
    "constant": lambda m, e: m.score_function(f, log_prob, THETA, sample(THETA[None], e), baseline=3.5),
    "leave-one-out": lambda m, e: m.score_function(
        f, log_prob, THETA, sample(THETA[None], e), baseline="leave-one-out"
    ),
    "control": lambda m, e: m.control_variate(
        m.score_function(f, log_prob, THETA, sample(THETA[None], e)), m.score(log_prob, THETA, sample(THETA[None], e))
    ),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_unbiased_with_many_draws(name):
    assert distance(ESTIMATES[name](gradients, noise(40_000))) < 4


@pytest.mark.parametrize("name", ["leave-one-out", "control"])
def test_unbiased_with_four_draws(name):
    assert distance(small_batches(lambda e: ESTIMATES[name](gradients, e))) < 4


@pytest.mark.parametrize(
    ("name", "old", "new", "few"),
    [
        ("score", "(values - baseline)[:, None] * slopes", "slopes", False),
        ("constant", "(values - baseline)", "(values + baseline).abs().sqrt()", False),
        ("leave-one-out", "(values.sum() - values) / (len(x) - 1)", "values.mean()", True),
        ("control", "(controls[mine] - expectation)", "(controls[mine] - expectation - 0.1)", False),
        ("control", "c = controls[other] - controls[other].mean(0)", "other = mine; c = controls[mine]", True),
        ("pathwise", "f(sample(rows, noise.detach()))", "f(sample(rows, noise.detach()) * 0.9)", False),
    ],
)
def test_mutants_are_found(name, old, new, few):
    module = mutant(old, new)
    make = lambda e: ESTIMATES[name](module, e)  # noqa: E731
    rows = small_batches(make) if few else make(noise(40_000))
    assert distance(rows) > 4


def test_variances_are_those_of_quadrature():
    """Of the estimate for the mean: pathwise f'(x), score f(x)(x − m)/s²; each variance is an integral."""
    node, weight = np.polynomial.hermite_e.hermegauss(80)
    weight = weight / weight.sum()
    m, s = THETA[0].item(), THETA[1].exp().item()
    x = m + s * node

    def variance(values):
        return (weight * values**2).sum() - (weight * values).sum() ** 2

    fx = np.sin(2 * x) + 0.5 * x**2 + 3
    wanted = {"pathwise": variance(2 * np.cos(2 * x) + x), "score": variance(fx * node / s)}
    best = fx - (weight * fx * node**2).sum() / (weight * node**2).sum()
    wanted["control"] = variance(best * node / s)
    got = {name: ESTIMATES[name](gradients, noise(200_000))[:, 0].var().item() for name in wanted}
    for name, value in wanted.items():
        assert got[name] == pytest.approx(value, rel=0.03)
    assert wanted["control"] < wanted["pathwise"] < wanted["score"]  # the pathwise one is no winner by law


def test_bernoulli_against_enumeration():
    theta = torch.tensor([0.3, -1.0, 0.7], dtype=torch.float64)

    def reward(x):
        return (x.sum(-1) - 1.2) ** 2 + x[..., 0] * x[..., 2]

    def log_mass(theta, x):
        return -(torch.nn.functional.softplus(theta) - x * theta).sum(1)

    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    leaf = theta.clone().requires_grad_()
    (log_mass(leaf[None], every).exp() * reward(every)).sum().backward()
    draws = torch.rand(40_000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = (draws < theta.sigmoid()).double()
    for baseline in (0.0, "leave-one-out"):
        rows = gradients.score_function(reward, log_mass, theta, x, baseline=baseline)
        assert distance(rows, leaf.grad) < 4
    upside_down = gradients.score_function(reward, lambda t, x: log_mass(t, 1 - x), theta, x)
    assert distance(upside_down, leaf.grad) > 4


def test_a_jump_is_seen_by_the_score_function_alone():
    def jump(x):
        return x + 2 * (x > 1)

    m, s = THETA[0].item(), THETA[1].exp().item()
    at = np.exp(-0.5 * ((1 - m) / s) ** 2) / np.sqrt(2 * np.pi)
    truth = torch.tensor([1 + 2 * at / s, 2 * at * (1 - m) / s])  # of m + 2 Φ((m − 1)/s), in m and log s
    e = noise(40_000)
    assert distance(gradients.score_function(jump, log_prob, THETA, sample(THETA[None], e)), truth) < 4
    assert (gradients.pathwise(jump, sample, THETA, e).mean(0) - truth).abs().max() > 0.3


@given(st.sampled_from(["nan", "inf", "two", "none", "integers", "empty"]))
def test_bad_theta_is_refused(kind):
    bad = {
        "nan": torch.tensor([0.0, float("nan")]),
        "inf": torch.tensor([float("inf"), 0.0]),
        "two": torch.zeros(1, 2),
        "none": None,
        "integers": torch.tensor([1, 2]),
        "empty": torch.zeros(0),
    }[kind]
    with pytest.raises(ValueError, match="theta"):
        gradients.pathwise(f, sample, bad, noise(5))
    with pytest.raises(ValueError, match="theta"):
        gradients.score_function(f, log_prob, bad, noise(5))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 3))
def test_shapes_are_checked(n, m, extra):
    e = noise(n)
    with pytest.raises(ValueError, match="one number for each draw"):
        gradients.pathwise(lambda x: x.repeat(2), sample, THETA, e)
    with pytest.raises(ValueError, match="one number for each draw"):
        gradients.score_function(lambda x: x.sum(), log_prob, THETA, e)
    if n != m or n < 4:
        with pytest.raises(ValueError, match="wanted"):
            gradients.control_variate(torch.zeros(n, 2), torch.zeros(m, 2))
    with pytest.raises(ValueError, match="draws"):
        gradients.pathwise(f, sample, THETA, torch.zeros((0,) * (1 + extra)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gradients.pathwise(lambda x: (x > 0).double(), sample, THETA, noise(5)), "does not depend on theta"),
        (lambda: gradients.pathwise(lambda x: x / 0, sample, THETA, noise(5)), "NaN or infinite"),
        (lambda: gradients.pathwise(lambda x: (x - x).sqrt(), sample, THETA, noise(5)), "NaN or infinite"),
        (lambda: gradients.score_function(lambda x: x * float("nan"), log_prob, THETA, noise(5)), "NaN or infinite"),
        (lambda: gradients.score_function(f, log_prob, THETA, noise(1), baseline="leave-one-out"), "two draws"),
        (lambda: gradients.score_function(f, log_prob, THETA, noise(5), baseline="mean"), "baseline is"),
        (lambda: gradients.score_function(f, log_prob, THETA, noise(5), baseline=float("nan")), "baseline is"),
        (lambda: gradients.score_function(f, log_prob, THETA, noise(5), baseline=None), "baseline is"),
        (lambda: gradients.control_variate(torch.ones(5, 2), torch.ones(5, 2), float("nan")), "expectation: got nan"),
        (lambda: gradients.control_variate(torch.ones(5, 2), torch.ones(5, 2), torch.zeros(3)), "expectation: got"),
        (lambda: gradients.control_variate(torch.ones(5, 2).long(), torch.ones(5, 2)), "estimates: got"),
    ],
)
def test_errors_say_what_was_got_and_wanted(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_f_may_say_yes_or_no():
    e, above = noise(50), lambda x: x > 0.5
    for baseline in (0.0, "leave-one-out"):
        rows = [
            gradients.score_function(f, log_prob, THETA, e, baseline=baseline)
            for f in (above, lambda x: above(x).double())
        ]
        assert torch.equal(*rows)
