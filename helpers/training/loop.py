"""The training loop: one for every model, resumable to the bit."""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from helpers.models.base import GenerativeModel
from helpers.training import workers
from helpers.training.parts import (
    Average,
    Batches,
    Data,
    DeferredInterrupt,
    check_same,
    clip_gradients,
    evaluating,
    fingerprint,
    move,
    pair,
    random_state,
    save_atomically,
    set_random_state,
)
from helpers.training.progress import Progress

SCHEDULES = ("cosine", "linear", "constant")


@dataclass
class History:
    """What a training left behind: ``logs["loss"][k]`` belongs to step k+1, counted from 1."""

    steps: int = 0  # made
    seconds: float = 0.0  # of wall time, over all resumptions
    logs: dict[str, list[float]] = field(default_factory=dict)
    validation: list[tuple[int, float]] = field(default_factory=list)  # (step, loss)
    stopped: str = "steps"  # why it ended: "steps", "patience" or "interrupted"

    @property
    def loss(self) -> list[float]:
        return self.logs.get("loss", [])

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, loss) of the lowest validation loss; the earliest of equals."""
        return min(self.validation, key=lambda pair: pair[1], default=None)


def fit(
    model: GenerativeModel,
    train: Data,
    *,
    validation: Tensor | tuple[Tensor, Tensor] | None = None,
    steps: int = 1000,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    schedule: str = "cosine",
    warmup: float = 0.0,
    weight_decay: float = 0.0,
    clip: float | None = None,
    ema: float = 0.0,
    accumulate: int = 1,
    validate_every: int | None = None,
    keep_best: bool = True,
    patience: int | None = None,
    seed: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_seconds: float = 10.0,
    progress: bool = True,
    callback: Callable[[int, GenerativeModel], None] | None = None,
) -> History:
    """Train ``model`` in place, on the device where it is.

    Parameters:
        train: x (N, ...), or (x, condition), shuffled anew each epoch; or a function ``draw(batch_size, generator)``
            that returns a batch of either form.
        validation: x or (x, condition). Its loss is measured every ``validate_every`` steps (default: 40 times in
            all), always with the same noise. The weights with the lowest one are kept (``keep_best``), and training
            ends early when ``patience`` measurements in a row brought no lower one.
        steps: updates; the environment variable MAX_STEPS caps them.
        schedule: the course of the learning rate over the steps: "cosine", "linear" (both to 0) or "constant",
            after a linear rise over the share ``warmup`` of the steps (0.05: the first twentieth).
        weight_decay: AdamW's, on matrices only.
        clip: largest norm of the gradient, for each optimizer.
        ema: decay of the exponential moving average of the weights (0: none). It warms up as (1+step)/(10+step).
            Validation, callback and the trained model see the averaged weights.
        accumulate: microbatches in which a batch is worked off, to save memory: the same gradient, up to rounding.
        seed: of torch's global generator, from which all randomness follows; None leaves it as it is.
        checkpoint: file that holds the whole state of the training, written (atomically) every
            ``checkpoint_seconds`` seconds and at the end. If it exists, training continues from it, and ends with the
            same bits as if it had never been interrupted (on a CPU, with the same number of threads).
        callback: called as ``callback(step, model)`` after each step, with the model in evaluation mode; randomness
            that it uses does not change the training.

    Under ``torchrun`` (inside :func:`helpers.training.workers.connected`) all workers make the steps of one together:
    each takes its share of every batch, gradients and logs are averaged, and the checkpoint, which the first worker
    reads and writes, suits any number of workers. Randomness in the loss differs between workers. Only the first
    validates, calls ``callback`` and shows progress.

    On Ctrl-C the current step is finished, the model gets the weights that it would have had at the end (average,
    best) and the history says ``stopped="interrupted"``; a second Ctrl-C stops at once.

    Raises:
        ValueError: an argument out of range, or a checkpoint of another training.
        FloatingPointError: the loss became infinite or not a number; says at which step.
    """
    workers.refuse(model)
    if hasattr(model, "fit"):  # not learnt by gradient
        start = time.perf_counter()
        model.fit(*pair(train))
        return History(seconds=time.perf_counter() - start)
    _check(steps, batch_size, learning_rate, schedule, warmup, weight_decay, clip, ema, validate_every, patience)
    _whole("accumulate", accumulate, 1)
    steps = min(steps, int(os.environ.get("MAX_STEPS", steps)))
    if seed is not None:
        torch.manual_seed(seed)
    validate_every = validate_every or max(1, steps // 40)
    device = model.device
    workers.begin_alike(model)
    batches = Batches(train, batch_size, device)
    if batches.batch_size < workers.size() * accumulate:
        parts = f"{workers.size()} workers with {accumulate} microbatches each"
        raise ValueError(f"a batch of {batches.batch_size} is too small for {parts}")
    validation = None if validation is None else move(validation, device)
    optimizers = model.optimizers(learning_rate, weight_decay)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        if clip is not None:
            optimizer.register_step_pre_hook(lambda optimizer, *_: clip_gradients(optimizer, clip))
    if together := workers.size() > 1 or accumulate > 1:
        optimizers = [workers.Together(optimizer) for optimizer in optimizers]
    average = Average(model, ema) if ema else None
    best: dict[str, Tensor] | None = None
    history, pending = History(), []
    arguments = dict(
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, schedule=schedule, warmup=warmup,
        weight_decay=weight_decay, clip=clip, ema=ema, validate_every=validate_every, keep_best=keep_best,
        patience=patience, train=batches.fingerprint, validation=validation and fingerprint(validation),
    )  # fmt: skip

    stored = checkpoint and workers.first(lambda: Path(checkpoint).read_bytes() if Path(checkpoint).exists() else None)
    if stored:
        state = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
        check_same(arguments, state["arguments"], checkpoint)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if average:
            average.load(state["average"])
        best, history = state["best"], History(**state["history"])
        batches.load(state["batches"])
        set_random_state(state["random"], device)

    def save() -> None:
        if workers.rank():
            return
        history.seconds = seconds_before + time.perf_counter() - began
        save_atomically(
            checkpoint,
            dict(
                arguments=arguments, model=model.state_dict(), optimizers=[o.state_dict() for o in optimizers],
                average=average and average.values, best=best, history=asdict(history), batches=batches.state(),
                random=random_state(device),
            ),
        )  # fmt: skip

    def drain() -> None:
        """Bring the logged scalars to the CPU, and stop if one of them is not finite. Agree on whether to go on."""
        nonlocal asked
        asked = interrupt.asked
        if together and pending:
            flat = torch.stack([*(value for logs in pending for value in logs.values()), pending[0]["terms"] * asked])
            *sums, asked = workers.total(flat).tolist()
            for i, logs in enumerate(pending):
                *values, terms = (sums.pop(0) for _ in logs)
                pending[i] = {name: value / terms for name, value in zip(logs, values, strict=False)}
        for offset, logs in enumerate(pending):
            for name, value in logs.items():
                value = float(value)
                if not math.isfinite(value):
                    step = history.steps - len(pending) + offset + 1
                    advice = "a lower learning_rate, or clip, may help" if clip is None else "try a lower learning_rate"
                    raise FloatingPointError(f"{name} is {value} at step {step} of {steps}: {advice}")
                history.logs.setdefault(name, []).append(value)
        pending.clear()

    def text() -> str:
        parts = [f"{name} {values[-1]:.4g}" for name, values in history.logs.items()]
        parts += [f"validation {value:.4g}" for _, value in history.validation[-1:]]
        return " · ".join(parts)

    seconds_before, began = history.seconds, time.perf_counter()
    saved_at = began
    drain_every = 1 if device.type == "cpu" else 50  # looking at a number makes the CPU wait for the accelerator
    history.stopped = "steps"
    model.train()
    asked, bar = False, Progress(steps, history.steps, progress and workers.rank() == 0)
    with DeferredInterrupt() as interrupt:
        while history.steps < steps and not _out_of_patience(history, patience):
            factor = learning_rate_factor(history.steps, steps, schedule, warmup)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor
            batch = batches.next(workers.rank(), workers.size())
            if together:
                with workers.own_noise(device):
                    pending.append(workers.step(model, batch, optimizers, accumulate))
                workers.copy_tensors(model.buffers())
            else:
                pending.append(model.training_step(batch, optimizers))
            history.steps += 1
            if len(pending) >= drain_every or history.steps == steps:
                drain()
            if average:
                average.update(history.steps)
            if validation is not None and (history.steps % validate_every == 0 or history.steps == steps):
                with evaluating(model, average):
                    value = workers.first(lambda: validation_loss(model, validation, max(batch_size, 512)))
                    history.validation.append((history.steps, value))
                    if keep_best and history.best[0] == history.steps:
                        best = {k: v.detach().clone() for k, v in model.state_dict().items()}
            if callback is not None and workers.rank() == 0:
                with evaluating(model, average):
                    callback(history.steps, model)
            bar.update(history.steps, text)
            alone = not (together and pending)  # a drain is for all workers at once, and each has its own clock
            if checkpoint is not None and alone and time.perf_counter() - saved_at >= checkpoint_seconds:
                drain()
                save()
                saved_at = time.perf_counter()
            if asked or (interrupt.asked and not together):
                history.stopped = "interrupted"
                break
        drain()
        if history.stopped != "interrupted" and history.steps < steps:
            history.stopped = "patience"
        if checkpoint is not None:
            save()
    history.seconds = seconds_before + time.perf_counter() - began
    bar.update(history.steps, text, last=True)
    bar.close()
    if average:
        average.swap()
    if best is not None:
        model.load_state_dict(best)
    model.eval()
    if history.stopped == "interrupted" and progress and workers.rank() == 0:
        which = f"best, of step {history.best[0]}" if best else "averaged" if average else "last"
        print(f"Stopped after step {history.steps} of {steps}; the model has its {which} weights.")
    return history


def learning_rate_factor(step: int, steps: int, schedule: str = "cosine", warmup: float = 0.0) -> float:
    """The share of the learning rate that step ``step`` (from 0) of ``steps`` takes."""
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    t = (step - rise) / (steps - rise)
    return {"cosine": 0.5 * (1 + math.cos(math.pi * t)), "linear": 1 - t, "constant": 1.0}[schedule]


@torch.no_grad()
def validation_loss(model: GenerativeModel, data: tuple[Tensor, Tensor | None], batch_size: int) -> float:
    torch.manual_seed(0)  # the same noise each time: differences are the model's
    x, condition = data
    total = 0.0
    for i in range(0, len(x), batch_size):
        part = x[i : i + batch_size]
        loss = model.loss(part, None if condition is None else condition[i : i + batch_size])
        total += float(loss) * len(part)
    return total / len(x)


def _out_of_patience(history: History, patience: int | None) -> bool:
    if patience is None or not history.validation:
        return False
    return sum(step > history.best[0] for step, _ in history.validation) >= patience


def _whole(name: str, value, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is a whole number from {least}, not {value!r}")


def _check(steps, batch_size, learning_rate, schedule, warmup, weight_decay, clip, ema, validate_every, patience):
    def number(name: str, value, right: Callable[[float], bool], wanted: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not right(value):
            raise ValueError(f"{name} is {wanted}, not {value!r}")

    _whole("steps", steps, 0)
    _whole("batch_size", batch_size, 1)
    number("learning_rate", learning_rate, lambda v: 0 < v < math.inf, "a positive number")
    number("warmup", warmup, lambda v: 0 <= v < 1, "a share of the steps, 0 <= warmup < 1")
    number("weight_decay", weight_decay, lambda v: 0 <= v < math.inf, "a number from 0")
    number("ema", ema, lambda v: 0 <= v < 1, "a decay, 0 <= ema < 1")
    if clip is not None:
        number("clip", clip, lambda v: v > 0, "a positive norm or None")
    if validate_every is not None:
        _whole("validate_every", validate_every, 1)
    if patience is not None:
        _whole("patience", patience, 1)
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is one of {', '.join(SCHEDULES)}, not {schedule!r}")
