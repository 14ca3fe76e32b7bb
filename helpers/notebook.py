"""What a chapter needs around its subject: set-up, figures, numbers, proofs, exercises.

Everything works in JupyterLab, Colab and in the built book, and prints plain text where there is no IPython.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import html
import inspect
import io
import math
import os
import random
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text

from helpers import plots

FIGURE_TYPE = "application/vnd.book.figure+json"
VALUES_TYPE = "application/vnd.book.values+json"
ANIMATION_BYTES = 300_000


# Set-up


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


# Figures


def show(figure: Figure | Axes | Iterable[Axes], alt: str, name: str = "") -> None:
    """Display a finished figure, in a light and a dark rendering, with its description.

    Args:
        figure: the figure, or its Axes.
        alt: what is to be seen, for those who do not see it: a sentence or two.
        name: a short name for the file and for links; made from ``alt`` if not given.
    """
    figure = _figure(figure)
    alt, name = _described(alt, name)
    _settle(figure)
    light, width, height = _render(figure)
    with recoloured(figure):
        dark, _, _ = _render(figure, ground="none")
    plt.close(figure)  # else the inline backend shows it once more
    size = {"width": width, "height": height}
    _display(
        {
            "image/png": _text(light),
            "text/plain": alt,
            FIGURE_TYPE: {"name": name, "alt": alt, **size, "dark": _text(dark)},
        },
        {"image/png": {**size, "alt": alt, "needs_background": "light"}},
    )


def animate(
    frames: Iterable[Figure | Axes | np.ndarray], alt: str, name: str = "", *, fps: float = 10, still: int = -1
) -> None:
    """Display frames as one endless WebP animation of at most 300 KB, with a still.

    The still is shown where animations are unwelcome (reduced motion) or impossible (print).

    Args:
        frames: figures, or images (H, W) or (H, W, 3) of uint8, all of one size.
        alt: what is to be seen, and what moves.
        fps: frames a second.
        still: which frame is the still.
    """
    alt, name = _described(alt, name)
    if not 0 < fps <= 60:
        raise ValueError(f"got fps={fps}, wanted more than 0 and at most 60")
    light, dark, width, height = [], [], 0, 0
    for frame in frames:
        if isinstance(frame, np.ndarray | torch.Tensor):
            picture, width, height = _enlarge(np.asarray(frame))
            light.append(picture)
            dark.append(picture)
        else:
            figure = _figure(frame)
            _settle(figure)
            picture, width, height = _render(figure)
            light.append(picture)
            with recoloured(figure):
                dark.append(_render(figure, ground=plots.DARK_GROUND)[0])
            plt.close(figure)
    if len(light) < 2:
        raise ValueError(f"got {len(light)} frame(s), wanted 2 or more")
    if not -len(light) <= still < len(light):
        raise ValueError(f"got still={still}, wanted the index of one of {len(light)} frames")
    moving, moving_dark = _webp(light, fps), _webp(dark, fps)
    size = {"width": width, "height": height}
    picture = (
        '<picture><source media="(prefers-reduced-motion: reduce)"'
        f' srcset="data:image/png;base64,{_text(light[still])}">'
        f'<img src="data:image/webp;base64,{_text(moving)}" alt="{html.escape(alt)}" width="{width}" height="{height}"'
        ' style="background:white"></picture>'
    )
    _display(
        {
            "text/html": picture,
            "image/png": _text(light[still]),
            "text/plain": alt,
            FIGURE_TYPE: {
                "name": name,
                "alt": alt,
                **size,
                "dark": _text(dark[still]),
                "moving": _text(moving),
                "moving_dark": _text(moving_dark),
            },
        },
        {"image/png": {**size, "alt": alt, "needs_background": "light"}},
    )


@contextlib.contextmanager
def recoloured(figure: Figure, colours: Mapping[str, str] = plots.DARK) -> Iterator[None]:
    """Within the block, every colour of the figure that is a key of ``colours`` (hex) is exchanged for its value.

    Works on the drawn figure, so that nothing is computed or drawn twice; colour maps and images stay as they are.
    """
    exchange = {key.lower(): value for key, value in colours.items()}
    undo = []

    def swap(artist, what: str) -> None:
        old = getattr(artist, f"get_{what}")()
        try:
            many = [to_rgba(old)]
        except ValueError:
            many = [to_rgba(colour) for colour in old]  # a collection holds one colour for each member
        new = [(*to_rgba(exchange.get(to_hex(rgba), rgba))[:3], rgba[3]) if rgba[3] else rgba for rgba in many]
        if new != many:
            undo.append((getattr(artist, f"set_{what}"), copy.copy(old)))
            getattr(artist, f"set_{what}")(new if isinstance(artist, Collection) else new[0])

    try:
        for artist in _artists(figure):
            if isinstance(artist, Text):
                swap(artist, "color")
            elif isinstance(artist, Line2D):
                # The marker first: left to itself it follows the line.
                for what in ("markerfacecolor", "markeredgecolor", "color"):
                    swap(artist, what)
            elif isinstance(artist, Patch) or (isinstance(artist, Collection) and artist.get_array() is None):
                for what in ("facecolor", "edgecolor"):
                    swap(artist, what)
        yield
    finally:
        for setter, old in reversed(undo):
            setter(old)


def _artists(figure: Figure) -> Iterator:
    for artist in figure.findobj():
        yield artist
        if isinstance(artist, Text) and artist.get_bbox_patch() is not None:
            yield artist.get_bbox_patch()
        if isinstance(artist, Annotation) and artist.arrow_patch is not None:
            yield artist.arrow_patch


def _settle(figure: Figure) -> None:
    """Lay the figure out once and for all: a second layout would move things by a pixel or two."""
    figure.draw_without_rendering()
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def _figure(what) -> Figure:
    if isinstance(what, Axes):
        what = what.figure
    if isinstance(what, np.ndarray | list | tuple) and len(what):
        what = np.ravel(np.asarray(what, dtype=object))[0]
        what = getattr(what, "figure", what)
    if not isinstance(what, Figure):
        raise ValueError(f"got {type(what).__name__}, wanted a matplotlib Figure or its Axes")
    return what


def _described(alt: str, name: str) -> tuple[str, str]:
    if not isinstance(alt, str) or len(alt.split()) < 3:
        raise ValueError(f"got alt={alt!r}, wanted a sentence that says what is to be seen")
    if not isinstance(name, str):
        raise ValueError(f"got name={name!r}, wanted a string")
    slug = re.sub(r"[^a-z0-9]+", "-", (name or " ".join(alt.split()[:6])).lower()).strip("-")
    return " ".join(alt.split()), slug or "figure"


def _render(figure: Figure, ground: str = plots.GROUND) -> tuple[bytes, int, int]:
    """A PNG at twice the resolution of the page, and the width and height that it takes there in pixels."""
    dpi = plots.STYLE["figure.dpi"]
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=2 * dpi, facecolor=ground, metadata={"Software": None})
    width, height = figure.get_size_inches() * dpi
    return buffer.getvalue(), round(width), round(height)


def _enlarge(image: np.ndarray) -> tuple[bytes, int, int]:
    from PIL import Image

    if image.dtype != np.uint8 or image.ndim not in (2, 3) or 0 in image.shape or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"got a frame of shape {image.shape}, {image.dtype}, wanted (H, W) or (H, W, 3) of uint8")
    times = max(1, round(480 / image.shape[1]))  # small images as crisp blocks
    big = image.repeat(times, 0).repeat(times, 1)
    buffer = io.BytesIO()
    Image.fromarray(big).save(buffer, "PNG")
    return buffer.getvalue(), max(1, big.shape[1] // 2), max(1, big.shape[0] // 2)


def _webp(frames: Sequence[bytes], fps: float) -> bytes:
    from PIL import Image

    pictures = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    if len({picture.size for picture in pictures}) > 1:
        raise ValueError(f"got frames of sizes {sorted({p.size for p in pictures})}, wanted one size")
    for scale, quality in ((1, 80), (1, 50), (2, 70), (2, 40), (3, 40)):
        small = [p.resize((max(1, p.width // scale), max(1, p.height // scale))) for p in pictures]
        buffer = io.BytesIO()
        rest = {"append_images": small[1:], "duration": round(1000 / fps), "loop": 0, "minimize_size": True}
        small[0].save(buffer, "WEBP", save_all=True, quality=quality, method=4, **rest)
        if buffer.tell() <= ANIMATION_BYTES:
            return buffer.getvalue()
    raise ValueError(
        f"got {len(frames)} frames that need more than {ANIMATION_BYTES // 1000} KB, wanted fewer or smaller"
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# Numbers in prose


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
    _display({VALUES_TYPE: kept})


# Proof boxes


@dataclass(frozen=True)
class Proof:
    """One check: ``value`` must agree with ``truth`` within ``tolerance``, and the value of a wrong version must not.

    ``relation`` is "=", or "≤" or "≥" where the truth is a bound of the value.
    ``mutant`` names the mistake ("g for g²"), ``mutant_value`` is what it gives.
    """

    name: str
    value: float
    truth: float
    tolerance: float
    mutant: str
    mutant_value: float
    relation: str = "="

    def accepts(self, value: float) -> bool:
        value, truth = float(value), float(self.truth)
        if self.relation == "≤":
            return value <= truth + self.tolerance
        if self.relation == "≥":
            return value >= truth - self.tolerance
        return abs(value - truth) <= self.tolerance

    def __post_init__(self):
        if self.relation not in ("=", "≤", "≥"):
            raise ValueError(f"got relation={self.relation!r}, wanted =, ≤ or ≥")
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0 and math.isfinite(float(self.truth))):
            raise ValueError(f"got truth={self.truth}, tolerance={self.tolerance}, wanted finite, tolerance 0 or more")
        if not self.mutant:
            raise ValueError("got no name for the mutant, wanted the mistake that this check would find")


def proof(rows: Sequence[Proof]) -> None:
    """Show the chapter's checks as a table, then raise AssertionError if one fails or lets its mutant pass."""
    rows = list(rows)
    if not rows or not all(isinstance(row, Proof) for row in rows):
        raise ValueError(f"got {rows!r}, wanted at least one Proof")
    head, body, faults = ["Check", "Value", "Wanted", "Mutant", "Its value"], [], []
    for row in rows:
        good, caught = row.accepts(row.value), not row.accepts(row.mutant_value)
        sign = {"=": "±", "≤": "+", "≥": "−"}[row.relation]
        wanted = f"{row.relation} {float(row.truth):.6g}" + (f" {sign} {row.tolerance:.2g}" if row.tolerance else "")
        value, mutant_value = f"{float(row.value):.6g}", f"{float(row.mutant_value):.6g}"
        if not good:
            faults.append(f"{row.name}: got {value}, wanted {wanted}")
        if not caught:
            faults.append(f"{row.name}: the mutant “{row.mutant}” passes with {mutant_value}")
        verdicts = (
            f"{value} {'✓ holds' if good else '✗ FAILS'}",
            f"{mutant_value} {'✓ found' if caught else '✗ NOT FOUND'}",
        )
        body.append([row.name, verdicts[0], wanted, row.mutant, verdicts[1]])
    _display({"text/html": _table(head, body), "text/plain": _plain_table(head, body)})
    if faults:
        raise AssertionError("; ".join(faults))


