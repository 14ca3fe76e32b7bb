"""Toys: points on the plane and on the line, each defined by its density.

Every toy is a normal distribution moved about: centres on a line, on circles, along curves, or a pinwheel's turn that
keeps areas. So its log-density is known, and a model that learns the toy can be compared with the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from helpers.data.base import Dataset, choose, split, whole

LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Toy:
    """A distribution over points (N, ``dimension``) whose log-density is known.

    ``draw(n, rng)`` gives points (n, dimension) float64 and the component of each (n,); ``log_density`` takes points
    (N, dimension) float64 and gives nats (N,). Nearly all the mass lies within ``extent`` of the origin on each axis.
    """

    name: str
    dimension: int
    components: int
    extent: float
    draw: Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]
    log_density: Callable[[Tensor], Tensor]

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density (N,) in nats at points (N, dimension), -inf where there is none; on the device of ``x``."""
        if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != self.dimension or not x.is_floating_point():
            got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else repr(type(x))
            raise ValueError(f"{self.name} takes floating-point points (N, {self.dimension}); got {got}")
        if not torch.isfinite(x).all():
            raise ValueError(f"{self.name} takes finite points; got NaN or infinity")
        return self.log_density(x.double()).to(x.dtype)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` fresh points (n, dimension) float32, on the generator's device."""
        n = whole("n", n, 1)
        device = "cpu" if generator is None else generator.device
        seed = torch.randint(2**62, (), generator=generator, device=device).item()
        return torch.from_numpy(self.draw(n, np.random.default_rng(seed))[0]).float().to(device)


def _mixture(name: str, means, scales, weights) -> Toy:
    """A mixture of round normal distributions: means (K, D), scales (K,), weights (K,)."""
    means, scales = np.asarray(means, dtype=float), np.asarray(scales, dtype=float)
    weights = np.asarray(weights, dtype=float) / np.sum(weights)
    k, dimension = means.shape

    def draw(n, rng):
        component = rng.choice(k, size=n, p=weights)
        return means[component] + scales[component, None] * rng.standard_normal((n, dimension)), component

    def log_density(x):
        mean, scale, weight = (torch.from_numpy(value).to(x.device) for value in (means, scales, weights))
        squares = ((x[:, None] - mean) ** 2).sum(-1) / scale**2  # (N, K)
        return torch.logsumexp(weight.log() - squares / 2 - dimension * (scale.log() + LOG_2PI / 2), dim=1)

    return Toy(name, dimension, k, math.ceil(np.abs(means).max() + 4 * scales.max()), draw, log_density)


def _rings(radii=(0.75, 1.5, 2.25), scale=0.08) -> Toy:
    """Circles, each point equally likely, blurred by a round normal distribution."""

    def draw(n, rng):
        ring = rng.integers(len(radii), size=n)
        angle = rng.uniform(0, 2 * np.pi, n)
        centre = np.asarray(radii)[ring, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return centre + scale * rng.standard_normal((n, 2)), ring

    def log_density(x):
        # The normal density averaged over a circle: exp(-(r² + R²)/2σ²) I₀(rR/σ²) / 2πσ²
        r, radius = x.norm(dim=1, keepdim=True), torch.tensor(radii, dtype=x.dtype, device=x.device)
        bessel = torch.special.i0e(r * radius / scale**2).log()
        each = bessel - (r - radius) ** 2 / (2 * scale**2) - LOG_2PI - 2 * math.log(scale)
        return torch.logsumexp(each, dim=1) - math.log(len(radii))

    return Toy("rings", 2, len(radii), 3, draw, log_density)


def _curves(name: str, curve: Callable, count: int, scale: float, nodes: int) -> Toy:
    """Curves ``curve(t, k)``, t uniform in [0, 1], blurred by a round normal distribution.

    The average over t in the density is taken by Gauss-Legendre quadrature, exact here to 12 digits: the nodes lie
    far closer than ``scale``.
    """
    t, weight = np.polynomial.legendre.leggauss(nodes)
    t, weight = (t + 1) / 2, weight / 2
    centres = np.concatenate([curve(t, np.full(nodes, k)) for k in range(count)])
    log_weights = np.log(np.tile(weight, count) / count)

    def draw(n, rng):
        k = rng.integers(count, size=n)
        return curve(rng.uniform(size=n), k) + scale * rng.standard_normal((n, 2)), k

    def log_density(x):
        centre, log_weight = torch.from_numpy(centres).to(x.device), torch.from_numpy(log_weights).to(x.device)
        blocks = [
            torch.logsumexp(log_weight - torch.cdist(block, centre) ** 2 / (2 * scale**2), dim=1)
            for block in x.split(4096)  # (4096, nodes) doubles at a time
        ]
        return torch.cat(blocks) - LOG_2PI - 2 * math.log(scale)

    return Toy(name, 2, count, 3, draw, log_density)


def _moon(t, k):
    """Two half circles, the second turned over and moved into the first."""
    x, y = np.cos(np.pi * t), np.sin(np.pi * t)
    return 1.4 * np.stack([np.where(k == 0, x - 0.5, 0.5 - x), np.where(k == 0, y - 0.25, 0.25 - y)], axis=1)


def _spiral(t, k):
    """Arms of one and a half turns; the root keeps the points evenly far apart along the arm."""
    turn = np.sqrt(t * 0.95 + 0.05)
    angle = 3 * np.pi * turn + np.pi * k
    return 2.4 * turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _checkerboard(half=2, cells=4) -> Toy:
    """Uniform on the squares of one colour of a board of ``cells`` by ``cells``."""
    side = 2 * half / cells
    squares = np.array([(i, j) for i in range(cells) for j in range(cells) if (i + j) % 2 == 0])

    def draw(n, rng):
        square = rng.integers(len(squares), size=n)
        return (squares[square] + rng.uniform(size=(n, 2))) * side - half, square

    def log_density(x):
        cell = torch.floor((x + half) / side)
        inside = ((cell >= 0) & (cell < cells)).all(dim=1) & (cell.sum(dim=1) % 2 == 0)
        return torch.where(inside, -math.log(len(squares) * side**2), -math.inf)

    return Toy("checkerboard", 2, len(squares), 3, draw, log_density)


def _pinwheel(arms=5, radial=0.35, tangential=0.12, centre=1.3, rate=1.0) -> Toy:
    """Normal distributions around a circle, each point turned by an angle that depends on its radius alone.

    Such a turn keeps areas, so the density is that of the unturned point.
    """

    def turned(x, y, angle, cos, sin):
        return x * cos(angle) - y * sin(angle), x * sin(angle) + y * cos(angle)

    def draw(n, rng):
        arm = rng.integers(arms, size=n)
        x, y = centre + radial * rng.standard_normal(n), tangential * rng.standard_normal(n)
        angle = 2 * np.pi * arm / arms + rate * np.hypot(x, y)
        return np.stack(turned(x, y, angle, np.cos, np.sin), axis=1), arm

    def log_density(x):
        arm = torch.arange(arms, dtype=x.dtype, device=x.device)
        back = -(2 * math.pi * arm / arms + rate * x.norm(dim=1, keepdim=True))  # (N, arms)
        u, v = turned(x[:, :1], x[:, 1:], back, torch.cos, torch.sin)
        squares = ((u - centre) / radial) ** 2 + (v / tangential) ** 2
        return torch.logsumexp(-squares / 2, dim=1) - math.log(arms * radial * tangential) - LOG_2PI

    return Toy("pinwheel", 2, arms, 3, draw, log_density)


def _eight() -> np.ndarray:
    angle = np.arange(8) * np.pi / 4
    return 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


_MAKERS: dict[str, Callable[[], Toy]] = {
    "moons": lambda: _curves("moons", _moon, 2, 0.1, 200),
    "rings": _rings,
    "checkerboard": _checkerboard,
    "spirals": lambda: _curves("spirals", _spiral, 2, 0.08, 400),
    "pinwheel": _pinwheel,
    "gaussians8": lambda: _mixture("gaussians8", _eight(), [0.15] * 8, [1] * 8),
    "two_bumps": lambda: _mixture("two_bumps", [[-1.5], [1.0]], [0.5, 0.4], [0.4, 0.6]),
    "three_bumps": lambda: _mixture("three_bumps", [[-2.0], [0.0], [2.0]], [0.25, 0.5, 0.25], [1, 2, 1]),
    # J. S. Marron and M. P. Wand, Exact mean integrated squared error, Annals of Statistics 20 (1992), number 10
    "claw": lambda: _mixture("claw", [[0], [-1], [-0.5], [0], [0.5], [1]], [1] + [0.1] * 5, [5, 1, 1, 1, 1, 1]),
}
TOYS = tuple(_MAKERS)


def toys(name: str = "moons", n: int = 10_000, seed: int = 0) -> Dataset:
    """``n`` training points of a toy, float32 (n, 2), or (n, 1) on the line; a tenth as many validate, and test.

    ``name`` is one of ``TOYS``; ``y["component"]`` is the moon, ring, square, arm or bump that a point came from.
    ``toys(name).truth`` is the distribution itself: ``truth.log_prob(x)``, ``truth.sample(n)``.
    """
    toy = _MAKERS[choose("a toy's name", name, TOYS)]()
    n, seed = whole("n", n, 10), whole("seed", seed, 0)
    x, component = toy.draw(n + 2 * (n // 10), np.random.default_rng(seed))
    y = {"component": torch.from_numpy(component.astype(np.int64))}
    return Dataset(
        f"toys: {name}",
        *split((n, n // 10, n // 10), torch.from_numpy(x.astype(np.float32)), y),
        levels=None,
        source="drawn from a density that this book defines",
        licence="MIT",
        credit="this book",
        labels={"component": [str(k) for k in range(toy.components)]},
        truth=toy,
    )
