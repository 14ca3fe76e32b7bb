"""Negative log-likelihood of any model on any data, and the units in which it is quoted.

One number means: nats per example, the mean over the examples, exact or said to be a bound or an estimate.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

METHODS = {"log_prob": "exact", "log_prob_bound": "bound", "log_prob_estimate": "estimate"}


@dataclass(frozen=True)
class Likelihood:
    """Mean negative log-likelihood per example.

    ``kind``: "exact"; "bound": the true value is at most ``value``; "estimate": neither.
    ``se``: standard error of the mean over the ``n`` examples (nan for a single one, inf where
    ``value`` is infinite).
    """

    value: float
    unit: str
    kind: str
    n: int
    se: float

    def __str__(self) -> str:
        sign = {"exact": "", "bound": "≤ ", "estimate": "≈ "}[self.kind]
        return f"{sign}{self.value:.2f} ± {self.se:.2f} {self.unit} ({self.n} examples)"


@torch.no_grad()
def evaluate(
    model: nn.Module,
    x: Tensor,
    condition: Tensor | None = None,
    *,
    batch_size: int = 500,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> Likelihood:
    """Mean negative log-likelihood of ``x`` (N, ...) under ``model``, in nats per example.

    Takes the model's ``log_prob``; if it has none, ``log_prob_bound``, then ``log_prob_estimate``. ``samples`` (how
    many the bound or the estimate may draw) and ``generator`` reach a method that knows them. Runs in evaluation
    mode, on the model's device, and leaves the model in the mode in which it was.

    Raises:
        ValueError: no examples, non-finite ones, a condition of another length, a batch size below 1, a model without
            any of the three methods, or one whose answer is not a (batch,) of numbers.
    """
    name = next((name for name in METHODS if hasattr(model, name)), None)
    if name is None:
        raise ValueError(f"{type(model).__name__} has none of {', '.join(METHODS)}: it has no likelihood")
    if not isinstance(x, Tensor) or x.ndim == 0 or len(x) == 0:
        raise ValueError(f"x is a tensor of at least one example, not {getattr(x, 'shape', type(x).__name__)}")
    if x.is_floating_point() and not x.isfinite().all():
        raise ValueError("x is finite, but this holds nan or inf")
    if condition is not None and (not isinstance(condition, Tensor) or condition.shape[:1] != x.shape[:1]):
        got = getattr(condition, "shape", type(condition).__name__)
        raise ValueError(f"a condition for each of the {len(x)} examples is needed, not {got}")
    for what, value in (("batch_size", batch_size), ("samples", 1 if samples is None else samples)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{what} is a whole number from 1, not {value!r}")

    method = getattr(model, name)
    known = inspect.signature(method).parameters
    options = {"samples": samples, "generator": generator}
    options = {key: value for key, value in options.items() if key in known and value is not None}
    tensor = next(model.parameters(), next(model.buffers(), x))
    training = model.training
    model.eval()
    try:
        parts = []
        for i in range(0, len(x), batch_size):
            batch = x[i : i + batch_size].to(tensor.device)
            given = None if condition is None else condition[i : i + batch_size].to(tensor.device)
            answer = method(batch, given, **options)
            if not isinstance(answer, Tensor) or answer.shape != (len(batch),):
                got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
                raise ValueError(f"{name} gives one number an example, ({len(batch)},), not {got}")
            parts.append(answer.double().cpu())
    finally:
        model.train(training)
    nats = -torch.cat(parts)
    bad = (nats.isnan() | nats.isneginf()).nonzero()
    if len(bad):
        raise ValueError(f"{name} is {-float(nats[bad[0]])} for example {int(bad[0])}")
    n = len(nats)
    se = float(nats.std()) / math.sqrt(n) if n > 1 else math.nan
    if n > 1 and nats.isinf().any():
        se = math.inf
    return Likelihood(float(nats.mean()), "nats", METHODS[name], n, se)


def nats_to_bits(nats: float | Tensor) -> float | Tensor:
    """1 nat = 1/ln 2 = 1.4427 bits."""
    return _number(nats) / math.log(2)


def bits_to_nats(bits: float | Tensor) -> float | Tensor:
    """1 bit = ln 2 = 0.6931 nats."""
    return _number(bits) * math.log(2)


def bits_per_dimension(nats: float | Tensor, dimensions: int) -> float | Tensor:
    """Nats per example as bits per pixel (or other coordinate): ``nats / (dimensions · ln 2)``.

    ``dimensions``: coordinates of one example, H·W·C. Defined for a log mass of integer data or its bound; for real
    data it depends on the unit of measurement.
    """
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or dimensions < 1:
        raise ValueError(f"dimensions is a whole number from 1, not {dimensions!r}")
    return _number(nats) / (dimensions * math.log(2))


def perplexity(nats: float | Tensor) -> float | Tensor:
    """``exp(nats)``, of nats per symbol: as undecided as a fair choice among so many symbols."""
    nats = _number(nats)
    if isinstance(nats, Tensor):
        return nats.exp()
    return math.exp(nats) if nats < 709 else math.inf


def _number(value: float | Tensor) -> float | Tensor:
    """``value`` itself if it is a number, or a tensor of numbers, and not nan."""
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            raise ValueError(f"a tensor of floating-point numbers is needed, not {value.dtype}")
        if value.isnan().any():
            raise ValueError("numbers are needed, but the tensor holds nan")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"a number is needed, not {value!r}")
    return float(value)
