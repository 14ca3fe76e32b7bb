"""EM on a problem whose every step is known by hand: two biased coins (Do & Batzoglou 2008)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.inference.em import em, restarts, stepwise

HEADS = torch.tensor([5.0, 9.0, 8.0, 4.0, 7.0], dtype=torch.float64)  # of 10 tosses each, of one coin or the other


def e_step(p, heads=HEADS):
    joint = heads[:, None] * p.log() + (10 - heads)[:, None] * (1 - p).log() + math.log(0.5)
    share = joint.softmax(1)
    statistics = torch.stack([share.T @ heads, share.T @ (10 - heads)])
    return statistics / len(heads), joint.logsumexp(1).mean()


def m_step(statistics):
    return statistics[0] / statistics.sum(0)


START = torch.tensor([0.6, 0.5], dtype=torch.float64)


def test_two_coins_end_where_the_published_example_ends():
    one = em(START, e_step, m_step, steps=1)
    assert one.parameters.tolist() == [pytest.approx(0.71, abs=0.005), pytest.approx(0.58, abs=0.005)]
    climb = em(START, e_step, m_step, steps=10, tolerance=0)
    assert climb.parameters.tolist() == [pytest.approx(0.80, abs=0.005), pytest.approx(0.52, abs=0.005)]
    assert len(climb.objective) == 11 and not climb.converged
    assert all(b >= a for a, b in zip(climb.objective, climb.objective[1:], strict=False))
    assert climb.objective[-1] == e_step(climb.parameters)[1].item()  # of the parameters that are handed back

    def unnormalised(p):  # mutant: responsibilities that do not sum to 1
        statistics, objective = e_step(p)
        return statistics + 0.5 * HEADS.mean(), objective

    assert em(START, unnormalised, m_step, steps=1).parameters[0].item() != pytest.approx(0.71, abs=0.005)


def test_a_fall_of_the_objective_is_refused():
    def wrong(statistics):  # mutant: heads for tails
        return 1 - m_step(statistics)

    with pytest.raises(ArithmeticError, match="step 1 lowered the objective"):
        em(START, e_step, wrong)


def test_it_stops_when_nothing_is_gained():
    climb = em(START, e_step, m_step, steps=1000, tolerance=1e-10)
    assert climb.converged and len(climb.objective) < 100
    assert torch.allclose(m_step(e_step(climb.parameters)[0]), climb.parameters, atol=1e-4)  # a fixed point
    assert em(START, e_step, m_step, steps=0).parameters is START


def test_of_several_starts_the_best_end_is_kept():
    flat = torch.tensor([0.5, 0.5], dtype=torch.float64)  # a saddle that EM cannot leave
    options = dict(steps=50, tolerance=0.0)
    best = restarts([flat, START], e_step, m_step, **options)
    assert best.objective[-1] == em(START, e_step, m_step, **options).objective[-1]
    assert best.objective[-1] > em(flat, e_step, m_step, **options).objective[-1] + 0.01
    with pytest.raises(ValueError, match="at least one start"):
        restarts([], e_step, m_step)


def test_stepwise_reaches_the_fixed_point_of_em():
    end = em(START, e_step, m_step, steps=200, tolerance=0.0).parameters

    def run(eta_times):
        generator = torch.Generator().manual_seed(0)
        batches = (HEADS[torch.randint(5, (4,), generator=generator)] for _ in range(1500))

        def merge(old, new, eta):
            return old + eta_times * eta * (new - old)

        return stepwise(START, e_step, m_step, batches, merge=merge, decay=0.9).parameters

    assert torch.allclose(run(1), end, atol=0.03)
    assert not torch.allclose(run(0), end, atol=0.03)  # mutant: statistics never renewed


@given(st.sampled_from([-1, 1.5, True, "a", None]))
def test_bad_settings_are_refused(value):
    with pytest.raises(ValueError, match="steps"):
        em(START, e_step, m_step, steps=value)


@given(st.floats(max_value=-1e-9) | st.just(math.nan))
def test_bad_tolerance_and_decay_are_refused(value):
    with pytest.raises(ValueError, match="tolerance"):
        em(START, e_step, m_step, tolerance=value)
    with pytest.raises(ValueError, match="decay"):
        stepwise(START, e_step, m_step, [HEADS], merge=None, decay=value)


@pytest.mark.parametrize("objective", [math.nan, -math.inf, math.inf])
def test_no_finite_objective_is_refused(objective):
    with pytest.raises(ValueError, match="probability zero"):
        em(START, lambda p: (None, objective), m_step)
    with pytest.raises(ValueError, match="probability zero"):
        stepwise(START, lambda p, batch: (None, objective), m_step, [HEADS], merge=None)
