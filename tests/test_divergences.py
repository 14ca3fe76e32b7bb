"""Divergences of tables against scipy, of samples against scipy and closed forms of normal distributions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.metrics import divergences
from helpers.metrics.divergences import cross_entropy, entropy, gaussian_kernel, jensen_shannon, kl, mmd2, wasserstein_1


def tables(seed, k=6, zeros=0):
    g = torch.Generator().manual_seed(seed)
    p = torch.rand(2, 4, k, generator=g, dtype=torch.float64) ** 3
    p[0, :, :zeros] = 0  # of p only
    return p / p.sum(-1, keepdim=True)


@pytest.mark.parametrize("seed, zeros", [(0, 0), (1, 0), (2, 2)])
def test_tables_are_those_of_scipy(seed, zeros):
    p, q = tables(seed, zeros=zeros)
    close = {"rtol": 1e-12, "atol": 1e-14}
    np.testing.assert_allclose(entropy(p), scipy.stats.entropy(p, axis=-1), **close)
    np.testing.assert_allclose(kl(p, q), scipy.stats.entropy(p, q, axis=-1), **close)
    truth = scipy.stats.entropy(p, axis=-1) + scipy.stats.entropy(p, q, axis=-1)
    np.testing.assert_allclose(cross_entropy(p, q), truth, **close)
    root = scipy.spatial.distance.jensenshannon(p.numpy(), q.numpy(), axis=-1)  # scipy gives the distance, its root
    np.testing.assert_allclose(jensen_shannon(p, q), root**2, **close)
    mutants = {
        "p and q exchanged": (kl(q, p), kl(p, q)),
        "no p log p": (cross_entropy(p, q), kl(p, q)),
        "bits": (kl(p, q) / math.log(2), kl(p, q)),
        "mean of the two KL": ((kl(p, q) + kl(q, p)) / 2, jensen_shannon(p, q)),
        "½ missing": (2 * jensen_shannon(p, q), torch.from_numpy(root**2)),
    }
    for name, (mutant, value) in mutants.items():
        assert not torch.allclose(mutant, value, rtol=1e-3), name


def test_what_q_lacks_costs_infinitely_much_and_js_at_most_log_two():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.0, 0.5])
    assert kl(p, q) == cross_entropy(p, q) == math.inf
    assert kl(p, torch.full((3,), 1 / 3)).isfinite()
    apart = torch.eye(2)
    assert jensen_shannon(apart[0], apart[1]).item() == pytest.approx(math.log(2), rel=1e-6)


def test_rounding_makes_no_divergence_negative():
    g = torch.Generator().manual_seed(0)
    p = torch.rand(2000, 5, generator=g) + 0.1
    p = p / p.sum(1, keepdim=True)
    q = p + 1e-5 * torch.randn(2000, 5, generator=g)
    q = q / q.sum(1, keepdim=True)
    assert (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(1).min() < 0  # mutant: the sum as it comes
    assert kl(p, q).min() >= 0 and jensen_shannon(p, q).sqrt().isfinite().all()


@pytest.mark.parametrize("n, m", [(1, 1), (5, 5), (40, 7), (3, 100)])
def test_wasserstein_is_scipys_and_the_least_cost_of_a_matching(n, m):
    g = torch.Generator().manual_seed(n)
    x, y = torch.randn(n, generator=g).double(), 2 * torch.randn(m, generator=g).double() + 1
    y[0] = x[0]  # a tie
    truth = scipy.stats.wasserstein_distance(x, y)
    assert wasserstein_1(x, y).item() == pytest.approx(truth, rel=1e-10, abs=1e-12)
    assert wasserstein_1(x + 3, y + 3).item() == pytest.approx(truth, rel=1e-10, abs=1e-12)
    if n == m == 5:
        least = min((x - y[list(order)]).abs().mean() for order in itertools.permutations(range(5)))
        assert wasserstein_1(x, y).item() == pytest.approx(least.item())
        for name, mutant in {"unsorted": (x - y).abs().mean(), "means only": (x.mean() - y.mean()).abs()}.items():
            assert mutant.item() != pytest.approx(least.item(), rel=1e-3), name


def test_wasserstein_passes_gradients():
    x = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    y = torch.linspace(-1, 2, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: wasserstein_1(x, y), x)


def mmd2_of_normals(mean, sd, bandwidth, dimensions):
    """MMD² of N(0, I) and N(mean, sd² I): E k(a, b) is a normal integral."""

    def mean_kernel(distance, variance):
        total = bandwidth**2 + variance
        return (bandwidth**2 / total) ** (dimensions / 2) * math.exp(-dimensions * distance**2 / (2 * total))

    return mean_kernel(0, 2) + mean_kernel(0, 2 * sd**2) - 2 * mean_kernel(mean, 1 + sd**2)


@pytest.mark.parametrize("mean, sd, n, m", [(0.0, 1.0, 30, 50), (1.0, 1.0, 40, 40), (0.2, 1.3, 60, 30)])
def test_mmd_is_unbiased_and_its_standard_error_is_that_of_repeated_samples(mean, sd, n, m):
    runs, g = 2000, torch.Generator().manual_seed(0)
    kernel = gaussian_kernel(0.8)
    x = torch.randn(runs, n, 2, generator=g, dtype=torch.float64)
    y = mean + sd * torch.randn(runs, m, 2, generator=g, dtype=torch.float64)
    estimates = [mmd2(a, b, kernel) for a, b in zip(x, y, strict=True)]
    values, se = np.array([e.value for e in estimates]), np.sqrt(np.mean([e.se**2 for e in estimates]))
    truth, four = mmd2_of_normals(mean, sd, 0.8, 2), 4 * values.std() / math.sqrt(runs)
    assert abs(values.mean() - truth) < four
    with_diagonal = values + np.mean([(1 - v) for v in (kernel(x[0], x[0]).mean(), kernel(y[0], y[0]).mean())]) / n
    assert abs(with_diagonal.mean() - truth) > four  # mutant: the pairs of a point with itself are counted
    least, most = (0.92, 1.3) if mean == 0.0 else (0.92, 1.1)  # the part that is cut off at 0 makes it a little large
    assert least * values.std() < se < most * values.std()
    assert min(e.se for e in estimates) > 0.25 * values.std()  # mutant, the difference cut off at 0: a fifth reports 0
    if mean == 0.0:  # mutant: leading term alone, as for a linear statistic
        leading = []
        for a, b in zip(x[:200], y[:200], strict=True):
            k_a, k_b, k_ab = kernel(a, a), kernel(b, b), kernel(a, b)
            h_a, h_b = (k_a.sum(1) - 1) / (n - 1) - k_ab.mean(1), (k_b.sum(1) - 1) / (m - 1) - k_ab.mean(0)
            leading.append((4 * h_a.var() / n + 4 * h_b.var() / m).item())
        assert math.sqrt(np.mean(leading)) > 1.3 * values.std()


def test_mmd_by_plain_loops_with_another_kernel():
    g = torch.Generator().manual_seed(3)
    x, y = torch.randn(6, 3, generator=g).double(), torch.randn(4, 3, generator=g).double()

    def cubic(a, b):  # the kernel of KID
        return (a @ b.T / 3 + 1) ** 3

    k = cubic(torch.cat([x, y]), torch.cat([x, y]))
    inside_x = np.mean([k[i, j] for i in range(6) for j in range(6) if i != j])
    inside_y = np.mean([k[i, j] for i in range(6, 10) for j in range(6, 10) if i != j])
    between = np.mean([k[i, j] for i in range(6) for j in range(6, 10)])
    assert mmd2(x, y, cubic).value == pytest.approx(inside_x + inside_y - 2 * between, rel=1e-10)
    assert inside_x + inside_y - between != pytest.approx(mmd2(x, y, cubic).value, rel=1e-3)  # mutant: 2 missing
    assert mmd2(y, x, cubic).value == pytest.approx(mmd2(x, y, cubic).value)
    assert str(divergences.Estimate(0.12345, 0.01)) == "0.1235 ± 0.01"


def test_a_kernel_keeps_its_digits_far_from_the_origin():
    g = torch.Generator().manual_seed(0)
    x, y = 1e4 + torch.randn(2, 100, 1, generator=g)
    kernel = gaussian_kernel(0.5)
    assert mmd2(x, y, kernel).value == pytest.approx(mmd2(x.double(), y.double(), kernel).value, abs=1e-6)
    by_product = torch.cdist(x, y, compute_mode="use_mm_for_euclid_dist").square()  # mutant
    assert (torch.exp(-by_product / 0.5) - kernel(x, y)).abs().max() > 0.1


@pytest.mark.parametrize(
    "kernel, message",
    [
        (lambda a, b: a @ b.T * math.nan, "nan or infinity"),
        (lambda a, b: (1e30 * a @ b.T) ** 3, "nan or infinity"),
        (lambda a, b: (a[:3] * b[:3]).sum(1), r"wanted \(5, 5\)"),
        (lambda a, b: 1.0, "float"),
    ],
)
def test_bad_kernels(kernel, message):
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=message):
        mmd2(x, x + 1, kernel)


GOOD = torch.tensor([0.25, 0.75])


@pytest.mark.parametrize("function", [kl, cross_entropy, jensen_shannon])
@pytest.mark.parametrize(
    "bad, message",
    [
        (None, "NoneType"),
        ([0.5, 0.5], "list"),
        (torch.tensor([1, 0]), "int64"),
        (torch.tensor(1.0), "probabilities"),
        (torch.zeros(2, 0), "probabilities"),
        (torch.zeros(0, 2), "probabilities"),
        (torch.tensor([0.5, 0.6]), "sum to 1"),
        (torch.tensor([-0.5, 1.5]), "sum to 1"),
        (torch.tensor([math.nan, 1.0]), "sum to 1"),
    ],
)
def test_bad_tables(function, bad, message):
    for call in (lambda: function(bad, GOOD), lambda: function(GOOD, bad), lambda: entropy(bad)):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="got 2 and 3"):
        function(GOOD, torch.full((3,), 1 / 3))
    with pytest.raises(ValueError, match="as many tables"):
        function(GOOD.expand(3, 2), GOOD.expand(2, 2))
    assert function(GOOD.expand(3, 1, 2), GOOD.expand(4, 2)).shape == (3, 4)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([None, [1.0], torch.zeros(0), torch.zeros(3).long(), torch.tensor([math.nan, 1, 2])]))
def test_bad_samples(bad):
    for call in (lambda: wasserstein_1(bad, GOOD), lambda: wasserstein_1(GOOD, bad)):
        with pytest.raises(ValueError, match="sample|finite"):
            call()
    with pytest.raises(ValueError, match="sample|finite|3 or more"):
        mmd2(bad[:, None] if isinstance(bad, torch.Tensor) else bad, torch.randn(5, 1), gaussian_kernel(1.0))
    with pytest.raises(ValueError, match="3 or more"):
        mmd2(torch.randn(5, 2), torch.randn(2, 2), gaussian_kernel(1.0))
    with pytest.raises(ValueError, match="one dtype"):
        mmd2(torch.randn(5, 2), torch.randn(5, 2).double(), gaussian_kernel(1.0))
    with pytest.raises(ValueError, match="one dimension"):
        mmd2(torch.randn(5, 2), torch.randn(5, 3), gaussian_kernel(1.0))


@given(st.one_of(st.floats(max_value=0), st.just(math.inf), st.just(math.nan), st.booleans(), st.none(), st.text()))
def test_bad_bandwidths(bad):
    with pytest.raises(ValueError, match="positive number"):
        gaussian_kernel(bad)
