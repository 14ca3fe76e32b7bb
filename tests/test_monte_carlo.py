"""Samplers against quadrature within 4 standard errors, diagnostics against closed forms; each with mutants found."""

from __future__ import annotations

import math
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.inference import monte_carlo

SOURCE = Path(monte_carlo.__file__).read_text(encoding="utf-8")


def mutant(old: str, new: str):
    """The module with one mistake in it."""
    assert SOURCE.count(old) == 1, f"{old!r} is there {SOURCE.count(old)} times"
    module = types.ModuleType(monte_carlo.__name__)
    exec(compile(SOURCE.replace(old, new), "mutant", "exec"), module.__dict__)
    return module


def bent(x):  # a bent ridge, known up to a constant
    return -(x[:, 0] ** 4) / 4 - (x[:, 1] - x[:, 0] ** 2) ** 2


def features(x):
    return torch.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1]], 1)


def by_quadrature():
    a, b = torch.linspace(-5, 5, 801, dtype=torch.float64), torch.linspace(-6, 16, 1601, dtype=torch.float64)
    grid = torch.cartesian_prod(a, b)
    return bent(grid).softmax(0) @ features(grid)


TRUTH = by_quadrature()


def worst(x):
    """The largest distance of a moment from the truth in standard errors; the rows of x are independent."""
    f = features(x)
    return ((f.mean(0) - TRUTH).abs() / (f.std(0) / len(f) ** 0.5)).max().item()


