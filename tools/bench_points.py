"""Work for the bench: the families of points and of images."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

from helpers.classifiers.logistic import LogisticRegression
from helpers.models.factor_analysis import FactorAnalysis, best_weight
from helpers.models.gaussian_mixture import GaussianMixture
from helpers.models.ppca import PPCA
from helpers.models.vae import VAE

Sides = tuple[Callable, Callable | None]  # what to time, ours and the reference's; both return what must agree


def points(n: int, d: int, k: int) -> tuple[torch.Tensor, GaussianMixture]:
    """Points of a mixture, and a mixture to start from."""
    torch.manual_seed(0)
    x = 3 * torch.randn(k, d, dtype=torch.float64)[torch.randint(k, (n,))] + torch.randn(n, d, dtype=torch.float64)
    start = GaussianMixture(d, k, ridge=0.0)
    start.means = x[torch.randperm(n)[:k]].clone()
    return x, start


def sklearns(start: GaussianMixture, steps: int = 1):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Reference

    warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0: all the steps, as ours
    inits = dict(weights_init=start.weights.numpy(), means_init=start.means.numpy())
    inits["precisions_init"] = torch.linalg.inv(start.covariances).numpy()
    return Reference(len(start.weights), tol=0.0, reg_covar=0.0, max_iter=steps, **inits)


def mixture_fit(n=100_000, d=16, k=16, steps=10) -> Sides:
    x, start = points(n, d, k)

    def ours():
        model = GaussianMixture(d, k, ridge=0.0)
        model.means = start.means
        return model.fit(x, steps=steps, tolerance=0, resume=True).means.numpy()

    return ours, lambda: sklearns(start, steps).fit(x.numpy()).means_


def mixture_score(n=100_000, d=16, k=16) -> Sides:
    x, start = points(n, d, k)
    theirs = sklearns(start).fit(x.numpy())
    start.weights, start.means, start.covariances = map(
        torch.from_numpy, (theirs.weights_, theirs.means_, theirs.covariances_)
    )
    return lambda: float(start.log_prob(x).mean()), lambda: theirs.score(x.numpy())


def mixture_sample(n=100_000, d=16, k=16) -> Sides:
    x, start = points(n, d, k)
    theirs = sklearns(start).fit(x.numpy())
    return lambda: start.sample(n).shape, lambda: theirs.sample(n)[0].shape


def ppca_fit(n=100_000, d=64, k=8) -> Sides:
    """Fit, and the likelihood of the data. scikit-learn divides by n - 1, ours by n."""
    from sklearn.decomposition import PCA

    torch.manual_seed(0)
    x = torch.randn(n, k, dtype=torch.float64) @ torch.randn(k, d, dtype=torch.float64)
    x += 0.5 * torch.randn(n, d, dtype=torch.float64)

    def ours():
        return float(PPCA(d, k).double().fit(x).log_prob(x).mean())

    return ours, lambda: PCA(k, svd_solver="covariance_eigh").fit(x.numpy()).score(x.numpy())


def noisy_plane(n: int, d: int, k: int) -> torch.Tensor:
    """Points near a plane of k dimensions, each coordinate with noise of its own."""
    torch.manual_seed(0)
    noise = 0.5 + 2 * torch.rand(d, dtype=torch.float64)
    x = torch.randn(n, k, dtype=torch.float64) @ torch.randn(k, d, dtype=torch.float64)
    return x + noise * torch.randn(n, d, dtype=torch.float64)


def factors(k: int, steps: int = 1):
    """Lapack: at these sizes it is the faster of the two settings, and exact."""
    from sklearn.decomposition import FactorAnalysis as Reference
    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0: all the steps, as ours
    return Reference(k, svd_method="lapack", tol=0.0, max_iter=steps)


def factors_fit(n=10_000, d=64, k=8, steps=20) -> Sides:
    """From noise 1 and its best W. scikit-learn decomposes the points in each step, ours their covariance."""
    x, noise = noisy_plane(n, d, k), torch.ones(d, dtype=torch.float64)
    weight = best_weight(torch.cov(x.T, correction=0), noise, k)

    def ours():
        model = FactorAnalysis(d, k, ridge=0.0)
        model.weight, model.noise = weight, noise
        return model.fit(x, steps=steps, tolerance=0, resume=True).noise.numpy()

    return ours, lambda: factors(k, steps).fit(x.numpy()).noise_variance_


def factors_score(n=100_000, d=64, k=8) -> Sides:
    x, model = noisy_plane(n, d, k), FactorAnalysis(d, k)
    theirs = factors(k).fit(x.numpy())
    model.mean, model.weight, model.noise = map(
        torch.from_numpy, (theirs.mean_, theirs.components_.T, theirs.noise_variance_)
    )
    return lambda: model.log_prob(x).numpy(), lambda: theirs.score_samples(x.numpy())


def linear_sample(kind, n=100_000, d=64, k=8) -> Sides:
    """numpy is given the covariance, and takes its root by Cholesky, its fastest way. Compared: the mean square."""
    x = noisy_plane(10 * d, d, k)
    model = kind(d, k).fit(x)
    covariance = (model.weight @ model.weight.T + model.noise.diag()).numpy()
    draw = np.random.default_rng(0).multivariate_normal
    return lambda: float(model.sample(n).square().mean()), lambda: float(
        np.square(draw(model.mean.numpy(), covariance, n, method="cholesky")).mean()
    )


def logistic_fit(n=20_000, d=50, classes=10) -> Sides:
    """Both by Newton's method and conjugate gradients, until no entry of the mean gradient exceeds 10⁻⁶."""
    from sklearn.linear_model import LogisticRegression as Reference

    torch.manual_seed(0)
    y = torch.randint(classes, (n,))
    x = torch.randn(n, d, dtype=torch.float64) + 0.5 * torch.randn(classes, d, dtype=torch.float64)[y]
    theirs = Reference(C=1.0, solver="newton-cg", tol=1e-6, max_iter=1000)
    return (
        lambda: LogisticRegression(classes, d, penalty=1.0).fit(x, y, tolerance=1e-6).weight.numpy(),
        lambda: theirs.fit(x.numpy(), y.numpy()).coef_,
    )


# Images: no maintained library has these models


def vae_train(batch=128, side=16, steps=5, **sizes) -> Sides:
    torch.manual_seed(0)
    x = torch.randint(256, (batch, side, side), dtype=torch.uint8)
    model = VAE((side, side), 256, **sizes)
    optimizers = model.optimizers(1e-3)
    return lambda: [model.training_step((x, None), optimizers) for _ in range(steps)][0]["loss"], None


def vae_sample(n=1000, side=16, **sizes) -> Sides:
    torch.manual_seed(0)
    model = VAE((side, side), 256, **sizes).eval()
    return lambda: model.sample(n), None
