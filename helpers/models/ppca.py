"""Probabilistic principal component analysis: the linear latent variable model, solved in closed form, or by EM.

Tipping & Bishop (1999), "Probabilistic principal component analysis", J. R. Statist. Soc. B 61.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.inference.em import em
from helpers.models.factor_analysis import Linear, LinearGaussian


class PPCA(LinearGaussian):
    """x = W z + mean + σ ε with z ~ N(0, I) and ε ~ N(0, I), so that x ~ N(mean, C), C = W Wᵀ + σ² I.

    ``fit`` maximises the likelihood exactly (equations 7 and 8 of the paper), ``fit_em`` climbs to the same maximum. It
    is the reference for a VAE with a linear decoder, whose bound meets this model's ``log_prob`` at the optimum.
    """

    def __init__(self, dimensions: int, latents: int = 2):
        super().__init__(dimensions, latents)
        self.register_buffer("variance", torch.ones((), dtype=torch.float64))  # σ²

    @property
    def noise(self) -> Tensor:
        return self.variance.expand(len(self.mean))

    @torch.no_grad()
    def fit(self, x: Tensor, condition: Tensor | None = None) -> PPCA:
        """The maximum of the likelihood of ``x`` (N, D): from the eigenvectors of the covariance, largest first."""
        self.mean, covariance = self._learn(x, condition)
        values, vectors = torch.linalg.eigh(covariance)  # ascending
        k = self.config["latents"]
        self.variance = values[:-k].mean()  # what the discarded directions hold, shared among all
        if self.variance <= 1e-12 * values[-1].clamp(min=1e-300):
            raise ValueError(f"{len(x)} examples span at most {k} directions: no noise is left to model")
        self.weight = vectors[:, -k:].flip(1) * (values[-k:].flip(0) - self.variance).clamp(min=0).sqrt()
        return self

    @torch.no_grad()
    def fit_em(
        self,
        x: Tensor,
        *,
        steps: int = 1000,
        tolerance: float = 1e-8,
        resume: bool = False,
        generator: torch.Generator | None = None,
    ) -> PPCA:
        """EM (appendix B of the paper); W ends at a rotation of the one that ``fit`` finds.

        Parameters and ``self.climb`` as in :meth:`helpers.models.factor_analysis.FactorAnalysis.fit`.
        """
        mean, covariance = self._learn(x, None)
        scale = float(covariance.diagonal().mean())

        def e_step(linear: Linear):
            if not linear.noise[0] > 1e-12 * scale:
                raise ValueError(f"{len(x)} examples lie in {linear.weight.shape[1]} directions: no noise is left")
            return linear.e_step(covariance)

        def m_step(statistics) -> Linear:
            weight, noise = Linear.m_step(statistics)
            return Linear(weight, noise.mean().expand(len(noise)))

        start = self.parameters_now if resume else self._random_start(covariance, generator)
        start = Linear(start.weight, start.noise.mean().expand(len(mean)))
        self.climb = em(start, e_step, m_step, steps=steps, tolerance=tolerance)
        self.mean, self.weight, self.variance = mean, self.climb.parameters.weight, self.climb.parameters.noise[0]
        return self


FAMILY = PPCA
