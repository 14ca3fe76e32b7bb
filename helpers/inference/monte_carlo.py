"""Markov chain Monte Carlo on a log-density known up to a constant, or on its score alone; and what tells good chains.

Every sampler moves C chains at once. A log-density takes points (C, D) and gives nats (C,), −inf where there is no
mass; a score takes the same and gives its gradient (C, D), by autograd where it is not given. A NaN or +inf is an error
that names the step; a trajectory that leaves the finite numbers counts as a proposal that was refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

Density = Callable[[Tensor], Tensor]
Propose = Callable[[Tensor, "Generator | None"], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Chains:
    """Where C chains went: ``x`` (steps, C, D), and the mean ``acceptance`` probability of each chain (C,)."""

    x: Tensor
    acceptance: Tensor


@dataclass(frozen=True)
class Annealed:
    """The end of annealed importance sampling: ``x`` (C, D), ``log_weights`` (C,) and ``acceptance`` (C,)."""

    x: Tensor
    log_weights: Tensor
    acceptance: Tensor

    def log_normaliser(self) -> tuple[float, float]:
        """log of the mean weight, which estimates log(Z / Z of the base), and its standard error (delta method).

        The mean weight is unbiased for the ratio itself; by Jensen's inequality its logarithm lies below on average.
        Of one chain alone the standard error is not known: infinity.
        """
        log_mean = torch.logsumexp(self.log_weights, 0) - math.log(len(self.log_weights))
        if not torch.isfinite(log_mean):
            raise ValueError("every weight is zero: no chain reached the density; use more temperatures")
        relative, n = (self.log_weights - log_mean).exp(), len(self.log_weights)
        return log_mean.item(), (relative.std() / n**0.5).item() if n > 1 else math.inf


def metropolis_hastings(
    log_density: Density,
    start: Tensor,
    steps: int,
    *,
    scale: float = 1.0,
    propose: Propose | None = None,
    generator: Generator | None = None,
) -> Chains:
    """Metropolis–Hastings (Hastings 1970): a random walk with normal steps of standard deviation ``scale``.

    ``propose`` replaces the walk: (x, generator) -> proposals y (C, D) and log q(x | y) − log q(y | x) (C,).
    """
    x = _checked(start, steps, scale=scale)
    propose = propose or (lambda x, g: (x + scale * _normal(x, g), x.new_zeros(len(x))))
    log_p = _possible(_value(log_density, x, "at the start"))
    kept, accepted = [], torch.zeros_like(log_p)
    for step in range(steps):
        y, correction = propose(x, generator)
        if y.shape != x.shape or correction.shape != log_p.shape or torch.isnan(correction).any():
            wanted = f"points {tuple(x.shape)} and a log-ratio ({len(x)},) without NaN"
            raise ValueError(f"propose in step {step}: got {_say(y)} and {_say(correction)}, wanted {wanted}")
        log_p_y = _value(log_density, y, f"at a proposal of step {step}")
        x, log_p, taken = _accept(x, log_p, y, log_p_y, log_p_y - log_p + correction, generator)
        accepted += taken
        kept.append(x)
    return Chains(torch.stack(kept), accepted / steps)


def gibbs(
    updates: Sequence[Callable[[Tensor, Generator | None], Tensor]],
    start: Tensor,
    steps: int,
    *,
    generator: Generator | None = None,
) -> Chains:
    """Gibbs sampling (Geman & Geman 1984): in each step every update once, in order.

    An update (x, generator) -> x (C, D) draws some coordinates from their distribution given all the others.
    """
    x = _checked(start, steps)
    if not updates:
        raise ValueError("gibbs: got no update, wanted one for each block of coordinates")
    kept = []
    for step in range(steps):
        for i, update in enumerate(updates):
            y = update(x, generator)
            if y.shape != x.shape or not torch.isfinite(y).all():
                raise ValueError(f"update {i} in step {step}: got {_say(y)}, wanted finite numbers {tuple(x.shape)}")
            x = y
        kept.append(x)
    return Chains(torch.stack(kept), torch.ones(len(x), dtype=x.dtype, device=x.device))


def unadjusted_langevin(
    score: Density, start: Tensor, steps: int, step_size: float, *, generator: Generator | None = None
) -> Chains:
    """Langevin's walk x + ε s(x) + √(2ε) ξ, every step taken: it needs the score alone, and is biased by O(ε)."""
    x, kept = _checked(start, steps, step_size=step_size), []
    for step in range(steps):
        slope = score(x)
        if slope.shape != x.shape or torch.isnan(slope).any():
            raise ValueError(f"the score in step {step}: got {_say(slope)}, wanted {tuple(x.shape)} without NaN")
        x = x + step_size * slope + math.sqrt(2 * step_size) * _normal(x, generator)
        if not torch.isfinite(x).all():
            raise ValueError(f"a chain left the finite numbers in step {step}: take a step_size below {step_size:g}")
        kept.append(x)
    return Chains(torch.stack(kept), torch.ones(len(x), dtype=x.dtype, device=x.device))


