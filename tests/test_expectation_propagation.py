"""EP against quadrature, closed forms and scipy; exact where it must be; each check with a mutant it finds."""

from __future__ import annotations

import math
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from helpers.inference import expectation_propagation as ep

SOURCE = Path(ep.__file__).read_text(encoding="utf-8")
torch64 = dict(dtype=torch.float64)


def mutant(old: str, new: str):
    """The module with one mistake in it."""
    assert SOURCE.count(old) == 1, f"{old!r} is there {SOURCE.count(old)} times"
    module = types.ModuleType(ep.__name__)
    exec(compile(SOURCE.replace(old, new), "mutant", "exec"), module.__dict__)
    return module


NO_CAVITY = ("precision = inverse - P\n", "precision = inverse\n")
NO_CAVITY_SHIFT = ("(inverse @ u_mean[..., None])[..., 0] - r, proper", "(inverse @ u_mean[..., None])[..., 0], proper")
NO_VARIANCE = ("t_precision = torch.linalg.inv(t_cov)", "t_precision = torch.linalg.inv(u_cov)")
WRONG_WAY = ("change_P = step * (t_precision - c_precision - P[where])",
             "change_P = (1 - step) * (t_precision - c_precision - P[where])")  # fmt: skip
HALF_NORMALISER = ("(log_z + log_partition(*cavity) - log_partition(u_mean, u_cov)).sum()",
                   "(log_z + log_partition(*cavity) - log_partition(u_mean, u_cov)).sum() / 2")  # fmt: skip
HALF_ROOT = ("0.5 * (mean.shape[-1] * math.log(2 * math.pi) + torch.linalg.slogdet(cov)[1] + square)",
             "0.5 * (mean.shape[-1] * math.log(2 * math.pi) + square)")  # fmt: skip
ALL_MUTANTS = [NO_CAVITY, NO_CAVITY_SHIFT, NO_VARIANCE, HALF_NORMALISER, HALF_ROOT]


def linear_regression(module=ep, **options):
    """Gaussian sites: x_n = A_n w + noise of variance 1, as clutter of weight 0. Error of mean, covariance, evidence.

    The truth is that of the joint normal distribution of w and x, from scipy.
    """
    g = torch.Generator().manual_seed(0)
    A, x = torch.randn(7, 2, 3, generator=g, **torch64), torch.randn(7, 2, generator=g, **torch64)
    m0, root = torch.randn(3, generator=g, **torch64), torch.randn(3, 3, generator=g, **torch64)
    V0 = root @ root.T + torch.eye(3, **torch64)
    got = module.expectation_propagation(module.clutter(x, 0.0), A, m0, V0, **options)
    flat = A.reshape(14, 3)
    spread = flat @ V0 @ flat.T + torch.eye(14, **torch64)
    gain = V0 @ flat.T @ torch.linalg.inv(spread)
    mean, cov = m0 + gain @ (x.reshape(14) - flat @ m0), V0 - gain @ flat @ V0
    evidence = stats.multivariate_normal((flat @ m0).numpy(), spread.numpy()).logpdf(x.reshape(14).numpy())
    off = max((got.mean - mean).abs().max().item(), (got.covariance - cov).abs().max().item())
    return off, abs(got.log_evidence - evidence), got


@pytest.mark.parametrize("options", [{}, {"order": [3, 1, 0, 2, 6, 5, 4]}, {"parallel": True}, {"step": 0.5}])
def test_gaussian_sites_are_exact(options):
    off, of_evidence, got = linear_regression(**options)
    assert got.converged and off < 1e-5 and of_evidence < 1e-5
    assert "converged in" in got.message


@pytest.mark.parametrize("fault", ALL_MUTANTS)
def test_gaussian_sites_find_mutants(fault):
    off, of_evidence, _ = linear_regression(mutant(*fault), sweeps=5)
    assert max(off, of_evidence) > 1e-3


def test_filtering_is_exact_for_gaussian_sites_too():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(6, 2, generator=g, **torch64)
    eye = torch.eye(2, **torch64)
    args = (ep.clutter(x, 0.0), eye.expand(6, 2, 2), torch.zeros(2, **torch64), 4 * eye)
    a, b = ep.assumed_density_filtering(*args, order=[5, 3, 1, 0, 2, 4]), ep.expectation_propagation(*args)
    assert torch.allclose(a.mean, b.mean) and torch.allclose(a.covariance, b.covariance)
    assert a.log_evidence == pytest.approx(b.log_evidence, abs=1e-9)
    assert not a.converged and "one pass" in a.message


