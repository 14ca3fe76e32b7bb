"""Five conjugate pairs: a prior whose posterior is of its own kind, so that learning is addition.

Each class is a distribution of parameters, prior or posterior alike: ``update`` with data gives the posterior,
``log_evidence`` the log-probability of these data *in their order* with the parameters integrated out, and
``log_predictive`` that of one new example, both in nats.

Everything broadcasts: parameters have any shape (…), data sets lie in the leading dimensions. Results are float64.
Equations: chapter *Maximum likelihood and Bayes*; Gelman et al. (2013), chapters 2, 3. Bad input: ``ValueError``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)
Numbers = Tensor | float


class _Conjugate:
    # Turns the fields into finite float64 tensors, all of them positive except a location m
    def __post_init__(self):
        for field in fields(self):
            value = _numbers(field.name, getattr(self, field.name), positive=field.name != "m")
            object.__setattr__(self, field.name, value)


@dataclass(frozen=True)
class DirichletCategorical(_Conjugate):
    """Probabilities π (…, K) ~ Dirichlet(alpha (…, K)); an example is one of K symbols."""

    alpha: Tensor

    def __post_init__(self):
        super().__post_init__()
        if self.alpha.ndim < 1 or self.alpha.shape[-1] < 2:
            raise ValueError(f"alpha has one number for each of 2 symbols or more; got {_say(self.alpha)}")

    def update(self, counts: Tensor) -> DirichletCategorical:
        """Dirichlet(alpha + counts), from how often each symbol was seen, (…, K); equation (4.7)."""
        counts = _numbers("counts", counts, whole=True)
        if counts.ndim < 1 or counts.shape[-1] != self.alpha.shape[-1]:
            raise ValueError(f"counts end in {self.alpha.shape[-1]} symbols; got {_say(counts)}")
        return DirichletCategorical(self.alpha + counts)

    @property
    def mean(self) -> Tensor:
        """(…, K), also the probability of each symbol to come next; with alpha = 1 it is add-one smoothing."""
        return self.alpha / self.alpha.sum(-1, keepdim=True)

    @property
    def mode(self) -> Tensor:
        """The MAP estimate of π (…, K); ValueError where the density has no single highest point."""
        if (self.alpha < 1).any() or (self.alpha == 1).all(-1).any():
            raise ValueError(f"one highest point needs all of alpha ≥ 1, and one above; got {_say(self.alpha)}")
        return (self.alpha - 1) / (self.alpha - 1).sum(-1, keepdim=True)

    def log_evidence(self, counts: Tensor) -> Tensor:
        return _log_beta(self.update(counts).alpha) - _log_beta(self.alpha)


@dataclass(frozen=True)
class BetaBernoulli(_Conjugate):
    """p ~ Beta(a, b), which is Dirichlet(a, b) of (p, 1 − p); an example is 1 with probability p, else 0."""

    a: Numbers
    b: Numbers

    def update(self, ones: Numbers, zeros: Numbers) -> BetaBernoulli:
        """Beta(a + ones, b + zeros), from how often each was seen; equation (4.6)."""
        return BetaBernoulli(self.a + _numbers("ones", ones, whole=True), self.b + _numbers("zeros", zeros, whole=True))

    @property
    def mean(self) -> Tensor:
        """Also the probability that the next example is 1."""
        return self.a / (self.a + self.b)

    @property
    def mode(self) -> Tensor:
        """The MAP estimate of p; ValueError where the density has no single highest point."""
        return self._both.mode[..., 0]

    def log_evidence(self, ones: Numbers, zeros: Numbers) -> Tensor:
        return _log_beta(self.update(ones, zeros)._both.alpha) - _log_beta(self._both.alpha)

    @property
    def _both(self) -> DirichletCategorical:
        return DirichletCategorical(torch.stack(torch.broadcast_tensors(self.a, self.b), -1))


@dataclass(frozen=True)
class GammaPoisson(_Conjugate):
    """A rate λ ~ Gamma(shape a, rate b); an example is Poisson(λ)."""

    a: Numbers
    b: Numbers

    def update(self, x: Tensor) -> GammaPoisson:
        """Gamma(a + Σx, b + N), from counts x (…, N); equation (4.8)."""
        x = _numbers("x", x, whole=True, many=True)
        return GammaPoisson(self.a + x.sum(-1), self.b + x.shape[-1])

    @property
    def mean(self) -> Tensor:
        return self.a / self.b

    def log_evidence(self, x: Tensor) -> Tensor:
        return _log_gamma_ratio(self, self.update(x)) - (_numbers("x", x) + 1).lgamma().sum(-1)

    def log_predictive(self, x: Numbers) -> Tensor:
        """Negative binomial."""
        return self.log_evidence(_numbers("x", x)[..., None])


@dataclass(frozen=True)
class NormalKnownVariance(_Conjugate):
    """μ ~ N(m, v); an example is N(μ, noise), of known variance ``noise``."""

    m: Numbers
    v: Numbers
    noise: Numbers

    def update(self, x: Tensor) -> NormalKnownVariance:
        """From x (…, N): precisions add, 1/v + N/noise, and the mean is weighted by them; equation (4.9)."""
        x = _numbers("x", x, many=True)
        v = 1 / (1 / self.v + x.shape[-1] / self.noise)
        return NormalKnownVariance(v * (self.m / self.v + x.sum(-1) / self.noise), v, self.noise)

    @property
    def mean(self) -> Tensor:
        return self.m

    def log_evidence(self, x: Tensor) -> Tensor:
        after = self.update(x)  # Bayes' rule (4.2) solved for the evidence, at the one place μ = m of the posterior
        likelihood = _log_normal(_numbers("x", x), after.m[..., None], self.noise[..., None]).sum(-1)
        return likelihood + _log_normal(after.m, self.m, self.v) - _log_normal(after.m, after.m, after.v)

    def log_predictive(self, x: Numbers) -> Tensor:
        return _log_normal(_numbers("x", x), self.m, self.v + self.noise)


@dataclass(frozen=True)
class NormalGamma(_Conjugate):
    """Precision τ ~ Gamma(shape a, rate b), μ given τ ~ N(m, 1/(kappa τ)); an example is N(μ, 1/τ)."""

    m: Numbers
    kappa: Numbers
    a: Numbers
    b: Numbers

    def update(self, x: Tensor) -> NormalGamma:
        """From x (…, N): kappa + N, a + N/2, b + ½ Σ(x − x̄)² + ½ kappa N/(kappa + N) (x̄ − m)²; equation (4.10)."""
        x = _numbers("x", x, many=True)
        n, centre = x.shape[-1], x.mean(-1)
        kappa = self.kappa + n
        apart = self.kappa * n / kappa * (centre - self.m) ** 2
        squares = ((x - centre[..., None]) ** 2).sum(-1)
        m = (self.kappa * self.m + n * centre) / kappa
        return NormalGamma(m, kappa, self.a + n / 2, self.b + (squares + apart) / 2)

    def log_evidence(self, x: Tensor) -> Tensor:
        after = self.update(x)
        return _log_gamma_ratio(self, after) + (self.kappa.log() - after.kappa.log() - x.shape[-1] * LOG_2PI) / 2

    def log_predictive(self, x: Numbers) -> Tensor:
        """Student's t with 2a degrees of freedom around m, of squared scale b (kappa + 1) / (a kappa)."""
        return self.log_evidence(_numbers("x", x)[..., None])


