"""Hidden Markov models (Rabiner 1989) with discrete or Gaussian emissions: exact and batched."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.inference.em import Climb, restarts
from helpers.models.base import GenerativeModel
from helpers.models.checks import check_points, check_sequences, no_condition, whole_number
from helpers.models.gaussian_mixture import (
    KINDS,
    Gaussians,
    add_ridge,
    draw_points,
    log_prior,
    spread_out_start,
)


class Parameters(NamedTuple):
    """p(z_1) (K,), p(z_t+1 | z_t) (K, K), and the emissions: table (K, A), or means (K, D) and covariances."""

    initial: Tensor
    transition: Tensor
    emission: tuple[Tensor, ...]


def normalise(counts: Tensor, pseudo: float = 0.0) -> Tensor:
    """Rows that sum to 1; a row without counts becomes uniform."""
    counts = counts + pseudo
    total = counts.sum(-1, keepdim=True)
    return torch.where(total > 0, counts / total.clamp(min=1e-300), 1 / counts.shape[-1])


class HMM(GenerativeModel):
    """p(x) = Σ_z p(z_1) Π p(z_t | z_t−1) Π p(x_t | z_t), in float64; give ``levels`` or ``dimensions``.

    Discrete sequences are integers (N, T), -1 where nothing was observed: missing inside a sequence, padding behind it.
    Real ones are (N, T, D); the keyword ``observed`` (N, T) bool says which steps were (default: all), and what stands
    at the others is ignored. A missing observation is summed out exactly. The likelihood is that of the observations
    given their times, so sequences of each one length sum to 1; unless ``ends``.

    Buffers ``initial`` (K,), ``transition`` (K, K; row: from, column: to), and ``table`` (K, A) or ``means`` (K, D)
    with ``covariances`` as in :class:`helpers.models.gaussian_mixture.GaussianMixture`.

    Parameters:
        states: K.
        levels: number of symbols of discrete sequences.
        dimensions: D of real ones.
        ends: discrete only: each sequence ends with an end symbol (code ``levels``), which its likelihood counts;
            then all finite sequences together sum to 1.
        covariance, ridge: of Gaussian emissions, as in the mixture.
        smoothing: pseudo-count of each symbol, transition and initial state (a Dirichlet prior); 0: maximum
            likelihood. Then a symbol that was never seen has probability 0, log_prob -inf.
        length: of samples.
    """

    def __init__(
        self,
        states: int = 8,
        *,
        levels: int | None = None,
        dimensions: int | None = None,
        ends: bool = False,
        covariance: str = "full",
        smoothing: float = 0.0,
        ridge: float = 1e-6,
        length: int = 100,
    ):
        super().__init__()
        if (levels is None) == (dimensions is None):
            raise ValueError(f"give levels (discrete) or dimensions (real), one; got {levels!r} and {dimensions!r}")
        if ends and levels is None:
            raise ValueError("whole sequences end with a symbol: for discrete emissions only")
        if covariance not in KINDS:
            raise ValueError(f"covariance is one of {', '.join(KINDS)}; got {covariance!r}")
        for name, value in (("smoothing", smoothing), ("ridge", ridge)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is a finite number from 0, not {value!r}")
        self.config = dict(
            states=states, levels=levels, dimensions=dimensions, ends=ends, covariance=covariance,
            smoothing=smoothing, ridge=ridge, length=length,
        )  # fmt: skip
        self.k, self.kind, self.climb = whole_number("states", states, 1), covariance, Climb(None)
        self.levels, self.dimensions, self.ends = levels, dimensions, bool(ends)
        self.smoothing, self.ridge, self.length = smoothing, ridge, whole_number("length", length, 1)
        k = self.k
        self.register_buffer("initial", torch.full((k,), 1 / k, dtype=torch.float64))
        self.register_buffer("transition", torch.full((k, k), 1 / k, dtype=torch.float64))
        if levels is not None:
            self.symbols = whole_number("levels", levels, 1) + self.ends
            self.register_buffer("table", torch.full((k, self.symbols), 1 / self.symbols, dtype=torch.float64))
        else:
            eye = torch.eye(whole_number("dimensions", dimensions, 1), dtype=torch.float64)
            start = {"full": eye.expand(k, -1, -1), "diagonal": eye.diagonal().expand(k, -1), "tied": eye}[covariance]
            self.register_buffer("means", torch.zeros(k, dimensions, dtype=torch.float64))
            self.register_buffer("covariances", start.clone())

    @classmethod
    def from_data(cls, x: Tensor, *, levels: int | None = None, **options) -> HMM:
        """For integers (N, T), padded with -1 (then ``ends``; smoothing 0.01), or real numbers (N, T, D)."""
        options.setdefault("length", x.shape[1] if isinstance(x, Tensor) and x.ndim > 1 else 100)
        if isinstance(x, Tensor) and x.ndim == 3 and x.is_floating_point():
            return cls(dimensions=x.shape[2], **options)
        x = check_sequences(x, levels or 2**31, gaps=True)
        options = dict(ends=bool((x < 0).any()), smoothing=0.01) | options
        return cls(levels=levels or int(x.max()) + 1, **options)

    @property
    def parameters_now(self) -> Parameters:
        emission = (self.table,) if self.levels is not None else (self.means, self.covariances)
        return Parameters(self.initial, self.transition, emission)

    # Input: everything below sees time first

    def _steps(self, x: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Checked: what was observed at each step (T, N) or (T, N, D), whether (T, N), and the lengths (N,)."""
        if self.levels is not None:
            if observed is not None:
                raise ValueError("in discrete sequences -1 says where nothing was observed, not `observed`")
            x = check_sequences(x, self.levels, gaps=True).to(self.device)
            observed = x >= 0
        else:
            if not isinstance(x, Tensor) or x.ndim != 3 or x.numel() == 0 or not x.is_floating_point():
                got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
                raise ValueError(f"sequences are floating-point numbers (N, T, {self.dimensions}); got {got}")
            observed = torch.ones(x.shape[:2], dtype=torch.bool) if observed is None else observed
            if getattr(observed, "dtype", None) != torch.bool or observed.shape != x.shape[:2]:
                got = f"{observed.dtype} {tuple(observed.shape)}" if isinstance(observed, Tensor) else repr(observed)
                raise ValueError(f"observed is bool {tuple(x.shape[:2])}; got {got}")
            x, observed = x.to(self.device), observed.to(self.device)
            x = torch.where(observed[..., None], x, 0.0)
            x = check_points(x.flatten(0, 1), self.dimensions).view(x.shape)
        if not observed.any(1).all():
            raise ValueError(f"sequence {int((~observed.any(1)).nonzero()[0])} is empty: nothing was observed")
        t = torch.arange(1, x.shape[1] + 1, device=x.device)
        lengths = (observed * t).amax(1)
        if self.ends:
            x = torch.cat([x, torch.full_like(x[:, :1], -1)], 1).scatter_(1, lengths[:, None], self.levels)
            observed, lengths = x >= 0, lengths + 1
        return x.transpose(0, 1).contiguous(), observed.T.contiguous(), lengths

    def _log_emissions(self, parameters: Parameters, x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x_t | z_t) as columns (K, M), and which one holds at each step (T, N): one a symbol, or one a step.

        Where nothing was observed, the column is 0.
        """
        if self.levels is not None:
            table = parameters.emission[0].log()
            return torch.cat([table, torch.zeros_like(table[:, :1])], 1), torch.where(observed, x, self.symbols)
        gaussians = Gaussians(*parameters.emission, self.kind)
        parts = [gaussians.log_densities(gaussians.features(p)) for p in x.flatten(0, 1).split(gaussians.chunk)]
        index = torch.arange(observed.numel(), device=x.device).view(observed.shape)
        return torch.cat(parts, 1).mul_(observed.flatten()), index

    # Learning

    def _e_step(self, parameters: Parameters, x: Tensor, observed: Tensor, lengths: Tensor, ridge: float):
        log_emissions = self._log_emissions(parameters, x, observed)
        log_likelihood, gamma, pairs = forward_backward(parameters, *log_emissions, lengths)
        objective = log_likelihood.sum()
        if not objective.isfinite():
            raise ValueError(f"sequence {int((~log_likelihood.isfinite()).nonzero()[0])} has probability zero")
        if self.smoothing:
            tables = [*parameters[:2], *(parameters.emission if self.levels is not None else ())]
            objective = objective + self.smoothing * sum(t.log().sum() for t in tables)
        initial, gamma = gamma[0].sum(0), gamma.flatten(0, 1)
        if self.levels is not None:  # where nothing was observed, the index is that of a further symbol
            emission = gamma.new_zeros(self.symbols + 1, self.k).index_add_(0, log_emissions[1].flatten(), gamma)
            emission = emission[: self.symbols].T
        else:
            flat, gamma = x.flatten(0, 1), gamma.mul_(observed.flatten()[:, None])
            gaussians = Gaussians(*parameters.emission, self.kind)
            size, sums = gaussians.chunk, None
            for part, weights in zip(flat.split(size), gamma.split(size), strict=True):
                new = gaussians.sums(gaussians.features(part), weights.T)
                sums = new if sums is None else [a.add_(b) for a, b in zip(sums, new, strict=True)]
            emission = gaussians.moments(*sums)
            objective = objective + observed.sum() * log_prior(gaussians, ridge)
        return (initial, pairs, emission), float(objective / len(lengths))

    def _m_step(self, statistics, ridge: float) -> Parameters:
        initial, pairs, emission = statistics
        if self.levels is not None:
            emission = (normalise(emission, self.smoothing),)
        else:
            emission = add_ridge(emission, ridge, self.kind)[1:]
        return Parameters(normalise(initial, self.smoothing), normalise(pairs, self.smoothing), emission)

    def _start(self, flat: Tensor, generator: torch.Generator | None) -> Parameters:
        """States that tend to stay, and emissions near those of all the data, told apart by chance."""
        k = self.k

        def noise(*shape):
            return torch.rand(*shape, dtype=torch.float64, device=self.device, generator=generator)

        transition = normalise(torch.eye(k, dtype=torch.float64, device=self.device) + (0.5 + noise(k, k)) / k)
        if self.levels is not None:
            shares = torch.bincount(flat, minlength=self.symbols) + 1.0
            emission = (normalise(shares * (0.5 + noise(k, self.symbols))),)
        else:
            emission = spread_out_start(flat, k, self.kind, generator)[1:]
        return Parameters(normalise(0.5 + noise(k)), transition, emission)

    @torch.no_grad()
    def fit(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        *,
        observed: Tensor | None = None,
        steps: int = 100,
        tolerance: float = 1e-4,
        tries: int = 1,
        resume: bool = False,
        generator: torch.Generator | None = None,
    ) -> HMM:
        """Baum–Welch; ``self.climb`` tells how it went, its objective in nats per sequence.

        Parameters:
            steps, tolerance: see :func:`helpers.inference.em.em`.
            tries: random starts, of which the best end is kept.
            resume: start from the parameters as they are.

        Raises:
            ValueError: bad sequences, an empty one, one of probability zero, a covariance that became singular.
        """
        no_condition(self, condition)
        x, observed, lengths = self._steps(x, observed)
        flat, ridge = x[observed], 0.0
        if self.levels is None:
            if len(flat) < self.k:
                raise ValueError(f"{self.k} states need at least {self.k} observations; got {len(flat)}")
            ridge = self.ridge * float(flat.var(0, correction=0).mean())
        if resume:
            starts = [self.parameters_now]
        else:
            starts = [self._start(flat, generator) for _ in range(whole_number("tries", tries, 1))]
        self.climb = restarts(
            starts,
            lambda parameters: self._e_step(parameters, x, observed, lengths, ridge),
            lambda statistics: self._m_step(statistics, ridge),
            steps=steps,
            tolerance=tolerance,
        )
        self.initial, self.transition, emission = self.climb.parameters
        if self.levels is not None:
            (self.table,) = emission
        else:
            self.means, self.covariances = emission
        return self

    # Inference

    def _run(self, x: Tensor, observed: Tensor | None, backward: bool):
        x, observed, lengths = self._steps(x, observed)
        logs = self._log_emissions(self.parameters_now, x, observed)
        return forward_backward(self.parameters_now, *logs, lengths, backward)

    @torch.no_grad()
    def log_prob(self, x: Tensor, condition: Tensor | None = None, *, observed: Tensor | None = None) -> Tensor:
        """(N,) nats, float64; -inf for a sequence of probability zero."""
        no_condition(self, condition)
        return self._run(x, observed, backward=False)[0]

    @torch.no_grad()
    def posterior(self, x: Tensor, *, observed: Tensor | None = None, filtered: bool = False) -> Tensor:
        """p(z_t | all of x), or ``filtered``: p(z_t | x_1..t): (N, T, K); behind the end, the forecast.

        ValueError: a sequence of probability zero.
        """
        log_likelihood, states, _ = self._run(x, observed, backward=not filtered)
        if not log_likelihood.isfinite().all():
            raise ValueError(f"sequence {int((~log_likelihood.isfinite()).nonzero()[0])} has probability zero")
        return states.transpose(0, 1)

    @torch.no_grad()
    def viterbi(self, x: Tensor, *, observed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The likeliest states (N, T), -1 behind the end, and log p(x, z) of each (N,).

        ValueError: a sequence of probability zero.
        """
        x, observed, lengths = self._steps(x, observed)
        logs = at_steps(*self._log_emissions(self.parameters_now, x, observed))
        log_transition = self.transition.log()
        stay = torch.arange(self.k, device=x.device)
        best, arrows = self.initial.log() + logs[0], []  # (N, K): the best path that ends in each state
        for t in range(1, len(logs)):
            score, arrow = (best[:, :, None] + log_transition).max(1)
            going = (t < lengths)[:, None]
            best = torch.where(going, score + logs[t], best)
            arrows.append(torch.where(going, arrow, stay))
        score, state = best.max(1)
        if not score.isfinite().all():
            raise ValueError(f"sequence {int((~score.isfinite()).nonzero()[0])} has probability zero")
        states = [state]
        for arrow in reversed(arrows):
            states.append(arrow.gather(1, states[-1][:, None])[:, 0])
        states = torch.stack(states[::-1], 1)
        return states.where(torch.arange(len(logs), device=x.device) < lengths[:, None], -1), score

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        *,
        length: int | None = None,
        states: bool = False,
        generator: torch.Generator | None = None,
    ):
        """``n`` sequences, (n, length) int64 or (n, length, D) float32; with ``states``, also the hidden ones.

        Whole sequences are padded with -1 from their end symbol on; one that has not ended is cut at ``length``.
        """
        no_condition(self, condition)
        n, length = whole_number("n", n, 1), whole_number("length", self.length if length is None else length, 1)
        z = [torch.multinomial(self.initial, n, replacement=True, generator=generator)]
        for _ in range(1, length):
            z.append(torch.multinomial(self.transition[z[-1]], 1, generator=generator)[:, 0])
        z = torch.stack(z, 1)
        if self.levels is not None:
            x = torch.multinomial(self.table[z.flatten()], 1, generator=generator).view(n, length)
            if self.ends:
                x = x.masked_fill((x == self.levels).cumsum(1) > 0, -1)
        else:
            noise = torch.randn(n * length, self.dimensions, dtype=torch.float64, device=z.device, generator=generator)
            x = draw_points(z.flatten(), noise, self.means, self.covariances, self.kind).float().view(n, length, -1)
        return (x, z) if states else x