def adjusted_langevin(
    log_density: Density,
    start: Tensor,
    steps: int,
    step_size: float,
    *,
    score: Density | None = None,
    generator: Generator | None = None,
) -> Chains:
    """Metropolis-adjusted Langevin (Roberts & Tweedie 1996): Langevin's step as a proposal; no bias is left."""
    x = _checked(start, steps, step_size=step_size)
    both = _with_score(log_density, score)
    log_p, slope = both(x, "at the start")
    _possible(log_p)
    kept, accepted = [], torch.zeros_like(log_p)
    for step in range(steps):
        y = x + step_size * slope + math.sqrt(2 * step_size) * _normal(x, generator)
        lost = ~torch.isfinite(y).all(-1)
        y = torch.where(lost[:, None], x, y)
        log_p_y, slope_y = both(y, f"at a proposal of step {step}")
        there = ((y - x - step_size * slope) ** 2).sum(-1)
        back = ((x - y - step_size * slope_y) ** 2).sum(-1)
        log_ratio = (log_p_y - log_p + (there - back) / (4 * step_size)).masked_fill(lost, -math.inf)
        old = x
        x, log_p, taken = _accept(x, log_p, y, log_p_y, log_ratio, generator)
        slope = torch.where((x != old).any(-1, keepdim=True), slope_y, slope)
        accepted += taken
        kept.append(x)
    return Chains(torch.stack(kept), accepted / steps)


def hmc(
    log_density: Density,
    start: Tensor,
    steps: int,
    step_size: float,
    leapfrog: int | tuple[int, int],
    *,
    score: Density | None = None,
    generator: Generator | None = None,
) -> Chains:
    """Hamiltonian Monte Carlo (Duane et al. 1987; Neal 2011) with unit mass, ``leapfrog`` + 1 gradients a step.

    ``leapfrog`` may be a range (low, high): then each step draws its number, so that no coordinate whose period is that
    of the trajectory keeps returning to its start.
    """
    x = _checked(start, steps, step_size=step_size)
    low, high = leapfrog if isinstance(leapfrog, tuple) and len(leapfrog) == 2 else (leapfrog, leapfrog)
    if any(isinstance(n, bool) or not isinstance(n, int) for n in (low, high)) or not 1 <= low <= high:
        raise ValueError(f"leapfrog is a whole number from 1, or a range of two, not {leapfrog!r}")
    both = _with_score(log_density, score)
    log_p = _possible(both(x, "at the start")[0])
    kept, accepted = [], torch.zeros_like(log_p)
    for step in range(steps):
        count = low if low == high else int(torch.randint(low, high + 1, (), generator=generator, device=x.device))
        x, log_p, taken = _hmc_step(both, x, step_size, count, generator, f"in step {step}")
        accepted += taken
        kept.append(x)
    return Chains(torch.stack(kept), accepted / steps)


