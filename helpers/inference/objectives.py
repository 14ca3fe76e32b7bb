"""Training objectives of the families without a tractable likelihood, on callables: what one minimises, and why.

Each returns a scalar to minimise unless its docstring says otherwise, differentiable in whatever the callables hold.
Points ``x`` are (N, D); scores, velocities and noise predictions map (N, D) to (N, D), log-densities to (N,). Equation
numbers are those of the chapter *Objectives of generative models*.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

Field = Callable[[Tensor], Tensor]


def score_matching(score: Field, x: Tensor) -> Tensor:
    """E[½‖s(x)‖² + tr ∂s/∂x], exact, with one backward pass for each of D dimensions; equation (10.14).

    It is the Fisher divergence ½E‖s − ∇log p‖² up to a constant (Hyvärinen 2005, theorem 1).
    """
    x = _points(x).detach().requires_grad_()
    s = _field("score", score(x), x)
    trace = sum(_gradient(s[:, d].sum(), x)[:, d] for d in range(x.shape[1]))
    return (0.5 * s.square().sum(1) + trace).mean()


def sliced_score_matching(score: Field, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """E[½‖s(x)‖² + vᵀ(∂s/∂x)v] with random signs v: one backward pass whatever D is; equation (10.16).

    Unbiased for :func:`score_matching` (Song et al. 2019, with the variance reduction of its section 3.2).
    """
    x = _points(x).detach().requires_grad_()
    s = _field("score", score(x), x)
    v = 2.0 * torch.randint(2, x.shape, generator=generator, device=x.device) - 1
    slope = _gradient((s * v).sum(), x)
    return (0.5 * s.square().sum(1) + (slope * v).sum(1)).mean()


def denoising_score_matching(
    score: Field, x: Tensor, sigma: float, *, generator: torch.Generator | None = None
) -> Tensor:
    """½E‖s(x + σε) + ε/σ‖²: the score of the *noisy* density is learnt; equation (10.15), Vincent (2011)."""
    x = _points(x)
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma is a positive number, not {sigma!r}")
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    s = _field("score", score(x + sigma * noise), x)
    return 0.5 * (s + noise / sigma).square().sum(1).mean()


def diffusion(
    predict: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    alpha: Tensor,
    sigma: Tensor,
    weights: Tensor | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """E[w_t ‖ε − ε_θ(α_t x + σ_t ε, t)‖²], t uniform over the T levels; ``predict(x_t, t)`` takes t (N,) from 0.

    Without weights the simple loss, equation (10.19), Ho et al. (2020). With T times :func:`bound_weights` the mean is
    the negative ELBO, equation (10.18), less the two parts without parameters.
    """
    x = _points(x)
    _levels(alpha, sigma)
    if weights is not None and (weights.shape != alpha.shape or not weights.isfinite().all()):
        raise ValueError(f"weights are finite, one for each of {len(alpha)} levels; got {tuple(weights.shape)}")
    t = torch.randint(len(alpha), (len(x),), generator=generator, device=x.device)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    guess = _field("predict", predict(alpha[t, None] * x + sigma[t, None] * noise, t), x)
    error = (noise - guess).square().sum(1)
    return (error if weights is None else weights[t] * error).mean()


def bound_weights(alpha: Tensor, sigma: Tensor) -> Tensor:
    """The ELBO's weight (T,) of ‖ε − ε_θ‖² at each level: ½(SNR_{t−1}/SNR_t − 1), ½ at the first; equation (10.18).

    SNR = α²/σ² must fall from level to level. Kingma et al. (2021), equations 13 and 14, and the ancestral variance.
    """
    _levels(alpha, sigma)
    ratio = (alpha / sigma).square()
    if not (ratio[1:] < ratio[:-1]).all():
        raise ValueError("the signal-to-noise ratio falls from level to level, but here it does not")
    return 0.5 * torch.cat([torch.ones_like(ratio[:1]), ratio[:-1] / ratio[1:] - 1])


def flow_matching(
    velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """E‖v(x_t, t) − (x − ε)‖² with x_t = (1 − t)ε + t x, t uniform on [0, 1), (N,); equation (10.21).

    Noise at t = 0, data at t = 1 (Lipman et al. 2023, with σ_min = 0).
    """
    x = _points(x)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    t = torch.rand(len(x), generator=generator, dtype=x.dtype, device=x.device)
    v = _field("velocity", velocity((1 - t[:, None]) * noise + t[:, None] * x, t), x)
    return (v - (x - noise)).square().sum(1).mean()


def contrastive_divergence(log_density: Field, x: Tensor, negatives: Tensor) -> Tensor:
    """A surrogate whose *gradient* is E_negatives[∇log p̃] − E_data[∇log p̃]; equation (10.9). Its value means nothing.

    With negatives drawn from the model itself, the gradient is that of −E[log p(x)]; with a few steps of a Markov
    chain from the data it is Hinton's (2002). ``log_density`` is unnormalised.
    """
    data, model = log_density(_points(x)), log_density(_points(negatives).detach())
    for values, points in ((data, x), (model, negatives)):
        if values.shape != points.shape[:1] or not values.isfinite().all():
            got = tuple(values.shape) if values.shape != points.shape[:1] else "nan or infinity"
            raise ValueError(f"log_density gives ({len(points)},), one finite number for each point; got {got}")
    return model.mean() - data.mean()


def noise_contrastive(data_ratio: Tensor, noise_ratio: Tensor) -> Tensor:
    """−E_data[log h] − ν E_noise[log(1 − h)], h = σ(ratio − log ν): logistic regression of data against noise; (10.10).

    ``data_ratio`` (N,) and ``noise_ratio`` (νN,) hold log p̃(x) − log q(x) at examples and at draws of q: the least
    value is where p̃ is the data's density, normalised (Gutmann & Hyvärinen 2012).
    """
    _logits(data_ratio, noise_ratio)
    nu = len(noise_ratio) / len(data_ratio)
    shift = math.log(nu)
    return softplus(shift - data_ratio).mean() + nu * softplus(noise_ratio - shift).mean()


def game(real: Tensor, fake: Tensor) -> Tensor:
    """V = E_data[log D] + E_model[log(1 − D)] from logits of D; the discriminator raises it; equation (10.24)."""
    _logits(real, fake)
    return -softplus(-real).mean() - softplus(fake).mean()


def generator_loss(fake: Tensor, *, saturating: bool = False) -> Tensor:
    """−E[log D], or E[log(1 − D)] as in the minimax game, from logits of D at the generator's draws; (10.26)."""
    _logits(fake, fake)
    return -softplus(fake).mean() if saturating else softplus(-fake).mean()


