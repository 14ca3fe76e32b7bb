"""How good a model is: likelihood in one unit, and distances between distributions and between samples."""

from helpers.metrics.divergences import (
    Estimate,
    cross_entropy,
    entropy,
    gaussian_kernel,
    jensen_shannon,
    kl,
    mmd2,
    wasserstein_1,
)
from helpers.metrics.likelihood import (
    Likelihood,
    bits_per_dimension,
    bits_to_nats,
    evaluate,
    nats_to_bits,
    perplexity,
)

__all__ = [
    "Estimate",
    "Likelihood",
    "bits_per_dimension",
    "bits_to_nats",
    "cross_entropy",
    "entropy",
    "evaluate",
    "gaussian_kernel",
    "jensen_shannon",
    "kl",
    "mmd2",
    "nats_to_bits",
    "perplexity",
    "wasserstein_1",
]