def _hmc_step(both, x, step_size, leapfrog, generator, where):
    log_p, slope = both(x, where)
    momentum = _normal(x, generator)
    energy = 0.5 * (momentum**2).sum(-1) - log_p
    y, lost = x, torch.zeros(len(x), dtype=torch.bool, device=x.device)
    momentum = momentum + 0.5 * step_size * slope
    for i in range(leapfrog):
        y = y + step_size * momentum
        lost |= ~torch.isfinite(y).all(-1)
        y = torch.where(lost[:, None], x, y)  # where it went does not matter any more
        log_p_y, slope = both(y, where)
        momentum = momentum + (1.0 if i < leapfrog - 1 else 0.5) * step_size * slope
    log_ratio = energy - 0.5 * (momentum**2).sum(-1) + log_p_y
    log_ratio = torch.where(lost | torch.isnan(log_ratio), -math.inf, log_ratio)
    return _accept(x, log_p, y, log_p_y, log_ratio, generator)


def annealed_importance(
    log_density: Density,
    log_base: Density,
    start: Tensor,
    betas: Sequence[float] | Tensor,
    *,
    step_size: float,
    leapfrog: int = 5,
    generator: Generator | None = None,
) -> Annealed:
    """Annealed importance sampling (Neal 2001) along the geometric path base^(1 − β) density^β, with one HMC step each.

    Parameters:
        log_base: the *normalised* log-density from which ``start`` (C, D) was drawn independently.
        betas: rising from 0 to 1.

    The mean of exp(``log_weights``) is an unbiased estimate of the normaliser of exp(``log_density``).
    """
    betas = [float(b) for b in betas]
    if len(betas) < 2 or betas[0] != 0 or betas[-1] != 1 or any(b <= a for a, b in zip(betas, betas[1:], strict=False)):
        raise ValueError(f"betas rise from 0 to 1, got {betas[:3]} … {betas[-3:]}")
    x = _checked(start, len(betas) - 1, step_size=step_size)
    _possible(_value(log_base, x, "of the base at the start"))
    log_w, accepted = x.new_zeros(len(x)), x.new_zeros(len(x))
    for before, beta in zip(betas, betas[1:], strict=False):
        gain = _value(log_density, x, f"at β = {before:g}") - _value(log_base, x, f"of the base at β = {before:g}")
        log_w = log_w + (beta - before) * gain

        def tempered(x, beta=beta):
            return beta * log_density(x) + (0 if beta == 1 else (1 - beta) * log_base(x))

        x, _, taken = _hmc_step(_with_score(tempered, None), x, step_size, leapfrog, generator, f"at β = {beta:g}")
        accepted = accepted + taken
    return Annealed(x, log_w, accepted / (len(betas) - 1))


# What tells good chains


