"""What the loop is made of: batches, averaged weights, random state, files."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from helpers.models.base import GenerativeModel

Data = Tensor | tuple[Tensor, Tensor] | Callable[[int, torch.Generator], Tensor | tuple[Tensor, Tensor]]


def save_atomically(path: str | os.PathLike, state: dict) -> None:
    """``torch.save`` that leaves the old file or the new one, never a part, whenever it is killed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class Batches:
    """Shuffled batches without end, drawn on the data's device; a rest smaller than a batch waits for no one."""

    def __init__(self, data: Data, batch_size: int, device: torch.device):
        self.generator = torch.Generator(device)
        self.generator.manual_seed(int(torch.randint(2**62, ())))
        self.draw, self.batch_size, self.device = data if callable(data) else None, batch_size, device
        self.order, self.position = torch.zeros(0, dtype=torch.int64, device=device), 0
        self.fingerprint = "function"
        if self.draw is None:
            self.x, self.condition = move(data, device)
            self.batch_size = min(batch_size, len(self.x))
            self.fingerprint = fingerprint((self.x, self.condition))

    def next(self, rank: int = 0, workers: int = 1) -> tuple[Tensor, Tensor | None]:
        """The next batch, or of several workers' one batch the share of the worker ``rank``."""
        share = slice(rank * self.batch_size // workers, (rank + 1) * self.batch_size // workers)
        if self.draw is not None:
            x, condition = move(self.draw(self.batch_size, self.generator), self.device)
            return x[share], None if condition is None else condition[share]
        if self.position + self.batch_size > len(self.order):
            self.order = torch.randperm(len(self.x), generator=self.generator, device=self.device)
            self.position = 0
        chosen = self.order[self.position : self.position + self.batch_size][share]
        self.position += self.batch_size
        return self.x[chosen], None if self.condition is None else self.condition[chosen]

    def state(self) -> dict:
        return dict(generator=self.generator.get_state(), order=self.order, position=self.position)

    def load(self, state: dict) -> None:
        self.generator.set_state(state["generator"])
        self.order, self.position = state["order"].to(self.device), state["position"]


class Average:
    """Exponential moving average of a model's parameters."""

    def __init__(self, model: GenerativeModel, decay: float):
        self.decay = decay
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.values = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        torch._foreach_lerp_(self.values, self.parameters, 1 - min(self.decay, (1 + step) / (10 + step)))

    def swap(self) -> None:
        for parameter, value in zip(self.parameters, self.values, strict=True):
            parameter.data, value.data = value.data, parameter.data

    def load(self, values: list[Tensor]) -> None:
        for mine, value in zip(self.values, values, strict=True):
            mine.copy_(value)


@contextmanager
def evaluating(model: GenerativeModel, average: Average | None):
    """The model as it would be used: averaged weights, evaluation mode; the training's randomness stays untouched."""
    device = model.device
    before = random_state(device)
    if average:
        average.swap()
    model.eval()
    try:
        yield
    finally:
        model.train()
        if average:
            average.swap()
        set_random_state(before, device)


class DeferredInterrupt:
    """Lets a step finish when Ctrl-C is pressed, so that no state is left half-updated. A second one is not held."""

    asked = False

    def _note(self, number, frame) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self.previous)

    def __enter__(self) -> DeferredInterrupt:
        self.held = threading.current_thread() is threading.main_thread()
        if self.held:
            self.previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_) -> None:
        if self.held:
            signal.signal(signal.SIGINT, self.previous)


def clip_gradients(optimizer: torch.optim.Optimizer, largest: float) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, largest)


def pair(data: Tensor | tuple) -> tuple[Tensor, Tensor | None]:
    x, condition = data if isinstance(data, tuple) else (data, None)
    if not isinstance(x, Tensor) or not isinstance(condition, Tensor | None):
        raise ValueError(f"data is a tensor or a pair of tensors, not {type(x).__name__}, {type(condition).__name__}")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"data has at least one example, not shape {tuple(x.shape)}")
    if condition is not None and (condition.ndim == 0 or len(condition) != len(x)):
        raise ValueError(f"a condition for each of the {len(x)} examples is needed, not {tuple(condition.shape)}")
    if x.is_floating_point() and not x.isfinite().all():
        raise ValueError("data is finite, but this holds nan or inf")
    return x, condition


def move(data: Tensor | tuple, device: torch.device) -> tuple[Tensor, Tensor | None]:
    x, condition = pair(data)
    return x.to(device), None if condition is None else condition.to(device)


def fingerprint(data: tuple[Tensor, Tensor | None]) -> list:
    """Enough to notice other data: shape, type and sum."""
    return [[list(t.shape), str(t.dtype), float(t.double().sum())] for t in data if t is not None]


def random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def check_same(now: dict, then: dict, path) -> None:
    for name, value in now.items():
        if then.get(name) != value:
            raise ValueError(
                f"{path} is of a training with {name}={then.get(name)!r}, not {value!r}: use another name, or delete it"
            )


def windows(text: Tensor, length: int) -> Callable[[int, torch.Generator], Tensor]:
    """``draw(batch_size, generator)`` for :func:`fit`: stretches (batch, length) of one long sequence (T,), from
    anywhere in it."""
    if text.ndim != 1 or not isinstance(length, int) or not 1 <= length <= len(text):
        raise ValueError(f"windows of {length} need a sequence (T,) at least as long, not {tuple(text.shape)}")
    offsets = torch.arange(length, device=text.device)

    def draw(batch_size: int, generator: torch.Generator) -> Tensor:
        # The generator is where the model is; the text may have stayed with the processor
        starts = torch.randint(len(text) - length + 1, (batch_size, 1), generator=generator, device=generator.device)
        return text[starts.to(text.device) + offsets]

    return draw


def chunks(text: Tensor, length: int) -> Tensor:
    """One long sequence (T,) cut into consecutive stretches (N, length), the last one padded with -1."""
    if text.ndim != 1 or not isinstance(length, int) or not (length >= 1 and len(text)):
        raise ValueError(f"stretches of {length} need a sequence (T,) of one symbol at least, not {tuple(text.shape)}")
    rest = -len(text) % length
    return torch.nn.functional.pad(text, (0, rest), value=-1).view(-1, length)
