"""The Bayesian mixture against enumeration of all assignments, scipy's densities and scikit-learn; with mutants."""

from __future__ import annotations

import math
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.mixture
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.inference import bayesian_mixture
from helpers.inference.bayesian_mixture import BayesianMixture

SOURCE = Path(bayesian_mixture.__file__).read_text(encoding="utf-8")
D, SCALE = 2, torch.tensor([[1.0, 0.3], [0.3, 0.8]], dtype=torch.float64)
PRIOR = dict(concentration=0.7, mean=torch.tensor([0.2, -0.1]), mean_precision=0.5, degrees=3.5, scale=SCALE)


def mutant(old: str, new: str):
    """The module with one mistake in it."""
    assert SOURCE.count(old) == 1, f"{old!r} is there {SOURCE.count(old)} times"
    module = types.ModuleType("mutant")
    module.__dict__["__name__"] = bayesian_mixture.__name__
    exec(compile(SOURCE.replace(old, new), "mutant", "exec"), module.__dict__)
    return module


def clouds(n, apart=4.0, seed=0, k=2):
    g = torch.Generator().manual_seed(seed)
    which = torch.arange(n) % k
    return apart * torch.stack([which, which % 2], 1) + torch.randn(n, D, generator=g, dtype=torch.float64)


def log_marginal(x):
    """log p(x) of points in one component: scipy's Student densities, each point given those before it."""
    beta, nu, m, s = 0.5, 3.5, np.array([0.2, -0.1], dtype=np.float32).astype(float), SCALE.numpy()
    total = 0.0
    for point in x:
        freedom = nu + 1 - D
        shape = s * (1 + beta) / (beta * freedom)
        total += scipy.stats.multivariate_t(m, shape, freedom).logpdf(point)
        s = s + beta / (beta + 1) * np.outer(point - m, point - m)
        m, beta, nu = (beta * m + point) / (beta + 1), beta + 1, nu + 1
    return total


def by_enumeration(x, alpha=0.7, k=2):
    """log p(x): the sum over all k^n assignments of the Pólya urn's probability times the marginals."""
    logs = []
    for z in np.ndindex(*[k] * len(x)):
        counts, log_urn = np.zeros(k), 0.0
        for i, j in enumerate(z):
            log_urn += math.log((alpha + counts[j]) / (k * alpha + i))
            counts[j] += 1
        logs.append(log_urn + sum(log_marginal(x[np.array(z) == j]) for j in range(k)))
    return np.logaddexp.reduce(logs)


def test_one_component_is_exact_and_so_is_its_predictive_density():
    x = clouds(9, 1.0)
    fit = BayesianMixture(1, **PRIOR).fit(x)
    assert fit.elbo(x) == pytest.approx(log_marginal(x.numpy()), abs=1e-9)
    new = np.array([[0.5, 1.0], [-3.0, 4.0]])
    wanted = [log_marginal(np.vstack([x, v])) - log_marginal(x.numpy()) for v in new]
    assert fit.log_predictive(torch.from_numpy(new)).tolist() == pytest.approx(wanted, abs=1e-9)


EXACT = [
    ("prior.degrees + count, scale)", "prior.degrees + count + 1, scale)"),
    ("- precision[:, None, None] * shift", "- prior.mean_precision[:, None, None] * shift"),
    ("(ratio - 1 - ratio.log())", "(ratio - 1 + ratio.log())"),
    ("0.5 * q.degrees * (trace - d)", "0.5 * q.degrees * trace"),
    ("square = d / q.mean_precision + ", "square = "),  # a mean that is known exactly
    ("p.mean_precision * square)", "square)"),
]


@pytest.mark.parametrize(("old", "new"), EXACT)
def test_mutants_miss_the_evidence_of_one_component(old, new):
    x = clouds(9, 1.0)
    try:
        value = mutant(old, new).BayesianMixture(1, **PRIOR).fit(x).elbo(x)
    except ArithmeticError:  # the bound fell: found too
        return
    assert value != pytest.approx(log_marginal(x.numpy()), abs=1e-3)


def test_the_bound_rises_and_stays_below_the_evidence_by_enumeration():
    for seed in range(3):
        x = clouds(8, 3.0, seed)
        truth = by_enumeration(x.numpy())
        path = BayesianMixture(2, **PRIOR).fit(x, tolerance=0.0, steps=60).climb.objective
        assert all(b >= a - 1e-9 for a, b in zip(path, path[1:], strict=False))
        assert truth - 3 < path[-1] < truth  # at least log 2 below: q chose which component is which
    careless = mutant("torch.distributions.kl_divergence(*dirichlet) +", "0 *").BayesianMixture(2, **PRIOR)
    with pytest.raises(ArithmeticError):  # without its part for the weights the bound is none
        if careless.fit(x, tolerance=0.0, steps=60).climb.objective[-1] > truth:
            raise ArithmeticError


