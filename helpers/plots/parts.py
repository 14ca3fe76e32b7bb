"""What the drawing functions share: checks of their input, labels, ticks, names beside what they name."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from helpers.plots.style import COLOURS, MARKERS, TEXT


def _array(x, who: str) -> np.ndarray:
    try:
        return np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{who}: got {type(x).__name__}, wanted a tensor or an array ({error})") from None


def _known(colour: str) -> None:
    if colour not in COLOURS:
        raise ValueError(f"got colour {colour!r}, wanted one of {', '.join(COLOURS)}")


def _square(ax: Axes | None) -> Axes:
    return plt.subplots(figsize=(4.2, 3.8))[1] if ax is None else ax


def _say(ax: Axes, title: str, xlabel: str, ylabel: str) -> None:
    if title:
        ax.set_title(title)
    if xlabel:
        ax.set_xlabel(xlabel)
    if ylabel:
        ax.set_ylabel(ylabel)


def _bare(ax: Axes) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)


def _few_ticks(ax: Axes) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "linear":
            axis.set_major_locator(mpl.ticker.MaxNLocator(4))


def _plane(ax: Axes, extent: tuple | None, title: str) -> None:
    ax.set_aspect("equal")
    if extent is not None:
        ax.set_xlim(extent[0], extent[1])
        ax.set_ylim(extent[2], extent[3])
    if ax.get_xticks().size:
        _few_ticks(ax)
    _say(ax, title, "", "")
    names = sum(text.get_gid() == "cloud" for text in ax.texts)
    if names:  # the title stands above the names of the clouds
        ax.set_title(ax.get_title(loc="left"), pad=6 + 15 * names)


def _grid(extent: tuple, resolution: int) -> tuple[Tensor, tuple[int, int]]:
    left, right, bottom, top = extent
    if not (left < right and bottom < top) or resolution < 2:
        raise ValueError(f"got extent={extent}, resolution={resolution}, wanted left < right, bottom < top, 2 or more")
    # Cell centres, because imshow paints each value over its whole cell.
    wide, high = (right - left) / resolution, (top - bottom) / resolution
    xs = torch.linspace(left + wide / 2, right - wide / 2, resolution)
    ys = torch.linspace(bottom + high / 2, top - high / 2, resolution)
    y, x = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack([x.ravel(), y.ravel()], 1), (resolution, resolution)


def _bar(ax: Axes, picture, unit: str) -> None:
    bar = ax.figure.colorbar(picture, ax=ax, shrink=0.8, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_locator(mpl.ticker.MaxNLocator(3))
    bar.set_label(unit)


def _name_cloud(ax: Axes, xy: np.ndarray, label: str, colour: str) -> None:
    """Names of clouds stand in a row above the plane: inside it they would cover points."""
    seen = sum(text.get_gid() == "cloud" for text in ax.texts)
    marker = {"o": "●", "^": "▲", "x": "×", "D": "◆", "s": "■", "P": "✚"}[MARKERS[colour]]
    ax.annotate(
        f"{marker} {label}",
        (0, 1),
        (0, 4 + 15 * seen),
        xycoords="axes fraction",
        textcoords="offset points",
        color=TEXT[colour],
        gid="cloud",
    )


def _name_line(ax: Axes, y: float, label: str, colour: str) -> None:
    """Write a line's name beside its end, and push the names there apart until each has its own line of text."""
    ax.annotate(
        label,
        (1, y),
        (5, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        color=TEXT[colour],
        gid="end",
        annotation_clip=False,
    )
    ax.figure.draw_without_rendering()  # settles limits and layout, on which the distances depend
    names = sorted((text for text in ax.texts if text.get_gid() == "end"), key=lambda text: text.xy[1])
    ends = [ax.transData.transform((0, text.xy[1]))[1] for text in names]
    line = 1.25 * mpl.rcParams["font.size"] * ax.figure.dpi / 72
    placed = list(ends)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + line)
    shift = (sum(placed) - sum(ends)) / len(ends)  # a crowd stays centred on its lines
    for text, end, place in zip(names, ends, placed, strict=True):
        text.set_position((5, (place - shift - end) * 72 / ax.figure.dpi))
