"""A mixture of Gaussians whose parameters are uncertain too: mean-field variational inference by coordinate ascent.

Attias (2000), "A variational Bayesian framework for graphical models"; Bishop (2006), section 10.2. The alternation is
:func:`helpers.inference.em.em`, with the posterior of the parameters in the place of the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from helpers.inference.em import Climb, em, stepwise
from helpers.inference.variational import _positive, _say, _whole


class Beliefs(NamedTuple):
    """What is believed of the parameters: weights ~ Dir(concentration); for each component the precision matrix
    Λ ~ Wishart(degrees, scale⁻¹) and mean | Λ ~ N(mean, (mean_precision Λ)⁻¹).

    Shapes (K,), (K, D), (K,), (K,), (K, D, D); a prior has the same, equal for all components.
    """

    concentration: Tensor
    mean: Tensor
    mean_precision: Tensor
    degrees: Tensor
    scale: Tensor


class Sums(NamedTuple):
    """Means over the points, weighted by responsibilities, of 1 (K,), x (K, D) and x xᵀ (K, D, D)."""

    count: Tensor
    first: Tensor
    second: Tensor


class BayesianMixture:
    """A mixture of K Gaussians whose parameters have a posterior q(weights) Π_k q(mean_k, Λ_k), in float64.

    Priors and their defaults are those of scikit-learn's ``BayesianGaussianMixture`` with full covariances and a
    Dirichlet prior; the bound here has all its constants, so that it lies below the log-evidence log p(x).

    Parameters:
        components: K.
        concentration: α₀ of the symmetric Dirichlet (default 1/K). Below 1 it favours few components.
        mean, mean_precision: m₀ (D,) (default: the data's mean), and β₀: how many points the prior mean is worth.
        degrees, scale: ν₀ > D − 1 (default D), and the matrix S₀ (D, D) (default: the data's covariance).

    Attributes after :meth:`fit`: ``posterior`` (:class:`Beliefs`), ``climb.objective``, the bound in nats of all data.
    """

    def __init__(
        self,
        components: int,
        *,
        concentration: float | None = None,
        mean: Tensor | None = None,
        mean_precision: float = 1.0,
        degrees: float | None = None,
        scale: Tensor | None = None,
    ):
        self.components = _whole("components", components)
        self.concentration = _positive("concentration", 1 / components if concentration is None else concentration)
        self.mean_precision, self.degrees = _positive("mean_precision", mean_precision), degrees
        self.mean, self.scale, self.posterior, self.climb = mean, scale, None, Climb(None)

    def fit(
        self,
        x: Tensor,
        *,
        steps: int = 200,
        tolerance: float = 1e-6,
        start: Tensor | None = None,
        generator: Generator | None = None,
    ) -> BayesianMixture:
        """Coordinate ascent on ``x`` (N, D): responsibilities, then the parameters' posterior, and round.

        ``start``: responsibilities (N, K) to begin with; else points go to the nearest of K points, drawn far apart.
        ``tolerance`` is in nats of all data. A bound that falls is an ``ArithmeticError`` (see :func:`em`).
        """
        x = _points(x)
        start = self._start(x, generator) if start is None else _shares(start, len(x), self.components)
        self.prior = self._prior(x)

        def e_step(beliefs: Beliefs) -> tuple[Sums, float]:
            log_joint = expected_log_joint(beliefs, x)
            return sums(x - self.prior.mean[0], log_joint.softmax(1)), log_joint.logsumexp(1).sum() - divergence(
                beliefs, self.prior
            )

        def m_step(statistics: Sums) -> Beliefs:
            return update(self.prior, statistics, len(x))

        self.climb = em(m_step(sums(x - self.prior.mean[0], start)), e_step, m_step, steps=steps, tolerance=tolerance)
        self.posterior = self.climb.parameters
        return self

    def fit_batches(
        self, x: Tensor, batches: Iterable[Tensor], *, decay: float = 0.7, generator: Generator | None = None
    ) -> BayesianMixture:
        """Stochastic variational inference (Hoffman et al. 2013): each of ``batches`` are indices into ``x`` (N, D).

        The statistics of a batch, scaled up to N points, are mixed into a running mean: a natural-gradient step.
        ``climb.objective`` holds a noisy estimate of the bound for each batch.
        """
        x = _points(x)
        self.prior = self._prior(x)
        first = update(self.prior, sums(x - self.prior.mean[0], self._start(x, generator)), len(x))

        def e_step(beliefs: Beliefs, index: Tensor) -> tuple[Sums, float]:
            log_joint = expected_log_joint(beliefs, x[index])
            bound = log_joint.logsumexp(1).mean() * len(x) - divergence(beliefs, self.prior)
            return sums(x[index] - self.prior.mean[0], log_joint.softmax(1)), bound

        def merge(old: Sums, new: Sums, eta: float) -> Sums:
            return Sums(*((1 - eta) * a + eta * b for a, b in zip(old, new, strict=True)))

        self.climb = stepwise(first, e_step, lambda s: update(self.prior, s, len(x)), batches, merge=merge, decay=decay)
        self.posterior = self.climb.parameters
        return self

    def responsibilities(self, x: Tensor) -> Tensor:
        """q(z_n = k), (N, K)."""
        return expected_log_joint(self._fitted(), self._alike(x)).softmax(1)

    def elbo(self, x: Tensor) -> float:
        """The bound on log p(x) for the fitted q(parameters) and the best responsibilities, nats of all of ``x``."""
        log_joint = expected_log_joint(self._fitted(), self._alike(x))
        return float(log_joint.logsumexp(1).sum() - divergence(self.posterior, self.prior))

    def log_predictive(self, x: Tensor) -> Tensor:
        """log ∫ p(x | parameters) q(parameters), (N,) nats: a mixture of Student's t (Bishop 2006, eq. 10.81)."""
        q = self._fitted()
        x, d = self._alike(x), q.mean.shape[1]
        freedom = q.degrees + 1 - d
        root = torch.linalg.cholesky(q.scale * ((1 + q.mean_precision) / (q.mean_precision * freedom))[:, None, None])
        square = _squares(x, q.mean, root)
        constant = torch.lgamma((freedom + d) / 2) - torch.lgamma(freedom / 2) - d / 2 * torch.log(freedom * math.pi)
        log_t = (
            constant - root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - (freedom + d) / 2 * torch.log1p(square / freedom)
        )
        return (log_t + torch.log(self.weights)).logsumexp(1)

    @property
    def weights(self) -> Tensor:
        """Their posterior mean, (K,)."""
        return self._fitted().concentration / self._fitted().concentration.sum()

    @property
    def means(self) -> Tensor:
        """The posterior mean of the components' means, (K, D)."""
        return self._fitted().mean

    @property
    def covariances(self) -> Tensor:
        """The inverse of the posterior mean of the precision matrices, (K, D, D)."""
        return self._fitted().scale / self._fitted().degrees[:, None, None]

    def _prior(self, x: Tensor) -> Beliefs:
        k, d = self.components, x.shape[1]
        mean = x.mean(0) if self.mean is None else torch.as_tensor(self.mean).to(x)
        scale = torch.cov(x.T).reshape(d, d) if self.scale is None and len(x) > 1 else self.scale
        scale = torch.as_tensor(float("nan") if scale is None else scale).to(x)
        degrees = float(d if self.degrees is None else self.degrees)
        if mean.shape != (d,) or not mean.isfinite().all():
            raise ValueError(f"the prior mean is {d} finite numbers, not {tuple(mean.shape)}")
        if scale.shape != (d, d) or not _positive_definite(scale):
            raise ValueError(f"scale is a positive definite ({d}, {d}) matrix; do the points vary in every direction?")
        if not d - 1 < degrees < math.inf:
            raise ValueError(f"degrees is a number above D − 1 = {d - 1}, not {self.degrees!r}")
        numbers = [x.new_full((k,), v) for v in (self.concentration, self.mean_precision, degrees)]
        return Beliefs(numbers[0], mean.expand(k, d), numbers[1], numbers[2], scale.expand(k, d, d))

    def _start(self, x: Tensor, generator: Generator | None) -> Tensor:
        distance, nearest = x.new_ones(len(x)), x.new_zeros(len(x), dtype=torch.long)
        for k in range(self.components):  # k-means++ (Arthur & Vassilvitskii 2007)
            chosen = x[torch.multinomial(distance + 1e-300, 1, generator=generator)]
            new = (x - chosen).square().sum(1)
            nearest = torch.where(new < distance, k, nearest) if k else nearest
            distance = torch.minimum(new, distance) if k else new
        return torch.nn.functional.one_hot(nearest, self.components).to(x)

    def _fitted(self) -> Beliefs:
        if self.posterior is None:
            raise ValueError("the mixture has not seen data yet: call fit first")
        return self.posterior

    def _alike(self, x: Tensor) -> Tensor:
        x, d = _points(x), self._fitted().mean.shape[1]
        if x.shape[1] != d:
            raise ValueError(f"the mixture has learnt points (N, {d}), not {tuple(x.shape)}")
        return x


def _positive_definite(matrix: Tensor) -> bool:  # with a margin, so that rounding cannot make it singular later
    if not matrix.isfinite().all() or not torch.allclose(matrix, matrix.T):
        return False
    values = torch.linalg.eigvalsh(matrix)
    return bool(values[0] > 1e-11 * values[-1].abs())


def sums(x: Tensor, r: Tensor) -> Sums:
    """Sufficient statistics a point, for ``x`` (N, D) as seen from the prior mean and responsibilities ``r`` (N, K)."""
    return Sums(r.mean(0), r.T @ x / len(x), torch.einsum("nk,nd,ne->kde", r, x, x) / len(x))


def update(prior: Beliefs, statistics: Sums, n: int) -> Beliefs:
    """The best q(parameters) for given responsibilities (Bishop 2006, eqs. 10.58–10.63), for ``n`` points."""
    count = n * statistics.count
    precision = prior.mean_precision + count
    shift = n * statistics.first / precision[:, None]  # from the prior mean
    scale = prior.scale + n * statistics.second - precision[:, None, None] * shift[:, :, None] * shift[:, None, :]
    return Beliefs(prior.concentration + count, prior.mean + shift, precision, prior.degrees + count, scale)


def expected_log_joint(q: Beliefs, x: Tensor) -> Tensor:
    """E_q[log p(x_n, z_n = k | parameters)], (N, K) nats (Bishop 2006, eqs. 10.64–10.66)."""
    d, root = x.shape[1], torch.linalg.cholesky(q.scale)
    log_weight = torch.digamma(q.concentration) - torch.digamma(q.concentration.sum())
    square = d / q.mean_precision + q.degrees * _squares(x, q.mean, root)
    return log_weight + 0.5 * (expected_log_det(q) - d * math.log(2 * math.pi) - square)


def expected_log_det(q: Beliefs) -> Tensor:
    """E_q[log |Λ_k|], (K,)."""
    d = q.mean.shape[1]
    halves = (q.degrees[:, None] - torch.arange(d).to(q.degrees)) / 2
    return torch.digamma(halves).sum(1) + d * math.log(2) - torch.linalg.slogdet(q.scale)[1]


def divergence(q: Beliefs, p: Beliefs) -> Tensor:
    """KL(q ‖ p) of two beliefs about the same components, nats, in closed form."""
    d, log_det = q.mean.shape[1], expected_log_det(q)
    apart = torch.linalg.solve(q.scale, (q.mean - p.mean)[:, :, None])[:, :, 0]
    square = q.degrees * ((q.mean - p.mean) * apart).sum(1)
    ratio = p.mean_precision / q.mean_precision
    of_means = 0.5 * (d * (ratio - 1 - ratio.log()) + p.mean_precision * square)
    trace = torch.linalg.solve(q.scale, p.scale).diagonal(dim1=1, dim2=2).sum(1)
    of_precisions = _wishart_norm(q) - _wishart_norm(p) + 0.5 * (q.degrees - p.degrees) * log_det
    of_precisions = of_precisions + 0.5 * q.degrees * (trace - d)
    dirichlet = [torch.distributions.Dirichlet(b.concentration, validate_args=False) for b in (q, p)]
    return torch.distributions.kl_divergence(*dirichlet) + (of_means + of_precisions).sum()


def _wishart_norm(q: Beliefs) -> Tensor:  # log of the constant before |Λ|^((ν − D − 1)/2) exp(−tr(SΛ)/2)
    d = q.mean.shape[1]
    log_gamma = torch.special.multigammaln(q.degrees / 2, d)
    return 0.5 * q.degrees * (torch.linalg.slogdet(q.scale)[1] - d * math.log(2)) - log_gamma


def _squares(x: Tensor, mean: Tensor, root: Tensor) -> Tensor:  # |root⁻¹ (x − mean)|², (N, K)
    return torch.linalg.solve_triangular(root, (x - mean[:, None]).mT, upper=False).square().sum(1).T


def _points(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim != 2 or not x.is_floating_point() or x.numel() == 0:
        raise ValueError(f"points are floating-point numbers (N, D), at least one; got {_say(x)}")
    x = x.double()
    if not x.square().sum().isfinite():
        raise ValueError("points are finite, with finite squares; these hold NaN, infinity or numbers beyond 1e150")
    return x


def _shares(r: Tensor, n: int, k: int) -> Tensor:
    if not isinstance(r, Tensor) or r.shape != (n, k) or not r.is_floating_point():
        raise ValueError(f"start is responsibilities ({n}, {k}), not {_say(r)}")
    if not (r >= 0).all() or not torch.allclose(r.sum(1).double(), torch.ones(n, dtype=torch.float64, device=r.device)):
        raise ValueError("the responsibilities of a point are from 0 and sum to 1")
    return r.double()
