"""Gaussian variational inference against closed forms and quadrature; each check with mutants that it finds."""

from __future__ import annotations

import math
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.inference import variational
from helpers.inference.variational import gaussian_vi

SOURCE = Path(variational.__file__).read_text(encoding="utf-8")
NORMAL = scipy.stats.multivariate_normal([1.0, -2.0, 0.5], [[2.0, 1.2, 0.3], [1.2, 1.0, 0.1], [0.3, 0.1, 0.5]])
PRECISION = torch.from_numpy(np.linalg.inv(NORMAL.cov))


def mutant(old: str, new: str):
    """The module with one mistake in it."""
    assert SOURCE.count(old) == 1, f"{old!r} is there {SOURCE.count(old)} times"
    module = types.ModuleType("mutant")
    module.__dict__["__name__"] = variational.__name__
    exec(compile(SOURCE.replace(old, new), "mutant", "exec"), module.__dict__)
    return module


def correlated(z, log_normaliser=3.0):
    r = z - torch.from_numpy(NORMAL.mean)
    return (
        log_normaliser
        + math.log(1 / math.sqrt((2 * math.pi) ** 3 * np.linalg.det(NORMAL.cov)))
        - 0.5 * ((r @ PRECISION) * r).sum(-1)
    )


def fit_normal(module=variational, **options):
    g = torch.Generator().manual_seed(0)
    start = torch.zeros(1, 3, dtype=torch.float64)
    return module.gaussian_vi(correlated, start, steps=1000, draws=64, learning_rate=0.1, generator=g, **options)


def wrongs(module=variational):
    """By name, what differs from the closed forms for a normal density, full and mean field."""
    full, field = (fit_normal(module, covariance=kind) for kind in ("full", "diagonal"))
    w = full.log_weights(correlated, 200, generator=torch.Generator().manual_seed(1))
    gap = 0.5 * (PRECISION.diagonal().log().sum() - torch.linalg.slogdet(PRECISION)[1])  # KL of the best product
    near = {
        "full mean": np.allclose(full.mean[0], NORMAL.mean, atol=1e-3),
        "full covariance": np.allclose(full.covariance[0], NORMAL.cov, atol=5e-3),
        "the bound meets the evidence": torch.allclose(w, torch.full_like(w, 3.0), atol=0.01),
        "field mean": np.allclose(field.mean[0], NORMAL.mean, atol=0.01),
        "field variances": np.allclose(field.covariance[0].diagonal(), 1 / PRECISION.diagonal(), rtol=0.03),
        "field has no covariance": torch.equal(field.covariance[0], torch.diag(field.covariance[0].diagonal())),
        "history of the bound": abs(full.history[-100:].mean() - 3) < 0.02
        and abs(field.history[-100:].mean() - (3 - gap)) < 0.05,
    }
    return {name for name, good in near.items() if not good}


def test_a_normal_density_is_found_exactly_and_its_mean_field_in_closed_form():
    assert wrongs() == set()


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("-(0.5 * white**2 +", "-(white**2 +", "full covariance"),
        ("dim2=-1).log() + 0.5", "dim2=-1) + 0.5", "the bound meets the evidence"),
        ("+ 0.5 * math.log(2 * math.pi)).sum", ").sum", "history of the bound"),
        ("torch.cat([half, -half])", "torch.cat([half.abs(), half.abs()])", "full mean"),
        ("lower = below.tril(-1)", "lower = 0 * below.tril(-1)", "full covariance"),
        ("_log_normal(z - mean.detach(), factor.detach())", "0 * z[..., 0]", "full covariance"),
        ('[: 3 if covariance == "full" else 2]', "[:2]", "full covariance"),
    ],
)
def test_mutants_are_found(old, new, found):
    assert found in wrongs(mutant(old, new))


def bent(z):  # a bent ridge, up to a constant
    return -0.5 * z[..., 0] ** 2 - (z[..., 1] - 0.5 * z[..., 0] ** 2) ** 2 / (2 * 0.4**2)