def run(name, module=monte_carlo, steps=150):
    """The last points of 2,000 independent chains that start in the wrong place."""
    g = torch.Generator().manual_seed(1)
    start = 1 + 0.1 * torch.randn(2000, 2, dtype=torch.float64, generator=g)
    if name == "metropolis_hastings":
        chains = module.metropolis_hastings(bent, start, 2 * steps, scale=1.0, generator=g)
    elif name == "independence":  # a proposal that is not symmetric: normal around (0, 1), whatever x
        middle = torch.tensor([0.0, 1.0], dtype=torch.float64)

        def log_q(y):
            return -((y - middle) ** 2).sum(-1) / 4.5

        def propose(x, g):
            y = middle + 1.5 * torch.randn(x.shape, dtype=x.dtype, generator=g)
            return y, log_q(x) - log_q(y)

        chains = module.metropolis_hastings(bent, start, steps, propose=propose, generator=g)
    elif name == "adjusted_langevin":
        chains = module.adjusted_langevin(bent, start, steps, 0.15, generator=g)
    elif name == "unadjusted_langevin":
        chains = module.unadjusted_langevin(module.score_of(bent), start, 300, 0.02, generator=g)
    else:
        chains = module.hmc(bent, start, steps // 3, 0.35, 5, generator=g)
    return chains.x[-1]


EXACT = ["metropolis_hastings", "independence", "adjusted_langevin", "hmc"]


@pytest.mark.parametrize("name", EXACT)
def test_moments_within_four_standard_errors(name):
    assert worst(run(name)) < 4


MUTANTS = {
    "everything is accepted": ("metropolis_hastings", "generator=generator, dtype=x.dtype, device=x.device) < chance",
                               "generator=generator, dtype=x.dtype, device=x.device) < 2 + chance"),
    "no correction for the proposal": ("independence", "log_p_y - log_p + correction", "log_p_y - log_p"),
    "Langevin: no correction": ("adjusted_langevin", "+ (there - back) / (4 * step_size)", ""),
    "Langevin: the correction's sign": ("adjusted_langevin", "(there - back)", "(back - there)"),
    "HMC: momentum not in the energy": ("hmc", "energy - 0.5 * (momentum**2).sum(-1)", "energy"),
    "HMC: backwards in space": ("hmc", "y = y + step_size * momentum", "y = y - step_size * momentum"),
    "HMC: a full last step": ("hmc", "(1.0 if i < leapfrog - 1 else 0.5)", "1.0"),
}  # fmt: skip


@pytest.mark.parametrize("fault", MUTANTS)
def test_mutants_of_samplers_are_found(fault):
    name, old, new = MUTANTS[fault]
    assert worst(run(name, mutant(old, new))) > 4


def test_unadjusted_langevin_has_the_variance_of_its_own_recursion():
    """On N(0, 1) the walk is x ← (1 − ε) x + √(2ε) ξ, whose variance is 2ε / (1 − (1 − ε)²) = 1 / (1 − ε/2)."""

    def distance(module, step_size=0.5):
        g = torch.Generator().manual_seed(0)
        start = torch.randn(20_000, 1, generator=g, dtype=torch.float64)
        x = module.unadjusted_langevin(lambda x: -x, start, 60, step_size, generator=g).x[-1]
        wanted = 1 / (1 - step_size / 2)
        return abs(x.var().item() - wanted) / (wanted * (2 / len(x)) ** 0.5)

    assert distance(monte_carlo) < 4
    text = "x = x + step_size * slope + math.sqrt(2 * step_size)"
    assert distance(mutant(text, text.replace("2 * step_size", "step_size"))) > 4  # √ε for √(2ε)
    assert distance(mutant(text, text.replace("+ math", "+ 0 * math"))) > 4  # no noise: gradient ascent


def test_gibbs_draws_a_normal_pair():
    rho = 0.8

    def pair(width):
        def update(i):
            def draw(x, g):
                noise = torch.randn(len(x), generator=g, dtype=x.dtype)
                return x.index_copy(1, torch.tensor([i]), (rho * x[:, 1 - i] + width * noise)[:, None])

            return draw

        g = torch.Generator().manual_seed(0)
        x = monte_carlo.gibbs([update(0), update(1)], torch.full((4000, 2), 3.0).double(), 60, generator=g).x[-1]
        f = features(x)
        wanted = torch.tensor([0, 0, 1, 1, rho], dtype=x.dtype)
        return ((f.mean(0) - wanted).abs() / (f.std(0) / len(f) ** 0.5)).max()

    assert pair((1 - rho**2) ** 0.5) < 4
    assert pair(1 - rho**2) > 4  # the conditional's variance where its deviation belongs


def two_humps(x):  # Z = 7: two normal densities, 5 and 2 high
    normal = torch.distributions.Normal
    left, right = (normal(m, 0.5).log_prob(x).sum(-1) for m in (-2.0, 2.0))
    return torch.logaddexp(left + math.log(5), right + math.log(2))


def weights(module, steps=12):
    g = torch.Generator().manual_seed(0)
    base = torch.distributions.Normal(0.0, 3.0)
    start = 3 * torch.randn(8000, 2, generator=g, dtype=torch.float64)
    return module.annealed_importance(
        two_humps, lambda x: base.log_prob(x).sum(-1), start, torch.linspace(0, 1, steps), step_size=0.4, generator=g
    )


def test_annealed_importance_is_unbiased_for_the_normaliser():
    def far(module):
        w = weights(module).log_weights.exp()
        return abs(w.mean() - 7) / (w.std() / len(w) ** 0.5)

    assert far(monte_carlo) < 4
    assert far(mutant("log_w + (beta - before) * gain", "log_w + beta * gain / len(betas)")) > 4
    late = mutant('gain = _value(log_density, x, f"at', 'x = x + 0.3\n        gain = _value(log_density, x, f"at')
    assert far(late) > 4  # points that the path does not leave invariant
    value, se = weights(monte_carlo).log_normaliser()
    assert value == pytest.approx(math.log(7), abs=4 * se) and 0 < se < 0.1
    x, w = weights(monte_carlo).x, weights(monte_carlo).log_weights.softmax(0)
    assert (w @ (x[:, 0] < 0).double()).item() == pytest.approx(5 / 7, abs=0.05)  # the weights balance the humps


def auto_regressive(rho, steps=4000, chains=20, seed=0):
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(steps, chains, generator=g, dtype=torch.float64)
    x = [noise[0]]
    for t in range(1, steps):
        x.append(rho * x[-1] + (1 - rho**2) ** 0.5 * noise[t])
    return torch.stack(x)


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.5, 0.9])
def test_effective_sample_size_of_an_autoregression(rho):
    """n (1 − ρ) / (1 + ρ), to a tenth."""
    x = auto_regressive(rho)
    wanted = x.numel() * (1 - rho) / (1 + rho)
    assert monte_carlo.effective_sample_size(x).item() == pytest.approx(wanted, rel=0.1)
    if rho > 0:  # a mutant that counts each lag once and not twice
        half = mutant("2 * pairs.sum(0) - 1", "pairs.sum(0)")
        assert half.effective_sample_size(x).item() != pytest.approx(wanted, rel=0.1)


def slow_size(x):
    """The same by loops, from the definitions, for one chain or several (steps, chains)."""
    n, m = x.shape
    covariance = [np.mean([np.dot(c[: n - t], c[t:]) / n for c in (x - x.mean(0)).T]) for t in range(n)]
    within = covariance[0] * n / (n - 1)
    total = covariance[0] + (np.var(x.mean(0), ddof=1) if m > 1 else 0)
    rho = [1.0] + [1 - (within - covariance[t]) / total for t in range(1, n)]
    length, least = -1.0, math.inf
    for t in range(0, n - 1, 2):
        pair = rho[t] + rho[t + 1]
        if pair <= 0:
            break
        least = min(least, pair)
        length += 2 * least
    return n * m / max(length, 1 / math.log10(n * m))


