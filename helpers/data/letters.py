"""Glyphs: letters and digits in the fonts that matplotlib carries, a little turned, sheared, scaled and moved."""

from __future__ import annotations

import string

import numpy as np
import torch

from helpers.data.base import Dataset, cached, package_file, split, whole

CHARACTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
# Each: regular, bold, slanted, bold and slanted
FONTS = {
    "sans": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    "mono": ("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    "serif": ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    "times": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
}
_SIDE = 64


def _draw_masters() -> dict[str, np.ndarray]:
    """Every character in every font, (4 fonts, 2 slants, 2 weights, 62, 66, 66): centred, smoothed, with a margin."""
    from PIL import Image, ImageDraw, ImageFont

    masters = np.zeros((len(FONTS) * 4 * len(CHARACTERS), _SIDE + 2, _SIDE + 2), dtype=np.uint8)
    faces = [face for family in FONTS.values() for face in family]
    for number, face in enumerate(faces):
        file = package_file("matplotlib", "mpl-data", "fonts", "ttf", f"{face}.ttf")
        font = ImageFont.truetype(str(file), 50, layout_engine=ImageFont.Layout.BASIC)
        for place, character in enumerate(CHARACTERS):
            image = Image.new("L", (_SIDE, _SIDE))
            left, top, right, bottom = font.getbbox(character)
            corner = ((_SIDE - left - right) // 2, (_SIDE - top - bottom) // 2)
            ImageDraw.Draw(image).text(corner, character, fill=255, font=font)
            masters[number * len(CHARACTERS) + place, 1:-1, 1:-1] = np.asarray(image)
    # A pixel of a glyph is 2.3 pixels of its master: average over 2 by 2, so that one look at four of them is enough
    wide = masters.astype(np.uint16)
    smooth = (wide + np.roll(wide, 1, 1) + np.roll(wide, 1, 2) + np.roll(wide, (1, 1), (1, 2)) + 2) // 4
    return {"masters": smooth.astype(np.uint8).reshape(len(FONTS), 2, 2, len(CHARACTERS), _SIDE + 2, _SIDE + 2)}


def glyphs(n: int = 10_000, seed: int = 0) -> Dataset:
    """``n`` letters and digits, uint8 (n, 28, 28), white on black; n/10 to validate and n/10 to test.

    ``y``: character (62), font (4), slant (2), weight (2), and pose (n, 5) float32: turn and shear in radians, scale,
    and shift to the right and down in pixels.
    """
    n, seed = whole("n", n, 10), whole("seed", seed, 0)
    rng = np.random.default_rng(seed)
    total = n + 2 * (n // 10)
    masters = cached("glyphs", _draw_masters, "matplotlib", "pillow")["masters"]
    sizes = {"font": len(FONTS), "slant": 2, "weight": 2, "character": len(CHARACTERS)}
    y = {name: rng.integers(size, size=total) for name, size in sizes.items()}
    turn, shear = rng.uniform(-0.2, 0.2, (2, total))
    scale = rng.uniform(0.8, 1.1, total)
    right, down = rng.uniform(-2, 2, (2, total))
    # Where in the master each pixel looks: turned and sheared back; in 1/256 pixel, so that all that follows is exact
    unit = 256 * _SIDE / 28 / scale
    cos, sin, slope = np.cos(turn), np.sin(turn), np.tan(shear)
    place = np.arange(28) - 13.5
    dx, dy = place - right[:, None], place - down[:, None]  # (N, 28)
    u = (cos + slope * sin)[:, None, None] * dx[:, None] + (sin - slope * cos)[:, None, None] * dy[..., None]
    v = -sin[:, None, None] * dx[:, None] + cos[:, None, None] * dy[..., None]
    centre = 256 * (_SIDE + 2) // 2
    u, v = (np.rint(unit[:, None, None] * w).astype(np.int32) + centre for w in (u, v))
    u, v = np.clip(u, 0, 256 * (_SIDE + 1) - 1), np.clip(v, 0, 256 * (_SIDE + 1) - 1)  # the margin is black
    flat = masters.reshape(-1)
    which = np.ravel_multi_index(tuple(y.values()), masters.shape[:4]).astype(np.int32)
    corner = which[:, None, None] * (_SIDE + 2) ** 2 + (v >> 8) * (_SIDE + 2) + (u >> 8)
    a, b = u & 255, v & 255
    upper = flat[corner] * (256 - a) + flat[corner + 1] * a
    lower = flat[corner + _SIDE + 2] * (256 - a) + flat[corner + _SIDE + 3] * a
    x = ((upper * (256 - b) + lower * b + 2**15) >> 16).astype(np.uint8)
    y = {name: torch.from_numpy(value) for name, value in y.items()}
    y["pose"] = torch.from_numpy(np.stack([turn, shear, scale, right, down], axis=1).astype(np.float32))
    return Dataset(
        "glyphs",
        *split((n, n // 10, n // 10), torch.from_numpy(x), y),
        levels=256,
        source="drawn by this book with the fonts DejaVu and STIX, as matplotlib carries them",
        licence="fonts: Bitstream Vera licence (DejaVu), STIX Font License; both free to use and redistribute",
        credit="DejaVu Fonts, Bitstream, STI Pub",
        labels={
            "character": list(CHARACTERS),
            "font": list(FONTS),
            "slant": ["upright", "slanted"],
            "weight": ["regular", "bold"],
        },
    )
