"""Figures and animations as outputs: light and dark, with a description."""

from __future__ import annotations

import base64
import contextlib
import copy
import html
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

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
from helpers.notebook import output

FIGURE_TYPE = "application/vnd.book.figure+json"
ANIMATION_BYTES, SLIM_BYTES = 300_000, 100_000


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
    light, dark = _slim(light), _slim(dark)
    plt.close(figure)  # else the inline backend shows it once more
    size = {"width": width, "height": height}
    output.display(
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
    output.display(
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
    _refuse_cut_text(figure)


def _refuse_cut_text(figure: Figure) -> None:
    """``ValueError`` where a title or a label is longer than its side: the layout shrinks the axes, never the words."""
    across, along = [figure._suptitle, figure._supxlabel], [figure._supylabel]
    for ax in figure.axes:
        across += [ax.title, ax._left_title, ax._right_title, ax.xaxis.label]
        along += [ax.yaxis.label]
    slack = 0.04 * figure.dpi
    for texts, ends, size in ((across, ("x0", "x1"), figure.bbox.width), (along, ("y0", "y1"), figure.bbox.height)):
        for text in texts:
            if text is not None and text.get_visible() and text.get_text().strip():
                low, high = (getattr(text.get_window_extent(), end) for end in ends)
                if low < -slack or high > size + slack:
                    raise ValueError(f"{text.get_text()!r} is cut off by the edge of the picture: use fewer words")


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


def _slim(picture: bytes) -> bytes:
    """A PNG of more than 100 KB (a heat map, a cloud) with 256 colours: a third of the bytes, and looks the same."""
    from PIL import Image

    if len(picture) <= SLIM_BYTES:
        return picture
    image, buffer = Image.open(io.BytesIO(picture)), io.BytesIO()
    opaque = image.mode == "RGB" or image.getextrema()[3][0] == 255
    image, method = (image.convert("RGB"), Image.Quantize.MEDIANCUT) if opaque else (image, Image.Quantize.FASTOCTREE)
    image.quantize(256, method=method, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


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
