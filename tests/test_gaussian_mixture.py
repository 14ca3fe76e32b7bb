"""Gaussian mixtures against scikit-learn, scipy and sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture as Reference

from helpers.models import gaussian_mixture
from helpers.models.gaussian_mixture import FAMILY, KINDS, GaussianMixture, merge, spread_out_centres

NAMES = {"full": "full", "diagonal": "diag", "tied": "tied"}


def problem(kind, seed=0, n=400, d=3, k=4, shift=0.0):
    """A random mixture, and points that lie around it."""
    g = torch.Generator().manual_seed(seed)
    model = GaussianMixture(d, k, kind, ridge=0.0)
    model.weights = torch.rand(k, dtype=torch.float64, generator=g).softmax(0)
    model.means = 2 * torch.randn(k, d, dtype=torch.float64, generator=g) + shift
    root = torch.randn(k, d, d, dtype=torch.float64, generator=g)
    covariance = root @ root.mT + 0.3 * torch.eye(d)
    model.covariances = {"full": covariance, "tied": covariance[0], "diagonal": covariance.diagonal(dim1=1, dim2=2)}[
        kind
    ]
    x = model.means[torch.randint(k, (n,), generator=g)] + torch.randn(n, d, dtype=torch.float64, generator=g) * 1.5
    return model, x


def full_covariances(model):
    if model.kind == "diagonal":
        return torch.diag_embed(model.covariances)
    return model.covariances.expand(len(model.means), -1, -1)


def reference(model, **options):
    """scikit-learn's mixture with the same parameters."""
    covariance = model.covariances
    precision = 1 / covariance if model.kind == "diagonal" else torch.linalg.inv(covariance)
    theirs = Reference(
        model.config["components"], covariance_type=NAMES[model.kind], reg_covar=0, tol=0, weights_init=model.weights,
        means_init=model.means.numpy(), precisions_init=precision.numpy(), init_params="random_from_data", **options,
    )  # fmt: skip
    return theirs


