"""Variational inference with a Gaussian q, for any log-density that autograd can differentiate.

It raises the bound ELBO(q) = E_q[log p(x, z)] + H(q) = log p(x) − KL(q ‖ posterior), in nats (Jordan et al. 1999;
Kucukelbir et al. 2017). Coordinate ascent for a model of its own: :mod:`helpers.inference.bayesian_mixture`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

Density = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GaussianFit:
    """B Gaussians q_b = N(mean, factor factorᵀ): ``mean`` (B, D), lower-triangular ``factor`` (B, D, D).

    ``history`` (steps, B): noisy ELBOs on the way, in nats.
    """

    mean: Tensor
    factor: Tensor
    history: Tensor

    @property
    def covariance(self) -> Tensor:
        return self.factor @ self.factor.mT

    def log_weights(self, log_density: Density, n: int, *, generator: Generator | None = None) -> Tensor:
        """log p(z) − log q(z) at ``n`` draws of q, (n, B) nats: their mean estimates the ELBO, and the logarithm of
        the mean of their exponentials is the importance-weighted bound (Burda et al. 2016)."""
        noise = _noise(_whole("n", n), self.mean, generator)
        z = _place(self.mean, self.factor, noise)
        with torch.no_grad():
            return _value(log_density, z, "at a draw") - _log_normal(z - self.mean, self.factor)


def gaussian_vi(
    log_density: Density,
    start: Tensor,
    *,
    covariance: str = "full",
    width: float = 1.0,
    steps: int = 500,
    draws: int = 16,
    learning_rate: float = 0.05,
    generator: Generator | None = None,
) -> GaussianFit:
    """Raise E_q[log_density] + H(q) for B Gaussians at once by pathwise gradients (Kucukelbir et al. 2017).

    Parameters:
        log_density: points (S, B, D) -> nats (S, B), up to a constant each; finite everywhere, since q reaches there.
        start: means (B, D); ``width``: the first standard deviation, and the unit in which the means move.
        covariance: "full", or "diagonal" for mean field.
        draws: points a step, an even number: each comes with its mirror image, which cancels odd errors.
        learning_rate: of Adam at the first step; it falls to 0 as a cosine.
    """
    if not isinstance(start, Tensor) or start.ndim != 2 or not start.is_floating_point() or start.numel() == 0:
        raise ValueError(f"start is means (B, D) of floating-point numbers, not {_say(start)}")
    if not start.isfinite().all():
        raise ValueError("start holds NaN or infinity")
    if covariance not in ("full", "diagonal"):
        raise ValueError(f"covariance is full or diagonal, not {covariance!r}")
    if _whole("draws", draws) % 2:
        raise ValueError(f"draws is an even number, not {draws}")
    width, rate = _positive("width", width), _positive("learning_rate", learning_rate)
    start = start.detach()
    moved, log_diagonal = torch.zeros_like(start, requires_grad=True), torch.zeros_like(start, requires_grad=True)
    below = start.new_zeros(*start.shape, start.shape[1], requires_grad=True)

    def q() -> tuple[Tensor, Tensor]:
        lower = below.tril(-1) if covariance == "full" else 0.0
        return start + width * moved, width * (lower + torch.diag_embed(log_diagonal.exp()))

    optimizer = torch.optim.Adam([moved, log_diagonal, below][: 3 if covariance == "full" else 2], lr=rate)
    history = []
    for step in range(_whole("steps", steps)):
        mean, factor = q()
        half = _noise(draws // 2, start, generator)
        z = _place(mean, factor, torch.cat([half, -half]))
        log_p = _value(log_density, z, f"in step {step}")
        if not log_p.requires_grad:
            raise ValueError("log_density has no slope in z: it is constant, or autograd does not follow it")
        # The gradient goes through z alone: that of log q in its own parameters has mean zero, and without it nothing
        # fluctuates where q is the posterior (Roeder et al. 2017).
        elbo = (log_p - _log_normal(z - mean.detach(), factor.detach())).mean(0)
        optimizer.param_groups[0]["lr"] = 0.5 * rate * (1 + math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        (-elbo.sum()).backward()
        optimizer.step()
        history.append(elbo.detach())
    mean, factor = (part.detach() for part in q())
    if not (mean.isfinite().all() and factor.isfinite().all()):
        raise ValueError("q left the finite numbers: has the density a finite integral? Take a smaller learning_rate")
    return GaussianFit(mean, factor, torch.stack(history))


def _noise(n: int, like: Tensor, generator: Generator | None) -> Tensor:
    return torch.randn(n, *like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _place(mean: Tensor, factor: Tensor, noise: Tensor) -> Tensor:  # (S, B, D), with the draws as columns
    return mean + (factor @ noise.permute(1, 2, 0)).permute(2, 0, 1)


def _value(log_density: Density, z: Tensor, where: str) -> Tensor:
    value = log_density(z)
    if not isinstance(value, Tensor) or value.shape != z.shape[:2]:
        raise ValueError(f"log_density gives one number a point, {tuple(z.shape[:2])}, not {_say(value)}")
    if not value.isfinite().all():
        raise ValueError(f"log_density is {value[~value.isfinite()][0].item()} {where}: a Gaussian reaches everywhere")
    return value


def _log_normal(r: Tensor, factor: Tensor) -> Tensor:  # of residuals (S, B, D)
    white = torch.linalg.solve_triangular(factor, r.permute(1, 2, 0), upper=False).permute(2, 0, 1)
    return -(0.5 * white**2 + factor.diagonal(dim1=-2, dim2=-1).log() + 0.5 * math.log(2 * math.pi)).sum(-1)


def _say(value) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _whole(name: str, value) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is a whole number from 1, not {value!r}")
    return value


def _positive(name: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} is a positive number, not {value!r}")
    return float(value)