def moments_by_scipy(log_density, low, high, points):
    def part(k, about=0.0):
        rule = dict(limit=400, epsabs=0, epsrel=1e-11, points=points)
        return integrate.quad(lambda u: (u - about) ** k * math.exp(log_density(u)), low, high, **rule)[0]

    z = part(0)
    mean = part(1) / z
    return math.log(z), mean, part(2, mean) / z


SITES = {
    "probit": (lambda m: m.probit(torch.tensor([-1.0])), lambda u: stats.norm.logcdf(-u)),
    "clutter": (
        lambda m: m.clutter(torch.tensor([[2.3]], **torch64)),
        lambda u: np.logaddexp(stats.norm.logpdf(2.3, u), stats.norm.logpdf(2.3, 0, 10**0.5)) + math.log(0.5),
    ),
}


def one_site(name, module=ep):
    """With one factor the moments and the evidence are exact: the largest error against scipy's quadrature."""
    make, log_t = SITES[name]
    one = torch.ones(1, 1, **torch64)
    got = module.expectation_propagation(make(module), one, torch.tensor([0.7], **torch64), torch.tensor([[2.5]]))
    truth = moments_by_scipy(lambda u: stats.norm.logpdf(u, 0.7, 2.5**0.5) + log_t(u), -15, 15, [0.7, 2.3])
    return np.abs(np.array(truth) - [got.log_evidence, got.mean.item(), got.covariance.item()]).max()


@pytest.mark.parametrize("name", SITES)
def test_one_site_has_the_exact_moments(name):
    assert one_site(name) < 1e-8


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("probit", ("v - v**2 * bend / (1 + v)", "v - v**2 * bend / (1 + v) ** 2")),
        ("probit", ("sign * v * ratio / (1 + v).sqrt()", "v * ratio / (1 + v).sqrt()")),
        ("clutter", ("gain @ cov) + bend", "gain @ cov)")),
        ("clutter", ("math.log1p(-weight)", "math.log1p(0)")),
        ("probit", NO_VARIANCE),
        ("clutter", HALF_NORMALISER),
    ],
)
def test_one_site_finds_mutants(name, fault):
    assert one_site(name, mutant(*fault)) > 1e-3


@pytest.mark.parametrize("mean", [-400.0, -1e5, -37.0, 0.0, 50.0])
def test_probit_moments_far_out(mean):
    """Where Φ underflows: against the limits and scipy's logcdf. The variance stays between 0 and the cavity's."""
    v = 2.0
    log_z, new, var = ep.probit(torch.ones(1))(
        torch.tensor([[mean]], **torch64), torch.tensor([[[v]]], **torch64), torch.tensor([0])
    )
    assert log_z.item() == pytest.approx(stats.norm.logcdf(mean / 3**0.5), rel=1e-9)
    assert 0 < var.item() <= v
    if mean < -100:  # log Φ(u) is about −u²/2: a Gaussian factor of precision 1 at 0
        assert new.item() == pytest.approx(mean / (1 + v), rel=1e-3)
        assert var.item() == pytest.approx(v / (1 + v), rel=1e-3)


def clutter_data(seed, n, d):
    g = torch.Generator().manual_seed(seed)
    signal = torch.rand(n, 1, generator=g) < 0.5
    noise = torch.randn(n, d, generator=g, **torch64)
    return torch.where(signal, 2 + noise, 10**0.5 * noise)


def on_a_grid(x, side):
    """Evidence, mean and covariance of the clutter posterior, prior N(0, 100 I), by a sum over a grid around 2."""
    axis = np.linspace(2 - side, 2 + side, 4001 if x.shape[1] == 1 else 301)
    grid = np.stack(np.meshgrid(*[axis] * x.shape[1], indexing="ij"), -1).reshape(-1, x.shape[1])
    d = x.shape[1]
    log_p = stats.multivariate_normal(np.zeros(d), 100 * np.eye(d)).logpdf(grid)
    for row in x.numpy():
        log_p += np.logaddexp(stats.norm.logpdf(grid, row).sum(1), stats.norm.logpdf(row, 0, 10**0.5).sum())
    p = np.exp(log_p - log_p.max())
    log_z = math.log(p.sum()) + log_p.max() + d * math.log(axis[1] - axis[0]) - len(x) * math.log(2)
    p /= p.sum()
    mean = p @ grid
    return log_z, mean, (grid - mean).T @ ((grid - mean) * p[:, None])