def test_updates_that_do_not_belong_to_the_bound_are_refused():
    wrong = mutant("0.5 * (expected_log_det(q) -", "0.5 * (0.5 * expected_log_det(q) -")
    with pytest.raises(ArithmeticError, match="lowered the objective"):
        wrong.BayesianMixture(3).fit(clouds(60, 2.0, k=3), tolerance=0.0, generator=torch.Generator().manual_seed(0))


def average_by_draws(fit, x, n=4000):
    """E_q[log p(x, z, θ) − log q(z, θ)] over scipy's draws of θ, with z summed: value and standard error."""
    q, p = fit.posterior, fit.prior
    rng = np.random.default_rng(0)
    r = fit.responsibilities(x).numpy()
    alpha, alpha_0 = q.concentration.numpy(), p.concentration.numpy()
    pi = scipy.stats.dirichlet(alpha).rvs(n, random_state=rng)
    total = scipy.stats.dirichlet(alpha_0).logpdf(pi.T) - scipy.stats.dirichlet(alpha).logpdf(pi.T)
    total += (r.sum(0) * np.log(pi)).sum(1) - (r * np.log(r + 1e-300)).sum()
    for k in range(fit.components):
        own = scipy.stats.wishart(float(q.degrees[k]), np.linalg.inv(q.scale[k]))
        before = scipy.stats.wishart(float(p.degrees[k]), np.linalg.inv(p.scale[k]))
        draws = own.rvs(n, random_state=rng)
        total += before.logpdf(np.moveaxis(draws, 0, 2)) - own.logpdf(np.moveaxis(draws, 0, 2))
        for i, precision in enumerate(draws):
            cov = np.linalg.inv(precision)
            at = scipy.stats.multivariate_normal(q.mean[k], cov / float(q.mean_precision[k]))
            mean = at.rvs(random_state=rng)
            prior = scipy.stats.multivariate_normal(p.mean[k], cov / float(p.mean_precision[k]))
            total[i] += prior.logpdf(mean) - at.logpdf(mean)
            total[i] += r[:, k] @ scipy.stats.multivariate_normal(mean, cov).logpdf(x.numpy())
    return total.mean(), total.std() / n**0.5


def test_the_bound_with_all_constants_is_the_average_over_scipys_draws():
    x = clouds(12, 3.0, 1)
    fit = BayesianMixture(2, **PRIOR).fit(x)
    mean, se = average_by_draws(fit, x, 1500)
    assert abs(fit.elbo(x) - mean) < 4 * se and se < 0.1


