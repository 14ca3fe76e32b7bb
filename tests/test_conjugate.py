"""Conjugate updates against quadrature over the parameters and against scipy's distributions, each with its mutants."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from helpers.inference.conjugate import (
    BetaBernoulli,
    DirichletCategorical,
    GammaPoisson,
    NormalGamma,
    NormalKnownVariance,
)

EVENTS = [3, 0, 2, 5]
LENGTHS = [1.3, 0.2, 2.6]


def on_a_line(prior, likelihood, low, high):
    """Evidence, posterior mean and posterior second moment by adaptive quadrature."""
    moments = [
        integrate.quad(lambda t, k=k: t**k * likelihood(t) * prior(t), low, high, epsabs=0, epsrel=1e-11, limit=200)[0]
        for k in range(3)
    ]
    return math.log(moments[0]), moments[1] / moments[0], moments[2] / moments[0]


def beta_bernoulli(cls=BetaBernoulli):
    after = cls(1.5, 3.0).update(5, 2)
    wanted = on_a_line(stats.beta(1.5, 3.0).pdf, lambda p: p**5 * (1 - p) ** 2, 0, 1)
    return (cls(1.5, 3.0).log_evidence(5, 2), after.mean, stats.beta(after.a, after.b).moment(2)), wanted


def gamma_poisson(cls=GammaPoisson):
    before, x = cls(2.5, 0.7), torch.tensor(EVENTS)
    after = before.update(x)
    prior = stats.gamma(2.5, scale=1 / 0.7).pdf
    wanted = on_a_line(prior, lambda rate: np.prod(stats.poisson.pmf(EVENTS, rate)), 0, 60)
    second = stats.gamma(after.a, scale=1 / after.b).moment(2)
    return (before.log_evidence(x), after.mean, second), wanted


def normal_known(cls=NormalKnownVariance):
    before, x = cls(-0.5, 2.0, 0.6), torch.tensor(LENGTHS)
    after = before.update(x)
    prior = stats.norm(-0.5, 2.0**0.5).pdf
    wanted = on_a_line(prior, lambda mu: np.prod(stats.norm.pdf(LENGTHS, mu, 0.6**0.5)), -15, 15)
    return (before.log_evidence(x), after.mean, after.v + after.m**2), wanted


def dirichlet(cls=DirichletCategorical):
    before, counts = cls(torch.tensor([0.8, 2.0, 1.2])), torch.tensor([3, 0, 1])
    density = stats.dirichlet([0.8, 2.0, 1.2])

    def integrand(q, p, k):  # over the triangle p + q < 1
        return p**k * density.pdf([p, q, 1 - p - q]) * p**3 * (1 - p - q)

    zero, one = (
        integrate.dblquad(partial(integrand, k=k), 0, 1, 1e-12, lambda p: 1 - p - 1e-12, epsrel=1e-8)[0] for k in (0, 1)
    )
    return (before.log_evidence(counts), before.update(counts).mean[0]), (math.log(zero), one / zero)


def normal_gamma(cls=NormalGamma):
    before, x = cls(0.4, 0.5, 1.5, 2.0), torch.tensor(LENGTHS)
    after = before.update(x)
    tau, w = gauss_legendre(1e-9, 30, 400)
    mu, v = gauss_legendre(-25, 25, 1200)
    sd = tau[:, None] ** -0.5
    log_joint = stats.gamma(1.5, scale=1 / 2.0).logpdf(tau)[:, None] + stats.norm(0.4, sd / 0.5**0.5).logpdf(mu)
    log_joint = log_joint + sum(stats.norm(mu, sd).logpdf(x) for x in LENGTHS)
    mass = np.exp(log_joint) * w[:, None] * v
    zero = mass.sum()
    wanted = math.log(zero), (mass * mu).sum() / zero, (mass * tau[:, None]).sum() / zero
    return (before.log_evidence(x), after.m, after.a / after.b), wanted


def gauss_legendre(low, high, n):
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2


CASES = {
    BetaBernoulli: beta_bernoulli,
    DirichletCategorical: dirichlet,
    GammaPoisson: gamma_poisson,
    NormalKnownVariance: normal_known,
    NormalGamma: normal_gamma,
}


def agrees(case, cls):
    found, wanted = case(cls)
    return np.allclose([float(v) for v in found], wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("cls", CASES)
def test_evidence_and_moments_are_those_of_quadrature(cls):
    assert agrees(CASES[cls], cls)


def swapped(self, ones, zeros):
    return BetaBernoulli(self.a + zeros, self.b + ones)


def counts_only(self, counts):
    return DirichletCategorical(self.alpha + counts - 1)


def mean_for_sum(self, x):
    return GammaPoisson(self.a + x.double().mean(), self.b + x.shape[-1])


def one_for_n(self, x):
    v = 1 / (1 / self.v + 1 / self.noise)
    return NormalKnownVariance(v * (self.m / self.v + x.mean() / self.noise), v, self.noise)


def no_distance(self, x):
    right = RIGHT[NormalGamma](self, x)
    return NormalGamma(right.m, right.kappa, right.a, self.b + ((x - x.mean()) ** 2).sum() / 2)


MUTANTS = [
    (BetaBernoulli, "ones for zeros", swapped),
    (DirichletCategorical, "alpha − 1 as in the exponent", counts_only),
    (GammaPoisson, "the mean for the sum", mean_for_sum),
    (NormalKnownVariance, "N examples counted once", one_for_n),
    (NormalGamma, "no distance from the prior's mean", no_distance),
]
RIGHT = {cls: cls.update for cls in CASES}


@pytest.mark.parametrize(("cls", "name", "wrong"), MUTANTS, ids=[name for _, name, _ in MUTANTS])
def test_mutants_are_found(cls, name, wrong, monkeypatch):
    monkeypatch.setattr(cls, "update", wrong)
    assert not agrees(CASES[cls], cls)


def test_predictives_are_negative_binomial_normal_and_student():
    x = torch.arange(6)
    assert np.allclose(GammaPoisson(2.5, 0.8).log_predictive(x), stats.nbinom(2.5, 0.8 / 1.8).logpmf(x))
    assert not np.allclose(GammaPoisson(2.5, 0.8).log_predictive(x), stats.poisson(2.5 / 0.8).logpmf(x))  # plug-in
    normal = NormalKnownVariance(0.3, 2.0, 0.5).log_predictive(x)
    assert np.allclose(normal, stats.norm(0.3, 2.5**0.5).logpdf(x))
    student = stats.t(3.0, 0.4, (2.0 * (0.5 + 1) / (1.5 * 0.5)) ** 0.5)
    assert np.allclose(NormalGamma(0.4, 0.5, 1.5, 2.0).log_predictive(x), student.logpdf(x))


def test_evidence_is_the_product_of_predictions_of_each_example_from_those_before():
    x = torch.tensor(LENGTHS)
    for prior in (NormalKnownVariance(-0.5, 2.0, 0.6), NormalGamma(0.4, 0.5, 1.5, 2.0)):
        total, now = 0.0, prior
        for value in x:
            total += now.log_predictive(value).item()
            now = now.update(value[None])
        assert total == pytest.approx(prior.log_evidence(x).item())
        at_once = sum(prior.log_predictive(value).item() for value in x)  # mutant: as if independent
        assert at_once != pytest.approx(prior.log_evidence(x).item(), rel=1e-3)


def test_modes_are_where_the_density_is_highest():
    t = np.linspace(1e-4, 1 - 1e-4, 9999)
    for a, b in ((3.0, 1.5), (1.0, 4.0)):
        after = BetaBernoulli(a, b)
        assert after.mode.item() == pytest.approx(t[stats.beta(a, b).logpdf(t).argmax()], abs=2e-4)
        assert after.mean.item() != pytest.approx(after.mode.item(), abs=0.01)  # mutant: the mean for the mode
    assert DirichletCategorical(torch.tensor([3.0, 1.0, 2.0])).mode.tolist() == pytest.approx([2 / 3, 0, 1 / 3])
    for none in (BetaBernoulli(0.5, 0.5), BetaBernoulli(1, 1), DirichletCategorical(torch.tensor([1.0, 0.5, 4.0]))):
        with pytest.raises(ValueError, match="one highest point"):
            none.mode  # noqa: B018


def test_many_data_sets_at_once():
    x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for prior in (NormalKnownVariance(0.3, 2.0, 0.5), NormalGamma(0.4, 0.5, 1.5, 2.0)):
        together = prior.log_evidence(x)
        assert together.shape == (4, 3)
        assert together[2, 1].item() == pytest.approx(prior.log_evidence(x[2, 1]).item())
        assert prior.update(x).log_predictive(torch.zeros(4, 3)).shape == (4, 3)
    counts = torch.tensor([[3, 0, 1], [0, 0, 0]])
    evidence = DirichletCategorical(torch.ones(3)).log_evidence(counts)
    assert evidence[1].item() == pytest.approx(0)  # no data: probability 1
    several = BetaBernoulli(torch.tensor([1.0, 2.0]), 1.0).log_evidence(2, 1)
    assert several.exp().tolist() == pytest.approx([1 / 12, 1 / 10])  # by hand: B(3, 2) / B(1, 1), B(4, 2) / B(2, 1)


BAD = st.one_of(
    st.floats(max_value=0),
    st.sampled_from([math.nan, math.inf, None, "1", True, [1.0], torch.ones(0), torch.tensor([True])]),
)


@given(BAD, st.sampled_from([BetaBernoulli, GammaPoisson]))
@settings(deadline=None)
def test_bad_parameters_are_refused(bad, cls):
    with pytest.raises(ValueError, match="got|needs"):
        cls(bad, 1.0)
    with pytest.raises(ValueError, match="got|needs"):
        NormalGamma(0.0, 1.0, bad, 1.0)


@given(st.sampled_from([-1.0, 0.5, math.nan, math.inf]))
@settings(deadline=None)
def test_bad_data_are_refused(bad):
    x = torch.tensor([1.0, bad])
    for call in (
        lambda: GammaPoisson(1.0, 1.0).update(x),
        lambda: DirichletCategorical(torch.ones(2)).update(x),
        lambda: BetaBernoulli(1.0, 1.0).update(bad, 1),
        lambda: GammaPoisson(1.0, 1.0).log_predictive(bad),
    ):
        with pytest.raises(ValueError, match="got"):
            call()


def test_bad_shapes_are_refused():
    for call in (
        lambda: DirichletCategorical(torch.ones(1)),
        lambda: DirichletCategorical(2.0),
        lambda: DirichletCategorical(torch.ones(3)).update(torch.ones(2)),
        lambda: NormalGamma(0.0, 1.0, 1.0, 1.0).update(torch.tensor(1.0)),
        lambda: NormalKnownVariance(0.0, 1.0, 1.0).update(torch.tensor([1.0, math.nan])),
        lambda: NormalKnownVariance(0.0, 1.0, 1.0).update(torch.ones(0)),
    ):
        with pytest.raises(ValueError, match="got"):
            call()


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda: BetaBernoulli(-1.0, 1.0), r"wanted positive numbers$"),
        (lambda: GammaPoisson(1.0, 1.0).update(torch.tensor([-1])), "wanted whole numbers from 0"),
    ],
)
def test_the_message_says_what_was_wanted(call, wanted):
    with pytest.raises(ValueError, match=wanted):
        call()