def close(a, b, rtol=1e-8):
    return torch.allclose(torch.as_tensor(a), torch.as_tensor(b), rtol=rtol, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_density_and_posterior(kind, shift):
    """scipy's density of each component, summed; also far from the origin."""
    model, x = problem(kind, shift=shift)
    covariances = full_covariances(model)
    each = [multivariate_normal(m, c).logpdf(x) for m, c in zip(model.means.numpy(), covariances.numpy(), strict=True)]
    joint = torch.from_numpy(np.stack(each, 1)) + model.weights.log()
    assert close(model.log_prob(x), joint.logsumexp(1))
    assert close(model.posterior(x), joint.softmax(1))
    assert not close(model.log_prob(x), joint.exp().sum(1))  # mutant: not the logarithm
    assert not close(model.log_prob(x), (joint - model.weights.log()).logsumexp(1), 1e-4)  # mutant: weights dropped


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_em_steps_are_those_of_scikit_learn(kind, steps, monkeypatch):
    model, x = problem(kind, seed=1)
    theirs = reference(model, max_iter=steps).fit(x.numpy())
    before = model.parameters_now

    def agrees():
        model.weights, model.means, model.covariances = before
        model.fit(x, steps=steps, tolerance=0, resume=True)
        pairs = (model.weights, theirs.weights_), (model.means, theirs.means_), (model.covariances, theirs.covariances_)
        return all(close(a, b, 1e-7) for a, b in pairs) and close(model.log_prob(x), theirs.score_samples(x.numpy()))

    assert agrees()
    right = gaussian_mixture.Gaussians.sums

    def hard(self, features, weights):  # mutant: the likeliest component takes all
        return right(self, features, (weights == weights.amax(0)).double())

    monkeypatch.setattr(gaussian_mixture.Gaussians, "sums", hard)
    try:
        assert not agrees()
    except ArithmeticError:
        pass  # caught earlier still: the likelihood fell


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.1])
def test_the_objective_never_falls(kind, ridge, monkeypatch):
    _, x = problem(kind, seed=2, n=200)
    model = GaussianMixture(3, 6, kind, ridge=ridge)
    model.fit(x, steps=60, tolerance=0, generator=torch.Generator().manual_seed(0))
    gains = np.diff(model.climb.objective)
    assert (gains > -1e-10).all() and model.climb.objective[-1] > model.climb.objective[0]

    right = gaussian_mixture.add_ridge

    def exchanged(moments, ridge, kind):  # mutant: each component gets its neighbour's mean
        moments = right(moments, ridge, kind)
        return moments._replace(mean=moments.mean.roll(1, 0))

    monkeypatch.setattr(gaussian_mixture, "add_ridge", exchanged)
    with pytest.raises(ArithmeticError, match="lowered"):
        model.fit(x, steps=5, tolerance=0, resume=True)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_of_two_halves_merge_to_those_of_the_whole(kind):
    model, x = problem(kind, seed=3)
    one, two, whole = (model._e_step(part, model.parameters_now, 0.0)[0] for part in (x[:100], x[100:], x))
    merged = merge(one, two, 0.75, kind)
    assert all(close(a, b) for a, b in zip(merged, whole, strict=True))
    covariance = 0.25 * one.covariance + 0.75 * two.covariance  # mutant: the spread of the means forgotten
    assert not close(covariance, whole.covariance, 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_reach_the_likelihood_of_full_em(kind):
    truth, _ = problem(kind, seed=4, d=2, k=3)
    x = truth.sample(4000, generator=torch.Generator().manual_seed(0)).double()

    start = GaussianMixture(2, 3, kind).fit(x, steps=3, generator=torch.Generator().manual_seed(1))

    def nats(**options):
        model = GaussianMixture(2, 3, kind)
        model.load_state_dict(start.state_dict())
        model.fit(x, resume=True, generator=torch.Generator().manual_seed(2), **options)
        return model.log_prob(x).mean().item()

    full = nats(steps=500)
    close_by = full - 0.2 * (full - nats(steps=0))
    assert nats(batch_size=400, steps=100) > close_by
    assert nats(batch_size=400, steps=1) < close_by  # mutant: only the first batch is learnt
    assert nats(steps=0) < full - 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_moments_of_the_mixture(kind):
    model, _ = problem(kind, seed=5)
    n = 20_000
    x = model.sample(n, generator=torch.Generator().manual_seed(0)).double()
    covariance = full_covariances(model)
    mean = model.weights @ model.means
    second = (model.weights[:, None, None] * (covariance + model.means[:, :, None] * model.means[:, None])).sum(0)

    def worst(x):
        products = x[:, :, None] * x[:, None]
        errors = (x.mean(0) - mean) / (x.std(0) / n**0.5), (products.mean(0) - second) / (products.std(0) / n**0.5)
        return max(e.abs().max().item() for e in errors)

    assert worst(x) < 4
    assert worst(mean + (x - mean) * 1.1) > 4  # mutant: standard deviation too large
    assert worst(x.gather(0, torch.stack([torch.randperm(n) for _ in range(3)], 1))) > 4  # mutant: no covariance


def test_k_means_plus_plus_spreads_the_centres():
    g = torch.Generator().manual_seed(0)
    x = (100 * torch.arange(5)[:, None] + torch.rand(5, 200, dtype=torch.float64, generator=g)).reshape(-1, 1)

    def hit(centres):
        return len((centres / 100).floor().unique())

    found = [hit(spread_out_centres(x, 5, g)[0]) for _ in range(50)]
    uniform = [hit(x[torch.randint(1000, (5,), generator=g)]) for _ in range(50)]
    assert min(found) == 5 and min(uniform) < 5  # mutant: drawn without regard to distance


def test_no_silent_nan():
    model, x = problem("full")
    far = model.log_prob(torch.full((1, 3), 1e100, dtype=torch.float64))
    assert far.isfinite().all() and far.item() < -1e150
    for kind in KINDS:
        line = torch.stack([x[:, 0], x[:, 0]], 1) if kind != "diagonal" else torch.stack([x[:, 0], 0 * x[:, 0]], 1)
        with pytest.raises(ValueError, match="singular|variance of 0"):
            GaussianMixture(2, 2, kind, ridge=0.0).fit(line, generator=torch.Generator().manual_seed(0))
        flat = GaussianMixture(2, 2, kind).fit(line, generator=torch.Generator().manual_seed(0))
        assert flat.log_prob(line).isfinite().all()
    with pytest.raises(ValueError, match="the same"):
        GaussianMixture(2, 2).fit(torch.ones(10, 2))
    with pytest.raises(ValueError, match="at least 16"):
        GaussianMixture.from_data(x).fit(x[:5])
    unused = GaussianMixture(3, 2)
    unused.weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    unused.fit(x, resume=True)
    assert unused.log_prob(x).isfinite().all()


def test_checkpoint():
    model, x = problem("full")
    again = FAMILY(**model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.log_prob(x), model.log_prob(x))


@settings(deadline=None)
@given(
    st.sampled_from(
        [None, "x", torch.zeros(3), torch.zeros(0, 2), torch.zeros(2, 2).long(), torch.zeros(4, 3)]
        + [torch.tensor([[0.0, bad]] * 3) for bad in (float("nan"), float("inf"))]
    )
)
def test_bad_points_are_refused(x):
    model = GaussianMixture(2, 1)
    for call in (model.fit, model.log_prob, model.posterior):
        with pytest.raises(ValueError):
            call(x)


@given(
    st.sampled_from(["dimensions", "components", "covariance", "ridge"]),
    st.sampled_from([-1, "a", float("nan"), float("inf")]),
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises((ValueError, TypeError)):
        GaussianMixture(**{"dimensions": 2, name: value})


@pytest.mark.parametrize("kind", ["full", "diagonal", "tied"])
def test_where_no_component_has_a_density_nothing_answers_for_the_point(kind):
    model = GaussianMixture(2, 2, kind)
    far = torch.tensor([[0.0, 0.0], [1e200, 0.0]], dtype=torch.float64)
    assert not model.log_prob(far)[1].isfinite()
    with pytest.raises(ValueError, match="point 1 has density 0"):
        model.posterior(far)
