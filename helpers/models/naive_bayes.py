"""Naive Bayes: p(x, y) = p(y) Π_d p(x_d | y). A generative model of example and class, learnt by counting once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from helpers.classifiers.logistic import check_labels
from helpers.models.base import GenerativeModel
from helpers.models.checks import check_points, whole_number


class NaiveBayes(GenerativeModel):
    """What the three kinds share; use :class:`Bernoulli`, :class:`Multinomial` or :class:`Gaussian`.

    Given the class, the features are independent. ``condition`` is the class, (N,) int64. A class without examples is
    a ``ValueError`` of ``fit``. An example that is impossible in a class has log-probability -inf there; one that is
    impossible in every class has no posterior: ``ValueError``.

    Parameters:
        classes: labels 0..classes-1. features: numbers in an example, D.
    """

    def __init__(self, classes: int, features: int, **options):
        super().__init__()
        self.classes, self.features = whole_number("classes", classes, 1), whole_number("features", features, 1)
        self.config = dict(classes=classes, features=features, **options)
        self.register_buffer("log_prior", torch.full((classes,), 1 / classes, dtype=torch.float64).log())

    @torch.no_grad()
    def fit(self, x: Tensor, condition: Tensor) -> NaiveBayes:
        """Learn from examples ``x`` (N, D) and their classes ``condition`` (N,), by counting once."""
        x = self._checked(x)
        y = check_labels(condition, len(x), self.classes).to(x.device)
        counts = torch.bincount(y, minlength=self.classes).double()
        if not counts.all():
            raise ValueError(f"class {int((counts == 0).nonzero()[0])} has no examples")
        self.log_prior = (counts / len(x)).log()
        self._learn(x, torch.nn.functional.one_hot(y, self.classes).double().T, counts[:, None])
        return self

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, y) in nats, (N, classes)."""
        x = self._checked(x)
        return self._log_given(x) + self._alike(x) + self.log_prior

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """log p(x | y = condition), or without a condition log p(x), summed over the classes; (N,) nats."""
        if condition is None:
            return self.log_joint(x).logsumexp(1)
        x = self._checked(x)
        y = check_labels(condition, len(x), self.classes).to(x.device)
        return (self._log_given(x) + self._alike(x)).gather(1, y[:, None])[:, 0]

    def log_probs(self, x: Tensor) -> Tensor:
        """log p(y | x) by Bayes' rule, (N, classes)."""
        joint = self._log_given(self._checked(x)) + self.log_prior  # what all classes have alike cancels
        impossible = (joint == -torch.inf).all(1)
        if impossible.any():
            row = int(impossible.nonzero()[0])
            raise ValueError(f"example {row} has probability zero in every class: smoothing would prevent it")
        return joint.log_softmax(1)

    def classify(self, x: Tensor) -> Tensor:
        """The most probable class of each example, (N,) int64; the lowest of equals."""
        return self.log_probs(x).argmax(1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        condition: Tensor | None = None,
        *,
        labels: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """``n`` examples (n, D) of the classes ``condition`` (n,), or of classes drawn from p(y).

        With ``labels``: examples and their classes.
        """
        n = whole_number("n", n, 1)
        if condition is None:
            y = torch.multinomial(self.log_prior.exp(), n, replacement=True, generator=generator)
        else:
            y = check_labels(condition, n, self.classes).to(self.device)
        x = self._draw(y, generator)
        return (x, y) if labels else x

    def _checked(self, x: Tensor) -> Tensor:
        """``x`` as float64, checked."""
        if isinstance(x, Tensor) and not x.is_floating_point() and not x.is_complex():
            x = x.double()
        return check_points(x, self.features).to(self.device)

    def _learn(self, x: Tensor, member: Tensor, counts: Tensor) -> None:
        """From ``x`` (N, D), ``member`` (classes, N) of zeros and ones, ``counts`` (classes, 1)."""
        raise NotImplementedError

    def _log_given(self, x: Tensor) -> Tensor:
        """log p(x | y), (N, classes), but for what all classes have alike."""
        raise NotImplementedError

    def _alike(self, x: Tensor) -> Tensor | float:
        """What :meth:`_log_given` leaves out, (N, 1)."""
        return 0.0

    def _draw(self, y: Tensor, generator: torch.Generator | None) -> Tensor:
        raise NotImplementedError


def _times(x: Tensor, logs: Tensor) -> Tensor:
    """Σ_d x_d · logs_cd, (N, classes), with 0 · (−∞) = 0."""
    never = logs == -torch.inf
    product = x @ logs.masked_fill(never, 0.0).T
    return product.masked_fill(x @ never.double().T > 0, -torch.inf) if never.any() else product


class Bernoulli(NaiveBayes):
    """x_d is 0 or 1, with p(x_d = 1 | y) = (n_yd + α) / (n_y + 2α): n_y examples of the class, n_yd of them with a 1.

    ``smoothing`` α: pseudo-examples of either kind; 0: maximum likelihood.
    """

    def __init__(self, classes: int, features: int, smoothing: float = 1.0):
        super().__init__(classes, features, smoothing=_smoothing(smoothing))
        half = torch.full((classes, features), 0.5, dtype=torch.float64)
        self.register_buffer("p", half)  # p(x_d = 1 | y)

    def _checked(self, x: Tensor) -> Tensor:
        x = super()._checked(x)
        if ((x != 0) & (x != 1)).any():
            raise ValueError(f"features are 0 or 1; got {float(x[(x != 0) & (x != 1)][0]):g}")
        return x

    def _learn(self, x, member, counts):
        alpha = self.config["smoothing"]
        self.p = (member @ x + alpha) / (counts + 2 * alpha)

    def _log_given(self, x):
        return _times(x, self.p.log()) + _times(1 - x, (-self.p).log1p())

    def _draw(self, y, generator):
        return torch.bernoulli(self.p[y], generator=generator)


class Multinomial(NaiveBayes):
    """x_d counts how often word d occurs: x | y, n ~ Multinomial(n, θ_y), where n = Σ_d x_d is given, not modelled.

    θ_yd = (n_yd + α) / (n_y + α·D), from n_y words of the class, n_yd of them d. ``log_prob`` is the log mass of the
    counts given their sum, with the multinomial coefficient.

    ``smoothing`` α: pseudo-count of each word; 0: maximum likelihood. ``length``: the words of a sampled example.
    """

    def __init__(self, classes: int, features: int, smoothing: float = 1.0, length: int = 100):
        super().__init__(classes, features, smoothing=_smoothing(smoothing), length=whole_number("length", length, 1))
        self.register_buffer("theta", torch.full((classes, features), 1 / features, dtype=torch.float64))

    def _checked(self, x: Tensor) -> Tensor:
        x = super()._checked(x)
        if x.min() < 0 or x.max() > 2**53 or (x != x.floor()).any():
            raise ValueError("features are counts: whole numbers from 0 to 2^53")
        return x

    def _learn(self, x, member, counts):
        total = member @ x + self.config["smoothing"]
        empty = total.sum(1) == 0
        if empty.any():
            raise ValueError(f"class {int(empty.nonzero()[0])} has no words, and no smoothing")
        self.theta = total / total.sum(1, keepdim=True)

    def _log_given(self, x):
        return _times(x, self.theta.log())

    def _alike(self, x):
        """The multinomial coefficient."""
        return torch.lgamma(x.sum(1, keepdim=True) + 1) - torch.lgamma(x + 1).sum(1, keepdim=True)

    def _draw(self, y, generator):
        words = torch.multinomial(self.theta[y], self.config["length"], replacement=True, generator=generator)
        return torch.zeros_like(self.theta[y]).scatter_add_(1, words, torch.ones_like(words, dtype=torch.float64))


class Gaussian(NaiveBayes):
    """x_d | y ~ N(μ_yd, σ²_yd); with ``tied`` one σ²_d for all classes, and then the boundaries are straight.

    Means and variances are those of maximum likelihood (the variance divided by N). ``smoothing``: this share of the
    largest variance of a column is added to every variance, as scikit-learn does; 0: none, and then a column that is
    constant within a class is a ``ValueError``.
    """

    def __init__(self, classes: int, features: int, smoothing: float = 1e-9, tied: bool = False):
        super().__init__(classes, features, smoothing=_smoothing(smoothing), tied=bool(tied))
        self.register_buffer("mean", torch.zeros(classes, features, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(classes, features, dtype=torch.float64))

    def _learn(self, x, member, counts):
        self.mean = member @ x / counts
        within = member @ (x - member.T @ self.mean).square()
        variance = within / counts
        if self.config["tied"]:
            variance = (within.sum(0) / len(x)).expand_as(within)
        variance = variance + self.config["smoothing"] * x.var(0, correction=0).max()
        if not variance.isfinite().all():
            raise ValueError(f"x reaches to {float(x.abs().max()):.3g}, and its square is no float: divide by a number")
        if not (variance > 0).all():
            y, d = (variance <= 0).nonzero()[0].tolist()
            raise ValueError(f"feature {d} is constant in class {y}: its variance is 0; smoothing would prevent it")
        self.variance = variance.contiguous()

    def _log_given(self, x):
        squares = [((x - mean).square() / s).sum(1) for mean, s in zip(self.mean, self.variance, strict=True)]
        constant = self.features * math.log(2 * math.pi) + self.variance.log().sum(1)
        return -0.5 * (torch.stack(squares, 1) + constant)

    def _draw(self, y, generator):
        noise = torch.randn(len(y), self.features, dtype=torch.float64, generator=generator, device=y.device)
        return self.mean[y] + self.variance[y].sqrt() * noise


def _smoothing(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"smoothing is a finite number from 0, not {value!r}")
    return value
