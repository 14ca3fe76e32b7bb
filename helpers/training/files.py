"""The reader's own data: an .npz of images, binary sequences or points, or a text file; read, checked and split."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helpers.data.text import Vocabulary


@dataclass(frozen=True)
class Examples:
    """What a file holds.

    ``kind``: "images" (N, H, W[, C]) uint8; "binary sequences" (N, T, D) int8, 0 and 1, and -1 behind each one's end;
    "points" (N, D) float32; "lines" (N, T) int64 codes padded with -1, their ends not coded; "characters" (T,) int64,
    one running text. ``levels``: number of values of integer data.
    """

    kind: str
    x: Tensor
    levels: int | None = None
    vocabulary: Vocabulary | None = None

    @property
    def is_text(self) -> bool:
        return self.vocabulary is not None

    def __len__(self) -> int:
        return len(self.x)


def read(
    path: str | Path, mode: str = "characters", levels: int | None = None, like: Examples | None = None
) -> Examples:
    """Read ``path``. ``mode``: what an example of a text is, "lines" or "characters".

    ``like``: what a model was trained on; the file must be of its kind, shape, symbols and levels.
    Anything wrong: ``ValueError`` in one line.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: a file is needed")
    if not path.exists():
        raise ValueError(f"{path} does not exist")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if not content:
        raise ValueError(f"{path} is empty")
    if path.suffix == ".npz" or content[:2] == b"PK":
        examples = _read_arrays(path)
        if levels is not None and examples.levels is None:
            raise ValueError("levels are for integer data; points have none")
        if examples.levels is not None:
            least = examples.levels
            if levels is not None and levels < least:
                raise ValueError(f"levels is {levels}, but {path} holds values up to {least - 1}")
            examples = replace(examples, levels=levels or max(least, 2))
    else:
        examples = _read_text(path, content, mode, None if like is None else like.vocabulary)
        if levels is not None:
            raise ValueError("levels are for integer data; a text's are its symbols")
    if like is not None:
        _check_like(path, examples, like)
        examples = replace(examples, levels=like.levels)
    return examples


def _read_arrays(path: Path) -> Examples:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise ValueError("it is a single array, not an .npz")
            arrays = {name: file[name] for name in file.files if name in ("x", "lengths")}
            names = file.files
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no .npz of plain arrays: {str(error).splitlines()[0]}") from error
    if "x" not in arrays:
        raise ValueError(f"{path} needs an array x; it holds {', '.join(names) or 'nothing'}")
    x = arrays["x"]
    got = f"x in {path} is {x.dtype} {x.shape}"
    if x.size == 0:
        raise ValueError(f"{got}: it is empty")
    if "lengths" in arrays:
        return _binary_sequences(got, x, arrays["lengths"])
    if x.dtype == np.uint8 and x.ndim in (3, 4):
        return Examples("images", torch.from_numpy(np.ascontiguousarray(x)), int(x.max()) + 1)
    if x.dtype.kind == "f" and x.ndim == 2:
        if not np.isfinite(x).all():
            raise ValueError(f"{got} and holds nan or inf in example {int(np.argmin(np.isfinite(x).all(axis=1)))}")
        return Examples("points", torch.from_numpy(x.astype(np.float32)))
    hint = ""
    if x.ndim in (3, 4):
        hint = ", and x.astype('uint8') makes whole numbers 0..255 images" if x.dtype.kind in "iu" else ""
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            hint = ", and this holds nan or inf"
    raise ValueError(
        f"{got}: images are uint8 (N, H, W) or (N, H, W, C), points are float (N, D), "
        f"binary sequences are 0 and 1 (N, T, D) with lengths (N,){hint}"
    )


def _binary_sequences(got: str, x: np.ndarray, lengths: np.ndarray) -> Examples:
    if x.ndim != 3 or x.dtype.kind not in "bui" or x.min() < 0 or x.max() > 1:
        raise ValueError(f"{got}: with lengths it must be whole numbers 0 and 1 of shape (N, T, D)")
    if lengths.shape != (len(x),) or lengths.dtype.kind not in "ui" or lengths.min() < 1 or lengths.max() > x.shape[1]:
        raise ValueError(f"{got}: lengths must be {len(x)} whole numbers from 1 to {x.shape[1]}")
    beyond = np.arange(x.shape[1])[None, :] >= lengths[:, None]
    return Examples("binary sequences", torch.from_numpy(np.where(beyond[:, :, None], -1, x).astype(np.int8)), 2)


