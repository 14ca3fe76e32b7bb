"""Factor analysis and PPCA's EM against scikit-learn, scipy, and one EM step done by regression on drawn latents."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis as Reference

from helpers.models import factor_analysis
from helpers.models.factor_analysis import FAMILY, FactorAnalysis, Linear, best_weight
from helpers.models.ppca import PPCA


def problem(seed=0, n=400, d=6, k=2):
    """A random model, and points drawn from it."""
    g = torch.Generator().manual_seed(seed)
    model = FactorAnalysis(d, k, ridge=0.0)
    model.weight = 1.5 * torch.randn(d, k, dtype=torch.float64, generator=g)
    model.noise = 0.5 + torch.rand(d, dtype=torch.float64, generator=g)
    model.mean = 3 * torch.randn(d, dtype=torch.float64, generator=g)
    return model, model.sample(n, generator=g).double()


def covariance_of(model):
    return model.weight @ model.weight.T + torch.diag(model.noise)


def close(a, b, rtol=1e-6):
    return torch.allclose(torch.as_tensor(a), torch.as_tensor(b), rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_density_and_posterior_are_those_of_the_joint_normal(seed):
    model, x = problem(seed)
    c, w = covariance_of(model), model.weight
    truth = torch.from_numpy(multivariate_normal(model.mean.numpy(), c.numpy()).logpdf(x.numpy()))
    assert close(model.log_prob(x), truth, 1e-10)
    mean, covariance = model.posterior(x)
    assert close(mean, (x - model.mean) @ torch.linalg.solve(c, w), 1e-8)
    assert close(covariance, torch.eye(2) - w.T @ torch.linalg.solve(c, w), 1e-8)
    equal = PPCA(6, 2)  # mutant: one noise for all coordinates
    equal.mean, equal.weight, equal.variance = model.mean, w, model.noise.mean()
    assert not close(equal.log_prob(x), truth, 1e-3) and not close(equal.posterior(x)[0], mean, 1e-2)


def theirs(x, **options):
    return Reference(2, svd_method="lapack", **options).fit(x.numpy())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("steps", [1, 2, 10])
def test_steps_are_those_of_scikit_learn(steps):
    _, x = problem(1)
    model = FactorAnalysis(6, 2, ridge=0.0)
    model.noise = x.var(0, correction=0)
    model.weight = best_weight(torch.cov(x.T, correction=0), model.noise, 2)
    start = copy.deepcopy(model.state_dict())
    reference = theirs(x, max_iter=steps, tol=0.0, noise_variance_init=model.noise.numpy())
    model.fit(x, steps=steps, tolerance=0.0, resume=True)
    assert close(model.noise, reference.noise_variance_, 1e-8)
    weight = torch.from_numpy(reference.components_.T)  # the best for the noise of one step before
    if steps == 1:
        assert close(start["weight"] @ start["weight"].T, weight @ weight.T, 1e-8)
    model.load_state_dict(start)
    model.fit(x, steps=steps, tolerance=0.0, resume=True, plain=True)  # mutant: W not renewed
    assert steps == 1 or not close(model.noise, reference.noise_variance_, 1e-4)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_maximum_is_scikit_learns(seed, plain):
    """Both stop where rounding hides what a step gains: the likelihood there agrees to more digits than its place."""
    _, x = problem(seed, d=8)
    reference = theirs(x, tol=1e-14, max_iter=20_000)
    model = FactorAnalysis(8, 2, ridge=0.0)
    model.fit(x, steps=20_000, tolerance=1e-14, plain=plain, generator=torch.Generator().manual_seed(seed))
    assert model.log_prob(x).mean().item() == pytest.approx(reference.score(x.numpy()), rel=1e-10)
    assert close(model.log_prob(x), reference.score_samples(x.numpy()), 1e-5)
    assert close(covariance_of(model), reference.get_covariance(), 1e-4)
    equal = PPCA(8, 2).fit(x)  # mutant: one noise for all coordinates
    assert not close(equal.log_prob(x), reference.score_samples(x.numpy()), 1e-3)
    model.mean, model.noise = (torch.from_numpy(v) for v in (reference.mean_, reference.noise_variance_))
    model.weight = torch.from_numpy(reference.components_.T)
    assert close(model.log_prob(x), reference.score_samples(x.numpy()), 1e-10)


def expected_statistics(model, x):
    """The E step one point at a time, from the joint normal's covariance: no Woodbury, no sums over S."""
    gain = torch.linalg.solve(covariance_of(model), model.weight).T
    spread = torch.eye(gain.shape[0]) - gain @ model.weight
    z = (x - x.mean(0)) @ gain.T
    second = (z[:, :, None] * z[:, None]).mean(0) + spread
    return z, second


