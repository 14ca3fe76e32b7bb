"""Cats and faces: pictures put together from parts, so that every factor of every picture is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helpers.data.base import Dataset, cached, package_file, split

CAT_FACTORS = {"body": 15, "fur": 10, "eyes": 15, "mouth": 10, "accessory": 16}
CAT_COMBINATIONS = 360_000


def _shrink_cats() -> dict[str, np.ndarray]:
    """The 66 drawings of 1024 by 1024 pixels as 32 by 32 averages, colours already multiplied by their opacity."""
    from PIL import Image

    folders = sorted(package_file("robohash", "sets", "set4").iterdir())
    arrays = {}
    for name, folder in zip(CAT_FACTORS, folders, strict=True):
        images = [Image.open(file).convert("RGBa").reduce(32) for file in sorted(folder.glob("*.png"))]
        arrays[name] = np.stack([np.asarray(image) for image in images])
    return arrays


def cat_factors(index: Tensor) -> Tensor:
    """The five factors (N, 5) of combination number ``index`` (N,), 0..359,999, in the order of ``CAT_FACTORS``."""
    index = torch.as_tensor(index)
    if index.ndim != 1 or index.is_floating_point() or index.min() < 0 or index.max() >= CAT_COMBINATIONS:
        raise ValueError(f"index holds whole numbers (N,) from 0 to {CAT_COMBINATIONS - 1}; got {index}")
    return torch.stack(torch.unravel_index(index.long(), tuple(CAT_FACTORS.values())), dim=1)


def draw_cats(factors: Tensor) -> Tensor:
    """Cats uint8 (N, 32, 32, 3) with the given factors (N, 5): body, fur, eyes, mouth, accessory."""
    factors = torch.as_tensor(factors)
    sizes = torch.tensor(list(CAT_FACTORS.values()))
    if factors.ndim != 2 or factors.shape[1] != 5 or factors.is_floating_point():
        raise ValueError(f"factors are whole numbers (N, 5); got {factors.dtype} {tuple(factors.shape)}")
    if (factors < 0).any() or (factors >= sizes).any():
        raise ValueError(f"the factors {', '.join(CAT_FACTORS)} are below {sizes.tolist()}; got {factors.tolist()}")
    parts = cached("cats", _shrink_cats, "robohash")
    picture = np.full((len(factors), 32, 32, 3), 255, dtype=np.uint8)
    for start in range(0, len(factors), 256):  # a few images at a time stay in the processor's cache
        block = picture[start : start + 256]
        for part, chosen in zip(parts.values(), factors[start : start + 256].numpy().T, strict=True):
            layer = part[chosen]
            through = block * (255 - layer[..., 3:].astype(np.uint16)) + 128  # times the transparency of the layer
            block[:] = np.minimum(((through + (through >> 8)) >> 8) + layer[..., :3], 255)  # the shifts divide by 255
    return torch.from_numpy(picture)


def cats() -> Dataset:
    """12,000 of the 360,000 cats, uint8 (N, 32, 32, 3), on white; 10,000/1,000/1,000; ``y`` holds the five factors.

    :func:`draw_cats` draws any other, :func:`cat_factors` gives the factors of the combination of a number.
    """
    index = np.random.default_rng(0).choice(CAT_COMBINATIONS, size=12_000, replace=False)
    factors = cat_factors(torch.from_numpy(index))
    return Dataset(
        "cats",
        *split((10_000, 1_000, 1_000), draw_cats(factors), dict(zip(CAT_FACTORS, factors.T, strict=True))),
        levels=256,
        source="the cat generator of https://www.peppercarrot.com/extras/html/2016_cat-generator/, "
        "as the package robohash carries its parts (set 4); shrunk and put together here",
        licence="CC BY 4.0",
        credit="David Revoy",
        labels={name: [f"{name} {k}" for k in range(size)] for name, size in CAT_FACTORS.items()},
    )


def faces() -> Dataset:
    """3,000 pixel-art faces, all distinct, uint8 (N, 16, 16, 3); 2,400/300/300; ``y`` holds the attributes.

    Made once by ``tools/make_faces.py``; an attribute that a face lacks (glasses, hat, beard, and its colour) is 0,
    "none".
    """
    with np.load(Path(__file__).with_name("faces.npz")) as file:
        palette, pixels, values = file["palette"], file["pixels"], file["values"]
        names = json.loads(file["names"].item())
    y = {name: torch.from_numpy(column.astype(np.int64)) for name, column in zip(names, values, strict=True)}
    return Dataset(
        "faces",
        *split((2_400, 300, 300), torch.from_numpy(palette[pixels]), y),
        levels=256,
        source="Pixel Art, https://www.figma.com/community/file/1198754108850888330, "
        "drawn by the npm package @dicebear/pixel-art 9.4.3",
        licence="CC0 1.0",
        credit="DiceBear",
        labels=names,
    )