def clutter_error(module, seed, d, **options):
    x = clutter_data(seed, 40, d)
    eye = torch.eye(d, **torch64)
    args = (module.clutter(x), eye.expand(40, d, d), torch.zeros(d, **torch64), 100 * eye)
    got = module.expectation_propagation(*args, **options)
    log_z, mean, cov = on_a_grid(x, 3)
    scale = np.sqrt(np.diag(cov))
    error = [
        np.abs((got.mean.numpy() - mean) / scale).max(),
        np.abs((got.covariance.numpy() - cov) / np.outer(scale, scale)).max(),
        abs((got.log_evidence or math.inf) - log_z),
    ]
    return max(error), got


@pytest.mark.parametrize(("seed", "d", "parallel"), [(3, 1, False), (4, 1, True), (5, 2, True), (9, 2, False)])
def test_forty_points_in_clutter(seed, d, parallel):
    error, got = clutter_error(ep, seed, d, parallel=parallel, step=0.5 if parallel else 1.0)
    assert got.converged and error < 0.03
    assert (torch.linalg.eigvalsh(got.precision)[:, 0] < 0).any()  # and some sites are negative


@pytest.mark.parametrize("fault", ALL_MUTANTS)
def test_clutter_finds_mutants(fault):
    assert clutter_error(mutant(*fault), 3, 1, sweeps=8)[0] > 0.03


def probit_data(seed, n, d):
    g = torch.Generator().manual_seed(seed)
    X, w = torch.randn(n, d, generator=g, **torch64), torch.randn(d, generator=g, **torch64)
    return X, torch.where(X @ w + torch.randn(n, generator=g, **torch64) > 0, 1.0, -1.0).double()


def posterior_errors(module, **options):
    """Of the mean in standard deviations, of the covariance in their products, of the evidence in nats."""
    X, y = probit_data(7, 25, 2)
    got = module.expectation_propagation(
        module.probit(y), X, torch.zeros(2, **torch64), torch.eye(2, **torch64), **options
    )
    axis = np.linspace(-5, 5, 401)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    log_p = stats.norm.logpdf(grid).sum(1) + stats.norm.logcdf(grid @ (y[:, None] * X).numpy().T).sum(1)
    p = np.exp(log_p - log_p.max())
    log_z = math.log(p.sum()) + log_p.max() + 2 * math.log(axis[1] - axis[0])
    p /= p.sum()
    mean = p @ grid
    cov = (grid - mean).T @ ((grid - mean) * p[:, None])
    scale = np.sqrt(np.diag(cov))
    error = np.abs(got.mean.numpy() - mean) / scale, np.abs(got.covariance.numpy() - cov) / np.outer(scale, scale)
    return error[0].max(), error[1].max(), abs(got.log_evidence - log_z), got


def test_probit_posterior_is_that_of_quadrature():
    """The variance of EP with sites of rank one is up to a tenth too small: importance sampling says the same."""
    mean, cov, evidence, got = posterior_errors(ep)
    assert mean < 0.01 and cov < 0.1 and evidence < 0.03
    assert (got.precision > 0).all()  # log-concave factors have positive sites (Seeger 2008)
    for fault in (NO_CAVITY, NO_CAVITY_SHIFT, NO_VARIANCE):
        mean, cov, evidence, _ = posterior_errors(mutant(*fault), sweeps=8)
        assert max(mean / 0.01, cov / 0.1, evidence / 0.03) > 2


def beta_error(module, ones=7, zeros=3, **options):
    """Under w ~ N(0, 1) Φ(w) is uniform: ∫ N(w; 0, 1) Φ(w)^a Φ(−w)^b dw = a! b! / (a + b + 1)!."""
    y = torch.tensor([1.0] * ones + [-1.0] * zeros)
    n = ones + zeros
    got = module.expectation_propagation(module.probit(y), torch.ones(n, 1), torch.zeros(1), torch.eye(1), **options)
    return abs(got.log_evidence - math.log(math.factorial(ones) * math.factorial(zeros) / math.factorial(n + 1)))


