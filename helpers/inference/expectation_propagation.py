"""Assumed-density filtering and expectation propagation (Minka 2001), with Gaussian sites in natural parameters.

The target is p(w) ∝ N(w; m₀, V₀) Π_n t_n(A_n w): w has D dimensions, and factor n looks at u = A_n w alone, K of them.
Its stand-in, the *site*, is c_n exp(r_n·u − ½ uᵀ P_n u), with a precision P_n (K, K) that may be negative and a shift
r_n (K,). What differs between models is one callable, that of the tilted moments:

    moments(mean (B, K), covariance (B, K, K), where (B,)) -> log Z (B,), mean (B, K), covariance (B, K, K)

For each factor t_n, n in ``where``, it multiplies N(u; mean, covariance) by t_n, and gives the log of the integral in
nats, and mean and covariance of the normalised product. All is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Moments = Callable[[Tensor, Tensor, Tensor], "tuple[Tensor, Tensor, Tensor]"]  # its attribute ``of``, if any: (N, K)


@dataclass(frozen=True)
class Approximation:
    """N(w; ``mean`` (D,), ``covariance`` (D, D)) in place of the posterior, and how it was reached.

    ``log_evidence``: the approximate log ∫ N(w; m₀, V₀) Π t_n dw in nats, no bound; None where a cavity is improper.
    ``precision`` (N, K, K), ``shift`` (N, K): the sites. ``mismatch`` (sweeps,): how far apart the moments of tilted
    and approximate distribution were in each sweep, at most: means in standard deviations, covariances relative.
    ``converged``: whether that fell to the tolerance; ``message`` says so, or what went wrong and what to try.
    """

    mean: Tensor
    covariance: Tensor
    log_evidence: float | None
    precision: Tensor
    shift: Tensor
    mismatch: Tensor
    converged: bool
    message: str


def expectation_propagation(
    moments: Moments,
    projections: Tensor,
    prior_mean: Tensor,
    prior_covariance: Tensor,
    *,
    parallel: bool = False,
    step: float = 1.0,
    sweeps: int = 100,
    tolerance: float = 1e-6,
    order: Sequence[int] | Tensor | None = None,
) -> Approximation:
    """Expectation propagation: refine each site until tilted and approximate distribution have the same moments.

    Parameters:
        moments: the tilted moments, as above. projections: A, (N, K, D), or (N, D) for K = 1.
        prior_mean: (D,). prior_covariance: (D, D), positive definite.
        parallel: all sites from the same approximation, in place of one after the other in ``order``.
        step: how far each site moves towards its match, above 0 and up to 1; below 1 the updates are *damped*.
        sweeps: at most so many visits to every site. tolerance: of the mismatch at which it ends.

    A site whose cavity is improper (no positive definite precision) is passed over in that sweep. A parallel update
    that leaves no proper approximation is undone and ends the run. Neither raises: read ``converged``.

    Raises:
        ValueError: bad input, or moments that are none.
    """
    return _run(moments, projections, prior_mean, prior_covariance, parallel, step, sweeps, tolerance, order)[0]


def assumed_density_filtering(
    moments: Moments,
    projections: Tensor,
    prior_mean: Tensor,
    prior_covariance: Tensor,
    *,
    order: Sequence[int] | Tensor | None = None,
) -> Approximation:
    """One pass over the factors in ``order``, each absorbed by matching moments, and never looked at again.

    ``log_evidence`` is the sum of the log-normalisers met on the way. ``converged`` is False: nothing is iterated.
    """
    done, log_z = _run(moments, projections, prior_mean, prior_covariance, False, 1.0, 1, 0.0, order)
    return replace(done, log_evidence=log_z, converged=False, message="one pass over the factors; no fixed point")


def _run(moments, projections, prior_mean, prior_covariance, parallel, step, sweeps, tolerance, order):
    A, m0, V0, order = _checked(projections, prior_mean, prior_covariance, step, sweeps, tolerance, order)
    n, k, _ = A.shape
    if (of := getattr(moments, "of", (n, k))) != (n, k):
        raise ValueError(f"moments of {of[0]} factors of {of[1]} numbers, projections of {n} factors of {k}")
    P, r = A.new_zeros(n, k, k), A.new_zeros(n, k)
    prior = torch.linalg.inv(V0), torch.linalg.solve(V0, m0)
    mean, cov = m0, V0
    mismatch, on_the_way, trouble, improper = [], 0.0, "", 0
    for sweep in range(1, sweeps + 1):
        Q, h = _natural(prior, A, P, r)
        apart, improper = 0.0, 0
        for where in [order] if parallel else order.split(1):
            u_mean, u_cov = _marginals(A[where], mean, cov)
            c_precision, c_shift, proper = _cavity(u_mean, u_cov, P[where], r[where])
            improper += int((~proper).sum())
            if not proper.any():
                continue
            kept = (where, u_mean, u_cov, c_precision, c_shift)
            where, u_mean, u_cov, c_precision, c_shift = (value[proper] for value in kept)
            log_z, t_mean, t_cov = _tilted(moments, *_mean_form(c_precision, c_shift), where, f"in sweep {sweep}")
            on_the_way += float(log_z.sum())
            apart = max(apart, _apart(t_mean, t_cov, u_mean, u_cov))
            t_precision = torch.linalg.inv(t_cov)
            change_P = step * (t_precision - c_precision - P[where])
            change_r = step * ((t_precision @ t_mean[..., None])[..., 0] - c_shift - r[where])
            Q = Q + torch.einsum("nkd,nkl,nle->de", A[where], change_P, A[where])
            h = h + torch.einsum("nkd,nk->d", A[where], change_r)
            new = _proper(Q, h)
            if new is None:
                trouble = f"in sweep {sweep} the approximation lost its positive precision: damp it, step < {step:g}"
                break
            mean, cov = new
            P[where] += change_P
            r[where] += change_r
        mismatch.append(apart)
        if trouble or (apart <= tolerance and not improper):
            break
    mean, cov = _proper(*_natural(prior, A, P, r)) or (mean, cov)  # sheds the rounding of the last sweep
    good = not trouble and not improper and mismatch[-1] <= tolerance
    count = f"{len(mismatch)} sweep{'s' * (len(mismatch) > 1)}"
    left = f"the moments still differ by {mismatch[-1]:.2g}, wanted {tolerance:.2g}"
    skipped = f", and {improper} of {n} cavities are improper" if improper else ""
    hint = "more sweeps or a smaller step" if step > 0.1 else "more sweeps; the posterior may be far from Gaussian"
    message = f"converged in {count}" if good else f"not converged after {count}: "
    message += "" if good else trouble or f"{left}{skipped}; try {hint}"
    evidence = _log_evidence(moments, A, m0, V0, mean, cov, P, r)
    return Approximation(mean, cov, evidence, P, r, torch.tensor(mismatch), good, message), on_the_way


def _natural(prior, A, P, r) -> tuple[Tensor, Tensor]:
    """Precision (D, D) and shift (D,) of prior times sites."""
    return prior[0] + torch.einsum("nkd,nkl,nle->de", A, P, A), prior[1] + torch.einsum("nkd,nk->d", A, r)


def _proper(Q: Tensor, h: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and covariance from precision and shift; None where the precision is not positive definite."""
    root, fault = torch.linalg.cholesky_ex(0.5 * (Q + Q.T))
    if fault or not torch.isfinite(root).all():
        return None
    cov = torch.cholesky_inverse(root)
    return cov @ h, cov


