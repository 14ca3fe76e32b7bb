"""Scenes of coloured shapes: with captions and a checker, or with boxes to detect.

All drawing is integer arithmetic: a shape is a sprite of coverages 0..16 (how many of 4 by 4 points of a pixel lie in
it), blended over what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from torch import Tensor

from helpers.data.base import Dataset, Part, choose, whole
from helpers.data.text import Vocabulary

SHAPES = ["circle", "square", "triangle", "diamond", "cross", "ring"]
COLOURS = {
    "red": (224, 49, 49),
    "pink": (255, 160, 190),
    "yellow": (250, 224, 70),
    "green": (64, 180, 75),
    "cyan": (80, 220, 235),
    "blue": (50, 90, 220),
    "purple": (160, 70, 200),
}
SIZES = ["small", "large"]
RELATIONS = ["left", "right", "above", "below"]
GROUND = (24, 26, 34)
WORDS = Vocabulary(("a", *SIZES, *COLOURS, *SHAPES, *RELATIONS, "of", "and"), " ")
# Pairs of colour and shape that captioned scenes show in the test part only
HELD_OUT = (
    ("red", "diamond"),
    ("pink", "ring"),
    ("yellow", "cross"),
    ("green", "triangle"),
    ("cyan", "circle"),
    ("blue", "square"),
    ("purple", "ring"),
)
_PALETTE = np.array(list(COLOURS.values()), dtype=np.uint16)
_RADII = np.array([[6, 7, 8], [12, 13, 14]])  # of small and large shapes, in half pixels


@cache
def _sprites(largest: int) -> np.ndarray:
    """Coverage (shape, radius, y phase, x phase, S, S) for radii 0..largest; radius and phase in half pixels."""
    side = largest // 2 * 2 + 3
    phase = np.arange(2) * 4  # eighths of a pixel from here on
    place = np.arange(side * 4) * 2 + 1 - side // 2 * 8
    radius = (np.arange(largest + 1) * 4)[:, None, None, None, None]
    v = (place[:, None] - phase[:, None, None])[None, :, None]  # (1, y phase, 1, 4S, 1)
    u = (place[None, :] - phase[:, None, None])[None, None, :]  # (1, 1, x phase, 1, 4S)
    across, along, square = np.abs(u), np.abs(v), u**2 + v**2
    inside = [
        square <= radius**2,
        8 * np.maximum(across, along) <= 7 * radius,
        (v <= radius) & (2 * across <= v + radius),
        across + along <= radius,
        (np.maximum(across, along) <= radius) & (3 * np.minimum(across, along) <= radius),
        (square <= radius**2) & (4 * square >= radius**2),
    ]
    points = np.stack([np.broadcast_to(shape, (largest + 1, 2, 2, 4 * side, 4 * side)) for shape in inside])
    return points.reshape(*points.shape[:4], side, 4, side, 4).sum(axis=(5, 7), dtype=np.uint8)


def _place(objects: np.ndarray, margin: int) -> Iterator[tuple[int, np.ndarray, tuple, np.ndarray]]:
    """For each k: k, the scenes (M,) with a k-th object, its place in pictures with a margin, its coverage."""
    sprites = _sprites(int(max(objects[..., 4].max(), 1)))
    side = sprites.shape[-1]
    for k in range(objects.shape[1]):
        scene = np.flatnonzero(objects[:, k, 0] >= 0)
        shape, _, x, y, radius = objects[scene, k].T
        rows = (y // 2 - side // 2 + margin)[:, None] + np.arange(side)
        columns = (x // 2 - side // 2 + margin)[:, None] + np.arange(side)
        where = scene[:, None, None], rows[:, :, None], columns[:, None, :]
        yield k, scene, where, sprites[shape, radius, y % 2, x % 2]


def _draw(objects: np.ndarray, size: int) -> Tensor:
    """Pictures uint8 (N, size, size, 3) of objects (N, K, 5), later ones on top.

    An object is shape (-1: none), colour, x, y, radius, the last three in half pixels.
    """
    picture = np.empty((len(objects), 2 * size, 2 * size, 3), dtype=np.uint8)  # a sprite may reach over the edge
    picture[:] = GROUND
    for k, scene, where, cover in _place(objects, size // 2):
        weight = cover[..., None].astype(np.uint16)
        colour = _PALETTE[objects[scene, k, 1]][:, None, None]
        picture[where] = (picture[where] * (16 - weight) + colour * weight + 8) // 16
    crop = slice(size // 2, size // 2 + size)
    return torch.from_numpy(picture[:, crop, crop].copy())


def _seen(objects: np.ndarray, size: int) -> np.ndarray:
    """The fraction (N, K) of each object that no later one hides; 0 where there is none."""
    owner = np.full((len(objects), 2 * size, 2 * size), -1, dtype=np.int8)
    alone = np.ones(objects.shape[:2], dtype=np.int64)
    for k, scene, where, cover in _place(objects, size // 2):
        owner[where] = np.where(cover >= 8, k, owner[where])
        alone[scene, k] = (cover >= 8).sum(axis=(1, 2))
    return np.stack([(owner == k).sum(axis=(1, 2)) for k in range(objects.shape[1])], axis=1) / alone


def _captioned(n: int, rng: np.random.Generator, novel: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """``n`` scenes of 32 by 32: objects (n, 2, 5), sizes (n, 2), captions. ``novel``: with one held-out pair each."""
    held = np.zeros((len(COLOURS), len(SHAPES)), dtype=bool)
    for colour, shape in HELD_OUT:
        held[list(COLOURS).index(colour), SHAPES.index(shape)] = True
    allowed = np.argwhere(~held)
    pair = allowed[rng.integers(len(allowed), size=(n, 2))]
    if novel:
        pair[:, 0] = np.argwhere(held)[rng.integers(len(HELD_OUT), size=n)]
    # The second colour differs from the first: it moves on until it does, and until the pair is allowed
    while (clash := (pair[:, 0, 0] == pair[:, 1, 0])).any():
        pair[clash, 1] = allowed[rng.integers(len(allowed), size=clash.sum())]
    size = rng.integers(2, size=(n, 2))
    radius = _RADII[size, rng.integers(3, size=(n, 2))]
    first = rng.integers(2, size=n)  # which of the two stands left, or above
    axis = rng.integers(2, size=n)  # 0: beside each other, 1: above each other
    place = rng.integers(radius, 64 - radius + 1)  # where they stand along the other axis
    row = np.arange(n)
    r1, r2 = radius[row, first], radius[row, 1 - first]
    slack = 64 - 2 * (r1 + r2) - 2  # in half pixels; at least one pixel stays between them
    cut = np.sort(rng.integers(0, slack[:, None] + 1, size=(n, 2)), axis=1)
    along = np.empty((n, 2), dtype=np.int64)
    along[row, first] = cut[:, 0] + r1
    along[row, 1 - first] = cut[:, 1] + 2 * r1 + 2 + r2
    x, y = np.where(axis[:, None] == 0, along, place), np.where(axis[:, None] == 0, place, along)
    objects = np.stack([pair[..., 1], pair[..., 0], x, y, radius], axis=2)
    alone = rng.random(n) < 0.3
    objects[alone, 1] = -1
    relation = np.where(rng.random(n) < 0.2, -1, 2 * axis + first)  # first 0: object 0 is left of or above object 1
    named = rng.random((n, 2)) < 0.5  # whether the caption tells the size
    captions = []
    colours = list(COLOURS)
    for k in range(n):
        nouns = [
            " ".join(
                ["a", *([SIZES[size[k, i]]] if named[k, i] else []), colours[pair[k, i, 0]], SHAPES[pair[k, i, 1]]]
            )
            for i in range(2)
        ]
        word = "and" if relation[k] < 0 else RELATIONS[relation[k]] + (" of" if relation[k] < 2 else "")
        captions.append(nouns[0] if alone[k] else f"{nouns[0]} {word} {nouns[1]}")
    return objects, np.where(objects[..., 0] < 0, -1, size), captions


def _detection(n: int, rng: np.random.Generator) -> np.ndarray:
    """``n`` scenes of 48 by 48 with 1 to 6 shapes: objects (n, 6, 5), at least 40 % of each seen."""
    radius = rng.integers(8, 19, size=(n, 6))
    objects = np.stack(
        [
            rng.integers(len(SHAPES), size=(n, 6)),
            rng.integers(len(COLOURS), size=(n, 6)),
            rng.integers(radius, 96 - radius + 1),
            rng.integers(radius, 96 - radius + 1),
            radius,
        ],
        axis=2,
    )
    objects[np.arange(6) >= rng.integers(1, 7, size=n)[:, None]] = -1
    objects[_seen(objects, 48) < 0.4] = -1  # too well hidden; without it the others are seen no less
    order = np.argsort(objects[..., 0] < 0, axis=1, kind="stable")
    return np.take_along_axis(objects, order[..., None], axis=1)


def scenes(kind: str = "captions", n: int = 5_000, seed: int = 0) -> Dataset:
    """Coloured shapes on a dark ground, uint8; ``n`` training scenes, n/10 to validate and n/5 to test.

    ``kind="captions"``: (N, 32, 32, 3), one or two shapes of different colours that do not touch. ``Part.texts`` holds
    the captions and ``y["caption"]`` (N, 10) their words, padded with -1, coded by ``vocabulary`` (22 words). Half of
    the test scenes (``y["held_out"]`` 1) show a pair of colour and shape that training does not.

    ``kind="detection"``: (N, 48, 48, 3), one to six shapes that may hide one another in part. ``y["boxes"]`` (N, 6, 4)
    float32 holds left, top, right, bottom in pixels, whole shapes included where hidden.

    Both: ``y["shape"]``, ``y["colour"]`` (and ``y["size"]``) (N, K), -1 where there is no object.
    """
    choose("kind", kind, ("captions", "detection"))
    n, seed = whole("n", n, 10), whole("seed", seed, 0)
    rng = np.random.default_rng(seed)
    parts = {}
    for part, count in (("train", n), ("validation", n // 10), ("test", n // 5)):
        if kind == "captions":
            objects, sizes, captions = _captioned(count, rng, novel=False)
            held_out = np.zeros(count, dtype=np.int64)
            if part == "test":
                half = count // 2
                new = _captioned(half, rng, novel=True)
                objects[:half], sizes[:half], captions[:half], held_out[:half] = *new, 1
            y = {
                "caption": torch.nn.functional.pad(
                    codes := WORDS.encode_all(captions), (0, 10 - codes.shape[1]), value=-1
                ),
                "size": torch.from_numpy(sizes),
                "held_out": torch.from_numpy(held_out),
            }
            picture, texts = _draw(objects, 32), tuple(captions)
        else:
            objects = _detection(count, rng)
            picture = _draw(objects, 48)
            x, y_, r = (torch.from_numpy(objects[..., i]).float() / 2 for i in (2, 3, 4))
            boxes = torch.stack(_extent(torch.from_numpy(objects[..., 0]), x, y_, r), dim=2)
            y, texts = {"boxes": torch.where(torch.from_numpy(objects[..., :1]) < 0, -1.0, boxes)}, None
        y |= {"shape": torch.from_numpy(objects[..., 0].copy()), "colour": torch.from_numpy(objects[..., 1].copy())}
        parts[part] = Part(picture, y, texts=texts)
    return Dataset(
        f"scenes: {kind}",
        **parts,
        levels=256,
        source="drawn by this book",
        licence="MIT",
        credit="this book",
        labels={"shape": SHAPES, "colour": list(COLOURS)} | ({"size": SIZES} if kind == "captions" else {}),
        vocabulary=WORDS if kind == "captions" else None,
    )


def _extent(shape: Tensor, x: Tensor, y: Tensor, radius: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, top, right, bottom of shapes: a square reaches 7/8 of its radius, the others all of it."""
    reach = torch.where(shape == SHAPES.index("square"), radius * 7 / 8, radius)
    return x - reach, y - reach, x + reach, y + reach


