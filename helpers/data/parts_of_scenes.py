"""Captioned scenes as ten numbers each: what two objects are and where they stand; and the picture of such numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from helpers.data.base import Part
from helpers.data.shapes import _RADII, COLOURS, SHAPES, SIZES, _draw, _see

PLACES = 16  # across and down, two pixels each
SCENE_COLUMNS = tuple(f"{what} {k}" for k in (1, 2) for what in ("colour", "shape", "size", "x", "y"))
SCENE_LEVELS = tuple(
    n + k for k in (0, 1) for n in (len(COLOURS), len(SHAPES), len(SIZES), PLACES, PLACES)
)  # the second object has one value more: there is none


def scene_parts(part: Part) -> Tensor:
    """The parts (N, 10) int64 of captioned scenes, in the order of the caption: ``SCENE_COLUMNS``.

    ``part`` is one of ``scenes("captions")``. Colour, shape and size are the known ones; x and y are the middle of the
    object as seen in the picture, in steps of two pixels from the left and from the top. Where there is no second
    object each of its columns holds its last value.

    Raises:
        ValueError: scenes without captions.
    """
    if part.x.shape[1:] != (32, 32, 3) or "caption" not in part.y:
        raise ValueError(f"captioned scenes (N, 32, 32, 3) are needed; got {part}")
    box = np.concatenate([_see(block.numpy())[3] for block in part.x.split(256)])  # (N, 7, 4)
    box = torch.from_numpy(box).gather(1, part.y["colour"].clamp(min=0)[..., None].expand(-1, -1, 4))
    middle = ((box[..., :2] + box[..., 2:] + 1) // 4).clamp(0, PLACES - 1)  # (N, 2, 2)
    here = torch.stack([part.y["colour"], part.y["shape"], part.y["size"], middle[..., 0], middle[..., 1]], 2)
    last = torch.tensor(SCENE_LEVELS).view(2, 5) - 1
    return torch.where(part.y["colour"][..., None] < 0, last, here).flatten(1)


def draw_parts(parts: Tensor) -> Tensor:
    """The pictures, uint8 (N, 32, 32, 3), of parts (N, 10) as :func:`scene_parts` gives them; the second object on top.

    Sizes are the middle ones of small and of large shapes; an object stands in the middle of its place. An object of
    which one column says that it is not there is not drawn.

    Raises:
        ValueError: another shape or dtype, or a number out of range.
    """
    levels = torch.tensor(SCENE_LEVELS)
    if not isinstance(parts, Tensor) or parts.ndim != 2 or parts.shape[1] != 10 or parts.is_floating_point():
        got = f"{parts.dtype} {tuple(parts.shape)}" if isinstance(parts, Tensor) else type(parts).__name__
        raise ValueError(f"parts are whole numbers (N, 10); got {got}")
    parts = parts.cpu().long()
    if ((parts < 0) | (parts >= levels)).any():
        column = int(((parts < 0) | (parts >= levels)).any(0).nonzero()[0])
        raise ValueError(f"{SCENE_COLUMNS[column]} is from 0 to {int(levels[column]) - 1}; it holds another value")
    each = parts.view(-1, 2, 5).numpy()
    none = (each == levels.view(2, 5).numpy() - 1) & (np.arange(2) == 1)[:, None]
    colour, shape, size, x, y = np.moveaxis(np.where(none, 0, each), 2, 0)
    radius = _RADII[:, 1][size]
    objects = np.stack([np.where(none.any(2), -1, shape), colour, 4 * x + 2, 4 * y + 2, radius], axis=2)
    return _draw(objects, 32)