def _table(head: list[str], body: list[list[str]]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in head)
    lines = [
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(c)}</td>" for c in row[1:])
        + "</tr>"
        for row in body
    ]
    caption = "<caption>Proof: each check, and the mistake that it finds</caption>"
    return f'<table class="proof">{caption}<thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _plain_table(head: list[str], body: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in [head, *body]
    )


# Exercises


class Check:
    """Judges a reader's function by cases, and knows the usual mistakes.

    Args:
        cases: arguments, one tuple for each call (or the single argument, where there is one).
        truth: the right function, or the list of right results.
        wrong: from a message to a wrong function that deserves it; at least two.
        tolerance: relative and absolute, for numbers and arrays.

    The same seed is set before each call, so a function may draw random numbers if it draws as ``truth`` does.
    """

    def __init__(
        self,
        cases: Sequence,
        truth: Callable | Sequence,
        wrong: Mapping[str, Callable],
        *,
        tolerance: float = 1e-4,
    ):
        self.cases = [case if isinstance(case, tuple) else (case,) for case in cases]
        if not self.cases:
            raise ValueError("got no case, wanted at least one")
        self.wanted = [_call(truth, case) for case in self.cases] if callable(truth) else list(truth)
        if len(self.wanted) != len(self.cases):
            raise ValueError(f"got {len(self.wanted)} results, wanted {len(self.cases)}, one for each case")
        self.wrong, self.tolerance = dict(wrong), tolerance
        self.selftest()

    def __call__(self, answer: Callable) -> bool:
        """Say whether ``answer`` is right, and if not, why; True if it is."""
        right, message = self.judge(answer)
        print(("✓ " if right else "✗ ") + message)
        return right

    def judge(self, answer: Callable) -> tuple[bool, str]:
        """Whether the answer is right, and what to tell the reader."""
        if answer is None or answer is ...:
            return False, "Not answered yet."
        if not callable(answer):
            return False, f"Give the function itself, not its result: got {_short(answer)}."
        results = []
        for i, case in enumerate(self.cases):
            try:
                results.append(_call(answer, case))
            except Exception as error:  # whatever a reader's code may raise
                place = f"Case {i + 1} of {len(self.cases)}, {_arguments(case)}"
                return False, f"{place}, raises {type(error).__name__}: {error}"
        if all(result is None or result is ... for result in results):
            return False, "Not answered yet: the function returns nothing."
        verdicts = [_same(got, want, self.tolerance) for got, want in zip(results, self.wanted, strict=True)]
        if all(verdicts):
            return True, f"Right, in {len(verdicts)} of {len(verdicts)} cases."
        for message, function in self.wrong.items():
            mistaken = [_call(function, case) for case in self.cases]
            if all(_same(got, want, self.tolerance) for got, want in zip(results, mistaken, strict=True)):
                return False, message
        i = verdicts.index(False)
        got, want = _short(results[i]), _short(self.wanted[i])
        return False, f"Case {i + 1} of {len(verdicts)}, {_arguments(self.cases[i])}: got {got}, wanted {want}."

    def selftest(self) -> None:
        """Assert that each wrong function is rejected with its own message, and that there are two of them."""
        if len(self.wrong) < 2:
            raise AssertionError(f"got {len(self.wrong)} wrong answer(s), wanted 2 or more, with a message each")
        if any(want is None or want is ... for want in self.wanted):
            raise AssertionError("the right answer returns nothing for some case")
        for message, function in self.wrong.items():
            right, said = self.judge(function)
            if right:
                raise AssertionError(f"the cases do not tell the wrong answer “{message}” from the right one")
            if said != message:
                raise AssertionError(f"the wrong answer “{message}” is told “{said}”")


