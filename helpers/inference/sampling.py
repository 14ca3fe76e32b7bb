"""Draws from one distribution made of draws from another: inversion, rejection, importance (von Neumann 1951).

Densities are callables that give logarithms: ``log_target(x)`` (N,) nats for points ``x`` (N, ...), up to a constant,
-inf where the density is zero. ``proposal(n, generator)`` draws n points, and ``log_proposal(x)`` is their normalised
log-density. Ancestral sampling, the fourth way, is what ``sample`` of the sequence models and of the Bayesian network
does: it needs the model's own conditionals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LogDensity = Callable[[Tensor], Tensor]
Proposal = Callable[[int, torch.Generator | None], Tensor]


def _count(name: str, n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"{name} is a whole number from 1, not {n!r}")
    return n


def _log_ratio(log_target: LogDensity, log_proposal: LogDensity, x: Tensor) -> Tensor:
    """log target − log proposal at points that the proposal drew, (N,) float64; -inf where the target is zero."""
    target, own = log_target(x), log_proposal(x)
    for name, value in (("log_target", target), ("log_proposal", own)):
        if value.shape != x.shape[:1]:
            raise ValueError(f"{name} gives one number a point, ({len(x)},), not {tuple(value.shape)}")
        if value.isnan().any() or (value == math.inf).any():
            raise ValueError(f"{name} is {value[~(value < math.inf)][0]} at a point that was drawn")
    if not own.isfinite().all():
        raise ValueError("the proposal drew a point that log_proposal calls impossible")
    return target.double() - own.double()


def inversion(inverse_cdf: Callable[[Tensor], Tensor], n: int, *, generator: torch.Generator | None = None) -> Tensor:
    """``n`` draws F⁻¹(u), u uniform on (0, 1): float64, exact for any F. ValueError: an inverse that is NaN."""
    u = torch.rand(_count("n", n), dtype=torch.float64, generator=generator)
    x = inverse_cdf(u.clamp_(min=2.0**-54))  # rand gives 0, never 1; a quantile at 0 may be infinite
    if x.shape != u.shape or x.isnan().any():
        got = "nan" if x.shape == u.shape else f"shape {tuple(x.shape)}"
        raise ValueError(
            f"the inverse of a cumulative distribution gives one number each for ({n},) of them; got {got}"
        )
    return x


@dataclass(frozen=True)
class Accepted:
    """``x`` (n, ...): exact, independent draws of the target; ``proposals``: how many points were drawn for them."""

    x: Tensor
    proposals: int

    @property
    def acceptance(self) -> float:
        """The accepted share; its expectation is normaliser of the target / bound."""
        return len(self.x) / self.proposals


@torch.no_grad()
def rejection(
    log_target: LogDensity,
    proposal: Proposal,
    log_proposal: LogDensity,
    n: int,
    *,
    log_bound: float,
    limit: int = 10_000_000,
    generator: torch.Generator | None = None,
) -> Accepted:
    """``n`` draws: a proposed point x is kept with probability target(x) / (M · proposal(x)), M = exp(log_bound).

    Raises:
        ValueError: a point where the target exceeds M times the proposal (the draws would be wrong), a density that is
            NaN, or fewer than ``n`` points accepted among ``limit``.
    """
    if not math.isfinite(log_bound):
        raise ValueError(f"log_bound is a finite number, not {log_bound!r}")
    kept, accepted, proposed, size = [], 0, 0, _count("n", n)
    while accepted < n:
        if proposed >= limit:
            raise ValueError(f"{accepted} of {proposed:,} proposals were accepted, {n} are wanted: a better proposal?")
        size = min(size, limit - proposed, 1_000_000)
        x = proposal(size, generator)
        excess = _log_ratio(log_target, log_proposal, x) - log_bound
        if excess.max() > 1e-9:
            where = x[excess.argmax()].tolist()
            raise ValueError(f"the target is {excess.max().exp():.4g} times the bound at {where}: raise log_bound")
        u = torch.rand(size, dtype=torch.float64, device=x.device, generator=generator)
        places = (u.log() < excess).nonzero()[:, 0][: n - accepted]
        kept.append(x[places])
        accepted += len(places)
        proposed += size if accepted < n else int(places[-1]) + 1  # what comes after the last one was not needed
        size = math.ceil(1.1 * (n - accepted) * proposed / max(accepted, 1)) + 100
    return Accepted(torch.cat(kept), proposed)


@dataclass(frozen=True)
class Weighted:
    """Points of the proposal ``x`` (n, ...) with ``log_weights`` (n,) = log target − log proposal."""

    x: Tensor
    log_weights: Tensor

    @property
    def weights(self) -> Tensor:
        """(n,), summing to 1."""
        return self.log_weights.softmax(0)

    @property
    def effective_size(self) -> float:
        """1 / Σ w² for weights that sum to 1 (Kong 1992): so many equal weights would be worth as much, from 1 to n.

        It sees the points drawn only: where the proposal misses a part of the target, it stays large.
        """
        return 1 / float(self.weights.square().sum())

    @property
    def log_normaliser(self) -> float:
        """log of the mean weight: the mean itself is an unbiased estimate of ∫ target."""
        return float(self.log_weights.logsumexp(0)) - math.log(len(self.x))

    def mean(self, f: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Self-normalised estimate of E[f(x)] under the target, and its standard error (delta method).

        ``f`` gives (n,) or (n, D). The estimate is biased by O(1/n); the error is worthless if the weights have no
        finite variance.
        """
        values, w = f(self.x).double(), self.weights
        if values.shape[:1] != w.shape or not values[w > 0].isfinite().all():
            raise ValueError(f"f gives finite numbers for {len(w)} points; got shape {tuple(values.shape)}")
        w = w.view(-1, *[1] * (values.ndim - 1))
        values = values.where(w > 0, 0.0)  # where the target is zero, f may be anything, nan too
        mean = (w * values).sum(0)
        return mean, (w * (values - mean)).square().sum(0).sqrt()

    def resample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` points drawn by weight, with repetitions: about draws of the target, no better than the weights."""
        return self.x[torch.multinomial(self.weights, _count("n", n), replacement=True, generator=generator)]


@torch.no_grad()
def importance(
    log_target: LogDensity,
    proposal: Proposal,
    log_proposal: LogDensity,
    n: int,
    *,
    generator: torch.Generator | None = None,
) -> Weighted:
    """``n`` points of the proposal, weighted by target / proposal. ValueError: NaN, or every weight zero."""
    x = proposal(_count("n", n), generator)
    log_weights = _log_ratio(log_target, log_proposal, x)
    if (log_weights == -math.inf).all():
        raise ValueError(f"the target is zero at all {n} points of the proposal: they do not overlap")
    return Weighted(x, log_weights)