def test_probit_evidence_is_a_beta_function():
    assert beta_error(ep) < 0.01
    for fault in (NO_CAVITY, NO_VARIANCE, HALF_NORMALISER, HALF_ROOT):
        assert beta_error(mutant(*fault), sweeps=8) > 0.01


# Fixed points: what every way of getting there must agree on


def moment_mismatch(got, module, moments, A):
    """How far the sites are from the definition, each cavity computed here from D-dimensional matrices."""
    worst = 0.0
    for n in range(len(A)):
        rest = torch.linalg.inv(got.covariance) - A[n].T @ got.precision[n] @ A[n]
        cov = torch.linalg.inv(rest)
        mean = cov @ (torch.linalg.solve(got.covariance, got.mean) - A[n].T @ got.shift[n])
        _, t_mean, t_cov = moments((A[n] @ mean)[None], (A[n] @ cov @ A[n].T)[None], torch.tensor([n]))
        u_cov = A[n] @ got.covariance @ A[n].T
        worst = max(worst, (t_mean[0] - A[n] @ got.mean).abs().max().item(), (t_cov[0] - u_cov).abs().max().item())
    return worst


@pytest.mark.parametrize(
    "options",
    [{}, {"order": list(range(29, -1, -1))}, {"parallel": True}, {"parallel": True, "step": 0.4}, {"step": 0.6}],
)
def test_every_schedule_ends_at_the_same_fixed_point(options):
    X, y = probit_data(2, 30, 3)
    prior = torch.zeros(3, **torch64), 2 * torch.eye(3, **torch64)
    got = ep.expectation_propagation(ep.probit(y), X, *prior, tolerance=1e-9, sweeps=200, **options)
    one = ep.expectation_propagation(ep.probit(y), X, *prior, tolerance=1e-9)
    assert got.converged and torch.allclose(got.mean, one.mean, atol=1e-7)
    assert got.log_evidence == pytest.approx(one.log_evidence, abs=1e-7)
    assert moment_mismatch(got, ep, ep.probit(y), X[:, None]) < 1e-7
    wrong = mutant(*NO_CAVITY).expectation_propagation(ep.probit(y), X, *prior, sweeps=20, **options)
    assert moment_mismatch(wrong, ep, ep.probit(y), X[:, None]) > 1e-3


def test_a_step_moves_the_sites_by_that_share():
    """One parallel sweep from flat sites: step 0.25 gives a quarter of what step 1 gives."""
    X, y = probit_data(2, 30, 3)
    prior = torch.zeros(3, **torch64), 0.1 * torch.eye(3, **torch64)

    def share(module):
        whole, part = (
            module.expectation_propagation(module.probit(y), X, *prior, parallel=True, sweeps=1, step=step).precision
            for step in (1.0, 0.25)
        )
        return (part / torch.where(whole == 0, 1, whole)).mean().item()

    assert share(ep) == pytest.approx(0.25, abs=1e-9)
    assert share(mutant(*WRONG_WAY)) != pytest.approx(0.25, abs=0.1)


def scattered(seed, n=6):
    x = clutter_data(seed, n, 1)
    one = torch.ones(n, 1, **torch64)
    return ep.clutter(x), one, torch.zeros(1, **torch64), 100 * torch.eye(1, **torch64)


def test_non_convergence_is_a_state_with_a_message():
    X, y = probit_data(2, 30, 3)
    short = ep.expectation_propagation(ep.probit(y), X, torch.zeros(3), torch.eye(3), sweeps=2)
    assert not short.converged and short.mismatch.shape == (2,)
    assert short.message.startswith("not converged after 2 sweeps: the moments still differ by")
    assert "more sweeps" in short.message
    found = [ep.expectation_propagation(*scattered(seed), parallel=True, sweeps=15) for seed in range(40)]
    lost = [r for r in found if "lost its positive precision" in r.message]
    found += [ep.expectation_propagation(*scattered(seed), sweeps=6) for seed in range(40)]
    improper = [r for r in found if "cavities are improper" in r.message]
    assert lost and improper
    for r in found:  # whatever happened: finite, and a proper approximation
        assert torch.isfinite(r.mean).all() and r.covariance.item() > 0
        assert r.log_evidence is None or math.isfinite(r.log_evidence)
        assert r.converged == ("not" not in r.message)


