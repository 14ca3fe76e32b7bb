"""PPCA against scikit-learn and scipy, which compute it in another way."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from helpers.models.ppca import PPCA


@pytest.fixture(scope="module")
def x():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(400, 3, generator=generator) * torch.tensor([3.0, 2.0, 1.0])
    return z @ torch.randn(3, 6, generator=generator) + 0.5 * torch.randn(400, 6, generator=generator) + 2


@pytest.mark.parametrize("k", [1, 2, 5])
def test_density_equals_scikit_learns_up_to_its_divisor(x, k):
    model = PPCA.from_data(x, latents=k).fit(x)
    reference = PCA(k, svd_solver="full").fit(x.double().numpy())
    # scikit-learn divides the covariance by N - 1, maximum likelihood by N.
    n = len(x)
    reference.explained_variance_ *= (n - 1) / n
    reference.noise_variance_ *= (n - 1) / n
    truth = reference.score_samples(x.double().numpy())
    np.testing.assert_allclose(model.log_prob(x), truth, rtol=1e-4)
    mutant = PPCA(6, k)  # σ² as the first discarded eigenvalue's sum, not the mean of all discarded ones
    mutant.load_state_dict(model.state_dict())
    mutant.variance.mul_(6 - k if k < 5 else 2)
    assert not np.allclose(mutant.log_prob(x), truth, rtol=1e-4)


def test_density_is_the_normal_one_and_the_maximum(x):
    model = PPCA(6, 2).fit(x)
    c = (model.weight @ model.weight.T + model.variance * torch.eye(6)).double().numpy()
    truth = multivariate_normal(model.mean.double().numpy(), c).logpdf(x.double().numpy())
    np.testing.assert_allclose(model.log_prob(x), truth, rtol=1e-4)
    best = model.log_prob(x).mean()
    for name, change in [("weight", 1.03), ("weight", 0.97), ("variance", 1.05), ("variance", 0.95), ("mean", 1.02)]:
        other = PPCA(6, 2)
        other.load_state_dict(model.state_dict())
        getattr(other, name).mul_(change)
        assert other.log_prob(x).mean() < best, (name, change)


def test_posterior_is_that_of_the_joint_normal(x):
    model = PPCA(6, 2).fit(x)
    w, s2 = model.weight.double(), model.variance.double()
    c = w @ w.T + s2 * torch.eye(6).double()  # conditioning the joint normal of (z, x): no Woodbury
    mean = (x.double() - model.mean) @ torch.linalg.solve(c, w)
    cov = torch.eye(2).double() - w.T @ torch.linalg.solve(c, w)
    got_mean, got_cov = model.posterior(x)
    torch.testing.assert_close(got_mean.double(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got_cov.double(), cov, rtol=1e-3, atol=1e-6)
    assert not torch.allclose(got_cov.double() / s2, cov, rtol=1e-2)  # mutant: M⁻¹ without σ²


def test_samples_have_the_fitted_mean_and_covariance_and_the_seed_decides(x):
    model = PPCA(6, 2).fit(x)
    draws = [model.sample(40_000, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*draws)
    c = model.weight @ model.weight.T + model.variance * torch.eye(6)
    assert (draws[0].mean(0) - model.mean).abs().max() < 4 * (c.diagonal().max() / 40_000).sqrt()
    error = (torch.cov(draws[0].T) - c).abs().max() / c.diagonal().max()
    assert error < 0.03
    assert ((torch.cov(draws[0].T) - model.weight @ model.weight.T).diagonal() > 0.05).all()  # mutant: no noise


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(
        [torch.zeros(3), torch.zeros(3, 5), torch.zeros(0, 6), torch.zeros(3, 6, dtype=torch.int64), None, [[1.0] * 6]]
        + [torch.full((2, 6), bad) for bad in (float("nan"), float("inf"))]
    ),
    st.sampled_from(["fit", "log_prob", "posterior"]),
)
def test_bad_input_is_a_value_error(bad, method):
    with pytest.raises(ValueError, match="x is"):
        getattr(PPCA(6, 2), method)(bad)


def test_other_refusals(x):
    for latents in (0, 6, 7):
        with pytest.raises(ValueError, match="latents is from 1 to 5"):
            PPCA(6, latents)
    with pytest.raises(ValueError, match="no noise"):
        PPCA(6, 2).fit(torch.randn(1, 6).expand(9, 6))
    for n in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="whole number"):
            PPCA(6, 2).sample(n)
    with pytest.raises(ValueError, match="real points"):
        PPCA.from_data(torch.zeros(4, 8, 8))
    for call in (PPCA(6, 2).fit, PPCA(6, 2).log_prob):
        with pytest.raises(ValueError, match="condition"):
            call(x, torch.zeros(len(x)))
