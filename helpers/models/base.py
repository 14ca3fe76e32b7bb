"""The one protocol that every family of generative model in the book follows, and its optimiser."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw


def _plain(method):
    return getattr(method, "__wrapped__", method)


class AdamW(torch.optim.Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), by torch's fused kernel.

    The same updates, bit for bit, as ``torch.optim.AdamW(..., fused=True)``, which is four times as fast on a CPU as
    the default; but that one's methods are wrapped for torch.compile, and its first call imports the compiler: 2.2 s.
    """

    add_param_group = _plain(torch.optim.Optimizer.add_param_group)
    state_dict = _plain(torch.optim.Optimizer.state_dict)
    load_state_dict = _plain(torch.optim.Optimizer.load_state_dict)
    zero_grad = _plain(torch.optim.Optimizer.zero_grad)

    def __init__(self, parameters, lr: float = 1e-3, betas=(0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0):
        super().__init__(parameters, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True))

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            for p in parameters:
                if not self.state[p]:
                    step = torch.zeros((), dtype=torch.float32, device=p.device)
                    self.state[p] = dict(step=step, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
            states = [self.state[p] for p in parameters]
            if parameters:
                adamw(
                    parameters,
                    [p.grad for p in parameters],
                    [s["exp_avg"] for s in states],
                    [s["exp_avg_sq"] for s in states],
                    [],
                    [s["step"] for s in states],
                    fused=True,
                    amsgrad=False,
                    beta1=group["betas"][0],
                    beta2=group["betas"][1],
                    lr=group["lr"],
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    maximize=False,
                )


class GenerativeModel(nn.Module):
    """A distribution over data that one can learn and sample.

    A family overrides what it can do, and leaves the rest:

    - ``loss(x, condition=None)``: a scalar to minimise, mean nats per example unless the docstring says otherwise.
      A family with several networks overrides ``training_step`` and ``optimizers`` in its place; one that is not
      learnt by gradient has ``fit(x, condition=None)``;
    - ``sample(n, condition=None, *, generator=None)``: ``n`` examples, shaped and scaled like the data;
    - ``log_prob(x, condition=None)``: ``(batch,)`` nats, exact. A family without an exact density has
      ``log_prob_bound`` (a lower bound) or ``log_prob_estimate`` instead.

    ``config`` holds the constructor's arguments (plain values), so that a checkpoint can rebuild the model.
    ``recipe`` holds the arguments of :func:`helpers.training.fit` with which the family learns well. Whatever must
    survive an interruption of the training, but is no parameter, is a buffer.
    """

    config: dict
    recipe: dict = {}

    @classmethod
    def from_data(cls, x: Tensor, **options) -> GenerativeModel:
        """A model of a size that suits the training data ``x`` (N, ...); ``options`` go to the constructor.

        Data of a kind or shape that the family cannot learn: ``ValueError``.
        """
        raise NotImplementedError(f"{cls.__name__} does not say how to build itself from data")

    def loss(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def optimizers(self, learning_rate: float, weight_decay: float = 0.0) -> list[torch.optim.Optimizer]:
        """What ``training_step`` is given: one AdamW, which decays matrices and leaves biases and gains alone."""
        learnt = [p for p in self.parameters() if p.requires_grad]
        groups = [
            dict(params=[p for p in learnt if p.ndim >= 2], weight_decay=weight_decay),
            dict(params=[p for p in learnt if p.ndim < 2], weight_decay=0.0),
        ]
        if weight_decay == 0:
            groups = [dict(params=learnt)]
        return [AdamW([group for group in groups if group["params"]], lr=learning_rate)]

    def training_step(
        self, batch: tuple[Tensor, Tensor | None], optimizers: list[torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """One update on ``batch = (x, condition)``. Returns the scalars worth logging."""
        loss = self.loss(*batch)
        optimizers[0].zero_grad()
        loss.backward()
        optimizers[0].step()
        return {"loss": loss.detach()}

    def terms(self, x: Tensor) -> float:
        """How many terms the loss of ``x`` is the mean of: by these, losses of parts of a batch are averaged.

        Examples, unless a family says otherwise (symbols).
        """
        return len(x)

    def sample(self, n: int, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not sample")

    @property
    def device(self) -> torch.device:
        tensor = next(self.parameters(), next(self.buffers(), None))
        return torch.device("cpu") if tensor is None else tensor.device