def test_one_em_step_is_the_regression_on_the_posterior():
    model, x = problem()
    centred = x - x.mean(0)
    z, second = expected_statistics(model, x)
    weight = (centred[:, :, None] * z[:, None]).mean(0) @ torch.linalg.inv(second)
    residual = (centred**2).mean(0) - 2 * (centred * (z @ weight.T)).mean(0) + ((weight @ second) * weight).sum(1)
    covariance = centred.T @ centred / len(x)
    statistics, _ = model.parameters_now.e_step(covariance)
    new = Linear.m_step(statistics)
    assert close(new.weight, weight, 1e-8) and close(new.noise, residual, 1e-8)
    point = torch.linalg.lstsq(z, centred).solution.T  # mutant: the posterior's mean taken for the latent itself
    assert not close(new.weight, point, 1e-3)
    assert not close(new.noise, ((centred - z @ weight.T) ** 2).mean(0), 1e-3)


@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.1])
@pytest.mark.parametrize("plain", [False, True])
def test_the_objective_never_falls(plain, ridge, monkeypatch):
    _, x = problem(3)
    model = FactorAnalysis(6, 3, ridge=ridge)
    model.fit(x, steps=60, tolerance=0.0, plain=plain, generator=torch.Generator().manual_seed(0))
    gains = np.diff(model.climb.objective)
    assert (gains > -1e-10).all() and model.climb.objective[-1] > model.climb.objective[0]
    right = Linear.m_step

    def scaled(statistics):  # mutant: noise as a standard deviation
        weight, noise = right(statistics)
        return Linear(weight, noise.sqrt())

    monkeypatch.setattr(factor_analysis.Linear, "m_step", staticmethod(scaled))
    with pytest.raises(ArithmeticError, match="lowered"):
        model.fit(x, steps=5, tolerance=0.0, plain=plain, resume=True)


def test_best_weight_is_stationary_and_best():
    model, x = problem()
    covariance = torch.cov(x.T, correction=0)

    def score(weight):
        return Linear(weight, model.noise).e_step(covariance)[1]

    weight = best_weight(covariance, model.noise, 2).requires_grad_()
    score(weight).backward()
    assert weight.grad.abs().max() < 1e-10
    g = torch.Generator().manual_seed(0)
    near = weight.detach() + 0.1 * torch.randn(20, 6, 2, dtype=torch.float64, generator=g)
    assert max(score(w) for w in near) < score(weight.detach())
    unscaled = best_weight(covariance, torch.full((6,), model.noise.mean().item()).double(), 2)  # mutant: PPCA's W
    assert score(unscaled) < score(weight.detach()) - 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_ppca_by_em_reaches_the_closed_form(seed):
    _, x = problem(seed)
    exact = PPCA(6, 2).fit(x)
    climbed = PPCA(6, 2).fit_em(x, steps=3000, tolerance=0.0, generator=torch.Generator().manual_seed(seed))
    assert (np.diff(climbed.climb.objective) > -1e-10).all()
    assert close(climbed.log_prob(x), exact.log_prob(x)) and close(climbed.variance, exact.variance)
    assert close(covariance_of(climbed), covariance_of(exact))
    q, _ = torch.linalg.qr(exact.weight)
    assert torch.linalg.norm(climbed.weight - q @ (q.T @ climbed.weight)) < 1e-4  # the same plane, turned in it
    early = PPCA(6, 2).fit_em(x, steps=3, generator=torch.Generator().manual_seed(seed))  # mutant: stopped early
    assert not close(early.log_prob(x), exact.log_prob(x), 1e-3)
    again = PPCA(6, 2).fit(x).fit_em(x, steps=1, tolerance=0.0, resume=True)
    assert close(again.log_prob(x), exact.log_prob(x), 1e-9)  # a fixed point


def test_units_change_nothing_but_the_units():
    _, x = problem(n=300)
    unit = torch.tensor([1.0, 1000.0, 1.0, 0.01, 1.0, 1.0], dtype=torch.float64)

    def moved(model, other):
        return (model.posterior(x)[0] - other.posterior(x * unit)[0]).abs().max().item()

    options = dict(steps=2000, tolerance=0.0)
    one, two = (FactorAnalysis(6, 2, ridge=0.0).fit(v, generator=generator(), **options) for v in (x, x * unit))
    assert close(two.log_prob(x * unit) + unit.log().sum(), one.log_prob(x))
    assert moved(one, two) < 1e-5 or moved(one, sign_flipped(two, one, x, x * unit)) < 1e-5
    assert moved(PPCA(6, 2).fit(x), PPCA(6, 2).fit(x * unit)) > 0.1  # mutant: PPCA