def _call(function: Callable, case: tuple):
    """The result on copies of the arguments, from a fixed seed, leaving the notebook's random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return function(*copy.deepcopy(case))


def _same(got, want, tolerance: float) -> bool:
    if isinstance(want, Mapping):
        return (
            isinstance(got, Mapping)
            and got.keys() == want.keys()
            and all(_same(got[key], want[key], tolerance) for key in want)
        )
    if isinstance(want, str | bool) or want is None:
        return type(got) is type(want) and got == want
    if isinstance(want, tuple):
        return (
            isinstance(got, tuple | list)
            and len(got) == len(want)
            and all(_same(g, w, tolerance) for g, w in zip(got, want, strict=True))
        )
    try:
        a, b = (np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x) for x in (got, want))
        return a.shape == b.shape and bool(np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True))
    except (TypeError, ValueError):
        return False


def _short(value) -> str:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        text = np.array2string(np.asarray(value), precision=4, threshold=8, edgeitems=3, separator=", ")
        if np.ndim(value):
            text += f" of shape {np.shape(value)}"
        return re.sub(r"\s+", " ", text)
    return textwrap.shorten(f"{value:.6g}" if isinstance(value, float) else repr(value), 120)


def _arguments(case: tuple) -> str:
    return "f(" + ", ".join(_short(argument) for argument in case) + ")"


# Source


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
    _display({"text/markdown": f"{head}\n\n```python\n{code}\n```", "text/plain": code})


# Display


def _display(bundle: dict, metadata: dict | None = None) -> None:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        from IPython.display import display

        display(bundle, raw=True, metadata=metadata or {})
    elif "text/plain" in bundle:
        print(bundle["text/plain"])
