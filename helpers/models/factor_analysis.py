"""Factor analysis: a normal latent variable, a linear map, and noise of its own for each coordinate; learnt by EM.

Rubin & Thayer (1982), "EM algorithms for ML factor analysis", Psychometrika 47. What it shares with
:class:`helpers.models.ppca.PPCA` is here too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.inference.em import Climb, em
from helpers.models.base import GenerativeModel
from helpers.models.checks import finite, no_condition, whole_number


class Linear(NamedTuple):
    """x = weight z + mean + noise^½ ε: weight (D, K), and the noise's variance of each coordinate (D,)."""

    weight: Tensor
    noise: Tensor

    def gain(self) -> tuple[Tensor, Tensor, Tensor]:
        """E[z | x] = gain (x − mean), (K, D); cov[z | x] = M⁻¹, M = I + Wᵀ Ψ⁻¹ W, (K, K); log |W Wᵀ + Ψ|."""
        scaled = self.weight / self.noise[:, None]  # Ψ⁻¹ W
        precision = self.weight.T @ scaled
        precision.diagonal().add_(1)
        root = torch.linalg.cholesky(precision)
        log_det = self.noise.log().sum() + 2 * root.diagonal().log().sum()
        return torch.cholesky_solve(scaled.T, root), torch.cholesky_inverse(root), log_det

    def e_step(self, covariance: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        """From the data's covariance S (D, D): the means of (x − mean) zᵀ, (D, K), of z zᵀ, (K, K), and of
        (x − mean)², (D,); and the mean log-likelihood of a point, in nats."""
        gain, spread, log_det = self.gain()
        cross = covariance @ gain.T
        variance = covariance.diagonal()
        distance = (variance / self.noise).sum() - (self.weight / self.noise[:, None] * cross).sum()  # tr C⁻¹ S
        log_likelihood = -0.5 * (distance + log_det + len(self.noise) * math.log(2 * math.pi))
        return (cross, spread + gain @ cross, variance), log_likelihood

    @staticmethod
    def m_step(statistics: tuple[Tensor, Tensor, Tensor]) -> Linear:
        """The regression of x on z, and what it leaves of each coordinate's variance."""
        cross, second, variance = statistics
        weight = torch.linalg.solve(second, cross.T).T
        return Linear(weight, (variance - (weight * cross).sum(1)).clamp(min=0))


def best_weight(covariance: Tensor, noise: Tensor, latents: int) -> Tensor:
    """The W (D, K) that maximises the likelihood for a given noise (D,): Lawley (1940).

    Measured in units of the noise's standard deviation, the coordinates have equal noise, and PPCA's solution holds.
    """
    unit = noise.sqrt()
    values, vectors = torch.linalg.eigh(covariance / unit[:, None] / unit)  # ascending
    stretch = (values[-latents:].flip(0) - 1).clamp(min=0).sqrt()
    return unit[:, None] * vectors[:, -latents:].flip(1) * stretch


class LinearGaussian(GenerativeModel):
    """x = W z + mean + Ψ^½ ε with z ~ N(0, I) and ε ~ N(0, I), so that x ~ N(mean, W Wᵀ + Ψ), Ψ diagonal; float64.

    Buffers ``mean`` (D,) and ``weight`` (D, K); a subclass says what its ``noise`` (D,) is, and learns. Data are real:
    ``log_prob`` is a log-density, in nats, that depends on the unit in which x is measured.

    Parameters:
        dimensions: coordinates D of one example; latents: coordinates K of z, 1 <= K < D.
    """

    noise: Tensor

    def __init__(self, dimensions: int, latents: int = 2):
        super().__init__()
        if not 1 <= whole_number("latents", latents, 0) < whole_number("dimensions", dimensions, 1):
            raise ValueError(f"latents is from 1 to {dimensions - 1} for {dimensions} dimensions, not {latents}")
        self.config, self.climb = dict(dimensions=dimensions, latents=latents), Climb(None)
        self.register_buffer("mean", torch.zeros(dimensions, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros(dimensions, latents, dtype=torch.float64))

    @classmethod
    def from_data(cls, x: Tensor, latents: int = 2, **options):
        if not isinstance(x, Tensor) or x.ndim != 2 or not x.is_floating_point():
            raise ValueError(f"{cls.__name__} learns from real points (N, D), not {describe(x)}")
        return cls(x.shape[1], latents, **options)

    @property
    def parameters_now(self) -> Linear:
        return Linear(self.weight, self.noise)

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """log N(x; mean, W Wᵀ + Ψ) in nats, (batch,), by Woodbury's identity: K×K matrices instead of D×D."""
        unit = self.noise.sqrt()
        scaled = (self._check(x, condition) - self.mean).div_(unit)
        _, spread, log_det = self.parameters_now.gain()
        shared = scaled @ (self.weight / unit[:, None])  # Wᵀ Ψ⁻¹ (x − mean), (batch, K)
        distance = torch.einsum("nd,nd->n", scaled, scaled) - ((shared @ spread) * shared).sum(1)
        distance = distance.nan_to_num(nan=math.inf, posinf=math.inf)  # inf − inf, of points beyond 1e150: density 0
        return -0.5 * (distance + log_det + scaled.shape[1] * math.log(2 * math.pi))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """p(z given x) = N(M⁻¹ Wᵀ Ψ⁻¹ (x − mean), M⁻¹), M = I + Wᵀ Ψ⁻¹ W: means (batch, K), covariance (K, K)."""
        gain, covariance, _ = self.parameters_now.gain()
        return (self._check(x, None) - self.mean) @ gain.T, covariance

    def sample(self, n: int, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` points (n, D), float32."""
        no_condition(self, condition)
        n = whole_number("n", n, 1)
        like = dict(generator=generator, device=self.device, dtype=torch.float64)
        z, noise = torch.randn(n, self.weight.shape[1], **like), torch.randn(n, len(self.mean), **like)
        return (self.mean + z @ self.weight.T + self.noise.sqrt() * noise).float()

    def _learn(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor]:
        """The mean of the data (D,), and their covariance (D, D)."""
        x = self._check(x, condition)
        mean = x.mean(0)
        centred = x - mean
        return mean, centred.T @ centred / len(x)

    def _random_start(self, covariance: Tensor, generator: torch.Generator | None) -> Linear:
        """A random W; half of each coordinate's variance, or of the mean one where there is none, as noise."""
        variance = covariance.diagonal()
        like = dict(generator=generator, device=self.device, dtype=torch.float64)
        weight = torch.randn(self.weight.shape, **like) * (variance[:, None] / (2 * self.weight.shape[1])).sqrt()
        return Linear(weight, torch.where(variance > 0, variance, variance.mean()) / 2)

    def _check(self, x: Tensor, condition: Tensor | None) -> Tensor:
        no_condition(self, condition)
        d = self.config["dimensions"]
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 2 or x.shape[1] != d or len(x) == 0:
            raise ValueError(f"x is real points (N, {d}), not {describe(x)}")
        if not finite(x):
            raise ValueError("x is finite, but this holds nan or inf")
        return x.to(self.device).double()


class FactorAnalysis(LinearGaussian):
    """:class:`LinearGaussian` with a noise variance of its own for each coordinate (buffer ``noise``).

    Unlike PPCA it does not mind the units: a coordinate measured in another unit changes its row of W and its noise
    by that unit, and no posterior.

    Parameters:
        ridge: of the log-prior −(ridge/2) tr Ψ⁻¹ of a point, in units of the data's mean variance; it keeps noise from
            vanishing. 0: maximum likelihood; then a coordinate that the others determine ends the fit with a
            ValueError (Heywood's case).
    """

    def __init__(self, dimensions: int, latents: int = 2, ridge: float = 1e-6):
        super().__init__(dimensions, latents)
        if not 0 <= ridge < math.inf:
            raise ValueError(f"ridge is a finite number from 0, not {ridge!r}")
        self.config["ridge"] = ridge
        self.register_buffer("noise", torch.ones(dimensions, dtype=torch.float64))

    @torch.no_grad()
    def fit(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        *,
        steps: int = 1000,
        tolerance: float = 1e-8,
        plain: bool = False,
        resume: bool = False,
        generator: torch.Generator | None = None,
    ) -> FactorAnalysis:
        """EM on points ``x`` (N, D); ``self.climb`` tells how it went, its objective in nats per point.

        Parameters:
            steps, tolerance: see :func:`helpers.inference.em.em`.
            plain: the M step of EM as it is. By default W is then replaced by the best one for the new noise (Liu &
                Rubin 1994), which climbs no less surely and far faster.
            resume: start from the parameters as they are; else from a random W.

        Raises:
            ValueError: bad points, all of them the same, or a noise variance that fell to 0 (without ridge).
        """
        mean, covariance = self._learn(x, condition)
        scale = float(covariance.diagonal().mean())
        if not scale > 0:
            raise ValueError("all points are the same: no density fits them")
        ridge, k = self.config["ridge"] * scale, self.config["latents"]

        def e_step(linear: Linear):
            if not (linear.noise > 1e-12 * scale).all():
                which = int(linear.noise.argmin())
                raise ValueError(f"coordinate {which} has no noise left: it follows from the others (ridge 0)")
            statistics, objective = linear.e_step(covariance)
            return statistics, objective - 0.5 * ridge * (1 / linear.noise).sum()

        def m_step(statistics) -> Linear:
            weight, noise = Linear.m_step(statistics)
            noise = noise + ridge
            if plain or not (noise > 0).all():
                return Linear(weight, noise)
            return Linear(best_weight(covariance, noise, k), noise)

        start = self.parameters_now if resume else self._random_start(covariance, generator)
        self.climb = em(start, e_step, m_step, steps=steps, tolerance=tolerance)
        self.mean, (self.weight, self.noise) = mean, self.climb.parameters
        return self


def describe(x) -> str:
    return f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__


FAMILY = FactorAnalysis