def reference(x, k, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sklearn.mixture.BayesianGaussianMixture(
            n_components=k,
            weight_concentration_prior_type="dirichlet_distribution",
            reg_covar=0,
            tol=1e-13,
            max_iter=5000,
            random_state=seed,
            init_params="random",
        ).fit(x.numpy())


def test_scikit_learns_fit_is_reproduced_from_its_own_start():
    """Its fixed points are ours, for two starts with other optima; and the bounds differ by one constant."""
    x = clouds(150, 2.5, 2, k=3)
    offsets, ends = [], []
    for seed in (0, 3, 5):
        theirs = reference(x, 4, seed)
        ours = BayesianMixture(4).fit(x, start=torch.from_numpy(theirs.predict_proba(x.numpy())), tolerance=1e-10)
        q = ours.posterior
        assert np.allclose(q.concentration, theirs.weight_concentration_, rtol=1e-4, atol=1e-4)
        assert np.allclose(q.mean, theirs.means_, atol=1e-4)
        assert np.allclose(ours.covariances, theirs.covariances_, atol=1e-4)
        assert np.allclose(q.degrees, theirs.degrees_of_freedom_, rtol=1e-4)
        assert np.allclose(ours.responsibilities(x), theirs.predict_proba(x.numpy()), atol=1e-4)
        offsets.append(ours.elbo(x) - theirs.lower_bound_)
        ends.append(ours.elbo(x))
    assert max(offsets) - min(offsets) < 1e-3 and max(ends) - min(ends) > 0.1

    def differs(old, new):
        wrong = mutant(old, new).BayesianMixture(4)
        try:
            wrong.fit(x, start=torch.from_numpy(theirs.predict_proba(x.numpy())), tolerance=1e-10)
        except ArithmeticError:
            return True
        return not np.allclose(wrong.posterior.concentration, theirs.weight_concentration_, rtol=1e-4, atol=1e-4)

    assert differs("torch.digamma(halves)", "torch.log(halves)")  # log of the mean for the mean of the log
    assert differs("torch.digamma(q.concentration) -", "torch.log(q.concentration) -")
    assert differs("precision = prior.mean_precision + count", "precision = prior.mean_precision + 0.9 * count")


def test_surplus_components_are_emptied_and_the_predictive_integrates_to_one():
    x = clouds(300, 6.0, 4, k=2)
    fit = BayesianMixture(6, concentration=0.01).fit(x, steps=500, generator=torch.Generator().manual_seed(0))
    assert (fit.weights > 0.02).sum() == 2
    side = torch.linspace(-60, 70, 1301, dtype=torch.float64)
    mass = fit.log_predictive(torch.cartesian_prod(side, side)).exp().sum() * 0.1**2
    assert mass == pytest.approx(1, abs=2e-3)
    no_tails = mutant("(freedom + d) / 2 * torch.log1p", "freedom / 2 * torch.log1p").BayesianMixture(6)
    no_tails.prior, no_tails.posterior = fit.prior, fit.posterior
    assert abs(no_tails.log_predictive(torch.cartesian_prod(side, side)).exp().sum() * 0.1**2 - 1) > 0.01


def test_batches_end_where_all_data_end():
    x = clouds(3000, 4.0, 0, k=3)
    whole = BayesianMixture(3).fit(x, generator=torch.Generator().manual_seed(0))

    def stream(module):
        g = torch.Generator().manual_seed(1)
        batches = (torch.randint(len(x), (100,), generator=g) for _ in range(400))
        return module.BayesianMixture(3).fit_batches(x, batches, generator=torch.Generator().manual_seed(0))

    def lacks(fit):
        return whole.elbo(x) - fit.elbo(x)

    assert lacks(stream(bayesian_mixture)) < 0.002 * abs(whole.elbo(x))
    assert lacks(stream(mutant("lambda s: update(self.prior, s, len(x))", "lambda s: update(self.prior, s, 100)"))) > 30


def test_the_origin_and_the_unit_do_not_matter():
    x = clouds(40, 3.0)
    a = BayesianMixture(2).fit(x, start=torch.eye(2)[torch.arange(40) % 2])
    b = BayesianMixture(2).fit(1e6 + x, start=torch.eye(2)[torch.arange(40) % 2])
    c = BayesianMixture(2).fit(10 * x, start=torch.eye(2)[torch.arange(40) % 2])
    assert b.elbo(1e6 + x) == pytest.approx(a.elbo(x), abs=1e-4)
    assert c.elbo(10 * x) == pytest.approx(a.elbo(x) - 40 * D * math.log(10), abs=1e-6)


X = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BayesianMixture(0), "components is a whole number from 1, not 0"),
        (lambda: BayesianMixture(2, concentration=0), "concentration is a positive number"),
        (lambda: BayesianMixture(2, mean_precision=math.nan), "mean_precision is a positive number"),
        (lambda: BayesianMixture(2, degrees=1.0).fit(X), "degrees is a number above D − 1 = 1, not 1.0"),
        (lambda: BayesianMixture(2, mean=torch.zeros(3)).fit(X), "the prior mean is 2 finite numbers"),
        (lambda: BayesianMixture(2, scale=-torch.eye(2)).fit(X), r"positive definite \(2, 2\)"),
        (lambda: BayesianMixture(2).fit(X[:1]), "vary in every direction"),
        (lambda: BayesianMixture(2).fit(torch.ones(9, 2)), "vary in every direction"),
        (lambda: BayesianMixture(2).fit(X.long()), "points are floating-point numbers"),
        (lambda: BayesianMixture(2).fit(X / 0), "points are finite"),
        (lambda: BayesianMixture(2).fit(X.double() * 1e160), "beyond 1e150"),
        (
            lambda: BayesianMixture(2).fit(X).responsibilities(torch.full((1, 2), 1e200, dtype=torch.float64)),
            "beyond 1e150",
        ),
        (lambda: BayesianMixture(2).fit(X, start=torch.ones(20, 3)), r"responsibilities \(20, 2\)"),
        (lambda: BayesianMixture(2).fit(X, start=torch.ones(20, 2)), "sum to 1"),
        (lambda: BayesianMixture(2).elbo(X), "call fit first"),
        (lambda: BayesianMixture(2).fit(X).log_predictive(X[:, :1]), r"has learnt points \(N, 2\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)), min_size=1, max_size=8),
    st.integers(1, 4),
    st.floats(1e-3, 1e3),
)
def test_never_a_silent_nan(points, k, concentration):
    """Any points: everything is finite, or a ValueError says that they do not vary."""
    x = torch.tensor(points, dtype=torch.float64)
    try:
        fit = BayesianMixture(k, concentration=concentration).fit(x, steps=5)
    except ValueError as error:
        assert "positive definite" in str(error)
    else:
        assert math.isfinite(fit.elbo(x)) and fit.log_predictive(x).isfinite().all()
        assert fit.weights.sum().item() == pytest.approx(1)
