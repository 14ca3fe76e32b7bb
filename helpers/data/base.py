"""What every data set of the book looks like, and where derived arrays are kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from helpers.data.points import Toy
    from helpers.data.text import Vocabulary

INSTALL = "pip install 'generative-models-from-first-principles[data]'"


@dataclass(frozen=True)
class Part:
    """One part of a data set: training, validation or test.

    ``x`` holds the examples, first axis N: images uint8 (N, H, W[, C]); points float32 (N, D); sequences of unequal
    length int64 (N, T), padded with -1; one running text or series (T,). ``y`` names what is known of each example,
    each a tensor with first axis N. ``text`` is the running text behind ``x``, ``texts`` one string per example.
    """

    x: Tensor
    y: dict[str, Tensor] = field(default_factory=dict)
    text: str | None = None
    texts: tuple[str, ...] | None = None

    def __post_init__(self):
        for name, value in self.y.items():
            if len(value) != len(self.x):
                raise ValueError(f"label {name!r} has {len(value)} values for {len(self.x)} examples")
        if self.texts is not None and len(self.texts) != len(self.x):
            raise ValueError(f"{len(self.texts)} texts for {len(self.x)} examples")

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        labels = "".join(f", {name} {tuple(value.shape)}" for name, value in self.y.items())
        return f"Part(x {tuple(self.x.shape)} {str(self.x.dtype).removeprefix('torch.')}{labels})"


@dataclass(frozen=True, repr=False)
class Dataset:
    """A data set with its split and its papers.

    ``levels``: the number of values of integer data (17 for ``digits``: 0..16), None for points and series.
    ``labels``: for a label in ``Part.y`` that stands for names, those names in order.
    ``source``, ``licence``, ``credit``: where it comes from, under what terms, whom to name.
    ``vocabulary``: the symbols behind integer codes of text. ``truth``: the density that a toy was drawn from.
    ``sample_rate``: in hertz, for sound. ``columns``: what the columns of a table are.
    """

    name: str
    train: Part
    validation: Part
    test: Part
    levels: int | None
    source: str
    licence: str
    credit: str
    labels: dict[str, list[str]] = field(default_factory=dict)
    vocabulary: Vocabulary | None = None
    truth: Toy | None = None
    sample_rate: int | None = None
    columns: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, Part]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def __repr__(self) -> str:
        x = self.train.x
        sizes = ", ".join(f"{len(part):,} {name}" for name, part in self.parts.items())
        shape = " × ".join(str(size) for size in x.shape[1:]) or "one sequence"
        levels = f" of {self.levels} levels" if self.levels else ""
        labels = ", ".join(
            f"{name} ({len(self.labels[name])} values)" if name in self.labels else name for name in self.train.y
        )
        return (
            f"{self.name}: {sizes}\n"
            f"  x: {shape}, {str(x.dtype).removeprefix('torch.')}{levels}\n"
            + (f"  y: {labels}\n" if labels else "")
            + f"  from: {self.source}\n  licence: {self.licence}\n  credit: {self.credit}"
        )


def split(sizes: Sequence[int], x: Tensor, y: dict[str, Tensor] | None = None, texts=None) -> tuple[Part, Part, Part]:
    """Cut examples, in order, into the three parts of the given ``sizes``."""
    if len(sizes) != 3 or min(sizes) < 1 or sum(sizes) > len(x):
        raise ValueError(f"sizes {tuple(sizes)} do not cut {len(x)} examples into three parts")
    edges = np.cumsum([0, *sizes])
    return tuple(
        Part(
            x[a:b].contiguous(),
            {name: value[a:b].contiguous() for name, value in (y or {}).items()},
            texts=None if texts is None else tuple(texts[a:b]),
        )
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    )


def choose(what: str, value, options: Sequence[str]) -> str:
    """``value`` if it is one of ``options``, else a ValueError that lists them."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{what} is one of {', '.join(options)}; got {value!r}")
    return value


