"""One training of one family on one file: a folder with checkpoint, samples and metrics."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import os
import pkgutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import helpers.models
from helpers.data.text import Vocabulary
from helpers.metrics import likelihood
from helpers.models.base import GenerativeModel
from helpers.training import workers
from helpers.training.files import Examples
from helpers.training.loop import History, fit, validation_loss
from helpers.training.parts import chunks, random_state, save_atomically, set_random_state, windows

CHECKPOINT, STATE, SETTINGS, METRICS = "checkpoint.pt", "training.pt", "settings.json", "metrics.json"
SAMPLES = ("samples.npz", "samples.png", "samples.txt")


def families() -> list[str]:
    """The names that the command can train: modules of ``helpers.models`` with a FAMILY."""
    names = []
    for module in pkgutil.iter_modules(helpers.models.__path__):
        try:
            if hasattr(importlib.import_module(f"helpers.models.{module.name}"), "FAMILY"):
                names.append(module.name)
        except ModuleNotFoundError:  # it needs a package that is not installed
            continue
    return sorted(names)


def family(name: str) -> type[GenerativeModel]:
    """The class behind a family's name; ``ValueError`` with all names for another one."""
    if name.isidentifier():
        try:
            module = importlib.import_module(f"helpers.models.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"helpers.models.{name}":
                raise ValueError(f"{name} needs the package {error.name}, which is not installed") from error
        else:
            if hasattr(module, "FAMILY"):
                return module.FAMILY
    raise ValueError(f"there is no family {name}; there are: {', '.join(families()) or 'none yet'}")


@dataclass(frozen=True)
class Task:
    """A family, its options, and the data as the family sees it."""

    name: str
    options: dict  # of the model's constructor
    recipe: dict  # of fit
    length: int  # of an example of a running text
    train: Examples
    validation: Examples
    test: Examples | None
    device: str = "cpu"

    def build(self, seed: int) -> GenerativeModel:
        """The untrained model. ``levels`` reaches every family that has it, ``ends`` (has an example an end that the
        model must learn and count, as a line has and a window of running text has not?) every family for text."""
        torch.manual_seed(seed)
        given = {}
        if self.train.levels is not None:
            given["levels"] = self.train.levels
        if self.train.is_text:
            given["ends"] = self.train.kind == "lines"
        model = family(self.name).from_data(view(self.train, self.length), **given, **self.options)
        if not isinstance(model, GenerativeModel):
            raise ValueError(f"{self.name} built a {type(model).__name__}, not a GenerativeModel")
        return model.to(self.device)

    def fit(self, model: GenerativeModel, *, steps: int, validate: bool = True, **options) -> History:
        if hasattr(model, "fit"):  # it counts: a running text in long stretches, so that few contexts are cut
            train = view(self.train, max(self.length, 1000))
        elif self.train.kind == "characters":
            train = windows(self.train.x.to(model.device), self.length)
        else:
            train = view(self.train, self.length)
        validation = view(self.validation, self.length) if validate and _has_loss(model) else None
        return fit(model, train, validation=validation, steps=steps, **{**self.recipe, **options})

    def rehearse(self, model: GenerativeModel) -> None:
        """One step on a throw-away copy: what the options or the data make impossible is found here."""
        workers.refuse(model)
        if not hasattr(model, "fit"):
            before = random_state(model.device)
            self.fit(copy.deepcopy(model), steps=1, progress=False)
            set_random_state(before, model.device)

    def calibrate(self, model: GenerativeModel, seconds: float, began: float) -> int:
        """How many steps fit into what is left of ``seconds`` since ``began``, found on a throw-away copy.

        Several workers measure together, and the first one's clock decides.
        """
        if hasattr(model, "fit"):
            return 0
        before = random_state(model.device)
        probe, steps = copy.deepcopy(model), 2
        while True:
            history = self.fit(probe, steps=steps, validate=False, progress=False)
            if history.stopped == "interrupted":
                raise KeyboardInterrupt
            taken, spent = workers.first(lambda h=history: (h.seconds, time.perf_counter() - began))
            if steps > 2 and (taken > min(2.0, 0.04 * seconds) or history.steps < steps):
                break
            if spent > 0.2 * seconds:
                break
            steps *= 2
        step = history.seconds / max(1, history.steps)
        per_check, checks = 0.0, 41
        if _has_loss(model):
            times = []
            for _ in range(3):  # the fastest: a hiccup counted 41 times would eat the budget
                start = time.perf_counter()
                validation_loss(probe, (view(self.validation, self.length), None), 512)
                times.append(time.perf_counter() - start)
            per_check = min(times)
            if every := self.recipe.get("validate_every"):
                step, checks = step + per_check / every, 1
        set_random_state(before, model.device)
        left = 0.97 * seconds - (time.perf_counter() - began) - checks * per_check
        return workers.first(lambda: max(1, int(left / step)))


def view(examples: Examples, length: int) -> Tensor:
    """The data as a batch of examples: a running text as stretches of ``length``, each scored on its own."""
    return chunks(examples.x, length) if examples.kind == "characters" else examples.x


def _has_loss(model: GenerativeModel) -> bool:
    return type(model).loss is not GenerativeModel.loss


def score(model: GenerativeModel, examples: Examples | None, length: int, seed: int) -> dict | None:
    """Negative log-likelihood for metrics.json; None without data, or without a likelihood.

    In nats per example; of text in nats per character, where the end of a line counts as one.
    """
    if examples is None or not any(hasattr(model, method) for method in likelihood.METHODS):
        return None
    torch.manual_seed(seed)
    x = view(examples, length)
    result = likelihood.evaluate(model, x)
    found = dict(value=result.value, unit="nats", kind=result.kind, n=result.n, se=result.se)
    if examples.is_text:
        symbols = int((x >= 0).sum()) + (len(x) if examples.kind == "lines" else 0)
        scale = len(x) / symbols
        found.update(value=result.value * scale, se=result.se * scale, unit="nats/character", n=symbols)
    elif examples.kind == "images":
        found["bits_per_dimension"] = likelihood.bits_per_dimension(result.value, x[0].numel())
    if not np.isfinite(found["se"]):
        del found["se"]
    return found


def save(folder: Path, model: GenerativeModel, task: Task, settings: dict) -> None:
    """Write the trained model so that :func:`load` can rebuild it, from plain values and tensors only."""
    data = task.train
    description = dict(
        kind=data.kind,
        levels=data.levels,
        shape=list(data.x.shape[1:]),
        symbols=list(data.vocabulary.symbols) if data.is_text else None,
        length=task.length,
    )
    state = dict(family=task.name, config=model.config, state=model.state_dict(), data=description, settings=settings)
    save_atomically(folder / CHECKPOINT, state)


def load(folder: str | Path) -> GenerativeModel:
    """The model that the command trained into ``folder``, ready to use."""
    return load_with_data(folder)[0]


def load_with_data(folder: str | Path) -> tuple[GenerativeModel, Examples, dict]:
    """Model, an empty example set that says what the model was trained on, and the checkpoint's other entries."""
    path = Path(folder) / CHECKPOINT
    if not path.exists():
        unfinished = (Path(folder) / SETTINGS).exists()
        hint = ": its training is not finished (--resume)" if unfinished else ""
        raise ValueError(f"{folder} has no {CHECKPOINT}{hint}")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        data = saved["data"]
    except Exception as error:  # torch names a broken file by many exceptions
        raise ValueError(f"{path} is not a checkpoint of this command: {str(error).splitlines()[0]}") from error
    model = family(saved["family"])(**saved["config"])
    model.load_state_dict(saved["state"])
    vocabulary = Vocabulary(tuple(data["symbols"])) if data["symbols"] else None
    like = Examples(data["kind"], torch.zeros(0, *data["shape"]), data["levels"], vocabulary)
    return model.eval(), like, dict(length=data["length"], settings=saved["settings"])


def write_samples(folder: Path, model: GenerativeModel, data: Examples, seed: int) -> None:
    """samples.npz always; samples.png beside it for images, samples.txt for text."""
    if type(model).sample is GenerativeModel.sample:
        return
    generator = torch.Generator(model.device).manual_seed(seed)
    with torch.no_grad():
        x = model.sample(64, generator=generator).cpu()
    if data.is_text:
        texts = [data.vocabulary.decode(row) for row in x]
        separator = "\n" if data.kind == "lines" else "\n\n" + "-" * 20 + "\n\n"
        _write(folder / "samples.txt", lambda part: part.write_text(separator.join(texts) + "\n", encoding="utf-8"))
    elif data.kind == "images" and (x.ndim == 3 or x.shape[-1] in (1, 3)):
        _write(folder / "samples.png", lambda part: _contact_sheet(part, x.numpy(), data.levels))
    _write(folder / "samples.npz", lambda part: np.savez_compressed(part.open("wb"), x=x.numpy()))


def _contact_sheet(path: Path, x: np.ndarray, levels: int) -> None:
    """64 images, eight by eight, with a light line between them, enlarged to be seen."""
    from matplotlib.image import imsave

    x = x.reshape(len(x), *x.shape[1:3], -1) / (levels - 1)
    x = np.repeat(x, 3 // x.shape[-1], axis=-1).clip(0, 1)
    x = x.repeat(times := max(1, 64 // x.shape[1]), axis=1).repeat(times, axis=2)
    x = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=0.75)
    _, height, width, _ = x.shape
    sheet = x.reshape(8, 8, height, width, 3).swapaxes(1, 2).reshape(8 * height, 8 * width, 3)
    imsave(path, sheet, format="png")


def write_json(path: Path, values: dict) -> None:
    _write(path, lambda part: part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8"))


def _write(path: Path, write) -> None:
    part = path.with_name(path.name + ".part")
    try:
        write(part)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def recipe_keys() -> set[str]:
    """The arguments of ``fit`` that a reader may set on the command line."""
    fixed = {
        "model",
        "train",
        "validation",
        "steps",
        "seed",
        "accumulate",
        "checkpoint",
        "checkpoint_seconds",
        "progress",
        "callback",
    }
    return set(inspect.signature(fit).parameters) - fixed


# What an option may be, by its annotation
KINDS = {
    "int": ("a whole number", int),
    "float": ("a number", int | float),
    "bool": ("True or False", bool),
    "str": ("a word", str),
}


def check_options(name: str, given: list[tuple[str, object]]) -> None:
    """Names and types of options of the family and of its training: ``ValueError`` with those that there are.

    What the data decide (levels, ends, all that has no default) is none. Whether a value makes sense, others say.
    """
    kind, training = family(name), inspect.signature(fit).parameters
    of_training = set() if hasattr(kind, "fit") else recipe_keys()
    of_model = {
        key: option
        for key, option in inspect.signature(kind.__init__).parameters.items()
        if option.default is not option.empty and key not in ("levels", "ends", "dimensions")
    }
    for key, value in given:
        if key not in of_model and key not in of_training:
            there = f"{name} has no option {key}; it has {', '.join(of_model) or 'none'}"
            raise ValueError(there + (f", and its training {', '.join(sorted(of_training))}" if of_training else ""))
        annotation = of_model[key].annotation if key in of_model else training[key].annotation
        if key in of_training and annotation != "bool":  # of the others fit says more
            continue
        wanted, types = KINDS.get(annotation, ("", object))
        if not isinstance(value, types) or (isinstance(value, bool) and annotation in ("int", "float")):
            raise ValueError(f"{key} is {wanted}, not {value!r}")
