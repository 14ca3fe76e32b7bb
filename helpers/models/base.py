"""The one protocol that every family of generative model in the book follows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GenerativeModel(nn.Module):
    """A distribution over data that one can learn and sample.

    A family overrides what it can do, and leaves the rest:

    - ``loss(x, condition=None)``: a scalar to minimise, mean nats per example unless the docstring says otherwise;
      a family that is not learnt by gradient has ``fit(x, condition=None)`` instead;
    - ``sample(n, condition=None, *, generator=None)``: ``n`` examples, shaped and scaled like the data;
    - ``log_prob(x, condition=None)``: ``(batch,)`` nats, exact. A family without an exact density has
      ``log_prob_bound`` (a lower bound) or ``log_prob_estimate`` instead.

    ``config`` holds the constructor's arguments, so that a checkpoint can rebuild the model.
    ``recipe`` holds the arguments of :func:`helpers.training.fit` with which the family learns well.
    """

    config: dict
    recipe: dict = {}

    @classmethod
    def from_data(cls, x: Tensor, **options) -> GenerativeModel:
        """A model of a size that suits the training data ``x`` (N, ...); ``options`` go to the constructor."""
        raise NotImplementedError(f"{cls.__name__} does not say how to build itself from data")

    def loss(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} is not learnt by gradient: use fit(x)")

    def training_step(self, batch: tuple[Tensor, Tensor | None], optimizers: list[torch.optim.Optimizer]) -> dict:
        """One update; a family with several networks overrides it. Returns the scalars worth logging."""
        raise NotImplementedError

    def sample(self, n: int, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not sample")

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device