def slow_r_hat(x):
    n = len(x) // 2
    halves = [h for c in x.T for h in (c[:n], c[len(c) - n :])]
    within = np.mean([np.var(h, ddof=1) for h in halves])
    between = n * np.var([np.mean(h) for h in halves], ddof=1)
    return math.sqrt(((n - 1) / n * within + between / n) / within)


@settings(max_examples=15, deadline=None)
@given(st.floats(-0.6, 0.95), st.integers(1, 4), st.integers(12, 61), st.integers(0, 99))
def test_diagnostics_agree_with_loops(rho, chains, steps, seed):
    x = auto_regressive(rho, steps, chains, seed)
    both = torch.stack([x, x.flip(0) ** 2], -1)  # two coordinates at once
    for k in range(2):
        one = both[..., k].numpy()
        assert monte_carlo.effective_sample_size(both)[k].item() == pytest.approx(slow_size(one), rel=1e-9)
        assert monte_carlo.r_hat(both)[k].item() == pytest.approx(slow_r_hat(one), rel=1e-9)


def test_r_hat_of_chains_in_different_places():
    """Two chains that lie d apart: √(1 + d²/3), up to the noise; and a trend within one chain shows."""
    x = auto_regressive(0.0, 4000, 2)
    apart = x + torch.tensor([0.0, 3.0])
    assert monte_carlo.r_hat(x).item() == pytest.approx(1, abs=0.01)
    assert monte_carlo.r_hat(apart).item() == pytest.approx(2, abs=0.05)
    drift = x + torch.linspace(0, 4, 4000)[:, None]
    assert monte_carlo.r_hat(drift).item() == pytest.approx(2**0.5, abs=0.05)  # means ±1, variance 1 + 2²/12 within
    unsplit = mutant("halves = torch.cat([x[:half], x[len(x) - half :]], 1)", "halves = x")
    assert unsplit.r_hat(drift).item() < 1.2


def test_a_given_score_is_used_and_agrees_with_autograd():
    x = torch.randn(5, 2, dtype=torch.float64)
    by_hand = torch.stack([-(x[:, 0] ** 3) + 4 * x[:, 0] * (x[:, 1] - x[:, 0] ** 2), -2 * (x[:, 1] - x[:, 0] ** 2)], 1)
    assert torch.allclose(monte_carlo.score_of(bent)(x), by_hand)
    for sampler, rest in ((monte_carlo.hmc, (0.3, 3)), (monte_carlo.adjusted_langevin, (0.1,))):
        ends = [
            sampler(bent, x, 5, *rest, score=score, generator=torch.Generator().manual_seed(0)).x
            for score in (None, monte_carlo.score_of(bent), lambda x: 0 * x)
        ]
        assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_hmc_keeps_its_energy_and_runs_backwards():
    """The leapfrog's error falls with the square of the step, so that halving the step quarters the rejections."""
    g = torch.Generator().manual_seed(0)
    start = torch.randn(4000, 3, generator=g, dtype=torch.float64)
    lost = [
        1 - monte_carlo.hmc(lambda x: -0.5 * (x**2).sum(-1), start, 1, e, k, generator=g).acceptance.mean().item()
        for e, k in ((0.4, 3), (0.2, 6))
    ]
    assert 3 < lost[0] / lost[1] < 5


def test_a_random_number_of_leapfrogs_breaks_the_resonance():
    """On N(0, 1) with ε L = π each trajectory ends at the mirror image, and x² hardly changes."""
    g = torch.Generator().manual_seed(0)
    start = torch.randn(50, 1, generator=g, dtype=torch.float64)
    sizes = [
        monte_carlo.effective_sample_size(
            monte_carlo.hmc(lambda x: -0.5 * (x**2).sum(-1), start, 300, math.pi / 16, count, generator=g).x ** 2
        ).item()
        for count in (16, (4, 28))
    ]
    assert sizes[1] > 10 * sizes[0]
    ends = monte_carlo.hmc(bent, 1 + 0.1 * torch.randn(2000, 2, generator=g).double(), 50, 0.35, (1, 8), generator=g)
    assert worst(ends.x[-1]) < 4


