"""Probabilistic principal component analysis: the linear latent variable model, solved in closed form.

Tipping & Bishop (1999), "Probabilistic principal component analysis", J. R. Statist. Soc. B 61.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from helpers.models.base import GenerativeModel


class PPCA(GenerativeModel):
    """x = W z + mean + σ ε with z ~ N(0, I) and ε ~ N(0, I), so that x ~ N(mean, C), C = W Wᵀ + σ² I.

    ``fit`` maximises the likelihood exactly (equations 7 and 8 of the paper). It is the reference for a VAE with a
    linear decoder, whose bound meets this model's ``log_prob`` at the optimum. Data are real: ``log_prob`` is a log
    density, in nats, that depends on the unit in which x is measured.

    Parameters:
        dimensions: coordinates D of one example; latents: coordinates K of z, 1 <= K < D.
    """

    def __init__(self, dimensions: int, latents: int = 2):
        super().__init__()
        if not 1 <= latents < dimensions:
            raise ValueError(f"latents is from 1 to {dimensions - 1} for {dimensions} dimensions, not {latents}")
        self.config = dict(dimensions=dimensions, latents=latents)
        self.mean = nn.Parameter(torch.zeros(dimensions), requires_grad=False)
        self.weight = nn.Parameter(torch.zeros(dimensions, latents), requires_grad=False)  # W
        self.variance = nn.Parameter(torch.ones(()), requires_grad=False)  # σ²

    @classmethod
    def from_data(cls, x: Tensor, latents: int = 2) -> PPCA:
        if not isinstance(x, Tensor) or x.ndim != 2 or not x.is_floating_point():
            raise ValueError(f"PPCA learns from real points (N, D), not {describe(x)}")
        return cls(x.shape[1], latents)

    def fit(self, x: Tensor, condition: Tensor | None = None) -> PPCA:
        """The maximum of the likelihood of ``x`` (N, D): from the eigenvectors of the covariance, largest first."""
        x = self._check(x, condition).double()
        mean = x.mean(0)
        values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))  # ascending
        k = self.config["latents"]
        variance = values[:-k].mean()  # what the discarded directions hold, shared among all
        if variance <= 1e-12 * values[-1].clamp(min=1e-300):
            raise ValueError(f"{len(x)} examples span at most {k} directions: no noise is left to model")
        self.mean.copy_(mean)
        self.weight.copy_(vectors[:, -k:].flip(1) * (values[-k:].flip(0) - variance).clamp(min=0).sqrt())
        self.variance.copy_(variance)
        return self

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """log N(x; mean, C) in nats, (batch,), by Woodbury's identity: K×K matrices instead of D×D."""
        x = self._check(x, condition)
        d, k = self.config["dimensions"], self.config["latents"]
        centred, root = x - self.mean, torch.linalg.cholesky(self._m())
        a = torch.linalg.solve_triangular(root, (centred @ self.weight).T, upper=False)  # (K, batch)
        distance = (centred.square().sum(1) - a.square().sum(0)) / self.variance
        log_det = 2 * root.diagonal().log().sum() + (d - k) * self.variance.log()
        return -0.5 * (distance + log_det + d * math.log(2 * math.pi))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """p(z given x) = N(M⁻¹ Wᵀ (x − mean), σ² M⁻¹), M = Wᵀ W + σ² I: means (batch, K), covariance (K, K)."""
        inverse = torch.linalg.inv(self._m())
        return (self._check(x, None) - self.mean) @ self.weight @ inverse, self.variance * inverse

    def sample(self, n: int, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` points (n, D)."""
        if condition is not None or isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"sample takes a whole number of examples from 1, and no condition; got {n!r}")
        like = dict(generator=generator, device=self.device, dtype=self.mean.dtype)
        z, noise = torch.randn(n, self.weight.shape[1], **like), torch.randn(n, len(self.mean), **like)
        return self.mean + z @ self.weight.T + self.variance.sqrt() * noise

    def _m(self) -> Tensor:
        return self.weight.T @ self.weight + self.variance * torch.eye(self.weight.shape[1], device=self.device)

    def _check(self, x: Tensor, condition: Tensor | None) -> Tensor:
        if condition is not None:
            raise ValueError("PPCA takes no condition")
        d = self.config["dimensions"]
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 2 or x.shape[1] != d or len(x) == 0:
            raise ValueError(f"x is real points (N, {d}), not {describe(x)}")
        if not x.isfinite().all():
            raise ValueError("x is finite, but this holds nan or inf")
        return x


def describe(x) -> str:
    return f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__


FAMILY = PPCA
