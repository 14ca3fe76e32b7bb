"""Gradients of an expectation, ∇θ E[f(x)] with x drawn from q(x; θ), from draws: one unbiased estimate for each draw.

All functions work on rows: ``theta`` is a vector (P,), and the callables get it repeated to (n, P), one row for each of
n draws, so that one backward pass gives n gradients. Row i of what they return may depend on row i alone. The mean over
the rows of an answer (n, P) estimates the gradient; the rows' variance over n is that mean's variance.

Mohamed et al. (2020) survey the field; the score function goes back to Glynn (1990) and Williams (1992).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def score_function(
    f: Callable[[Tensor], Tensor],
    log_prob: Callable[[Tensor, Tensor], Tensor],
    theta: Tensor,
    x: Tensor,
    *,
    baseline: float | str = 0.0,
) -> Tensor:
    """(f(x) − baseline) ∇θ log q(x; θ) for draws ``x`` (n, …): f needs no derivative, and x may be discrete.

    Parameters:
        f: x (n, …) -> (n,).
        log_prob: theta (n, P), x (n, …) -> (n,), the log-density or log-probability of each draw.
        baseline: a number, or "leave-one-out": for each draw the mean of f over the others, which stays unbiased.
    """
    values, slopes = _rows("f", f(x), len(_draws(x))), score(log_prob, theta, x)
    values = values.detach() if values.is_floating_point() else values.to(slopes.dtype)  # such as a yes or no
    if baseline == "leave-one-out":
        if len(x) < 2:
            raise ValueError("leave-one-out needs two draws or more, got 1")
        baseline = (values.sum() - values) / (len(x) - 1)
    elif isinstance(baseline, bool) or not isinstance(baseline, int | float) or not math.isfinite(baseline):
        raise ValueError(f"baseline is a number or 'leave-one-out', not {baseline!r}")
    return (values - baseline)[:, None] * slopes


def score(log_prob: Callable[[Tensor, Tensor], Tensor], theta: Tensor, x: Tensor) -> Tensor:
    """∇θ log q(x; θ) for each draw, (n, P). Its expectation is zero, so it serves as a control variate."""
    with torch.enable_grad():
        rows = _repeat(theta, len(_draws(x)))
        return _slopes("log_prob", log_prob(rows, x.detach()), rows)


def pathwise(
    f: Callable[[Tensor], Tensor], sample: Callable[[Tensor, Tensor], Tensor], theta: Tensor, noise: Tensor
) -> Tensor:
    """∇θ f(sample(θ, noise)) for each draw of ``noise`` (n, …): the gradient through the draw.

    Unbiased where f is continuous and differentiable almost everywhere; a jump of f is not seen.

    Parameters:
        f: x (n, …) -> (n,), made of torch operations.
        sample: theta (n, P), noise (n, …) -> x (n, …), differentiable in theta.
    """
    with torch.enable_grad():
        rows = _repeat(theta, len(_draws(noise)))
        return _slopes("f of sample", f(sample(rows, noise.detach())), rows)


def control_variate(estimates: Tensor, controls: Tensor, expectation: float | Tensor = 0.0) -> Tensor:
    """``estimates`` (n, P) less the multiple of ``controls`` (n, P), of known ``expectation``, that varies with them.

    The coefficient Cov / Var, one for each of P, is taken from the other half of the rows, so that it is independent of
    what it multiplies and the answer stays unbiased. Rows must be independent, n ≥ 4.
    """
    for name, rows in (("estimates", estimates), ("controls", controls)):
        good = isinstance(rows, Tensor) and rows.ndim == 2 and len(rows) >= 4 and rows.is_floating_point()
        if not good or not torch.isfinite(rows).all():
            raise ValueError(f"{name}: got {_say(rows)}, wanted finite floating-point (n, P) with n ≥ 4")
    if estimates.shape != controls.shape:
        raise ValueError(f"controls: got {_say(controls)}, wanted {tuple(estimates.shape)} as the estimates")
    expectation = torch.as_tensor(expectation, dtype=controls.dtype, device=controls.device)
    if expectation.shape not in ((), controls.shape[1:]) or not torch.isfinite(expectation).all():
        raise ValueError(f"expectation: got {expectation.tolist()}, wanted a finite number, or one for each of P")
    half, out = len(estimates) // 2, estimates.clone()
    for mine, other in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
        c = controls[other] - controls[other].mean(0)
        variance = (c**2).sum(0)
        slope = torch.where(variance > 0, (c * estimates[other]).sum(0) / variance, 0.0)
        out[mine] -= slope * (controls[mine] - expectation)
    return out


def _repeat(theta: Tensor, n: int) -> Tensor:
    if not isinstance(theta, Tensor) or theta.ndim != 1 or not theta.is_floating_point() or not len(theta):
        raise ValueError(f"theta: got {_say(theta)}, wanted floating-point (P,)")
    if not torch.isfinite(theta).all():
        raise ValueError(f"theta: got {theta.tolist()}, wanted finite numbers")
    return theta.detach().expand(n, -1).clone().requires_grad_()


def _draws(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim < 1 or len(x) < 1:
        raise ValueError(f"draws: got {_say(x)}, wanted (n, …) with n ≥ 1")
    return x


def _rows(name: str, values: Tensor, n: int) -> Tensor:
    if not isinstance(values, Tensor) or values.shape != (n,):
        raise ValueError(f"{name}: got {_say(values)}, wanted ({n},), one number for each draw")
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} is NaN or infinite at draw {int((~torch.isfinite(values)).nonzero()[0])}")
    return values


def _slopes(name: str, values: Tensor, rows: Tensor) -> Tensor:
    if not _rows(name, values, len(rows)).requires_grad:
        raise ValueError(f"{name} does not depend on theta by differentiable operations")
    slopes = torch.autograd.grad(values.sum(), rows)[0]
    if not torch.isfinite(slopes).all():
        raise ValueError(f"the gradient of {name} is NaN or infinite")
    return slopes


def _say(value) -> str:
    return f"shape {tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
