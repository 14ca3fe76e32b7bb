"""How far two distributions are apart: of tables in nats, of samples in the units of the data or of a kernel.

Equation numbers are those of the chapter *Likelihood, entropy and divergence*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def entropy(p: Tensor) -> Tensor:
    """H(p) = −Σ p log p in nats, over the last dimension of tables (..., K); equation (2.2)."""
    return torch.special.entr(_table(p, "p")).sum(-1)


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    """H(p, q) = −Σ p log q in nats, over the last dimension; infinite where q lacks what p has; equation (2.3)."""
    p, q = _two_tables(p, q)
    return -torch.special.xlogy(p, q).sum(-1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ p log(p / q) in nats, over the last dimension; infinite where q lacks what p has; (2.4).

    Never negative: where p and q are nearly equal, what rounding leaves below 0 is 0.
    """
    p, q = _two_tables(p, q)
    return (torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum(-1).clamp_min(0)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """JS(p, q) = ½ KL(p ‖ m) + ½ KL(q ‖ m) with m = (p + q) / 2, from 0 to log 2 nats; equation (2.6)."""
    p, q = _two_tables(p, q)
    middle = (p + q) / 2
    return (kl(p, middle) + kl(q, middle)) / 2


def wasserstein_1(x: Tensor, y: Tensor) -> Tensor:
    """W₁ between two samples on the line, x (N,) and y (M,), in their unit: the area between their two distribution
    functions, equation (2.7). Differentiable in both samples, costs a sort."""
    x, y = _sample(x, "x", 1), _sample(y, "y", 1)
    both, order = torch.cat([x, y]).sort()
    step = torch.cat([x.new_full((len(x),), 1 / len(x)), y.new_full((len(y),), -1 / len(y))])
    between = step[order].cumsum(0)[:-1]  # F − G on each interval between neighbours
    return (between.abs() * both.diff()).sum()


@dataclass(frozen=True)
class Estimate:
    """An estimate and its standard error."""

    value: float
    se: float

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.se:.2g}"


def gaussian_kernel(bandwidth: float) -> Callable[[Tensor, Tensor], Tensor]:
    """k(a, b) = exp(−‖a − b‖² / 2h²), from points (N, D) and (M, D) to (N, M); h in the unit of the data."""
    if isinstance(bandwidth, bool) or not isinstance(bandwidth, int | float) or not 0 < bandwidth < math.inf:
        raise ValueError(f"a bandwidth is a positive number, not {bandwidth!r}")
    exact = "donot_use_mm_for_euclid_dist"  # ‖a‖² + ‖b‖² − 2 a·b loses all digits of points far from the origin
    return lambda a, b: torch.exp(-torch.cdist(a, b, compute_mode=exact).square() / (2 * bandwidth**2))


def mmd2(x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor]) -> Estimate:
    """Squared maximum mean discrepancy of two samples, x (N, D) and y (M, D), without bias; equation (2.9).

    The estimate is Gretton et al. (2012), equation 3, and may be negative. Its standard error counts both parts of
    the variance of a U-statistic: the linear one, which vanishes where the distributions are equal, and the
    quadratic one, which then remains; it is never below the second. ``kernel`` takes (N, D) and (M, D) to (N, M): see
    :func:`gaussian_kernel`.
    """
    x, y = _sample(x, "x", 2), _sample(y, "y", 2)
    if x.shape[1] != y.shape[1] or min(len(x), len(y)) < 3:
        raise ValueError(f"two samples of 3 or more points of one dimension are needed, not {x.shape} and {y.shape}")
    if x.dtype != y.dtype:
        raise ValueError(f"two samples of one dtype are needed, not {x.dtype} and {y.dtype}")
    n, m = len(x), len(y)
    k_xx, k_yy, k_xy = _kernel(kernel, x, x), _kernel(kernel, y, y), _kernel(kernel, x, y)
    k_xx, k_yy = k_xx.fill_diagonal_(0), k_yy.fill_diagonal_(0)
    row_x, row_y = k_xx.sum(1) / (n - 1), k_yy.sum(1) / (m - 1)  # means over the others
    across_x, across_y = k_xy.mean(1), k_xy.mean(0)
    value = row_x.mean() + row_y.mean() - 2 * across_x.mean()

    def spread(k, left, right, count):  # mean square of what neither rows nor columns explain
        rest = k - left[:, None] - right + left.mean()
        if k is not k_xy:
            rest.fill_diagonal_(0)
        return rest.square().sum() / count

    pairs_x, pairs_y = n * (n - 1), m * (m - 1)
    linear = 4 * (row_x - across_x).var() / n + 4 * (row_y - across_y).var() / m  # holds the quadratic part twice
    quadratic = 2 * spread(k_xx, row_x, row_x, pairs_x) / pairs_x + 2 * spread(k_yy, row_y, row_y, pairs_y) / pairs_y
    quadratic = quadratic + 4 * spread(k_xy, across_x, across_y, n * m) / (n * m)
    return Estimate(float(value), math.sqrt(max(float(linear - quadratic), float(quadratic))))


def _kernel(kernel: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    k = kernel(a, b)
    if not isinstance(k, Tensor) or k.shape != (len(a), len(b)):
        raise ValueError(f"kernel: got {getattr(k, 'shape', type(k).__name__)}, wanted ({len(a)}, {len(b)})")
    if not k.isfinite().all():
        raise ValueError("kernel gives nan or infinity")
    return k.clone()


def _table(p: Tensor, name: str) -> Tensor:
    if not isinstance(p, Tensor) or not p.is_floating_point() or p.ndim == 0 or p.numel() == 0:
        got = f"{p.dtype} {tuple(p.shape)}" if isinstance(p, Tensor) else type(p).__name__
        raise ValueError(f"{name} is a floating-point tensor (..., K) of probabilities; got {got}")
    off = (p.sum(-1) - 1).abs().max()
    if not (p >= 0).all() or not off <= 1e-4:  # not ≤, because nan compares false
        raise ValueError(
            f"{name} holds probabilities that sum to 1; got {p.min():.3g} as least and sums off by {off:.3g}"
        )
    return p


def _two_tables(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    p, q = _table(p, "p"), _table(q, "q")
    if p.shape[-1] != q.shape[-1]:
        raise ValueError(f"p and q have as many entries; got {p.shape[-1]} and {q.shape[-1]}")
    if any(a != b and 1 not in (a, b) for a, b in zip(p.shape[::-1], q.shape[::-1], strict=False)):
        raise ValueError(f"p and q hold as many tables, or one of them one; got {tuple(p.shape)} and {tuple(q.shape)}")
    return p, q


def _sample(x: Tensor, name: str, rank: int) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != rank or x.numel() == 0:
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} is a floating-point sample {'(N,)' if rank == 1 else '(N, D)'}; got {got}")
    if not x.isfinite().all():
        raise ValueError(f"{name} is finite, but this holds nan or infinity")
    return x
