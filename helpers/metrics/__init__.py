"""How good a model is: likelihood in one unit, and (later) distances between samples and data."""

from helpers.metrics.likelihood import (
    Likelihood,
    bits_per_dimension,
    bits_to_nats,
    evaluate,
    nats_to_bits,
    perplexity,
)

__all__ = ["Likelihood", "bits_per_dimension", "bits_to_nats", "evaluate", "nats_to_bits", "perplexity"]
