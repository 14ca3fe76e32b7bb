"""Several processes train one model, each on its share of every batch: ``torchrun`` starts them, this connects them.

The gradients are averaged when an optimizer is about to step. That is what DistributedDataParallel does, except that it
sends them while the backward pass still runs; but it wraps one module with one forward pass, and a family may have
several networks, losses and optimizers in its ``training_step``. All families have in common that an optimizer steps.

Without ``torchrun`` there is one worker, and nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from helpers.models.base import GenerativeModel
from helpers.training.parts import random_state, set_random_state


def rank() -> int:
    """This worker's number, from 0. The first one writes files and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def connected(device: str = "cpu") -> Iterator[None]:
    """Connect the workers that ``torchrun`` started, by gloo; for a GPU by NCCL, each worker with a GPU of its own."""
    several = dist.is_torchelastic_launched() and _world() > 1 and not dist.is_initialized()
    if several:
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, store=_store(), rank=int(os.environ["RANK"]), world_size=_world())
    yield  # after an exception the process ends, and torchrun ends the others: no farewell, which they might not answer
    if several:
        dist.destroy_process_group()


def _world() -> int:
    return int(os.environ["WORLD_SIZE"])


def _store() -> dist.Store:
    """Where the workers find one another. ``torchrun``'s store outlives them: those that are started again would look
    for the lost ones where those were, so each start gets entries of its own (on one machine; several count apart)."""
    store, _, _ = next(dist.rendezvous("env://"))
    start = os.environ["TORCHELASTIC_RESTART_COUNT"] if os.environ["GROUP_WORLD_SIZE"] == "1" else "all"
    return dist.PrefixStore(f"start-{start}", store)


def first(make: Callable):
    """What ``make()`` returns to the first worker, for all; its ``ValueError`` or ``OSError`` is raised by all."""
    if size() == 1:
        return make()
    answer = [None, None]
    if rank() == 0:
        try:
            answer[0] = make()
        except (ValueError, OSError) as error:
            answer[1] = error
    dist.broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


def refuse(model: GenerativeModel) -> None:
    """Several workers have nothing to share in a family that is learnt without gradients: ``ValueError``."""
    if size() > 1 and hasattr(model, "fit"):
        raise ValueError(f"{type(model).__name__} is not learnt by gradient: run it without torchrun")


def begin_alike(model: GenerativeModel) -> None:
    """Give all workers the first one's weights and random state."""
    if size() > 1:
        copy_tensors(model.state_dict().values())
        set_random_state(first(lambda: random_state(model.device)), model.device)


def copy_tensors(tensors) -> None:
    """From the first worker to all; also after each step what a model learns without gradients (its buffers)."""
    if size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


@contextmanager
def own_noise(device: torch.device) -> Iterator[None]:
    """Inside, each worker draws noise of its own; afterwards all have the same random state again, for a checkpoint."""
    if size() == 1:
        yield
        return
    seed = int(torch.randint(2**62, ()))
    after = random_state(device)
    torch.manual_seed(seed + rank())
    yield
    set_random_state(after, device)


def total(numbers: Tensor) -> Tensor:
    """The sum over the workers."""
    if size() > 1:
        dist.all_reduce(numbers)
    return numbers


class Together:
    """An optimizer that steps with the mean gradient of all microbatches of all workers.

    ``training_step`` uses it like the optimizer inside. Each microbatch counts by its ``terms``: those that its loss
    is the mean of. The loop says which microbatch is the ``last``; until then a step only adds up.
    """

    def __init__(self, optimizer: torch.optim.Optimizer):
        self.optimizer, self.sum, self.terms, self.last = optimizer, 0.0, 1.0, True

    def __getattr__(self, name: str):
        return getattr(self.optimizer, name)

    def step(self) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        has = torch.tensor([p.grad is not None for p in parameters] + [True], device=parameters[0].device)
        grads = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
        self.sum = self.sum + torch.cat([*grads, has.float()]) * self.terms  # all in one message, with what it counts
        if not self.last:
            return
        mean = total(self.sum)
        mean, self.sum = mean / mean[-1], 0.0
        *grads, has = mean.split([p.numel() for p in parameters] + [len(has)])
        for p, grad, some in zip(parameters, grads, has.tolist(), strict=False):
            p.grad = grad.view_as(p).to(p.dtype) if some else None
        self.optimizer.step()


def step(
    model: GenerativeModel, batch: tuple[Tensor, Tensor | None], optimizers: list, accumulate: int
) -> dict[str, Tensor]:
    """``training_step`` on this worker's share of a batch, in ``accumulate`` microbatches, by optimizers that are
    :class:`Together`. Returns the logged scalars as sums over the terms, and their number as ``"terms"``."""
    x, condition = batch
    sums: dict[str, Tensor] = {}
    for k in range(accumulate):
        part = slice(k * len(x) // accumulate, (k + 1) * len(x) // accumulate)
        terms = float(model.terms(x[part]))
        for optimizer in optimizers:
            optimizer.terms, optimizer.last = terms, k == accumulate - 1
        logs = model.training_step((x[part], None if condition is None else condition[part]), optimizers)
        for name, value in {**logs, "terms": 1.0}.items():
            sums[name] = sums.get(name, 0.0) + torch.as_tensor(value, dtype=torch.float64).to(x.device) * terms
    return sums