def exact_elbo(v):
    """Of the product of normals (m1, m2, log s1, log s2), by Gauss-Hermite, which is exact for these polynomials."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    a, b = v[0] + np.exp(v[2]) * nodes[:, None], v[1] + np.exp(v[3]) * nodes
    w = np.outer(weights, weights) / (2 * math.pi)
    fit = (w * bent(torch.from_numpy(np.stack(np.broadcast_arrays(a, b), -1))).numpy()).sum()
    return fit + v[2] + v[3] + 1 + math.log(2 * math.pi)


def test_the_best_mean_field_of_a_bent_density_and_its_bound_lie_below_quadrature():
    best = scipy.optimize.minimize(lambda v: -exact_elbo(v), [0.1, 0.5, 0, 0])
    g = torch.Generator().manual_seed(3)
    fit = gaussian_vi(bent, torch.zeros(1, 2).double(), covariance="diagonal", steps=1500, draws=64, generator=g)
    found = np.concatenate([fit.mean[0], fit.factor[0].diagonal().log()])
    assert exact_elbo(found) == pytest.approx(-best.fun, abs=2e-3) and found == pytest.approx(best.x, abs=0.05)
    log_z = math.log(2 * math.pi * 0.4)
    by_sum = scipy.integrate.dblquad(lambda b, a: math.exp(bent(torch.tensor([a, b]))), -6, 6, -3, 20, epsabs=1e-5)[0]
    assert log_z == pytest.approx(math.log(by_sum), abs=1e-4)
    w = fit.log_weights(bent, 20_000, generator=g)[:, 0]
    elbo, se = w.mean().item(), w.std().item() / len(w) ** 0.5
    assert abs(elbo - exact_elbo(found)) < 4 * se and elbo + 4 * se < log_z
    weighted = (w.view(-1, 50).logsumexp(1) - math.log(50)).mean().item()
    assert elbo < weighted < log_z + 0.02  # more draws tighten it, and it stays below
    full = gaussian_vi(bent, torch.zeros(1, 2).double(), steps=1500, draws=64, generator=g)
    assert full.log_weights(bent, 20_000, generator=g).mean() > elbo - 4 * se  # a larger family is no worse


def test_many_densities_at_once_are_fitted_as_each_alone():
    middles = torch.tensor([[-3.0], [0.0], [5.0]], dtype=torch.float64)
    widths = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)

    def several(z):  # (S, 3, 1) -> (S, 3)
        return -0.5 * ((z - middles) ** 2)[..., 0] / widths**2

    g = torch.Generator().manual_seed(0)
    fit = gaussian_vi(several, torch.zeros(3, 1, dtype=torch.float64), steps=800, generator=g)
    assert torch.allclose(fit.mean, middles, atol=1e-3)
    assert torch.allclose(fit.factor[:, 0, 0], widths, rtol=1e-3)
    elbo = fit.log_weights(several, 100).mean(0)
    assert torch.allclose(elbo, (widths * math.sqrt(2 * math.pi)).log(), atol=0.01)


def test_of_two_bumps_one_is_taken_and_the_bound_misses_log_of_its_share():
    def bumps(z):
        left, right = (torch.distributions.Normal(m, 0.5).log_prob(z[..., 0]) for m in (-3.0, 3.0))
        return torch.logaddexp(left + math.log(0.8), right + math.log(0.2))

    g = torch.Generator().manual_seed(0)
    start = torch.tensor([[-1.0], [1.5]], dtype=torch.float64)
    fit = gaussian_vi(bumps, start, width=0.5, steps=800, generator=g)
    assert fit.mean[:, 0].tolist() == pytest.approx([-3, 3], abs=0.02)
    assert fit.factor[:, 0, 0].tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    elbo = fit.log_weights(bumps, 2000, generator=g).mean(0)
    assert elbo.tolist() == pytest.approx([math.log(0.8), math.log(0.2)], abs=0.01)


def test_the_same_generator_gives_the_same_fit():
    a, b, c = (
        gaussian_vi(bent, torch.zeros(1, 2), steps=5, generator=torch.Generator().manual_seed(s)).mean
        for s in (0, 0, 1)
    )
    assert torch.equal(a, b) and not torch.equal(a, c) and a.dtype == torch.float32


GOOD = torch.zeros(2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_vi(bent, GOOD[0]), r"start is means \(B, D\) .* not torch.float32 \(2,\)"),
        (lambda: gaussian_vi(bent, GOOD.long()), "not torch.int64"),
        (lambda: gaussian_vi(bent, [[0.0]]), "not list"),
        (lambda: gaussian_vi(bent, GOOD * math.nan), "start holds NaN"),
        (lambda: gaussian_vi(bent, GOOD, covariance="tied"), "full or diagonal, not 'tied'"),
        (lambda: gaussian_vi(bent, GOOD, draws=3), "even number, not 3"),
        (lambda: gaussian_vi(bent, GOOD, steps=0), "steps is a whole number from 1, not 0"),
        (lambda: gaussian_vi(bent, GOOD, width=-1.0), "width is a positive number"),
        (lambda: gaussian_vi(bent, GOOD, learning_rate=math.inf), "learning_rate is a positive number"),
        (lambda: gaussian_vi(lambda z: z, GOOD), r"one number a point, \(16, 2\)"),
        (lambda: gaussian_vi(lambda z: z[..., 0].log(), GOOD), "log_density is .* in step 0: a Gaussian reaches"),
        (lambda: gaussian_vi(lambda z: bent(z).detach(), GOOD), "no slope in z"),
        (lambda: gaussian_vi(lambda z: torch.zeros(z.shape[:2]), GOOD), "no slope in z"),
        (lambda: gaussian_vi(bent, GOOD, steps=2).log_weights(bent, 0), "n is a whole number"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=4), st.floats(0.01, 100), st.floats(1e-4, 3), st.integers(0, 9)
)
def test_never_a_silent_nan(places, width, rate, seed):
    """Any start, width and rate: the fit is finite, or a ValueError says why not."""
    start = torch.tensor(places, dtype=torch.float64)[None, :2]
    g = torch.Generator().manual_seed(seed)
    try:
        fit = gaussian_vi(bent, start, width=width, learning_rate=rate, steps=5, generator=g)
    except ValueError as error:
        assert "finite" in str(error) or "reaches" in str(error)
    else:
        assert fit.mean.isfinite().all() and fit.history.isfinite().all()
        assert (fit.factor.diagonal(dim1=1, dim2=2) > 0).all()