def _numbers(name: str, value, *, positive: bool = False, whole: bool = False, many: bool = False) -> Tensor:
    if isinstance(value, bool) or not isinstance(value, Tensor | int | float):
        raise ValueError(f"{name} is a number or a tensor; got {type(value).__name__}")
    value = torch.as_tensor(value)
    if value.is_complex() or value.dtype == torch.bool or value.numel() == 0 or not value.isfinite().all():
        raise ValueError(f"{name}: got {_say(value)}, wanted finite real numbers, at least one")
    if (positive and (value <= 0).any()) or (whole and ((value < 0) | (value != value.round())).any()):
        wanted = "positive numbers" if positive else "whole numbers from 0"
        raise ValueError(f"{name}: got {_say(value)}, wanted {wanted}")
    if many and value.ndim < 1:
        raise ValueError(f"{name} are data (…, N); got the single number {_say(value)}")
    return value.double()


def _log_beta(alpha: Tensor) -> Tensor:
    return alpha.lgamma().sum(-1) - alpha.sum(-1).lgamma()


def _log_gamma_ratio(before, after) -> Tensor:
    return after.a.lgamma() - before.a.lgamma() + before.a * before.b.log() - after.a * after.b.log()


def _log_normal(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return -0.5 * ((x - mean) ** 2 / variance + variance.log() + LOG_2PI)


def _say(value: Tensor) -> str:
    numbers = ", ".join(str(v) for v in value.flatten()[:4].tolist())
    return f"[{numbers}{', …' if value.numel() > 4 else ''}] of shape {tuple(value.shape)}"