def _marginals(A, mean, cov):  # of each u = A_n w: (B, K), (B, K, K)
    return A @ mean, A @ cov @ A.mT


def _cavity(u_mean, u_cov, P, r):
    """The approximation without the site: precision, shift, and whether that is a distribution."""
    inverse = torch.linalg.inv(u_cov)
    precision = inverse - P
    least = torch.linalg.eigvalsh(0.5 * (precision + precision.mT))[..., 0]
    proper = least > 1e-10 * inverse.diagonal(dim1=-2, dim2=-1).amax(-1)
    return precision, (inverse @ u_mean[..., None])[..., 0] - r, proper


def _mean_form(precision, shift):
    cov = torch.linalg.inv(precision)
    return (cov @ shift[..., None])[..., 0], 0.5 * (cov + cov.mT)


def _tilted(moments, c_mean, c_cov, where, when):
    log_z, mean, cov = moments(c_mean, c_cov, where)
    for name, value, like in (("log Z", log_z, where), ("mean", mean, c_mean), ("covariance", cov, c_cov)):
        if not isinstance(value, Tensor) or value.shape != like.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"moments {when}: got {name} {got}, wanted {tuple(like.shape)}")
    fine = torch.isfinite(log_z) & torch.isfinite(mean).all(-1) & torch.isfinite(cov).all(-1).all(-1)
    fine[fine.clone()] = torch.linalg.eigvalsh(cov[fine])[..., 0] > 0
    if not fine.all():
        i = int((~fine).nonzero()[0])
        raise ValueError(
            f"moments {when}: factor {int(where[i])} gives log Z {float(log_z[i]):g}, mean {mean[i].tolist()}, "
            f"covariance {cov[i].tolist()}; wanted finite numbers and a positive definite covariance"
        )
    return log_z, mean, cov


