"""Mixtures of Gaussians, learnt by EM: p(x) = Σ_k π_k N(x; μ_k, Σ_k)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.inference.em import Climb, restarts, stepwise
from helpers.models.base import GenerativeModel
from helpers.models.checks import check_points, no_condition, whole_number

KINDS = ("full", "diagonal", "tied")


class Moments(NamedTuple):
    """Weight (K,), mean (K, D) and covariance of K components: (K, D, D) full, (K, D) diagonal, (D, D) tied.

    Both what an E step gathers (the weights sum to 1) and the parameters of a mixture.
    """

    weight: Tensor
    mean: Tensor
    covariance: Tensor


class Gaussians:
    """K Gaussians, ready to score points and to gather moments, chunk by chunk.

    The points are first turned into features from which both follow: whitened residuals y = L_k⁻¹ (x − μ_k) for full
    covariances, so that nothing is lost where a narrow component lies far from the origin; x and x² about the centre
    of the means for diagonal ones, and points whitened once for a tied one, where two matrix products are all.

    Raises:
        ValueError: a covariance that is not positive definite.
    """

    def __init__(self, mean: Tensor, covariance: Tensor, kind: str):
        self.mean, self.kind, (self.k, self.d) = mean, kind, mean.shape
        self.centre = mean.mean(0)
        if kind == "diagonal":
            if not (covariance > 0).all():
                raise ValueError(f"component {int((covariance <= 0).any(1).nonzero()[0])} has a variance of 0")
            self.precision = 1 / covariance
            offset = mean - self.centre
            self.map = torch.cat([self.precision * offset, -0.5 * self.precision], 1)  # (K, 2D)
            log_det, constant = covariance.log().sum(1), (self.precision * offset**2).sum(1)
            self.trace = self.precision.sum(1)
        else:
            self.factor, failed = torch.linalg.cholesky_ex(covariance)
            if failed.any() or not self.factor.isfinite().all():
                which = f"component {int(failed.nonzero()[0])} has" if failed.ndim else "the tied components have"
                raise ValueError(f"{which} a singular covariance: fewer points than dimensions, or no ridge")
            log_det = 2 * self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            eye = torch.eye(self.d, dtype=mean.dtype, device=mean.device).expand_as(covariance)
            whitening = torch.linalg.solve_triangular(self.factor, eye, upper=False)
            self.trace = whitening.square().sum((-2, -1))
            constant = 0.0
            if kind == "full":
                self.map = whitening.reshape(-1, self.d)  # (K·D, D)
                self.bias = -(whitening @ (mean - self.centre)[:, :, None]).reshape(-1, 1)
            else:
                self.whitening, self.map = whitening, (mean - self.centre) @ whitening.T  # (K, D)
                constant = self.map.square().sum(1)
        self.constant = -0.5 * (log_det + constant + self.d * math.log(2 * math.pi))

    @property
    def chunk(self) -> int:
        """Points at once, such that their features fit in a processor's cache."""
        return max(64, 2**18 // (self.k * self.d))

    def features(self, x: Tensor) -> Tensor:
        x = x - self.centre
        if self.kind == "full":
            return torch.addmm(self.bias, self.map, x.T).view(self.k, self.d, len(x))
        return torch.cat([x, x * x], 1) if self.kind == "diagonal" else x @ self.whitening.T

    def log_densities(self, features: Tensor) -> Tensor:
        """(K, B) nats."""
        if self.kind == "full":
            quadratic = features.square().sum(1).mul_(-0.5)
        else:
            quadratic = self.map @ features.T
            if self.kind == "tied":
                quadratic -= 0.5 * features.square().sum(1)
        return quadratic.add_(self.constant[:, None] if self.constant.ndim else self.constant)

    def sums(self, features: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over the points, weighted by ``weights`` (K, B): of 1, of the features, and of their squares."""
        total = weights.sum(1)
        if self.kind == "full":
            weighted = features * weights[:, None]
            return total, weighted.sum(2), weighted @ features.transpose(1, 2)
        first = weights @ features
        if self.kind == "diagonal":
            return total, first[:, : self.d], first[:, self.d :]
        return total, first, (features * weights.sum(0)[:, None]).T @ features

    def moments(self, total: Tensor, first: Tensor, second: Tensor) -> Moments:
        """The moments of the weighted points, from the sums of all chunks."""
        weight = total / total.sum()
        safe = total.clamp(min=1e-300)
        first = first / safe[:, None]
        if self.kind == "full":
            covariance = second / safe[:, None, None] - first[:, :, None] * first[:, None, :]
            covariance = self.factor @ covariance @ self.factor.mT
            return Moments(weight, self.mean + (self.factor @ first[:, :, None])[:, :, 0], covariance)
        if self.kind == "diagonal":
            return Moments(weight, self.centre + first, (second / safe[:, None] - first**2).clamp(min=0))
        within = second / total.sum() - (first * weight[:, None]).T @ first
        return Moments(weight, self.centre + first @ self.factor.T, self.factor @ within @ self.factor.T)


def add_ridge(moments: Moments, ridge: float, kind: str) -> Moments:
    """The M step under the log-prior −(ridge/2K) Σ_k tr Σ_k⁻¹ a point: ridge/(K π_k) on the diagonal of Σ_k.

    It keeps covariances from collapsing, and EM monotone (in the penalised likelihood), which adding a constant would
    not. Tied: −(ridge/2) tr Σ⁻¹.
    """
    weight, mean, covariance = moments
    extra = weight.new_tensor(ridge) if kind == "tied" else ridge / (len(weight) * weight.clamp(min=1e-12))
    if kind == "diagonal":
        return Moments(weight, mean, covariance + extra[:, None])
    covariance = covariance.clone()
    covariance.diagonal(dim1=-2, dim2=-1).add_(extra[..., None])
    return Moments(weight, mean, covariance)


def log_prior(gaussians: Gaussians, ridge: float) -> Tensor:
    """Of a point's share, in nats: see :func:`add_ridge`."""
    return -0.5 * ridge * gaussians.trace.mean()


def merge(old: Moments, new: Moments, eta: float, kind: str) -> Moments:
    """Moments of a crowd of which the share ``1 - eta`` has the old ones and ``eta`` the new ones."""
    a, b = (1 - eta) * old.weight, eta * new.weight
    weight = a + b
    share = b / weight.clamp(min=1e-300)
    step = new.mean - old.mean
    mean = old.mean + share[:, None] * step
    if kind == "tied":
        between = (step * (a * share)[:, None]).T @ step
        return Moments(weight, mean, (1 - eta) * old.covariance + eta * new.covariance + between)
    between = step**2 if kind == "diagonal" else step[:, :, None] * step[:, None, :]
    share = share.reshape(-1, *[1] * (between.ndim - 1))
    return Moments(weight, mean, (1 - share) * old.covariance + share * (new.covariance + (1 - share) * between))


def spread_out_centres(x: Tensor, k: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """k-means++ (Arthur & Vassilvitskii 2007): k points of ``x`` (N, D), each drawn in proportion to its squared
    distance from those before it. Returns them (k, D), and the mean squared distance to the nearest."""
    distance, centres = x.new_ones(len(x)), []
    for i in range(k):
        cumulated = distance.cumsum(0)
        draw = torch.rand((), dtype=x.dtype, device=x.device, generator=generator) * cumulated[-1]
        centres.append(x[torch.searchsorted(cumulated, draw, right=True).clamp(max=len(x) - 1)])
        new = (x - centres[-1]).square().sum(1)
        distance = new if i == 0 else torch.minimum(distance, new)
    return torch.stack(centres), distance.mean()


def spread_out_start(x: Tensor, k: int, kind: str, generator: torch.Generator | None = None) -> Moments:
    """Equal weights, centres by k-means++, and round components as wide as the points lie from their centres."""
    centres, distance = spread_out_centres(x, k, generator)
    variance = distance / x.shape[1] if distance > 0 else x.var(0, correction=0).mean()
    covariance = variance * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    shape = {"full": (k, -1, -1), "tied": (-1, -1), "diagonal": (k, -1)}[kind]
    covariance = (covariance.diagonal() if kind == "diagonal" else covariance).expand(shape).clone()
    return Moments(torch.full((k,), 1 / k, dtype=x.dtype, device=x.device), centres, covariance)


class GaussianMixture(GenerativeModel):
    """p(x) = Σ_k π_k N(x; μ_k, Σ_k), in float64.

    Buffers ``weights`` (K,), ``means`` (K, D), ``covariances``: (K, D, D) "full", (K, D) "diagonal", (D, D) "tied".

    Parameters:
        dimensions: D.
        components: K.
        covariance: "full", "diagonal" or "tied".
        ridge: of the log-prior on the covariances (:func:`add_ridge`), in units of the data's mean variance. 0:
            maximum likelihood; then a component that collapses onto few points ends the fit with a ValueError.
    """

    def __init__(self, dimensions: int, components: int = 16, covariance: str = "full", ridge: float = 1e-6):
        super().__init__()
        self.config = dict(dimensions=dimensions, components=components, covariance=covariance, ridge=ridge)
        d, k = whole_number("dimensions", dimensions, 1), whole_number("components", components, 1)
        if covariance not in KINDS:
            raise ValueError(f"covariance is one of {', '.join(KINDS)}; got {covariance!r}")
        if not 0 <= ridge < math.inf:
            raise ValueError(f"ridge is a finite number from 0, not {ridge!r}")
        self.kind, self.climb = covariance, Climb(None)
        eye = torch.eye(d, dtype=torch.float64)
        start = {"full": eye.expand(k, d, d), "diagonal": eye.diagonal().expand(k, d), "tied": eye}[covariance]
        self.register_buffer("weights", torch.full((k,), 1 / k, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(k, d, dtype=torch.float64))
        self.register_buffer("covariances", start.clone())

    @classmethod
    def from_data(cls, x: Tensor, **options) -> GaussianMixture:
        """For points ``x`` (N, D), real numbers."""
        return cls(check_points(x).shape[1], **options)

    @property
    def parameters_now(self) -> Moments:
        return Moments(self.weights, self.means, self.covariances)

    def _e_step(self, x: Tensor, parameters: Moments, ridge: float) -> tuple[Moments, float]:
        """Moments of the points, weighted by responsibilities; penalised log-likelihood, the mean over the points."""
        gaussians = Gaussians(parameters.mean, parameters.covariance, self.kind)
        log_weight, sums, total = parameters.weight.log()[:, None], None, 0.0
        for part in x.split(gaussians.chunk):
            features = gaussians.features(part)
            joint = gaussians.log_densities(features).add_(log_weight)  # (K, B)
            largest = joint.amax(0)
            responsibilities = joint.sub_(largest).exp_()
            evidence = responsibilities.sum(0)
            responsibilities /= evidence
            total += (largest + evidence.log_()).sum()
            new = gaussians.sums(features, responsibilities)
            sums = new if sums is None else [a.add_(b) for a, b in zip(sums, new, strict=True)]
        return gaussians.moments(*sums), float(total / len(x) + log_prior(gaussians, ridge))

    @torch.no_grad()
    def fit(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        *,
        steps: int = 200,
        tolerance: float = 1e-5,
        batch_size: int | None = None,
        tries: int = 1,
        resume: bool = False,
        generator: torch.Generator | None = None,
    ) -> GaussianMixture:
        """EM on points ``x`` (N, D); ``self.climb`` tells how it went.

        Parameters:
            steps, tolerance: see :func:`helpers.inference.em.em`; the objective is in nats per point.
            batch_size: stepwise EM on batches of so many points, ``steps`` batches in all.
            tries: starts by k-means++, of which the best end is kept.
            resume: start from the parameters as they are.

        Raises:
            ValueError: bad points, fewer points than components, a covariance that became singular.
        """
        no_condition(self, condition)
        x = check_points(x, self.config["dimensions"]).to(self.device)
        k = self.config["components"]
        if len(x) < k:
            raise ValueError(f"{k} components need at least {k} points; got {len(x)}")
        variance = x.var(0, correction=0).mean()
        if not variance > 0:
            raise ValueError("all points are the same: no density fits them")
        ridge = self.config["ridge"] * float(variance)
        if resume:
            starts = [self.parameters_now]
        else:
            starts = [spread_out_start(x, k, self.kind, generator) for _ in range(whole_number("tries", tries, 1))]

        def m_step(moments: Moments) -> Moments:
            return add_ridge(moments, ridge, self.kind)

        if batch_size is None:
            self.climb = restarts(starts, lambda p: self._e_step(x, p, ridge), m_step, steps=steps, tolerance=tolerance)
        else:
            size = min(whole_number("batch_size", batch_size, 1), len(x))

            def batches():
                order = torch.empty(0, dtype=torch.int64)
                for _ in range(whole_number("steps", steps, 0)):
                    if len(order) < size:
                        order = torch.randperm(len(x), device=x.device, generator=generator)
                    yield x[order[:size]]
                    order = order[size:]

            self.climb = stepwise(
                starts[0],
                lambda p, batch: self._e_step(batch, p, ridge),
                m_step,
                batches(),
                merge=lambda old, new, eta: merge(old, new, eta, self.kind),
            )
        self.weights, self.means, self.covariances = self.climb.parameters
        return self

    def _joint(self, x: Tensor) -> Tensor:
        """log π_k + log N(x; μ_k, Σ_k): (N, K)."""
        x = check_points(x, self.config["dimensions"]).to(self.device)
        gaussians = Gaussians(self.means, self.covariances, self.kind)
        parts = [gaussians.log_densities(gaussians.features(part)) for part in x.split(gaussians.chunk)]
        return torch.cat(parts, 1).T + self.weights.log()

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-density of points (N, D): (N,) nats, float64."""
        no_condition(self, condition)
        return self._joint(x).logsumexp(1)

    def posterior(self, x: Tensor) -> Tensor:
        """p(component | x): (N, K), the responsibilities. ValueError: a point so far out that no density is left."""
        joint = self._joint(x)
        gone = joint.amax(1) == -math.inf
        if gone.any():
            raise ValueError(f"point {int(gone.nonzero()[0])} has density 0 in every component: it is too far away")
        return joint.softmax(1)

    @torch.no_grad()
    def sample(self, n: int, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` points (n, D), float32."""
        no_condition(self, condition)
        component = torch.multinomial(self.weights, whole_number("n", n, 1), replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], dtype=torch.float64, device=self.device, generator=generator)
        return draw_points(component, noise, self.means, self.covariances, self.kind).float()


def draw_points(component: Tensor, noise: Tensor, mean: Tensor, covariance: Tensor, kind: str) -> Tensor:
    """Points (n, D) of the given components, from standard normal noise (n, D)."""
    if kind == "diagonal":
        return mean[component] + noise * covariance.sqrt()[component]
    factor = torch.linalg.cholesky(covariance)
    if kind == "tied":
        return mean[component] + noise @ factor.T
    points = torch.empty_like(noise)
    for k in component.unique().tolist():  # a matrix product for each component, not one for each point
        chosen = component == k
        points[chosen] = mean[k] + noise[chosen] @ factor[k].T
    return points


FAMILY = GaussianMixture