def generator():
    return torch.Generator().manual_seed(0)


def sign_flipped(model, like, x, moved_x):
    """Axes of the latents are found up to their signs."""
    agree = (model.posterior(moved_x)[0] * like.posterior(x)[0]).sum(0).sign()
    other = FactorAnalysis(6, 2)
    other.mean, other.weight, other.noise = model.mean, model.weight * agree, model.noise
    return other


def test_samples_have_the_moments_of_the_model():
    model, _ = problem()
    n = 40_000
    x = model.sample(n, generator=generator()).double()
    truth = covariance_of(model)

    def worst(x):
        y = x - model.mean
        products = y[:, :, None] * y[:, None]
        errors = (y.mean(0) / (y.std(0) / n**0.5), (products.mean(0) - truth) / (products.std(0) / n**0.5))
        return max(e.abs().max().item() for e in errors)

    assert worst(x) < 4.5
    assert worst(model.mean + 1.05 * (x - model.mean)) > 4.5  # mutant: standard deviation too large
    assert torch.equal(x, model.sample(n, generator=generator()).double())


def test_limits_are_said():
    _, x = problem()
    copied = torch.cat([x[:, :5], x[:, :1]], 1)  # two coordinates that determine each other: Heywood's case
    with pytest.raises(ValueError, match="no noise left"):
        FactorAnalysis(6, 2, ridge=0.0).fit(copied, steps=100_000, tolerance=0.0, generator=generator())
    kept = FactorAnalysis(6, 2).fit(copied, generator=generator())
    assert kept.log_prob(copied).isfinite().all()
    constant = torch.cat([x[:, :5], torch.ones(len(x), 1)], 1)
    assert FactorAnalysis(6, 2).fit(constant, generator=generator()).log_prob(constant).isfinite().all()
    with pytest.raises(ValueError, match="no noise left"):
        FactorAnalysis(6, 2, ridge=0.0).fit(constant, generator=generator())
    with pytest.raises(ValueError, match="the same"):
        FactorAnalysis(6, 2).fit(torch.ones(5, 6))
    with pytest.raises(ValueError, match="no noise is left"):
        PPCA(6, 2).fit_em(x[:1].expand(5, 6), generator=generator())
    far = FactorAnalysis(6, 2).fit(x, generator=generator()).log_prob(torch.full((1, 6), 1e100, dtype=torch.float64))
    assert far.isfinite().all() and far.item() < -1e100


def test_checkpoint():
    model, x = problem()
    again = FAMILY(**model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.log_prob(x), model.log_prob(x))


BAD = [None, "x", torch.zeros(3), torch.zeros(0, 6), torch.zeros(2, 6).long(), torch.zeros(4, 3)]
BAD += [torch.full((3, 6), bad) for bad in (float("nan"), float("inf"))]


@settings(deadline=None)
@given(st.sampled_from(BAD), st.sampled_from(["fit", "log_prob", "posterior"]))
def test_bad_points_are_refused(x, method):
    with pytest.raises(ValueError, match="x is"):
        getattr(FactorAnalysis(6, 2), method)(x)


@pytest.mark.parametrize("bad", [0, 6, 7, True, 1.5, "2", None])
def test_bad_numbers_of_latents_are_refused(bad):
    with pytest.raises(ValueError, match="latents is"):
        FactorAnalysis(6, bad)


@given(st.sampled_from([-1.0, float("nan"), float("inf")]))
def test_a_bad_ridge_is_refused(bad):
    with pytest.raises(ValueError, match="ridge is"):
        FactorAnalysis(6, 2, ridge=bad)


def test_other_refusals():
    model, x = problem()
    for n in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="whole number"):
            model.sample(n)
    with pytest.raises(ValueError, match="condition"):
        model.log_prob(x, torch.zeros(len(x)))
    with pytest.raises(ValueError, match="real points"):
        FactorAnalysis.from_data(torch.zeros(4, 8, 8))
    assert FactorAnalysis.from_data(x, latents=3).config["latents"] == 3


def test_far_beyond_the_data_the_density_is_zero_and_not_a_nan():
    model, x = problem()
    far = torch.tensor([[1e200] * 6, [-1e160] + [0.0] * 5, x[0].tolist()], dtype=torch.float64)
    log_p = model.log_prob(far)
    assert log_p[:2].tolist() == [-torch.inf] * 2 and log_p[2] == model.log_prob(x[:1])[0]