def effective_sample_size(x: Tensor) -> Tensor:
    """How many independent draws give the mean of ``x`` (steps, C, …) as precisely; one number for each of ….

    The autocorrelation of C chains together (Gelman et al. 2013, section 11.5), summed over Geyer's initial monotone
    sequence (1992). Chains that disagree lower it. A coordinate that never moves: ``ValueError``.
    """
    x = _draws(x)
    steps, chains = x.shape[:2]
    centred = x - x.mean(0)
    power = torch.fft.rfft(centred, n=2 * steps, dim=0).abs() ** 2
    covariance = torch.fft.irfft(power, n=2 * steps, dim=0)[:steps].mean(1) / steps  # (steps, …), mean over chains
    within = covariance[0] * steps / (steps - 1)
    total = covariance[0] + (x.mean(0).var(0) if chains > 1 else 0)
    rho = 1 - (within - covariance) / total
    rho[0] = 1.0
    pairs = rho[: steps // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    alive = (pairs > 0).long().cumprod(0)
    pairs = pairs.cummin(0).values * alive
    length = (2 * pairs.sum(0) - 1).clamp_min(1 / math.log10(max(steps * chains, 11)))  # antithetic chains: bounded
    return steps * chains / length


def r_hat(x: Tensor) -> Tensor:
    """Split R̂ of ``x`` (steps, C, …), one number for each of …: near 1 if the halves of all chains agree.

    Gelman et al. (2013), section 11.4: the root of the pooled variance over the mean variance within half a chain.
    """
    x = _draws(x)
    half = len(x) // 2
    halves = torch.cat([x[:half], x[len(x) - half :]], 1)
    within = halves.var(0).mean(0)
    return ((half - 1) / half + halves.mean(0).var(0) / within).sqrt()


def _draws(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim < 2 or len(x) < 4 or 0 in x.shape or not x.is_floating_point():
        raise ValueError(f"got {_say(x)}, wanted floating-point draws (steps, chains, …), 4 steps or more")
    if not torch.isfinite(x).all():
        raise ValueError("got draws that are NaN or infinite")
    x = x.double()
    if (x == x[:1]).all(0).any():
        raise ValueError("a coordinate of a chain never moves: its autocorrelation is not defined")
    return x


# What the samplers share


def score_of(log_density: Density) -> Density:
    """The score x (C, D) -> ∇ log p(x) (C, D), by autograd."""

    def score(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(log_density(x).sum(), x)[0]

    return score


def _with_score(log_density: Density, score: Density | None):
    def both(x: Tensor, where: str) -> tuple[Tensor, Tensor]:
        if score is not None:
            value, slope = _value(log_density, x, where), score(x)
        else:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                value = log_density(x)
                (slope,) = torch.autograd.grad(value.sum(), x)
            value = _value(lambda _: value.detach(), x, where)
        slope = slope.masked_fill(value[:, None] == -math.inf, 0.0)
        if slope.shape != x.shape or torch.isnan(slope).any():
            raise ValueError(f"the score {where}: got {_say(slope)}, wanted {tuple(x.shape)} without NaN")
        return value, slope

    return both


def _value(log_density: Density, x: Tensor, where: str) -> Tensor:
    value = log_density(x)
    if not isinstance(value, Tensor) or value.shape != x.shape[:1]:
        raise ValueError(f"the log-density {where}: got {_say(value)}, wanted ({len(x)},), one number for each chain")
    if torch.isnan(value).any() or (value == math.inf).any():
        raise ValueError(f"the log-density {where} is NaN or +inf at {x[~(value < math.inf)][0].tolist()}")
    return value


def _possible(log_p: Tensor) -> Tensor:
    if (log_p == -math.inf).any():
        raise ValueError(f"{int((log_p == -math.inf).sum())} chains start where the density is zero")
    return log_p


def _checked(start: Tensor, steps: int, **positive: float) -> Tensor:
    if not isinstance(start, Tensor) or start.ndim != 2 or 0 in start.shape or not start.is_floating_point():
        raise ValueError(f"start: got {_say(start)}, wanted floating-point points (chains, dimension)")
    if not torch.isfinite(start).all():
        raise ValueError("start: got NaN or infinity, wanted finite points")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps is a whole number from 1, not {steps!r}")
    for name, value in positive.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is a positive number, not {value!r}")
    return start.detach()


def _accept(x, log_p, y, log_p_y, log_ratio, generator):
    """Each chain moves with probability min(1, exp(log_ratio)): new points, their log-densities, that probability."""
    chance = log_ratio.clamp_max(0).exp()
    moved = torch.rand(chance.shape, generator=generator, dtype=x.dtype, device=x.device) < chance
    return torch.where(moved[:, None], y, x), torch.where(moved, log_p_y, log_p), chance


def _normal(x: Tensor, generator: Generator | None) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def _say(x) -> str:
    return f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
