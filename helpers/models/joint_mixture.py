"""A mixture over columns of any kinds, labels and pixels alike, in which every question is a conditional one: exact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.models.base import GenerativeModel
from helpers.models.checks import whole_number


class JointMixture(GenerativeModel):
    """p(x) = Σₖ πₖ Π_d θ_kd[x_d] over D columns, column d with the values 0..levels[d] − 1; −1: not known.

    What is not known is summed out, by leaving its factor out, in learning as in every question. So a label is one more
    column, and class, attributes and any part of an image can be given, asked for or missing.

    Parameters:
        levels: number of values of each column. components: K.
        smoothing: weight of a Dirichlet prior around each column's histogram, in examples that each component is
            imagined to have seen; 1e-20 to 1e20, beyond which float32 would lose the rarest values.
        iterations: of EM at most; it stops when the log-likelihood rises by less than 0.001 nats an example.
    """

    def __init__(self, levels: Sequence[int], components: int = 60, smoothing: float = 10.0, iterations: int = 40):
        super().__init__()
        if isinstance(levels, str | int) or len(levels) == 0:
            raise ValueError(f"levels holds a number of values for each column, not {levels!r}")
        levels = tuple(whole_number("each of levels", v, 1) for v in levels)
        whole_number("components", components, 1), whole_number("iterations", iterations, 1)
        _weight("smoothing", smoothing)
        self.config = dict(levels=levels, components=components, smoothing=smoothing, iterations=iterations)
        exists = torch.arange(max(levels)) < torch.tensor(levels)[:, None]  # (D, L)
        uniform = (exists / exists.sum(1, keepdim=True)).log()  # log 0 where a column has no such value
        self.register_buffer("exists", exists)
        frozen = dict(requires_grad=False)
        self.log_weights = nn.Parameter(torch.full((components,), 1.0 / components).log(), **frozen)  # log π
        self.log_levels = nn.Parameter(uniform.expand(components, -1, -1).clone(), **frozen)  # log θ, (K, D, L)

    @classmethod
    def from_data(cls, x: Tensor, levels: Sequence[int] | None = None, **options) -> JointMixture:
        """For integers (N, D); ``levels`` where not every value occurs in ``x``."""
        if not isinstance(x, Tensor) or x.ndim != 2 or x.is_floating_point() or x.numel() == 0:
            raise ValueError(f"whole numbers (N, D) are needed, not {_describe(x)}")
        return cls((x.amax(0).long().clamp(min=0) + 1).tolist() if levels is None else levels, **options)

    @torch.no_grad()
    def fit(self, x: Tensor, condition: Tensor | None = None) -> JointMixture:
        """EM on ``x`` (N, D), from the nearest of K random examples; draws from torch's global seed."""
        x, c = self._merged(x, condition), self.config
        known = self._one_hot(x)  # (N, D·L)
        columns, levels = self.exists.shape
        # Half an example spread over all values of a column: a value never seen is rare, not impossible.
        prior = known.sum(0).view(columns, levels) + 0.5 * self.exists / self.exists.sum(1, keepdim=True)
        prior = prior / prior.sum(1, keepdim=True)
        mean = (x.clamp(min=0).float().sum(0) / (x >= 0).sum(0).clamp(min=1))[None]
        near = torch.where(x >= 0, x.float(), mean) / self.exists.sum(1).sub(1).clamp(min=1)
        centres = near[torch.randint(len(x), (c["components"],), device=x.device)]
        r = F.one_hot(torch.cdist(near, centres).argmin(1), c["components"]).float()  # responsibilities (N, K)
        last = -torch.inf
        for _ in range(c["iterations"]):
            counts = (r.T @ known).view(-1, columns, levels) + c["smoothing"] * prior
            self.log_levels.copy_((counts / counts.sum(2, keepdim=True)).log())
            self.log_weights.copy_(((r.sum(0) + 1) / (len(x) + c["components"])).log())
            joint = self._joint(known)
            now = float(joint.logsumexp(1).mean())
            r = joint.softmax(1)
            if now - last < 1e-3:
                break
            last = now
        return self

    @torch.no_grad()
    def learn_column(self, d: int, x: Tensor, pseudo: float = 0.02) -> JointMixture:
        """Count anew what column ``d`` is in each component, from examples ``x`` (N, D) that show it; only that moves.

        So a label can be attached to a mixture that was learnt without it. ``pseudo``, 1e-20 to 1e20, is added to each
        value's count.
        """
        x = self._merged(x, None)
        if isinstance(d, bool) or not isinstance(d, int) or not 0 <= d < x.shape[1]:
            raise ValueError(f"d is a column, 0 to {x.shape[1] - 1}, not {d!r}")
        if (x[:, d] < 0).any():
            raise ValueError(f"column {d} must be known in each example")
        _weight("pseudo", pseudo)
        without, levels = x.clone(), self.exists.shape[1]
        without[:, d] = -1
        counts = self.posterior(without).T @ F.one_hot(x[:, d], levels).float() + pseudo * self.exists[d]
        self.log_levels[:, d] = (counts / counts.sum(1, keepdim=True)).log()
        return self

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(what is known of ``x`` | what is known of ``condition``), (N,) nats; exact.

        ``condition`` is (N, D) or (D,) with −1 where nothing is given; a column that it gives is not counted in ``x``.
        """
        both = self._joint(self._one_hot(self._merged(x, condition))).logsumexp(1)
        if condition is None:
            return both
        given = self._merged(torch.full_like(x, -1, dtype=torch.int64), condition)
        return both - self._joint(self._one_hot(given)).logsumexp(1)

    def posterior(self, x: Tensor) -> Tensor:
        """p(k | what is known of x), (N, K)."""
        return self._joint(self._one_hot(self._merged(x, None))).softmax(1)

    def marginals(self, x: Tensor) -> Tensor:
        """p(x_d = v | what is known of x), (N, D, L); a known column has probability 1 at its value."""
        x = self._merged(x, None)
        p = (self.posterior(x) @ self.log_levels.exp().flatten(1)).view(-1, *self.exists.shape)
        return torch.where((x >= 0)[..., None], F.one_hot(x.clamp(min=0), p.shape[2]).to(p.dtype), p)

    @torch.no_grad()
    def sample(self, n: int, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` examples (n, D), int64, that agree with ``condition`` (D,) or (n, D), −1 where nothing is given."""
        nothing = torch.full((whole_number("n", n, 1), len(self.exists)), -1, device=self.device)
        given = self._merged(nothing, condition)
        k = torch.multinomial(self.posterior(given), 1, generator=generator)[:, 0]
        drawn = torch.multinomial(self.log_levels[k].exp().flatten(0, 1), 1, generator=generator).view_as(given)
        return torch.where(given >= 0, given, drawn)

    def _joint(self, known: Tensor) -> Tensor:
        """log p(k, what is known), (N, K)."""
        return known @ self.log_levels.masked_fill(~self.exists, 0.0).flatten(1).T + self.log_weights

    def _one_hot(self, x: Tensor) -> Tensor:
        """(N, D·L), all zeros where x is −1."""
        return F.one_hot(x + 1, self.exists.shape[1] + 1)[..., 1:].flatten(1).float()

    def _merged(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """``x`` with what the condition gives put in, checked, int64."""
        levels = self.exists.sum(1)
        for name, value in (("x", x), ("condition", condition)):
            if value is None and name == "condition":
                return x.long().to(self.device)
            whole = isinstance(value, Tensor) and not (value.is_floating_point() or value.dtype == torch.bool)
            shapes = ((len(x), len(levels)), (len(levels),)) if name == "condition" else ()
            if not whole or (tuple(value.shape) not in shapes if shapes else value.ndim != 2 or len(value) == 0):
                raise ValueError(f"{name} is whole numbers (N, {len(levels)}), not {_describe(value)}")
            if value.shape[-1] != len(levels):
                raise ValueError(f"{name} is whole numbers (N, {len(levels)}), not {_describe(value)}")
            bad = (value.long() < -1) | (value.long() >= levels.to(value.device))
            if bad.any():
                d = int(bad.reshape(-1, len(levels)).any(0).nonzero()[0])
                raise ValueError(f"{name} is from −1 to {int(levels[d]) - 1} in column {d}; it holds another value")
        condition = condition.long().to(self.device)
        return torch.where(condition >= 0, condition, x.long().to(self.device))


def _weight(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-20 <= value <= 1e20:
        raise ValueError(f"{name} is a number from 1e-20 to 1e20, not {value!r}")


def _describe(x) -> str:
    return f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__


FAMILY = JointMixture
