"""Logistic and softmax regression: log p(y | x) is linear in x, up to the normalisation; learnt by Newton's method."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LogisticRegression(nn.Module):
    """p(y = c | x) = exp(w_c · x + b_c) / Σ_k exp(w_k · x + b_k), for two classes with w_0 = 0 and b_0 = 0.

    ``fit`` minimises Σ_n −log p(y_n | x_n) + penalty/2 · Σ_c ‖w_c‖²: nats summed over the examples, the intercepts
    free. With classes = 2 this is logistic regression, p(y = 1 | x) = 1 / (1 + exp(−w_1 · x − b_1)). Scikit-learn's
    ``LogisticRegression`` has the same objective with C = 1/penalty.

    Parameters:
        classes: labels 0..classes-1. features: numbers in an example.
        penalty: from 0; the precision of a normal prior on each weight. 0: maximum likelihood, which exists only where
            no straight boundary separates the classes.

    After ``fit``: ``weight`` (classes, features) and ``bias`` (classes,), float64.
    """

    def __init__(self, classes: int, features: int, penalty: float = 1.0):
        super().__init__()
        for name, value, least in (("classes", classes, 2), ("features", features, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is a whole number from {least}, not {value!r}")
        if isinstance(penalty, bool) or not isinstance(penalty, int | float) or not 0 <= penalty < float("inf"):
            raise ValueError(f"penalty is a finite number from 0, not {penalty!r}")
        self.config = dict(classes=classes, features=features, penalty=penalty)
        self.classes, self.features, self.penalty = classes, features, penalty
        self.register_buffer("weight", torch.zeros(classes, features, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(classes, dtype=torch.float64))

    def log_probs(self, x: Tensor) -> Tensor:
        """log p(y | x) in nats, (N, classes), for ``x`` (N, features)."""
        return (self._checked(x) @ self.weight.T + self.bias).log_softmax(1)

    def classify(self, x: Tensor) -> Tensor:
        """The most probable class of each example, (N,) int64; the lowest of equals."""
        return self.log_probs(x).argmax(1)

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        """What ``fit`` minimises, in nats, summed over the examples."""
        log_probs = self.log_probs(x)
        y = check_labels(y, len(x), self.classes).to(log_probs.device)
        return self.penalty / 2 * self.weight.square().sum() - log_probs.gather(1, y[:, None]).sum()

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor, *, steps: int = 200, tolerance: float = 1e-9) -> LogisticRegression:
        """Newton's method, each step solved by conjugate gradients (Dembo & Steihaug 1983), with a line search.

        Ends where no entry of the gradient exceeds ``tolerance`` times the number of examples.

        Raises:
            ValueError: bad input; a class without examples; separable classes without a penalty (the weights would
                grow without end); no convergence within ``steps`` steps.
        """
        x = self._checked(x)
        y = check_labels(y, len(x), self.classes).to(x.device)
        missing = (torch.bincount(y, minlength=self.classes) == 0).nonzero()
        if len(missing):
            raise ValueError(f"class {int(missing[0])} has no examples")
        free = 1 if self.classes == 2 else 0  # the first row that is learnt
        inputs = torch.cat([x, x.new_ones(len(x), 1)], 1)
        target = nn.functional.one_hot(y, self.classes).double()
        penalty = torch.full((self.features + 1,), self.penalty, dtype=x.dtype, device=x.device)
        penalty[-1] = 0.0
        w = x.new_zeros(self.classes, self.features + 1)

        def value(w: Tensor) -> tuple[Tensor, Tensor]:
            log_p = (inputs @ w.T).log_softmax(1)
            return (penalty * w.square()).sum() / 2 - (target * log_p).sum(), log_p

        (now, log_p), moved = value(w), 0.0
        for _ in range(steps):
            p = log_p.exp()
            gradient = (p - target).T @ inputs + penalty * w
            gradient[:free] = 0.0
            size = gradient.abs().max() / len(x)
            ahead = ((log_p - log_p.gather(1, y[:, None])) < 0).sum() == len(x) * (self.classes - 1)  # all are right
            # Where classes can be told apart but for examples on the boundary, the gradient vanishes like e^−w, while
            # each step still moves w by about 1.
            if self.penalty == 0 and (ahead or (size <= tolerance and moved > 0.5)):
                raise ValueError("classes are separable: without a penalty some weights grow without end")
            if size <= tolerance:
                break

            def curvature(v: Tensor, p: Tensor = p) -> Tensor:  # the second derivative times v
                u = inputs @ v.T
                out = (p * (u - (p * u).sum(1, keepdim=True))).T @ inputs + penalty * v
                out[:free] = 0.0
                return out

            step = conjugate_gradients(curvature, -gradient, min(0.1, float(size) ** 0.5), 20 * w.numel())
            slope, length = (gradient * step).sum(), 1.0
            while True:
                new, new_log_p = value(w + length * step)
                if new <= now + 1e-4 * length * slope + 1e-12 * now.abs():
                    break
                length /= 2
                if length < 1e-12:
                    raise ValueError("no step lowers the objective: scale the columns of x to similar sizes")
            w, now, log_p = w + length * step, new, new_log_p
            moved = float((inputs @ step.T).abs().max())
        else:
            raise ValueError(
                f"no convergence in {steps} steps (largest weight {float(w.abs().max()):.3g}): "
                "scale the columns of x to similar sizes, or give a penalty"
            )
        self.weight, self.bias = w[:, :-1].contiguous(), w[:, -1].contiguous()
        return self

    def _checked(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.ndim != 2 or x.shape[1] != self.features or len(x) == 0:
            raise ValueError(f"x is (N, {self.features}), at least one example; got {_describe(x)}")
        if x.is_complex():
            raise ValueError(f"x is real numbers, not {x.dtype}")
        x = x.to(device=self.weight.device, dtype=torch.float64)
        if not x.isfinite().all():
            raise ValueError("x is finite, but this holds nan or infinity")
        return x


def conjugate_gradients(product, b: Tensor, tolerance: float, steps: int) -> Tensor:
    """``v`` with ``product(v)`` = ``b``, for a symmetric ``product`` without negative curvature.

    Hestenes & Stiefel (1952). Ends where the residual's norm is ``tolerance`` times that of ``b``, or after
    ``steps`` products.
    """
    v, residual = torch.zeros_like(b), b
    direction, rho = residual, residual.square().sum()
    goal = tolerance**2 * rho
    for _ in range(steps):
        if rho <= goal:
            break
        image = product(direction)
        bend = (direction * image).sum()
        if bend <= 0:  # rounding: there is nothing left along this direction
            break
        v = v + rho / bend * direction
        residual = residual - rho / bend * image
        rho, before = residual.square().sum(), rho
        direction = residual + rho / before * direction
    return v if v.any() else b


def check_labels(y: Tensor, n: int, classes: int) -> Tensor:
    """Labels (n,) as int64. ValueError: another shape, no whole numbers, or outside 0..classes-1."""
    if not isinstance(y, Tensor) or tuple(y.shape) != (n,) or y.is_floating_point() or y.is_complex():
        raise ValueError(f"labels are whole numbers ({n},), one an example; got {_describe(y)}")
    if n and (y.min() < 0 or y.max() >= classes):
        raise ValueError(f"labels are 0..{classes - 1}; got {int(y.min())}..{int(y.max())}")
    return y.long()


def _describe(x) -> str:
    return f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
