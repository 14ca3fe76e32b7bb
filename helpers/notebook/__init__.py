"""What a chapter needs around its subject: set-up, figures, numbers, proofs, exercises.

Everything works in JupyterLab, Colab and in the built book, and prints plain text where there is no IPython.
"""

from __future__ import annotations

import inspect
import math
import os
import random
import textwrap
from dataclasses import dataclass

import numpy as np
import torch

from helpers import plots
from helpers.notebook import output
from helpers.notebook.checks import Check, Proof, proof
from helpers.notebook.figures import animate, recoloured, show

__all__ = ["Check", "Proof", "animate", "proof", "recoloured", "show"]  # beside what stands here

VALUES_TYPE = "application/vnd.book.values+json"


@dataclass(frozen=True)
class Settings:
    """Where and how large a notebook runs: ``size`` is "laptop" or "gpu"."""

    device: torch.device
    size: str
    seed: int
    threads: int

    def __str__(self) -> str:
        return (
            f"{self.size} size on {self.device}, seed {self.seed}, {self.threads} thread(s), torch {torch.__version__}"
        )


def size() -> str:
    """ "gpu" or "laptop": what the environment variable SIZE says, else what the machine has."""
    asked = os.environ.get("SIZE") or ("gpu" if torch.cuda.is_available() else "laptop")
    if asked not in ("laptop", "gpu"):
        raise ValueError(f"got SIZE={asked!r} in the environment, wanted laptop or gpu")
    return asked


def setup(seed: int = 0) -> Settings:
    """Fix the seeds, the figure style and the threads, and choose device and size.

    One thread, unless OMP_NUM_THREADS says otherwise, because the numbers in the text were made with one.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"got seed={seed!r}, wanted an integer from 0 to 2³² − 1")
    chosen = size()
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  libraries such as scikit-learn draw from the global state
    torch.manual_seed(seed)
    threads = int(os.environ.get("OMP_NUM_THREADS") or 1)
    torch.set_num_threads(threads)
    plots.use_style()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Settings(device, chosen, seed, threads)


def pick(*, laptop, gpu):
    """The one of two values that suits the machine: ``steps = notebook.pick(laptop=500, gpu=20_000)``."""
    return gpu if size() == "gpu" else laptop


def record(**values: float | int | str) -> None:
    """Keep numbers for the prose, where ``93.7<!--=elbo:.1f±1.5-->`` shows the value ``elbo``. Prints nothing.

    ``make sync`` writes them into the text from the executed notebook; a test fails when they drift.
    """
    kept = {}
    for name, value in values.items():
        if hasattr(value, "item"):  # of a tensor or a numpy scalar
            if getattr(value, "numel", lambda: 1)() != 1:
                raise ValueError(f"record: got {name} of shape {tuple(value.shape)}, wanted one number")
            value = value.item()
        if not isinstance(value, str | int | float):
            raise ValueError(f"record: got {name} of type {type(value).__name__}, wanted a number or a string")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"record: got {name}={value}, wanted a finite number")
        kept[name] = value
    output.display({VALUES_TYPE: kept})


def source(thing) -> None:
    """Show the tested code of a class or function, with a link to its place in the reference."""
    try:
        code = textwrap.dedent(inspect.getsource(thing)).rstrip()
    except TypeError:
        raise ValueError(f"got {type(thing).__name__}, wanted a class, function or method") from None
    module, name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", "")
    head = f"`{name}`"
    if module.split(".")[0] == "helpers":
        head = f"[`{module}.{name}`](../reference.md#{module}.{name})"
    output.display({"text/markdown": f"{head}\n\n```python\n{code}\n```", "text/plain": code})
