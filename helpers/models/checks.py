"""What every family checks before it uses it, each check written once."""

from __future__ import annotations

import torch
from torch import Tensor


def whole_number(name: str, value, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is a whole number from {least}, not {value!r}")
    return value


def check_sequences(x: Tensor, levels: int, gaps: bool = False) -> Tensor:
    """``x`` (N, T) as int64, checked: symbols 0..levels-1, then -1 to the end of the row; with ``gaps`` -1 anywhere.

    Raises:
        ValueError: another rank or dtype, no rows or columns, a symbol out of range, an empty row, a gap in a row.
    """
    if not isinstance(x, Tensor) or x.ndim != 2 or x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"sequences are integers (N, T), padded with -1; got {got}")
    if x.numel() == 0:
        raise ValueError(f"at least one symbol is needed, but the shape is {tuple(x.shape)}")
    x = x.long()
    low, high = x.aminmax()
    if low < -1 or high >= levels:
        raise ValueError(f"symbols are 0..{levels - 1}, and -1 for padding; got {low}..{high}")
    if low < 0:
        given = x >= 0
        begun = given.any(1) if gaps else given[:, 0]
        if not begun.all():
            raise ValueError(f"sequence {int((~begun).nonzero()[0])} is empty (or begins with padding)")
        if not gaps and (given[:, 1:] & ~given[:, :-1]).any():
            row = int((given[:, 1:] & ~given[:, :-1]).any(1).nonzero()[0])
            raise ValueError(f"sequence {row} has padding (-1) before its last symbol")
    return x


def finite(x: Tensor) -> bool:
    """Whether no entry of ``x``, which is not empty, is nan or infinite: its extremes tell, in one quick pass."""
    return bool(torch.stack(x.aminmax()).isfinite().all())


def no_condition(model: object, condition: object) -> None:
    """``ValueError`` where a family that knows p(x) alone is asked for p(x | condition)."""
    if condition is not None:
        raise ValueError(f"{type(model).__name__} takes no condition")


def check_points(x: Tensor, dimensions: int | None = None) -> Tensor:
    """``x`` (N, D) as float64. ValueError: another rank, integers, no points, nan or infinity."""
    if not isinstance(x, Tensor) or x.ndim != 2 or not x.is_floating_point() or x.numel() == 0:
        got = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"points are floating-point numbers (N, D), at least one; got {got}")
    if dimensions is not None and x.shape[1] != dimensions:
        raise ValueError(f"points of {dimensions} dimensions are wanted; got {x.shape[1]}")
    if not finite(x):
        raise ValueError("points are finite, but these hold nan or infinity")
    return x.double()