def whole(what: str, value, low: int, high: int = 2**63 - 1) -> int:
    """``value`` as an int if it is a whole number from ``low`` to ``high``, else a ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        wanted = f"at least {low}" if high == 2**63 - 1 else f"from {low} to {high}"
        raise ValueError(f"{what} is a whole number {wanted}; got {value!r}")
    return int(value)


def package_file(package: str, *path: str) -> Path:
    """A file that an installed package carries, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"this data set comes with the package {package}: {INSTALL}", name=package)
    file = Path(next(iter(spec.submodule_search_locations)), *path)
    if not file.exists():
        raise FileNotFoundError(
            f"the package {package} is there, its file {'/'.join(path)} is not: reinstall {package}"
        )
    return file


def cache_dir() -> Path | None:
    """Where derived arrays are kept: HELPERS_CACHE, else the user's cache folder; None: nowhere.

    An empty HELPERS_CACHE switches the cache off; so does a user without a home.
    """
    if (folder := os.environ.get("HELPERS_CACHE")) is None:
        import platformdirs

        folder = platformdirs.user_cache_dir("generative-models-from-first-principles", appauthor=False)
    try:
        place = Path(folder).expanduser()
    except RuntimeError:  # "~", and nobody knows whose
        return None
    return place if place.is_absolute() else None


def cached(name: str, build: Callable[[], dict[str, np.ndarray]], *packages: str) -> dict[str, np.ndarray]:
    """The arrays that ``build()`` makes, kept in the cache under ``name``.

    The key covers the source file of ``build`` and the versions of ``packages``, so a changed recipe is built anew.
    A file that is missing, cut short or altered is built anew, and a folder that cannot be written does no harm.
    """
    folder = cache_dir()
    if folder is None:
        return build()
    source = Path(sys.modules[build.__module__].__file__).read_bytes()
    versions = [f"{package} {importlib.metadata.version(package)}" for package in packages]
    key = hashlib.sha256(source + "\n".join(versions).encode()).hexdigest()[:12]
    file = folder / f"{name}-{key}.npz"
    arrays = read_checked(file)
    if arrays is None:
        arrays = build()
        write_checked(file, arrays)
    return arrays


def read_checked(file: Path) -> dict[str, np.ndarray] | None:
    """Arrays written by :func:`write_checked`, or None if the file is missing or not what was written."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, arrays = content[:64], memoryview(content)[65:]
    if hashlib.sha256(arrays).hexdigest().encode() != digest:
        return None
    with np.load(io.BytesIO(arrays), allow_pickle=False) as loaded:
        return dict(loaded)


def write_checked(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays behind their own SHA-256: whole or not at all, and silently not where one cannot write."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    content = buffer.getvalue()
    temporary = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=file.name)
        with os.fdopen(handle, "wb") as stream:
            stream.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        os.replace(temporary, file)  # atomic: a reader sees the old file or the new one, two writers write the same
    except OSError:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def download(name: str, url: str, checksum: str, what_else: str) -> Path:
    """A file of the cache, fetched from ``url`` where it is not there yet; ``checksum`` is "md5:...", or
    "gzip-sha256:..." for that of the decompressed content.

    ``what_else`` says in the error what a reader without a network can do. Raises ConnectionError when the address
    does not answer, ValueError when what it sends is not the file, OSError when it cannot be kept.
    """
    import gzip
    import shutil
    import urllib.request
    import zlib

    algorithm, _, digest = checksum.partition(":")

    def right(file: Path) -> bool:
        try:
            with (gzip.open if algorithm.startswith("gzip-") else open)(file, "rb") as stream:
                return hashlib.file_digest(stream, algorithm.removeprefix("gzip-")).hexdigest() == digest
        except (OSError, EOFError, zlib.error):
            return False

    folder = cache_dir()
    if folder is None:
        raise OSError(f"nowhere to keep {name}: set HELPERS_CACHE to a folder; or {what_else}")
    file = folder / name
    if file.is_file() and right(file):
        return file
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=name)
    try:
        with os.fdopen(handle, "wb") as stream:
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    shutil.copyfileobj(answer, stream)
            except OSError as error:
                raise ConnectionError(f"{name} cannot be fetched from {url} ({error}); {what_else}") from error
        if not right(Path(temporary)):
            raise ValueError(f"what {url} sends is not {name}: its {algorithm} is not {digest}; {what_else}")
        os.replace(temporary, file)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return file
