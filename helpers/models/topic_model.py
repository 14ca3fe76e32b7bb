"""Latent Dirichlet allocation: documents as mixtures of topics (Blei, Ng & Jordan 2003), learnt by variational EM."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from helpers.inference.em import Climb, em
from helpers.models.base import GenerativeModel
from helpers.models.checks import no_condition, whole_number


class State(NamedTuple):
    """p(word | topic) (K, V), and of each document q(θ) = Dirichlet(gamma), (N, K)."""

    topics: Tensor
    gamma: Tensor


def log_normaliser(a: Tensor) -> Tensor:
    """log of the Dirichlet's normalising constant Γ(Σa) / Π Γ(a), over the last axis."""
    return torch.lgamma(a.sum(-1)) - torch.lgamma(a).sum(-1)


def expected_log(gamma: Tensor) -> Tensor:
    """E[log θ] under Dirichlet(gamma), (N, K)."""
    return torch.digamma(gamma) - torch.digamma(gamma.sum(-1, keepdim=True))


class TopicModel(GenerativeModel):
    """Of each document: proportions θ ~ Dirichlet(α, …, α); of each of its words: a topic z ~ θ, then w ~ topics[z].

    A document is how often each word occurs: integers (N, V). Its log mass is that of the words in their order, given
    how many there are (no multinomial coefficient): log p(w) = log ∫ p(θ) Π_w (θ · topics[:, w])^count dθ, which has no
    closed form; hence only ``log_prob_bound``. Float64; buffer ``topics`` (K, V), whose rows sum to 1.

    Parameters:
        vocabulary: V.
        topics: K.
        alpha: of the Dirichlet prior on proportions; below 1 a document prefers few topics.
        smoothing: pseudo-count of each word in each topic (a Dirichlet prior on the topics); 0: maximum of the bound.
        length: words of a sampled document.
        sweeps: coordinate steps for q(θ) in each E step.
    """

    def __init__(
        self,
        vocabulary: int,
        topics: int = 10,
        alpha: float = 0.1,
        smoothing: float = 0.01,
        length: int = 100,
        sweeps: int = 5,
    ):
        super().__init__()
        self.config = dict(
            vocabulary=vocabulary, topics=topics, alpha=alpha, smoothing=smoothing, length=length, sweeps=sweeps
        )
        v, k = whole_number("vocabulary", vocabulary, 1), whole_number("topics", topics, 1)
        if not 0 < alpha < math.inf or not 0 <= smoothing < math.inf:
            raise ValueError(f"alpha is positive, smoothing 0 or more, both finite; got {alpha!r}, {smoothing!r}")
        self.length, self.sweeps = whole_number("length", length, 1), whole_number("sweeps", sweeps, 1)
        self.alpha, self.smoothing, self.climb = alpha, smoothing, Climb(None)
        self.register_buffer("topics", torch.full((k, v), 1 / v, dtype=torch.float64))

    @classmethod
    def from_data(cls, x: Tensor, **options) -> TopicModel:
        """For documents ``x`` (N, V), counts of words."""
        if not isinstance(x, Tensor) or x.ndim != 2:
            raise ValueError(f"documents are counts of words (N, V), not {getattr(x, 'shape', type(x).__name__)}")
        return cls(x.shape[1], **options)

    # The bound, for documents (N, V) in float64

    def _responses(self, x: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor]:
        """exp E[log θ] (N, K), x over Σ_k exp E[log θ_k] topics[k] (N, V), and that sum.

        With them the optimal q(z = k | word w of document n) is the product of the first and of topics[k, w], over the
        last.
        """
        share = expected_log(state.gamma).exp()
        mixed = share @ state.topics
        return share, torch.where(x > 0, x / mixed, 0.0), mixed

    def _bound(self, x: Tensor, gamma: Tensor, mixed: Tensor) -> Tensor:
        """The ELBO (N,) with the optimal q(z): E[log p(w | θ)]'s bound minus KL(q(θ) ‖ p(θ))."""
        k = gamma.shape[1]
        prior = log_normaliser(torch.full_like(gamma, self.alpha))
        kl = log_normaliser(gamma) - prior + ((gamma - self.alpha) * expected_log(gamma)).sum(1)
        return torch.xlogy(x, mixed).sum(1) - (kl if k > 1 else 0.0)

    def _improve(self, x: Tensor, state: State, sweeps: int) -> State:
        """Coordinate ascent: q(z) given q(θ), then q(θ) given q(z), and so on."""
        for _ in range(sweeps):
            share, weighted, _ = self._responses(x, state)
            state = State(state.topics, self.alpha + share * (weighted @ state.topics.T))
        return state

    def _e_step(self, x: Tensor, state: State) -> tuple[tuple[Tensor, Tensor], float]:
        state = self._improve(x, state, self.sweeps)
        share, weighted, mixed = self._responses(x, state)
        objective = self._bound(x, state.gamma, mixed).sum()
        if self.smoothing:
            objective = objective + self.smoothing * state.topics.log().sum()
        return (state.topics * (share.T @ weighted), state.gamma), float(objective / len(x))

    def _m_step(self, statistics: tuple[Tensor, Tensor]) -> State:
        counts, gamma = statistics
        counts = counts + self.smoothing
        total = counts.sum(1, keepdim=True)
        return State(torch.where(total > 0, counts / total.clamp(min=1e-300), 1 / counts.shape[1]), gamma)

    def _posterior(self, x: Tensor, steps: int = 200) -> State:
        """q(θ) of new documents, from the prior plus an even share of the words, until each of them stands still."""
        words, k = x.sum(1, keepdim=True), len(self.topics)
        gamma = (self.alpha + words / k).repeat(1, k)
        moving = torch.arange(len(x), device=x.device)
        for _ in range(steps):
            new = self._improve(x[moving], State(self.topics, gamma[moving]), 1).gamma
            change, gamma[moving] = (new - gamma[moving]).abs().amax(1), new
            moving = moving[change >= 1e-9 * (1 + words[moving, 0])]
            if len(moving) == 0:
                break
        return State(self.topics, gamma)

    @torch.no_grad()
    def fit(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        *,
        steps: int = 100,
        tolerance: float = 1e-3,
        generator: torch.Generator | None = None,
    ) -> TopicModel:
        """Variational EM on documents ``x`` (N, V); ``self.climb`` tells how it went, in nats per document.

        Its objective, the bound (plus the log-prior of the topics), never falls; the likelihood itself may.

        Parameters:
            steps, tolerance: see :func:`helpers.inference.em.em`.

        Raises:
            ValueError: bad documents, or an empty one.
        """
        x = self._check(x, condition)
        k, v = self.topics.shape
        noise = torch.rand(k, v, dtype=torch.float64, device=self.device, generator=generator)
        topics = (x.sum(0) + 1) * (0.5 + noise)
        gamma = self.alpha + (x.sum(1, keepdim=True) / k).expand(-1, k)
        start = State(topics / topics.sum(1, keepdim=True), gamma)
        self.climb = em(start, lambda s: self._e_step(x, s), self._m_step, steps=steps, tolerance=tolerance)
        self.topics = self.climb.parameters.topics
        return self

    @torch.no_grad()
    def log_prob_bound(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        *,
        samples: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A lower bound of each document's log mass, (N,) nats: the ELBO, its q optimised for the document.

        ``samples``: in its place the logarithm of the mean of so many importance weights: at most log p(w) in
        expectation, and closer the more there are (Burda et al. 2016). θ is drawn from q or from the prior, half of
        each, so that no weight exceeds 2 p(w | θ). -inf for a document with a word of probability zero.
        """
        x = self._check(x, condition)
        impossible = self._impossible(x)
        x = x * (self.topics.sum(0) > 0)
        state = self._posterior(x)
        if samples is None:
            bound = self._bound(x, state.gamma, self._responses(x, state)[2])
            return bound.masked_fill(impossible, -math.inf)
        log_weights, alpha = [], torch.full_like(state.gamma, self.alpha)
        for _ in range(whole_number("samples", samples, 1)):
            own = torch.rand(len(x), 1, device=x.device, generator=generator) < 0.5
            theta = draw_dirichlet(torch.where(own, state.gamma, alpha), generator)
            log_q_over_p = log_normaliser(state.gamma) - log_normaliser(alpha)
            log_q_over_p += ((state.gamma - alpha) * theta.log()).sum(1)
            mixed = torch.where(x > 0, theta @ self.topics, 1.0)
            log_weights.append((x * mixed.log()).sum(1) - torch.nn.functional.softplus(log_q_over_p) + math.log(2))
        bound = torch.stack(log_weights).logsumexp(0) - math.log(samples)
        return bound.masked_fill(impossible, -math.inf)

    @torch.no_grad()
    def posterior(self, x: Tensor) -> Tensor:
        """gamma (N, K) of q(θ) = Dirichlet(gamma), the approximate posterior; its mean is gamma over its sum.

        ValueError: a document with a word that no topic has.
        """
        x = self._check(x, None)
        if (impossible := self._impossible(x)).any():
            raise ValueError(f"document {int(impossible.nonzero()[0])} has probability zero: no topic has its words")
        return self._posterior(x).gamma

    @torch.no_grad()
    def sample(self, n: int, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` documents of ``length`` words, as counts (n, V) int64."""
        no_condition(self, condition)
        k, v = self.topics.shape
        alpha = self.topics.new_full((whole_number("n", n, 1), k), self.alpha)
        words = torch.multinomial(
            draw_dirichlet(alpha, generator) @ self.topics, self.length, replacement=True, generator=generator
        )
        return torch.zeros(n, v, dtype=torch.int64, device=self.device).scatter_add_(1, words, torch.ones_like(words))

    def _impossible(self, x: Tensor) -> Tensor:
        """Which documents (N,) hold a word that no topic has."""
        return ((x > 0) & (self.topics.sum(0) == 0)).any(1)

    def _check(self, x: Tensor, condition: Tensor | None) -> Tensor:
        no_condition(self, condition)
        v = self.topics.shape[1]
        if not isinstance(x, Tensor) or x.is_floating_point() or x.ndim != 2 or x.shape[1] != v or len(x) == 0:
            got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"documents are whole numbers (N, {v}), how often each word occurs; got {got}")
        if x.min() < 0:
            raise ValueError(f"counts are 0 or more; got {int(x.min())}")
        if not x.any(1).all():
            raise ValueError(f"document {int((~x.any(1)).nonzero()[0])} is empty")
        return x.to(self.device).double()


def draw_dirichlet(concentration: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Proportions (N, K), drawn from Dirichlet(concentration), none of them exactly 0."""
    seed = torch.randint(2**62, (), generator=generator, device=concentration.device).item()
    gamma = np.random.default_rng(seed).standard_gamma(concentration.cpu().numpy()).clip(min=1e-300)
    gamma = torch.from_numpy(gamma).to(concentration.device)
    return gamma / gamma.sum(1, keepdim=True)