def at_steps(columns: Tensor, index: Tensor) -> Tensor:
    """``columns`` (K, M) at each step of ``index`` (T, N): (T, N, K)."""
    return columns.T.contiguous().index_select(0, index.flatten()).view(*index.shape, -1)


def forward_backward(parameters: Parameters, columns: Tensor, index: Tensor, lengths: Tensor, backward: bool = True):
    """The exact sums over all state paths, from log p(x_t | z_t): ``columns`` (K, M) at each step of ``index`` (T, N).

    Returns log p(x) (N,); p(z_t | x) (T, N, K); and the expected numbers of transitions (K, K), over all sequences,
    within their ``lengths`` (N,). Without ``backward``: p(z_t | x_1..t) in place of p(z_t | x), and no transitions.

    By probabilities scaled to sum to 1 at each step: as exact as logarithms as long as every transition has a
    probability, since then no state can be lost for good by underflow; with forbidden transitions, by logarithms.
    """
    method = _scaled if parameters.transition.min() > 1e-200 else _logarithmic
    return method(parameters.initial, parameters.transition, columns, index, lengths, backward)


def _scaled(initial, transition, columns, index, lengths, backward):
    shift = columns.amax(0, keepdim=True)
    shift = torch.where(shift.isfinite(), shift, 0.0)
    emissions = at_steps((columns - shift).exp_(), index).mT  # (T, K, N), the largest is 1
    scale, shift = shift.new_empty(len(index), 1, index.shape[1]), shift[0][index]
    alpha = scale.new_empty(len(index), len(initial), index.shape[1])  # (T, K, N): the fastest order for a CPU
    start = initial.log()[:, None] + columns[:, index[0]]
    shift[0], alpha[0] = start.amax(0), start.softmax(0)
    scale[0] = (start - shift[0]).exp().sum(0, keepdim=True)
    forth = transition.T.contiguous()
    for t in range(1, len(index)):
        torch.mm(forth, alpha[t - 1], out=alpha[t]).mul_(emissions[t])
        torch.sum(alpha[t], 0, keepdim=True, out=scale[t])
        alpha[t].div_(scale[t])
    # Probability zero: a scale is 0 or what follows is 0/0
    log_likelihood = (scale[:, 0].log() + shift).sum(0).nan_to_num(nan=-math.inf, neginf=-math.inf)
    if not backward:
        return log_likelihood, alpha.transpose(1, 2), None
    beta, pairs, after = torch.ones_like(alpha[0]), torch.zeros_like(transition), torch.empty_like(alpha[0])
    for t in range(len(index) - 1, 0, -1):
        torch.div(emissions[t], scale[t], out=after).mul_(beta)  # p(x_t.. | z_t) / p(x_t.. | x_<t)
        torch.mm(transition, after, out=beta)
        pairs.addmm_(alpha[t - 1], after.mul_(t < lengths).T)
        alpha[t - 1].mul_(beta)  # p(z_t-1 | x) where p(z_t-1 | x_1..t-1) was
    return log_likelihood, alpha.transpose(1, 2), pairs.mul_(transition)


def _logarithmic(initial, transition, columns, index, lengths, backward):
    log_emissions, log_transition = at_steps(columns, index), transition.log()
    alpha = [initial.log() + log_emissions[0]]
    for emission in log_emissions[1:]:
        alpha.append((alpha[-1][:, :, None] + log_transition).logsumexp(1) + emission)
    log_likelihood = alpha[-1].logsumexp(1)
    filtered = torch.stack(alpha).softmax(2)
    if not backward or not log_likelihood.isfinite().all():
        return log_likelihood, filtered, None
    beta, pairs = [torch.zeros_like(alpha[0])], torch.zeros_like(transition)
    for t in range(len(alpha) - 1, 0, -1):
        after = log_transition + (log_emissions[t] + beta[-1])[:, None, :]
        both = (alpha[t - 1][:, :, None] + after - log_likelihood[:, None, None]).exp()
        pairs += (both * (t < lengths)[:, None, None]).sum(0)
        beta.append(after.logsumexp(2))
    gamma = (torch.stack(alpha) + torch.stack(beta[::-1]) - log_likelihood[:, None]).exp()
    return log_likelihood, gamma, pairs


FAMILY = HMM