def test_outside_of_the_support_is_refused():
    def positive(x):  # an exponential density
        return torch.where(x[:, 0] > 0, -x[:, 0], -math.inf)

    start = torch.ones(2000, 1, dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    for chains in (
        monte_carlo.metropolis_hastings(positive, start, 300, scale=2, generator=g),
        monte_carlo.hmc(positive, start, 100, 0.5, 3, generator=g),
        monte_carlo.adjusted_langevin(positive, start, 300, 0.3, generator=g),
    ):
        x = chains.x[-1, :, 0]
        assert (chains.x > 0).all() and abs(x.mean() - 1) < 4 * x.std() / len(x) ** 0.5


def test_what_explodes_is_refused_or_named():
    start = torch.ones(3, 1, dtype=torch.float64)

    def steep(x):
        return -(x[:, 0] ** 8)

    chains = monte_carlo.hmc(steep, start, 5, 50.0, 20)
    assert torch.isfinite(chains.x).all() and (chains.acceptance < 1e-6).all()
    assert torch.isfinite(monte_carlo.adjusted_langevin(steep, start, 50, 5.0).x).all()
    with pytest.raises(ValueError, match="left the finite numbers in step .* below 5"):
        monte_carlo.unadjusted_langevin(monte_carlo.score_of(steep), start, 50, 5.0)


GOOD = torch.zeros(4, 2)


def flat(x):
    return -(x**2).sum(-1)


def moved(propose):
    return monte_carlo.metropolis_hastings(flat, GOOD, 5, propose=propose)


def test_one_chain_has_no_standard_error():
    one = monte_carlo.Annealed(GOOD[:1], torch.tensor([0.5]), torch.ones(1))
    assert one.log_normaliser() == (0.5, math.inf)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: monte_carlo.metropolis_hastings(flat, GOOD[0], 5), r"start: got torch.float32 \(2,\)"),
        (lambda: monte_carlo.metropolis_hastings(flat, GOOD.long(), 5), "start: got torch.int64"),
        (lambda: monte_carlo.hmc(flat, GOOD * math.nan, 5, 0.1, 2), "start: got NaN"),
        (lambda: monte_carlo.metropolis_hastings(flat, GOOD, 0), "steps is a whole number from 1, not 0"),
        (lambda: monte_carlo.metropolis_hastings(flat, GOOD, 5, scale=0), "scale is a positive number"),
        (lambda: monte_carlo.adjusted_langevin(flat, GOOD, 5, -1), "step_size is a positive number, not -1"),
        (lambda: monte_carlo.hmc(flat, GOOD, 5, 0.1, 0), "leapfrog is a whole number from 1, or a range of two, not 0"),
        (lambda: monte_carlo.hmc(flat, GOOD, 5, 0.1, (3, 2)), r"not \(3, 2\)"),
        (lambda: monte_carlo.metropolis_hastings(lambda x: x, GOOD, 5), r"wanted \(4,\), one number for each chain"),
        (lambda: monte_carlo.metropolis_hastings(lambda x: x[:, 0] * math.nan, GOOD, 5), "NaN or .inf at"),
        (lambda: monte_carlo.hmc(lambda x: x[:, 0] - math.inf, GOOD, 5, 0.1, 2), "4 chains start where"),
        (lambda: monte_carlo.hmc(flat, GOOD, 5, 0.1, 2, score=lambda x: x * math.nan), "the score .* without NaN"),
        (lambda: monte_carlo.unadjusted_langevin(flat, GOOD, 5, 0.1), r"the score in step 0: got torch.float32 \(4,\)"),
        (lambda: moved(lambda x, g: (x[:, :1], x[:, 0])), r"propose in step 0: got torch.float32 \(4, 1\)"),
        (lambda: moved(lambda x, g: (x, x[:, 0] * math.nan)), r"a log-ratio \(4,\) without NaN"),
        (lambda: moved(lambda x, g: (x, x)), r"and torch.float32 \(4, 2\), wanted"),
        (lambda: monte_carlo.gibbs([], GOOD, 5), "wanted one for each block"),
        (lambda: monte_carlo.gibbs([lambda x, g: x / 0], GOOD, 5), "update 0 in step 0"),
        (
            lambda: monte_carlo.annealed_importance(flat, flat, GOOD, [0, 0.5], step_size=1),
            "betas rise from 0 to 1, got",
        ),
        (lambda: monte_carlo.effective_sample_size(torch.ones(10, 2)), "never moves"),
        (lambda: monte_carlo.r_hat(torch.randn(3, 2)), "4 steps or more"),
        (lambda: monte_carlo.r_hat(torch.full((10, 2), math.nan)), "NaN or infinite"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6), st.floats(0.01, 20), st.integers(0, 9))
def test_never_a_silent_nan(places, size, seed):
    """Any start, any step: the points are finite, and the acceptance lies between 0 and 1."""
    start = torch.tensor(places, dtype=torch.float64)[:, None]
    for chains in (
        monte_carlo.metropolis_hastings(flat, start, 4, scale=size, generator=torch.Generator().manual_seed(seed)),
        monte_carlo.adjusted_langevin(flat, start, 4, size, generator=torch.Generator().manual_seed(seed)),
        monte_carlo.hmc(flat, start, 4, size, 3, generator=torch.Generator().manual_seed(seed)),
    ):
        assert torch.isfinite(chains.x).all()
        assert ((chains.acceptance >= 0) & (chains.acceptance <= 1)).all()