def _read_text(path: Path, content: bytes, mode: str, vocabulary: Vocabulary | None) -> Examples:
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 (byte {error.start}); arrays come as .npz") from error
    if "\0" in text:
        raise ValueError(f"{path} is no text: it holds the character NUL")
    lines = [line for line in text.split("\n") if line]
    if not lines:
        raise ValueError(f"{path} holds nothing but empty lines")
    text = "".join(lines) if mode == "lines" else text
    if vocabulary is None:
        vocabulary = Vocabulary.from_text(text)
        if len(vocabulary) < 2:
            raise ValueError(f"{path} has one symbol only, {text[0]!r}: there is nothing to learn")
    try:
        x = vocabulary.encode_all(lines) if mode == "lines" else vocabulary.encode(text)
    except ValueError as error:
        raise ValueError(f"{path} has symbols that the model does not know: {error}") from error
    return Examples(mode, x, len(vocabulary), vocabulary)


def _check_like(path: Path, examples: Examples, like: Examples) -> None:
    if examples.kind != like.kind:
        raise ValueError(f"{path} holds {examples.kind}; the model was trained on {like.kind}")
    start = 2 if like.kind == "binary sequences" else 1  # sequences may differ in length
    if not like.is_text and examples.x.shape[start:] != like.x.shape[start:]:
        got, wanted = tuple(examples.x.shape[start:]), tuple(like.x.shape[start:])
        raise ValueError(f"{path} holds examples of shape {got}; the model was trained on {wanted}")
    if not like.is_text and like.levels is not None and int(examples.x.max()) >= like.levels:
        raise ValueError(f"{path} holds values up to {int(examples.x.max())}; the model knows 0..{like.levels - 1}")


def split(examples: Examples, how: str, fractions: tuple[float, ...]) -> tuple[Examples, Examples, Examples | None]:
    """Training, validation and test part. ``how``: "order" (as in the file) or "shuffle:SEED".

    ``fractions``: two, and what they leave is the test part (None if nothing); or three that sum to 1.
    """
    if len(fractions) not in (2, 3) or not all(0 < fraction <= 1 for fraction in fractions):
        raise ValueError(f"fractions are two or three numbers between 0 and 1, not {fractions}")
    if sum(fractions) > 1 + 1e-9 or (len(fractions) == 3 and abs(sum(fractions) - 1) > 1e-9):
        raise ValueError(f"fractions sum to {sum(fractions):g}: two sum to at most 1, three to 1")
    kind, _, seed = how.partition(":")
    if how != "order" and not (kind == "shuffle" and seed.isdecimal() and int(seed) < 2**63):
        raise ValueError(f"split is order or shuffle:SEED (a whole number), not {how}")
    n = len(examples)
    order = torch.arange(n)
    if kind == "shuffle":
        if examples.kind == "characters":
            raise ValueError("a running text has no examples to shuffle: use --split order or --examples lines")
        order = torch.randperm(n, generator=torch.Generator().manual_seed(int(seed)))
    sizes = [round(fraction * n) for fraction in fractions]
    if len(fractions) == 2 and abs(sum(fractions) - 1) < 1e-9:
        sizes[1] = n - sizes[0]
    edges = [0, sizes[0], sum(sizes[:2]), n]
    names = ("training", "validation", "test")
    parts = []
    for i in range(3):
        chosen = order[edges[i] : edges[i + 1]]
        if len(chosen) == 0 and (i < 2 or len(fractions) == 3):
            unit = "characters" if examples.kind == "characters" else "examples"
            raise ValueError(
                f"{n} {unit} with fractions {','.join(f'{f:g}' for f in fractions)} leave no {names[i]} part"
            )
        parts.append(replace(examples, x=examples.x[chosen]) if len(chosen) else None)
    return tuple(parts)


def sha256(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
