"""Expectation-maximisation (Dempster, Laird & Rubin 1977), written once for every model that has the two steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Climb:
    """Where EM arrived: ``parameters``, and the ``objective`` of the start and after each M step."""

    parameters: Any
    objective: list[float] = field(default_factory=list)
    converged: bool = False


def em(
    start: Any,
    e_step: Callable[[Any], tuple[Any, float]],
    m_step: Callable[[Any], Any],
    *,
    steps: int = 100,
    tolerance: float = 1e-6,
) -> Climb:
    """Alternate the two steps from ``start`` until the objective gains less than ``tolerance`` in a step.

    Parameters:
        e_step: parameters -> (expected sufficient statistics, objective at these parameters). The objective is what
            exact EM never lowers: the log-likelihood, plus the log-prior where the M step has one.
        m_step: statistics -> the parameters that maximise the expected complete-data objective.
        steps: M steps at most.
        tolerance: in the objective's unit; 0: all the steps.

    Raises:
        ValueError: the start has no finite objective (an observation of probability zero), or bad settings.
        ArithmeticError: the objective fell by more than rounding explains: the two steps do not belong together.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps is a whole number from 0, not {steps!r}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance is a number from 0, not {tolerance!r}")
    climb = Climb(start)
    for step in range(steps + 1):
        statistics, objective = e_step(climb.parameters)
        objective = float(objective)
        if not math.isfinite(objective):
            raise ValueError(f"the objective is {objective} after {step} steps: an observation has probability zero")
        if step:
            gain = objective - climb.objective[-1]
            if gain < -1e-9 * (1 + abs(objective)):
                raise ArithmeticError(f"step {step} lowered the objective by {-gain:.3g}, which exact EM never does")
            climb.converged = gain < tolerance
        climb.objective.append(objective)
        if climb.converged or step == steps:
            return climb
        climb.parameters = m_step(statistics)
    raise AssertionError("unreachable")


def restarts(starts: Iterable[Any], e_step: Callable, m_step: Callable, **options) -> Climb:
    """EM from each of ``starts``; the climb that ended highest."""
    climbs = [em(start, e_step, m_step, **options) for start in starts]
    if not climbs:
        raise ValueError("at least one start is needed")
    return max(climbs, key=lambda climb: climb.objective[-1])


def stepwise(
    start: Any,
    e_step: Callable[[Any, Any], tuple[Any, float]],
    m_step: Callable[[Any], Any],
    batches: Iterable[Any],
    *,
    merge: Callable[[Any, Any, float], Any],
    decay: float = 0.6,
) -> Climb:
    """Mini-batch EM (Cappé & Moulines 2009): statistics are a running mean over the batches.

    Parameters:
        e_step: (parameters, batch) -> (statistics per example, objective per example).
        merge: (old statistics, new ones, eta) -> ``(1 - eta) old + eta new``.
        decay: eta = (t + 2)^-decay at batch t, in (0.5, 1]: the later, the less a batch changes.

    The objective is each batch's own, before it is learnt from: it is noisy, and may fall.
    """
    if not 0.5 < decay <= 1:
        raise ValueError(f"decay is in (0.5, 1], not {decay!r}")
    climb, statistics = Climb(start), None
    for t, batch in enumerate(batches):
        new, objective = e_step(climb.parameters, batch)
        if not math.isfinite(objective):
            raise ValueError(f"the objective of batch {t} is {float(objective)}: an observation has probability zero")
        climb.objective.append(float(objective))
        statistics = new if statistics is None else merge(statistics, new, (t + 2) ** -decay)
        climb.parameters = m_step(statistics)
    return climb