# Bad input

GOOD = dict(projections=torch.ones(2, 1), prior_mean=torch.zeros(1), prior_covariance=torch.eye(1))
SIGNS = torch.tensor([1.0, -1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(projections=torch.ones(2)), "projections: got .2,."),
        (dict(projections=torch.ones(2, 3)), r"prior: got \(1,\) and \(1, 1\), wanted \(3,\)"),
        (dict(projections=torch.zeros(2, 1)), "directions that are zero or linearly dependent"),
        (dict(projections=torch.full((2, 1), math.nan)), "projections: got NaN"),
        (dict(prior_mean=[0.0]), "prior_mean: got list"),
        (dict(prior_covariance=-torch.eye(1)), "not symmetric and positive definite"),
        (dict(prior_covariance=torch.full((1, 1), math.inf)), "prior_covariance: got NaN or infinity"),
        (dict(step=0), "step is above 0 and at most 1, not 0"),
        (dict(step=1.5), "step is above 0 and at most 1, not 1.5"),
        (dict(sweeps=0), "sweeps is a whole number from 1, not 0"),
        (dict(tolerance=-1), "tolerance is a number from 0, not -1"),
        (dict(projections=torch.ones(3, 1)), "moments of 2 factors of 1 numbers, projections of 3 factors of 1"),
        (dict(projections=torch.ones(1, 1)), "moments of 2 factors of 1 numbers, projections of 1 factors of 1"),
        (dict(order=[0, 0]), r"order names each of the 2 factors once, got \[0, 0\]"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        ep.expectation_propagation(ep.probit(SIGNS), **{**GOOD, **change})


@pytest.mark.parametrize(
    ("moments", "message"),
    [
        (lambda m, v, w: (m, m, v), r"moments in sweep 1: got log Z \(1, 1\), wanted \(1,\)"),
        (lambda m, v, w: (m[:, 0], m, -v), "factor 0 gives .* wanted finite numbers and a positive definite"),
        (lambda m, v, w: (m[:, 0] - math.inf, m, v), "factor 0 gives log Z -inf"),
    ],
)
def test_moments_that_are_none(moments, message):
    with pytest.raises(ValueError, match=message):
        ep.expectation_propagation(moments, **GOOD)


def test_bad_factors_are_named():
    with pytest.raises(ValueError, match="labels of a probit are −1 and 1, got"):
        ep.probit(torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="x: got list"):
        ep.clutter([[1.0]])
    with pytest.raises(ValueError, match="0 ≤ weight < 1"):
        ep.clutter(torch.ones(2, 1), weight=1.0)
    with pytest.raises(ValueError, match="moments of 2 factors of 2 numbers, projections of 2 factors of 1"):
        ep.expectation_propagation(ep.clutter(torch.ones(2, 2)), **GOOD)
    assert ep.expectation_propagation(ep.probit(SIGNS), **GOOD, order=[1.0, 0.0]).converged


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5),
    st.floats(1e-3, 1e3),
    st.sampled_from([1.0, 0.5, 0.1]),
    st.booleans(),
)
def test_never_a_silent_nan(places, variance, step, parallel):
    """Any points in clutter, any prior: finite numbers, a proper approximation, and a state that agrees with itself."""
    x = torch.tensor(places, **torch64)[:, None]
    got = ep.expectation_propagation(
        ep.clutter(x),
        torch.ones_like(x),
        torch.zeros(1),
        variance * torch.eye(1),
        step=step,
        parallel=parallel,
        sweeps=6,
    )
    assert torch.isfinite(got.mean).all() and 0 < got.covariance.item() < math.inf
    assert got.log_evidence is None or math.isfinite(got.log_evidence)
    assert got.converged == (got.message.startswith("converged"))


@settings(max_examples=30, deadline=None)
@given(st.one_of(st.floats(), st.integers(-3, 3), st.text(max_size=2), st.none(), st.booleans()))
def test_any_step_is_taken_or_named(step):
    good = isinstance(step, int | float) and not isinstance(step, bool) and 0 < step <= 1
    try:
        ep.expectation_propagation(ep.probit(SIGNS), **GOOD, step=step, sweeps=1)
    except ValueError as error:
        assert not good and "step is above 0" in str(error)
    else:
        assert good
