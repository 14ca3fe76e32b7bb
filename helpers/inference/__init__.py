"""Inference on callables (E and M steps, log-densities, scores): nothing here knows a model."""