@cache
def _templates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coverages (M, S²) of every shape, radius and phase, moved into the corner; the shape and the size of each."""
    radii = _RADII.ravel()
    cover = _sprites(int(radii.max()))[:, radii] / np.float32(16)  # (6, 6, 2, 2, S, S)
    shape, radius, _, _ = (axis.ravel() for axis in np.indices(cover.shape[:4]))
    cover = cover.reshape(-1, *cover.shape[-2:])
    rows, columns = (cover >= 0.5).any(axis=2).argmax(axis=1), (cover >= 0.5).any(axis=1).argmax(axis=1)
    return _window(cover, rows, columns, cover.shape[-1]), shape, radius // 3


def _window(images: np.ndarray, top: np.ndarray, left: np.ndarray, side: int) -> np.ndarray:
    """Of images (M, H, W) the windows (M, side²) that begin a pixel above ``top`` (M,) and left of ``left`` (M,)."""
    padded = np.pad(images, ((0, 0), (1, side), (1, side)))
    rows, columns = top[:, None] + np.arange(side), left[:, None] + np.arange(side)
    return padded[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]].reshape(-1, side**2)


def _see(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What is there of each colour: present, shape, size (N, 7), and box (N, 7, 4): its first and last pixels."""
    ground = np.array(GROUND, dtype=np.float32)
    away, direction = images - ground, _PALETTE.astype(np.float32) - ground
    along, length = away @ direction.T, (direction**2).sum(axis=1)
    amount = (along / length).clip(0, 1)  # (N, 32, 32, 7): 0 the ground, 1 the colour
    rest = amount**2 * length - 2 * amount * along  # squared distance to that blend, but for a constant
    amount *= rest.argmin(axis=-1)[..., None] == np.arange(len(COLOURS))  # each pixel speaks for its nearest colour
    mask = amount > 0.48
    present = mask.sum(axis=(1, 2)) >= 8
    rows, columns = mask.any(axis=2), mask.any(axis=1)  # (N, 32, 7)
    top, left = rows.argmax(axis=1), columns.argmax(axis=1)
    bottom, right = 31 - rows[:, ::-1].argmax(axis=1), 31 - columns[:, ::-1].argmax(axis=1)
    templates, shapes, sizes = _templates()
    scene, colour = np.nonzero(present)
    side = int(templates.shape[1] ** 0.5)
    found = _window(amount[scene, :, :, colour], top[scene, colour], left[scene, colour], side)
    distance = (found**2).sum(axis=1)[:, None] + (templates**2).sum(axis=1) - 2 * found @ templates.T
    winner = distance.argmin(axis=1)
    shape, size = np.full(present.shape, -1), np.full(present.shape, -1)
    size[scene, colour] = sizes[winner]
    alike = distance.min(axis=1) < 0.3 * (templates[winner] ** 2).sum(axis=1)
    shape[scene, colour] = np.where(alike, shapes[winner], -1)  # -1: like no shape
    return present, shape, size, np.stack([left, top, right, bottom], axis=2)


