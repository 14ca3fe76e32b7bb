"""Objectives against integrals by scipy and Gauss-Hermite, each with mutants that the check finds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.inference import objectives as o

P = [scipy.stats.norm(-1.5, 0.5), scipy.stats.norm(1.0, 0.4)]
GRID = torch.linspace(-7, 7, 2801, dtype=torch.float64)
STEP = (GRID[1] - GRID[0]).item()


def p(x):
    return 0.4 * P[0].pdf(x) + 0.6 * P[1].pdf(x)


def drawn(n, seed=0):
    g = np.random.default_rng(seed)
    left = g.random(n) < 0.4
    return torch.from_numpy(np.where(left, P[0].rvs(n, random_state=g), P[1].rvs(n, random_state=g)))[:, None]


def integral(f):
    return scipy.integrate.quad(f, -7, 7, limit=400, points=[-1.5, -0.3, 1.0])[0]


def score_of_p(x):
    slope = 0.4 * P[0].pdf(x) * (-1.5 - x) / 0.25 + 0.6 * P[1].pdf(x) * (1.0 - x) / 0.16
    return slope / p(x)


def field(x):  # no gradient field of a mixture: any smooth field will do
    return torch.stack([torch.sin(x[:, 0]) - x[:, 1], x[:, 0] * x[:, 1] ** 2], 1)


def close(value, truth, spread):  # the mean of repetitions, within 4 standard errors
    values = torch.as_tensor(value)
    return abs(values.mean() - truth) < 4 * values.std() / len(values) ** 0.5 * spread


def test_score_matching_is_the_fisher_divergence_up_to_a_constant():
    x = drawn(200_000)
    sigmas = (0.8, 1.4)
    loss = [o.score_matching(lambda x, s=s: -(x - 0.2) / s**2, x).item() for s in sigmas]
    fisher = [integral(lambda t, s=s: 0.5 * p(t) * (score_of_p(t) + (t - 0.2) / s**2) ** 2) for s in sigmas]
    assert loss[0] - loss[1] == pytest.approx(fisher[0] - fisher[1], abs=0.02)
    mutants = {
        "no ½": [l + 0.5 * ((x - 0.2) ** 2).mean().item() / s**4 for l, s in zip(loss, sigmas, strict=True)],
        "+ for the trace's −": [l + 2 / s**2 for l, s in zip(loss, sigmas, strict=True)],
    }
    for name, (a, b) in mutants.items():
        assert abs((a - b) - (fisher[0] - fisher[1])) > 0.1, name


def test_trace_exact_and_sliced():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(50, 2, generator=g, dtype=torch.float64)
    trace = torch.cos(x[:, 0]) + 2 * x[:, 0] * x[:, 1]  # by hand
    truth = (0.5 * field(x).square().sum(1) + trace).mean()
    assert o.score_matching(field, x).item() == pytest.approx(truth.item())
    runs = [o.sliced_score_matching(field, x, generator=g).item() for _ in range(400)]
    assert close(runs, truth, 1)
    full = torch.cos(x[:, 0]) + 2 * x[:, 0] * x[:, 1] - 1 + x[:, 1] ** 2  # mutant: v = 1, the sum of the Jacobian
    assert not close(runs, (0.5 * field(x).square().sum(1) + full).mean(), 1)
    assert o.score_matching(lambda x: torch.ones_like(x), x).item() == pytest.approx(1.0)  # constant: no trace


def test_denoising_learns_the_noisy_score():
    x, sigma, g = drawn(2000), 0.5, torch.Generator().manual_seed(1)

    def slope(t):  # the score of p convolved with N(0, σ²)
        v = [0.25 + sigma**2, 0.16 + sigma**2]
        logs = torch.stack([-0.5 * (t + 1.5) ** 2 / v[0] + math.log(0.4 / v[0] ** 0.5)])
        logs = torch.cat([logs, torch.stack([-0.5 * (t - 1) ** 2 / v[1] + math.log(0.6 / v[1] ** 0.5)])])
        r = logs.softmax(0)
        return r[0] * (-1.5 - t) / v[0] + r[1] * (1 - t) / v[1]

    def loss(f):
        return np.mean([o.denoising_score_matching(f, x, sigma, generator=g).item() for _ in range(200)])

    def clean(t):
        return torch.from_numpy(score_of_p(t.numpy()))

    best = loss(slope)
    for scale in (0.8, 1.2):
        assert loss(lambda t, c=scale: c * slope(t)) > best
    assert loss(clean) > best + 0.3  # mutant: the score of the data without noise
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive"):
            o.denoising_score_matching(slope, x, bad)


def levels(T):
    t = torch.linspace(1, T, T, dtype=torch.float64) / T
    return torch.cos(0.495 * math.pi * t), torch.sin(0.495 * math.pi * t)


def test_bound_weights_give_the_elbo_of_a_normal_density():
    """For data N(0, s²) with the exact predictor the bound is known: a chain of normal distributions, by matrices."""
    T, s2 = 12, 0.3
    alpha, sigma = levels(T)
    error = 1 - sigma**2 / (alpha**2 * s2 + sigma**2)  # E‖ε − E[ε | x_t]‖²
    last = 0.5 * (alpha[-1] ** 2 * s2 + sigma[-1] ** 2 - 1 - (sigma[-1] ** 2).log())
    first = 0.5 * (2 * math.pi * sigma[0] ** 2 / alpha[0] ** 2).log()

    def bound(weights):
        return (last + first + (weights * error).sum()).item()

    # The same by direct means: every KL of the chain, with q(x_{t−1} | x_t, x_0) written out (Ho et al. 2020, eq. 6, 7)
    truth = last + first + 0.5 * error[0]
    for t in range(1, T):
        step = alpha[t] / alpha[t - 1]
        beta = 1 - (step**2) * sigma[t - 1] ** 2 / sigma[t] ** 2  # share of the noise at t that is new
        variance = sigma[t - 1] ** 2 * beta
        coefficient = alpha[t - 1] * beta  # of x_0 in the posterior's mean
        error_x0 = error[t] * sigma[t] ** 2 / alpha[t] ** 2
        truth = truth + 0.5 * coefficient**2 * error_x0 / variance
    weights = o.bound_weights(alpha, sigma)
    assert bound(weights) == pytest.approx(truth.item())
    entropy = 0.5 * math.log(2 * math.pi * math.e * s2)
    assert entropy < bound(weights)
    snr = torch.linspace(14, -14, 4000, dtype=torch.float64)  # log SNR in even steps: else the first ones stay coarse
    a, b = torch.sigmoid(snr).sqrt(), torch.sigmoid(-snr).sqrt()
    ends = 0.5 * (a[-1] ** 2 * s2 + b[-1] ** 2 - 1 - (b[-1] ** 2).log() + (2 * math.pi * b[0] ** 2 / a[0] ** 2).log())
    fine = ends + (o.bound_weights(a, b) * (1 - b**2 / (a**2 * s2 + b**2))).sum()
    assert entropy < fine.item() < entropy + 0.06
    for name, mutant in {"no ½": 2 * weights, "ratio upside down": 0.5 * (1 - 1 / (2 * weights + 1))}.items():
        assert abs(bound(mutant) - truth) > 0.05, name
    with pytest.raises(ValueError, match="falls"):
        o.bound_weights(alpha.flip(0), sigma.flip(0))
    with pytest.raises(ValueError, match="positive"):
        o.bound_weights(alpha, sigma[1:])


def test_diffusion_loss_by_gauss_hermite():
    alpha, sigma = levels(3)
    x, g = torch.tensor([[0.7], [-0.4]], dtype=torch.float64), torch.Generator().manual_seed(0)

    def predict(y, t):
        return torch.tanh(y) * (t[:, None] + 1)

    nodes, mass = np.polynomial.hermite_e.hermegauss(40)
    e, m = torch.from_numpy(nodes), torch.from_numpy(mass / mass.sum())
    y = alpha[:, None, None] * x[:, 0, None] + sigma[:, None, None] * e  # (3, 2, 40)
    each = ((e - torch.tanh(y) * torch.arange(1.0, 4)[:, None, None]) ** 2 @ m).mean(1)
    runs = [o.diffusion(predict, x.repeat(200, 1), alpha, sigma, generator=g).item() for _ in range(100)]
    assert close(runs, each.mean(), 1)
    weights = torch.tensor([3.0, 0.5, 0.1], dtype=torch.float64)
    weighted = [o.diffusion(predict, x.repeat(200, 1), alpha, sigma, weights, generator=g).item() for _ in range(100)]
    assert close(weighted, (weights * each).mean(), 1)
    assert not close(weighted, each.mean(), 1)  # mutant: the weights forgotten


def test_flow_matching_is_least_at_the_mean_velocity():
    """For data N(2, 0.5²), E[x − ε | x_t] is a line in x_t, here by regression on the joint covariance."""
    g = torch.Generator().manual_seed(0)
    x = 2 + 0.5 * torch.randn(20_000, 1, generator=g, dtype=torch.float64)

    def best(y, t):
        t = t[:, None]
        cov, var = t * 0.25 - (1 - t), t**2 * 0.25 + (1 - t) ** 2
        return 2 + cov / var * (y - 2 * t)

    def loss(v):
        return np.mean([o.flow_matching(v, x, generator=g).item() for _ in range(20)])

    residual = scipy.integrate.quad(lambda t: 1.25 - (t * 0.25 - (1 - t)) ** 2 / (t**2 * 0.25 + (1 - t) ** 2), 0, 1)[0]
    assert loss(best) == pytest.approx(residual, abs=0.01)
    assert loss(lambda y, t: -best(y, t)) > residual + 1  # mutant: ε − x
    assert loss(lambda y, t: best(y, 1 - t)) > residual + 0.1  # mutant: time the other way


def test_contrastive_divergence_has_the_gradient_of_the_likelihood():
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x = drawn(50)

    def log_z(a):  # of exp(−a x⁴), by scipy
        return math.log(scipy.integrate.quad(lambda t: math.exp(-a * t**4), -20, 20)[0])

    h = 1e-4
    truth = (x**4).mean().item() + (log_z(0.7 + h) - log_z(0.7 - h)) / (2 * h)
    negatives = GRID[::10, None]
    weight = torch.exp(-0.7 * negatives[:, 0] ** 4)
    index = torch.multinomial(weight, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    loss = o.contrastive_divergence(lambda x: -a * x[:, 0] ** 4, x, negatives[index])
    (slope,) = torch.autograd.grad(loss, a)
    assert slope.item() == pytest.approx(truth, abs=0.01)
    assert abs((x**4).mean().item() - truth) > 0.1  # mutant: no negatives
    with pytest.raises(ValueError, match="one finite number for each point"):
        o.contrastive_divergence(lambda x: x, x, x)


def test_noise_contrastive_estimation_normalises_itself():
    x, nu = drawn(20_000), 3
    y = torch.from_numpy(scipy.stats.norm(0, 2).rvs(nu * len(x), random_state=0))

    def ratio(t, c):  # 7 times the density, over the noise's
        return torch.from_numpy(np.log(7 * p(t.numpy()) / scipy.stats.norm(0, 2).pdf(t.numpy()))) + c

    def loss(c):
        return o.noise_contrastive(ratio(x[:, 0], c), ratio(y, c)).item()

    assert scipy.optimize.minimize_scalar(loss).x == pytest.approx(-math.log(7), abs=0.04)

    def careless(c):  # mutant: log ν forgotten
        a, b = ratio(x[:, 0], c), ratio(y, c)
        return (torch.nn.functional.softplus(-a).mean() + nu * torch.nn.functional.softplus(b).mean()).item()

    assert abs(scipy.optimize.minimize_scalar(careless).x + math.log(7)) > 0.5


def test_the_game_and_its_generator():
    real, fake = torch.randn(2, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    d_real, d_fake = (scipy.special.expit(logits.numpy()) for logits in (real, fake))
    truth = np.log(d_real).mean() + np.log(1 - d_fake).mean()
    assert o.game(real, fake).item() == pytest.approx(truth.item())
    assert o.game(fake, real).item() != pytest.approx(truth.item(), abs=1e-3)  # mutant: the two exchanged
    assert o.generator_loss(fake).item() == pytest.approx(-np.log(d_fake).mean().item())
    assert o.generator_loss(fake, saturating=True).item() == pytest.approx(np.log(1 - d_fake).mean().item())
    far = torch.tensor([-800.0], requires_grad=True)
    assert torch.autograd.grad(o.generator_loss(far), far)[0].item() == pytest.approx(-1)
    assert torch.autograd.grad(o.generator_loss(far, saturating=True), far)[0].item() == 0


@pytest.mark.parametrize("name", list(o.DIVERGENCES))
def test_f_bound_is_the_divergence_at_its_best_and_less_elsewhere(name):
    q = scipy.stats.norm(0.2, 1.3)
    f, slope, conjugate = o.DIVERGENCES[name]
    u = torch.from_numpy(p(GRID.numpy()) / q.pdf(GRID.numpy()))
    known = {
        "kl": lambda t: p(t) * np.log(p(t) / q.pdf(t)),
        "reverse kl": lambda t: q.pdf(t) * np.log(q.pdf(t) / p(t)),
        "pearson": lambda t: (p(t) - q.pdf(t)) ** 2 / q.pdf(t),
        "hellinger": lambda t: (p(t) ** 0.5 - q.pdf(t) ** 0.5) ** 2,
    }[name]
    truth = integral(known)
    mass_p, mass_q = (torch.from_numpy(v.astype(float)) * STEP for v in (p(GRID.numpy()), q.pdf(GRID.numpy())))

    def bound(critic):
        return ((mass_p * critic).sum() - (mass_q * conjugate(critic)).sum()).item()

    assert (mass_q * f(u)).sum().item() == pytest.approx(truth, abs=2e-4)
    assert bound(slope(u)) == pytest.approx(truth, abs=2e-4)
    for shift in (-0.2, -0.1):
        assert bound(slope(u) + shift) < truth - 1e-3
    critic = slope(u)[::7].clamp(-2, 0.4)
    by_hand = critic.mean() - conjugate(critic).mean()
    assert o.f_bound(name, critic, critic).item() == pytest.approx(by_hand.item())
    assert abs(bound(slope(1 / u)) - truth) > 0.01  # mutant: the ratio upside down


def test_f_bound_refuses():
    with pytest.raises(ValueError, match="wanted one of kl"):
        o.f_bound("js", torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match="not finite"):
        o.f_bound("reverse kl", torch.zeros(2), torch.zeros(2))
    for name, real, fake in (("hellinger", 2, 2), ("hellinger", 2, 0), ("reverse kl", 2, -2)):  # f* is infinite there
        with pytest.raises(ValueError, match="not finite at some of the critic's values, up to 2"):
            o.f_bound(name, torch.full((2,), float(real)), torch.full((2,), float(fake)))


BAD = [None, [1.0], torch.zeros(0, 1), torch.zeros(3), torch.zeros(3, 1).long(), torch.full((2, 1), math.nan)]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(BAD))
def test_bad_points(bad):
    for call in (
        lambda: o.score_matching(lambda x: x, bad),
        lambda: o.sliced_score_matching(lambda x: x, bad),
        lambda: o.denoising_score_matching(lambda x: x, bad, 1.0),
        lambda: o.flow_matching(lambda x, t: x, bad),
        lambda: o.diffusion(lambda x, t: x, bad, *levels(3)),
        lambda: o.contrastive_divergence(lambda x: x[:, 0], bad, torch.zeros(2, 1)),
    ):
        with pytest.raises(ValueError, match="points are"):
            call()
    if not isinstance(bad, torch.Tensor) or bad.ndim != 1:
        for call in (lambda: o.game(bad, bad), lambda: o.noise_contrastive(bad, bad), lambda: o.generator_loss(bad)):
            with pytest.raises(ValueError, match="for each point"):
                call()


def test_bad_fields():
    x, level = torch.zeros(3, 1), torch.ones(2)
    for bad in (math.nan, -math.inf):
        with pytest.raises(ValueError, match="one finite number for each point; got nan or infinity"):
            o.contrastive_divergence(lambda x, bad=bad: x[:, 0] + bad, x, x)
    for weights in (torch.ones(3), torch.ones(1), torch.full((2,), math.nan)):
        with pytest.raises(ValueError, match="one for each of 2 levels"):
            o.diffusion(lambda x, t: x, x, level, level, weights)
    with pytest.raises(ValueError, match="not list and Tensor"):
        o.bound_weights([1.0, 0.5], level)
    with pytest.raises(ValueError, match="shape"):
        o.score_matching(lambda x: x[:, :1], torch.zeros(3, 2))
    with pytest.raises(ValueError, match="nan"):
        o.flow_matching(lambda x, t: x / 0 * 0, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="nan"):
        o.game(torch.full((2,), math.nan), torch.zeros(2))