def _apart(t_mean, t_cov, u_mean, u_cov) -> float:
    """The largest difference of the moments, in the approximation's standard deviations and relative."""
    root = torch.linalg.cholesky(u_cov)
    of_mean = torch.linalg.solve_triangular(root, (t_mean - u_mean)[..., None], upper=False)
    half = torch.linalg.solve_triangular(root, t_cov, upper=False)
    of_cov = torch.linalg.solve_triangular(root, half.mT, upper=False) - torch.eye(root.shape[-1], dtype=root.dtype)
    return max(float(of_mean.abs().max()), float(of_cov.abs().max()))


def log_partition(mean: Tensor, cov: Tensor) -> Tensor:
    """log ∫ exp(r·u − ½ uᵀ P u) du in nats, (…,), for P = cov⁻¹ (…, K, K) and r = cov⁻¹ mean: Φ in the chapter."""
    square = (mean * torch.linalg.solve(cov, mean[..., None])[..., 0]).sum(-1)
    return 0.5 * (mean.shape[-1] * math.log(2 * math.pi) + torch.linalg.slogdet(cov)[1] + square)


def _log_evidence(moments, A, m0, V0, mean, cov, P, r) -> float | None:
    """log Z_EP = Φ(q) − Φ(prior) + Σ_n [log Z_n + Φ(cavity n) − Φ(q)], the last two of the marginals of u."""
    u_mean, u_cov = _marginals(A, mean, cov)
    c_precision, c_shift, proper = _cavity(u_mean, u_cov, P, r)
    if not proper.all():
        return None
    cavity = _mean_form(c_precision, c_shift)
    log_z = _tilted(moments, *cavity, torch.arange(len(A), device=A.device), "at the end")[0]
    sites = (log_z + log_partition(*cavity) - log_partition(u_mean, u_cov)).sum()
    return float(log_partition(mean, cov) - log_partition(m0, V0) + sites)


# Tilted moments of some factors


def clutter(x: Tensor, weight: float = 0.5, variance: float = 10.0) -> Moments:
    """Moments of t_n(θ) = (1 − weight) N(x_n; θ, I) + weight N(x_n; 0, variance I), for ``x`` (N, K): Minka (2001)."""
    x = _floats("x", x, 2)
    if not 0 <= weight < 1 or not 0 < variance < math.inf:
        raise ValueError(f"got weight {weight!r}, variance {variance!r}; wanted 0 ≤ weight < 1, variance positive")
    eye = torch.eye(x.shape[1]).to(x)

    def moments(mean, cov, where):
        off = x[where] - mean
        spread = cov + eye  # of x around the mean
        gain = torch.linalg.solve(spread, cov).mT
        log_signal = _log_normal(off, spread) + math.log1p(-weight)
        log_clutter = _log_normal(x[where], variance * eye) + (math.log(weight) if weight else -math.inf)
        rho = torch.sigmoid(log_signal - log_clutter)[:, None]  # that x_n is no clutter
        moved = (gain @ off[..., None])[..., 0]
        bend = (rho * (1 - rho))[..., None] * moved[:, :, None] * moved[:, None]
        tilted = cov - rho[..., None] * (gain @ cov) + bend
        return torch.logaddexp(log_signal, log_clutter), mean + rho * moved, 0.5 * (tilted + tilted.mT)

    moments.of = tuple(x.shape)
    return moments