def caption_score(images: Tensor, captions: list[str] | tuple[str, ...]) -> Tensor:
    """How much of each caption is true of its image: (N,) float32 in [0, 1]; 1: all that it says.

    ``images`` is uint8 (N, 32, 32, 3). A caption says for each object its colour and shape, perhaps its size; perhaps
    how two objects stand (left of: wholly left of); and that nothing else is there. The score is the fraction of these
    statements that hold. ValueError for a caption that is not of the form of those in ``scenes()``.
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.shape[1:] != (32, 32, 3):
        got = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images are uint8 (N, 32, 32, 3); got {got}")
    if isinstance(captions, str) or len(captions) != len(images):
        raise ValueError(f"one caption an image: got {len(images)} images and captions {captions!r:.80}")
    statements = [_parse(caption) for caption in captions]
    if not statements:
        return torch.zeros(0)
    blocks = [_see(block.cpu().numpy()) for block in images.split(256)]
    present, shape, size, box = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
    scores = []
    for k, (objects, relation) in enumerate(statements):
        truths = [int(present[k].sum()) == len(objects)]
        for colour, kind, big in objects:
            truths.append(bool(present[k, colour]) and shape[k, colour] == kind)
            if big is not None:
                truths.append(bool(present[k, colour]) and size[k, colour] == big)
        if relation is not None:
            one, two = (box[k, colour] for colour, _, _ in objects)
            if relation in ("right", "below"):
                one, two = two, one
            axis = 0 if relation in ("left", "right") else 1
            truths.append(all(present[k, colour] for colour, _, _ in objects) and one[axis + 2] < two[axis])
        scores.append(sum(truths) / len(truths))
    return torch.tensor(scores, dtype=torch.float32)


def _parse(caption: str) -> tuple[list[tuple[int, int, int | None]], str | None]:
    """The objects of a caption, each (colour, shape, size or None), and the relation of the two, or None."""
    words = caption.split(" ")
    objects, relation = [], None
    colours = list(COLOURS)
    try:
        while words:
            if objects:
                link = words.pop(0)
                relation = None if link == "and" else RELATIONS[RELATIONS.index(link)]
                if link in ("left", "right") and words.pop(0) != "of":
                    raise ValueError
            if words.pop(0) != "a":
                raise ValueError
            size = SIZES.index(words.pop(0)) if words[0] in SIZES else None
            objects.append((colours.index(words.pop(0)), SHAPES.index(words.pop(0)), size))
        if not 1 <= len(objects) <= 2:
            raise ValueError
    except (ValueError, IndexError):
        raise ValueError(f"not a caption like 'a small red circle left of a blue square': {caption!r}") from None
    return objects, relation
