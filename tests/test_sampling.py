"""Inversion, rejection and importance sampling against the moments that scipy knows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.inference.sampling import importance, inversion, rejection

N = 40_000
BETA = scipy.stats.beta(2.0, 5.0)
Z = 3.7  # the targets are known up to such a factor


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def uniform(n, g):
    return torch.rand(n, dtype=torch.float64, generator=g)


def log_uniform(x):
    return torch.zeros_like(x)


def log_beta(x):
    return math.log(Z) + math.log(30) + x.log() + 4 * torch.log1p(-x)


BOUND = math.log(Z * BETA.pdf(0.2))  # the mode of Beta(2, 5)


def worst(x, truth, weights=None):
    """How many standard errors mean and variance lie from the truth, at most."""
    mean, variance, fourth = truth.mean(), truth.var(), truth.moment(4)
    second = variance + mean**2
    errors = [
        abs(x.mean() - mean) / math.sqrt(variance / len(x)),
        abs((x**2).mean() - second) / math.sqrt((fourth - second**2) / len(x)),
    ]
    return float(max(errors))


@pytest.mark.parametrize(
    "truth",
    [
        scipy.stats.expon(scale=2.0),
        scipy.stats.weibull_min(1.5),
        scipy.stats.logistic(1.0, 0.5),
        scipy.stats.gamma(3.0),
    ],
    ids=["exponential", "weibull", "logistic", "gamma"],
)
def test_inversion_has_the_moments_of_scipy(truth):
    x = inversion(lambda u: torch.from_numpy(truth.ppf(u.numpy())), N, generator=generator())
    assert worst(x, truth) < 4
    mutant = inversion(lambda u: torch.from_numpy(truth.ppf(u.numpy() ** 1.05)), N, generator=generator())
    assert worst(mutant, truth) > 4  # u that is not uniform


def test_inversion_of_a_discrete_distribution():
    """The inverse of a staircase: the first symbol at which the cumulative sum exceeds u."""
    p = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64)

    def share(right):
        x = inversion(lambda u: torch.searchsorted(p.cumsum(0), u, right=right).double(), N, generator=generator())
        return torch.bincount(x.long(), minlength=4) / N

    assert ((share(True) - p).abs() < 4 * (p * (1 - p) / N).sqrt() + 1e-12).all()
    shifted = share(True).roll(1)
    assert ((shifted - p).abs() > 4 * (p * (1 - p) / N).sqrt()).any()  # mutant: one symbol further


def test_rejection_is_exact_and_measures_its_acceptance():
    result = rejection(log_beta, uniform, log_uniform, N, log_bound=BOUND, generator=generator())
    assert result.x.shape == (N,) and worst(result.x, BETA) < 4
    p = Z / math.exp(BOUND)
    se = math.sqrt(p * (1 - p) / result.proposals)
    assert abs(result.acceptance - p) < 4 * se
    assert scipy.stats.kstest(result.x.numpy(), BETA.cdf).pvalue > 1e-4
    # Mutants: the bound forgotten in the test (every excess clipped to 1), and the logarithm of u forgotten
    x = uniform(4 * N, generator(1))
    u = uniform(4 * N, generator(2))
    assert worst(x[u < (log_beta(x) - math.log(Z)).exp().clamp(max=1)], BETA) > 4
    assert worst(x[u < log_beta(x) - BOUND + 1], BETA) > 4
    looser = rejection(log_beta, uniform, log_uniform, 4000, log_bound=BOUND + 1, generator=generator())
    assert abs(looser.acceptance - p / math.e) < 4 * math.sqrt(p / math.e / looser.proposals)


def test_a_bound_that_does_not_hold_is_found():
    with pytest.raises(ValueError, match=r"1\.6\d* times the bound"):
        rejection(log_beta, uniform, log_uniform, 1000, log_bound=BOUND - 0.5, generator=generator())


def test_importance_has_moments_normaliser_and_honest_errors():
    estimates, errors, constants, wrong = [], [], [], []
    for seed in range(200):
        result = importance(log_beta, uniform, log_uniform, 500, generator=generator(seed))
        mean, se = result.mean(lambda x: torch.stack([x, x**2], 1))
        estimates.append(mean)
        errors.append(se)
        constants.append(math.exp(result.log_normaliser))
        inverted = (-result.log_weights).softmax(0)  # mutant: proposal / target
        wrong.append((inverted * result.x).sum())
    estimates, errors = torch.stack(estimates), torch.stack(errors)
    truth = torch.tensor([BETA.mean(), BETA.moment(2)])
    standard = estimates.std(0) / 200**0.5
    assert ((estimates.mean(0) - truth).abs() < 4 * standard).all()
    assert abs(torch.stack(wrong).mean() - truth[0]) > 4 * standard[0]
    spread = errors.square().mean(0).sqrt() / estimates.std(0)  # 200 runs: known to 5 %
    assert ((spread - 1).abs() < 0.2).all()
    unweighted = math.sqrt(1 / 12 / 500) / estimates[:, 0].std()
    assert abs(unweighted - 1) > 0.2  # mutant: the error of the proposal's own points
    constants = np.array(constants)
    assert abs(constants.mean() - Z) < 4 * constants.std() / 200**0.5


@pytest.mark.parametrize("d", [1, 4])
def test_effective_size_of_normals_is_the_one_known_in_closed_form(d):
    """Target N(0, I), proposal N(0, s² I): n / E[w²] with E[w²] = (s² / √(2 s² − 1))^d."""
    s, n = 1.3, 200_000
    result = importance(
        lambda x: -0.5 * x.square().sum(1),
        lambda n, g: s * torch.randn(n, d, dtype=torch.float64, generator=g),
        lambda x: -0.5 * (x / s).square().sum(1) - d * math.log(s * math.sqrt(2 * math.pi)),
        n,
        generator=generator(),
    )
    truth = n / (s**2 / math.sqrt(2 * s**2 - 1)) ** d
    assert result.effective_size == pytest.approx(truth, rel=0.01)
    assert result.log_normaliser == pytest.approx(d / 2 * math.log(2 * math.pi), abs=0.02)
    entropy = float((-(result.weights * result.weights.log()).sum()).exp())  # mutant: perplexity of the weights
    assert entropy != pytest.approx(truth, rel=0.01)


@pytest.mark.parametrize("outside", [math.nan, math.inf])
def test_where_the_target_is_zero_the_function_may_be_anything(outside):
    result = importance(lambda x: log_uniform(x).where(x > 0.5, -math.inf), uniform, log_uniform, 1000)
    right = result.mean(lambda x: x.where(x > 0.5, 0.0))
    for got, wanted in zip(result.mean(lambda x: x.where(x > 0.5, outside)), right, strict=True):
        assert got == wanted and got.isfinite()


def test_effective_size_reaches_from_one_to_n():
    result = importance(log_uniform, uniform, log_uniform, 50)
    assert result.effective_size == pytest.approx(50)
    spike = importance(lambda x: torch.where(x == x.max(), 0.0, -800.0), uniform, log_uniform, 50)
    assert spike.effective_size == pytest.approx(1)


def test_resampled_points_follow_the_target():
    result = importance(log_beta, uniform, log_uniform, 50_000, generator=generator())
    x = result.resample(2000, generator=generator(1))
    assert scipy.stats.kstest(x.numpy(), BETA.cdf).pvalue > 1e-4
    assert scipy.stats.kstest(result.x[:2000].numpy(), BETA.cdf).pvalue < 1e-4  # mutant: weights ignored


@settings(deadline=None)
@given(st.sampled_from([0, -1, 1.5, True, "3", None]))
def test_bad_counts_are_refused(n):
    with pytest.raises(ValueError, match="whole number"):
        inversion(torch.log, n)
    with pytest.raises(ValueError, match="whole number"):
        rejection(log_beta, uniform, log_uniform, n, log_bound=3.0)
    with pytest.raises(ValueError, match="whole number"):
        importance(log_beta, uniform, log_uniform, n)
    with pytest.raises(ValueError, match="whole number"):
        importance(log_beta, uniform, log_uniform, 5).resample(n)


@pytest.mark.parametrize(
    ("log_target", "log_proposal", "message"),
    [
        (lambda x: torch.full_like(x, math.nan), log_uniform, "log_target is nan"),
        (lambda x: torch.full_like(x, math.inf), log_uniform, "log_target is inf"),
        (log_uniform, lambda x: torch.full_like(x, math.nan), "log_proposal is nan"),
        (log_uniform, lambda x: torch.full_like(x, -math.inf), "impossible"),
        (lambda x: x[:, None], log_uniform, "one number a point"),
    ],
)
def test_bad_densities_are_refused(log_target, log_proposal, message):
    for call in (lambda *a: rejection(*a, log_bound=1.0), importance):
        with pytest.raises(ValueError, match=message):
            call(log_target, uniform, log_proposal, 10)


def test_what_cannot_be_drawn_is_said():
    def nowhere(x):
        return torch.full_like(x, -math.inf)

    with pytest.raises(ValueError, match="do not overlap"):
        importance(nowhere, uniform, log_uniform, 10)
    with pytest.raises(ValueError, match="0 of 1,000 proposals"):
        rejection(nowhere, uniform, log_uniform, 10, log_bound=0.0, limit=1000)
    with pytest.raises(ValueError, match="log_bound"):
        rejection(log_beta, uniform, log_uniform, 10, log_bound=math.inf)
    with pytest.raises(ValueError, match="got nan"):
        inversion(lambda u: u * math.nan, 10)
    with pytest.raises(ValueError, match="finite numbers for 10"):
        importance(log_beta, uniform, log_uniform, 10).mean(lambda x: x[:3])