# By name: f, the derivative f′ at which the bound is reached, and the conjugate f*, of Nowozin et al. (2016), table 6.
DIVERGENCES: dict[str, tuple[Callable, Callable, Callable]] = {
    "kl": (lambda u: u * u.log(), lambda u: 1 + u.log(), lambda t: (t - 1).exp()),
    "reverse kl": (lambda u: -u.log(), lambda u: -1 / u, lambda t: -1 - (-t).log()),
    "pearson": (lambda u: (u - 1) ** 2, lambda u: 2 * (u - 1), lambda t: 0.25 * t**2 + t),
    "hellinger": (lambda u: (u.sqrt() - 1) ** 2, lambda u: 1 - u**-0.5, lambda t: t / (1 - t)),
}
BELOW = {"reverse kl": 0.0, "hellinger": 1.0}  # from there on f* is infinite, whatever its formula gives


def f_bound(divergence: str, real: Tensor, fake: Tensor) -> Tensor:
    """E_data[T] − E_model[f*(T)], from a critic's values T: at most ∫ q f(p/q), equal at T = f′(p/q); (10.27)."""
    if divergence not in DIVERGENCES:
        raise ValueError(f"got divergence {divergence!r}, wanted one of {', '.join(DIVERGENCES)}")
    _logits(real, fake)
    conjugate, top = DIVERGENCES[divergence][2](fake), max(real.max().item(), fake.max().item())
    if top >= BELOW.get(divergence, math.inf) or not conjugate.isfinite().all():
        raise ValueError(f"the conjugate of {divergence} is not finite at some of the critic's values, up to {top:g}")
    return real.mean() - conjugate.mean()


def _gradient(y: Tensor, x: Tensor) -> Tensor:
    """dy/dx, zero where y does not depend on x."""
    if not y.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(y, x, create_graph=True, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope


def _points(x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 2 or 0 in x.shape:
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"points are a floating-point tensor (N, D); got {got}")
    if not x.isfinite().all():
        raise ValueError("points are finite, but these hold nan or infinity")
    return x


def _field(name: str, value: Tensor, x: Tensor) -> Tensor:
    if value.shape != x.shape or not value.isfinite().all():
        got = f"shape {tuple(value.shape)}" if value.shape != x.shape else "nan or infinity"
        raise ValueError(f"{name} gives finite numbers of shape {tuple(x.shape)}; got {got}")
    return value


def _logits(*given: Tensor) -> None:
    for logits in given:
        if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.ndim != 1 or len(logits) == 0:
            got = f"{logits.dtype} {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"one floating-point number for each point, (N,), is wanted; got {got}")
        if logits.isnan().any():
            raise ValueError("one number for each point is wanted; got nan")


def _levels(alpha: Tensor, sigma: Tensor) -> None:
    if not isinstance(alpha, Tensor) or not isinstance(sigma, Tensor):
        raise ValueError(f"alpha and sigma are tensors (T,), not {type(alpha).__name__} and {type(sigma).__name__}")
    if alpha.ndim != 1 or alpha.shape != sigma.shape or not (alpha > 0).all() or not (sigma > 0).all():
        raise ValueError(f"alpha and sigma are positive, (T,) each; got {tuple(alpha.shape)} and {tuple(sigma.shape)}")