def probit(y: Tensor) -> Moments:
    """Moments of t_n(u) = Φ(y_n u), Φ the normal distribution function, y (N,) of ±1: Rasmussen & Williams, (3.58)."""
    y = _floats("y", y, 1)
    if not (y.abs() == 1).all():
        raise ValueError(f"labels of a probit are −1 and 1, got {sorted(set(y.tolist()))[:4]}")

    def moments(mean, cov, where):
        v, sign = cov[:, 0, 0], y[where]
        z = sign * mean[:, 0] / (1 + v).sqrt()
        ratio = math.sqrt(2 / math.pi) / torch.special.erfcx(-z / math.sqrt(2))  # N(z)/Φ(z)
        bend = torch.where(z < -2000, 1 - z**-2.0, ratio * (z + ratio))  # far out the sum cancels
        new = mean[:, 0] + sign * v * ratio / (1 + v).sqrt()
        return torch.special.log_ndtr(z), new[:, None], (v - v**2 * bend / (1 + v))[:, None, None]

    moments.of = len(y), 1
    return moments


def _log_normal(off: Tensor, cov: Tensor) -> Tensor:
    square = (off * torch.linalg.solve(cov.expand(*off.shape, off.shape[-1]), off[..., None])[..., 0]).sum(-1)
    return -0.5 * (square + torch.linalg.slogdet(cov)[1] + off.shape[-1] * math.log(2 * math.pi))


# Checks


def _floats(name: str, value, ndim: int) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim != ndim or 0 in value.shape or value.is_complex():
        got = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name}: got {got}, wanted a tensor of real numbers with {ndim} dimensions, none of them 0")
    if not torch.isfinite(value).all():
        raise ValueError(f"{name}: got NaN or infinity, wanted finite numbers")
    return value.detach().double()


def _whole(name: str, value, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is a whole number from {least}, not {value!r}")


def _checked(projections, prior_mean, prior_covariance, step, sweeps, tolerance, order):
    if isinstance(projections, Tensor) and projections.ndim == 2:
        projections = projections[:, None]
    A, m0 = _floats("projections", projections, 3), _floats("prior_mean", prior_mean, 1)
    V0 = _floats("prior_covariance", prior_covariance, 2)
    n, _, d = A.shape
    if m0.shape != (d,) or V0.shape != (d, d):
        raise ValueError(f"prior: got {tuple(m0.shape)} and {tuple(V0.shape)}, wanted ({d},) and ({d}, {d})")
    if not torch.allclose(V0, V0.T) or torch.linalg.cholesky_ex(V0)[1]:
        raise ValueError("prior_covariance is not symmetric and positive definite")
    if (torch.linalg.svdvals(A)[:, -1] == 0).any() or A.shape[1] > d:
        raise ValueError("projections: a factor looks at directions that are zero or linearly dependent")
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step <= 1:
        raise ValueError(f"step is above 0 and at most 1, not {step!r}")
    _whole("sweeps", sweeps, 1)
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance is a number from 0, not {tolerance!r}")
    order = list(range(n)) if order is None else order.tolist() if isinstance(order, Tensor) else list(order)
    if sorted(order) != list(range(n)):
        raise ValueError(f"order names each of the {n} factors once, got {order[:6]} …")
    return A, m0, V0, torch.tensor([int(i) for i in order], device=A.device)
