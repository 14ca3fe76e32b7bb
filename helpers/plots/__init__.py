"""One figure style for the whole book. Every function draws into one Axes and returns it.

A colour means something, and the same thing everywhere: see :data:`COLOURS`. Colour never stands alone: each meaning
also has its own marker and dash pattern, and lines carry their name.

In dark mode the book shows a second rendering of each figure in which the colours are exchanged by :data:`DARK`
(see :func:`helpers.notebook.show`); so draw with these colours, and leave grounds transparent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from helpers.plots.parts import (
    _array,
    _bar,
    _bare,
    _few_ticks,
    _grid,
    _known,
    _name_cloud,
    _name_line,
    _plane,
    _say,
    _square,
)
from helpers.plots.style import *  # noqa: F403
from helpers.plots.style import COLOURS, DASHES, DENSITY_MAP, DIFFERENCE_MAP, INK, MARKERS, STYLE


def use_style() -> None:
    """Make every figure drawn from now on look like the book's."""
    mpl.rcParams.update(STYLE)


def images(
    x: Tensor,
    levels: int | None = None,
    columns: int | None = None,
    *,
    rows: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A contact sheet of images.

    Args:
        x: (N, H, W) or (N, H, W, 3) integers 0..``levels`` − 1, or floats 0..1 (intensities).
        levels: number of grey levels of integer images; 256 if not given.
        columns: images in a row; about the square root of N if not given.
        rows: one label for each row; heads: one for each column.

    Raises:
        ValueError: another shape, values out of range, or no image at all.
    """
    pixels = _array(x, "images")
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[-1] != 3) or 0 in pixels.shape:
        raise ValueError(f"images: got shape {pixels.shape}, wanted (N, H, W) or (N, H, W, 3), none of them 0")
    if np.issubdtype(pixels.dtype, np.integer) or pixels.dtype == bool:
        white = (256 if levels is None else levels) - 1
        if white < 1 or pixels.min() < 0 or pixels.max() > white:
            raise ValueError(f"images: got values {pixels.min()}..{pixels.max()}, wanted 0..{white} (levels={levels})")
        pixels = pixels / white
    elif not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(f"images: got floats {pixels.min():.3g}..{pixels.max():.3g}, wanted 0..1, or integers")
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    n, height, width, _ = pixels.shape
    columns = int(np.ceil(np.sqrt(n))) if columns is None else columns
    if columns < 1:
        raise ValueError(f"images: got columns={columns}, wanted 1 or more")
    down = -(-n // columns)
    for labels, wanted, what in ((rows, down, "rows"), (heads, columns, "heads")):
        if labels is not None and len(labels) != wanted:
            raise ValueError(f"images: got {len(labels)} labels in {what}, wanted {wanted}")
    gap = max(1, round(min(height, width) / 12))  # transparent: white on a white page, dark on a dark one
    sheet = np.zeros((down * (height + gap) - gap, columns * (width + gap) - gap, 4))
    for i, image in enumerate(pixels):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width, :3] = image
        sheet[top : top + height, left : left + width, 3] = 1
    if ax is None:
        inches = 5.0 if columns >= 4 else 1.25 * columns
        aside = 0.2 + 0.085 * max(map(len, rows)) if rows else 0.08  # what the labels of the rows take
        above = 0.08 + (0.27 if title else 0) + (0.25 if heads else 0)
        ax = plt.subplots(figsize=(inches, (inches - aside) * sheet.shape[0] / sheet.shape[1] + above))[1]
    ax.imshow(sheet)
    _bare(ax)
    if rows is not None:
        ax.set_yticks([i * (height + gap) + (height - 1) / 2 for i in range(down)], rows)
    if heads is not None:
        ax.set_xticks([i * (width + gap) + (width - 1) / 2 for i in range(columns)], heads)
        ax.xaxis.tick_top()
    ax.tick_params(length=0)
    if title:
        ax.set_title(title)
    return ax


def points(
    x: Tensor,
    colour: str = "data",
    *,
    label: str = "",
    extent: tuple[float, float, float, float] | None = None,
    size: float | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A cloud of points ``x`` (N, 2); ``colour`` is a name of :data:`COLOURS`, which also gives the marker.

    ``extent`` (left, right, bottom, top) fixes the limits, so that panels can be compared.
    """
    xy = _array(x, "points")
    if xy.ndim != 2 or xy.shape[1] != 2:
        raise ValueError(f"points: got shape {xy.shape}, wanted (N, 2)")
    _known(colour)
    ax = _square(ax)
    size = float(np.clip(4000 / max(len(xy), 1), 4, 40)) if size is None else size
    marker = MARKERS[colour]
    edge = {} if marker == "x" else {"linewidths": 0}
    ax.scatter(xy[:, 0], xy[:, 1], s=size, marker=marker, color=COLOURS[colour], alpha=0.6, label=label, **edge)
    if label:
        _name_cloud(ax, xy, label, colour)
    _plane(ax, extent, title)
    return ax


def density(
    log_prob: Callable[[Tensor], Tensor],
    extent: tuple[float, float, float, float] = (-4, 4, -4, 4),
    *,
    resolution: int = 150,
    title: str = "",
    unit: str = "density",
    ax: Axes | None = None,
) -> Axes:
    """The density exp(``log_prob``) over a rectangle of the plane, with a colour bar.

    Args:
        log_prob: from points (N, 2) float32 to nats (N,).
        extent: left, right, bottom, top.
        unit: what the colour bar is labelled with.
    """
    grid, shape = _grid(extent, resolution)
    with torch.no_grad():
        values = _array(log_prob(grid), "density")
    if values.shape != (len(grid),) or np.isnan(values).any():
        raise ValueError(f"density: got log_prob of shape {values.shape}, wanted ({len(grid)},) without NaN")
    ax = _square(ax)
    picture = ax.imshow(np.exp(values).reshape(shape), origin="lower", extent=extent, cmap=DENSITY_MAP, vmin=0)
    picture.set_interpolation("bilinear")
    _bar(ax, picture, unit)
    _plane(ax, extent, title)
    return ax


def difference(
    values: Tensor,
    extent: tuple[float, float, float, float] | None = None,
    *,
    limit: float | None = None,
    title: str = "",
    unit: str = "model − data",
    ax: Axes | None = None,
) -> Axes:
    """Signed differences ``values`` (H, W), row 0 at the bottom if ``extent`` is given, else at the top.

    Vermilion where the model has more, blue where the data has more, white at 0; the colours end at ± ``limit``.
    """
    array = _array(values, "difference").astype(float)
    if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all():
        raise ValueError(f"difference: got shape {array.shape}, wanted a finite (H, W)")
    limit = float(np.abs(array).max()) or 1.0 if limit is None else limit
    if not limit > 0:
        raise ValueError(f"difference: got limit={limit}, wanted a positive number")
    ax = _square(ax)
    origin = "upper" if extent is None else "lower"
    picture = ax.imshow(array, origin=origin, extent=extent, cmap=DIFFERENCE_MAP, vmin=-limit, vmax=limit)
    _bar(ax, picture, unit)
    if extent is None:
        _bare(ax)
    _plane(ax, extent, title)
    return ax


def curve(
    y: Tensor,
    x: Tensor | None = None,
    colour: str = "model",
    *,
    label: str = "",
    spread: Tensor | None = None,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A line with its name beside its end.

    Args:
        y: (T,), or (runs, T): then the line is the mean, and the band reaches from the lowest run to the highest.
        x: (T,); 0, 1, … if not given.
        spread: (T,) half the height of the band, in place of several runs.
    """
    array = _array(y, "curve").astype(float)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(f"curve: got shape {array.shape}, wanted (T,) or (runs, T)")
    _known(colour)
    middle = array if array.ndim == 1 else array.mean(0)
    across = np.arange(len(middle)) if x is None else _array(x, "curve")
    if across.shape != middle.shape:
        raise ValueError(f"curve: got x of shape {across.shape}, wanted {middle.shape} as y")
    ax = plt.subplots()[1] if ax is None else ax
    ax.plot(across, middle, color=COLOURS[colour], linestyle=DASHES[colour], label=label)
    if array.ndim == 2:
        ax.fill_between(across, array.min(0), array.max(0), color=COLOURS[colour], alpha=0.2, linewidth=0)
    elif spread is not None:
        half = _array(spread, "curve")
        if half.shape != middle.shape:
            raise ValueError(f"curve: got spread of shape {half.shape}, wanted {middle.shape} as y")
        ax.fill_between(across, middle - half, middle + half, color=COLOURS[colour], alpha=0.2, linewidth=0)
    _few_ticks(ax)
    _say(ax, title, xlabel, ylabel)
    if label:
        _name_line(ax, middle[-1], label, colour)
    return ax


def curves(
    lines: Mapping[str, Tensor],
    x: Tensor | None = None,
    *,
    colours: Mapping[str, str] | None = None,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Several lines by name, each as in :func:`curve`; their names are kept from overlapping.

    ``colours`` maps a line's name to a name of :data:`COLOURS`; without it a line that is called like a meaning
    ("data", "model", …) gets its colour, and the others get what is left, in order.
    """
    if not lines:
        raise ValueError("curves: got no line, wanted a mapping from names to values")
    chosen = dict(colours or {})
    for name in lines:
        if name in COLOURS:
            chosen.setdefault(name, name)
    left = [colour for colour in ("model", "data", "latent", "noise", "condition") if colour not in chosen.values()]
    for name in lines:
        if name not in chosen:
            if not left:
                raise ValueError(f"curves: got {len(lines)} lines, wanted 5 at most: use small multiples")
            chosen[name] = left.pop(0)
    for name, y in lines.items():
        ax = curve(y, x, chosen[name], label=name, ax=ax)
    _say(ax, title, xlabel, ylabel)
    return ax


def bars(
    values: Mapping[str, float],
    errors: Mapping[str, float] | None = None,
    colour: str = "model",
    *,
    colours: Mapping[str, str] | None = None,
    unit: str = "",
    digits: int = 1,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Horizontal bars by name, the first on top, each with its value and its error (± ``errors[name]``) written out.

    ``unit`` labels the axis; ``colours`` gives single bars another meaning than ``colour``.
    """
    numbers = np.array([float(v) for v in values.values()])
    if not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(f"bars: got {dict(values)}, wanted at least one finite number")
    unknown = set(errors or {}) - set(values)
    if unknown:
        raise ValueError(f"bars: got errors for {sorted(unknown)}, wanted names among {list(values)}")
    meaning = [(colours or {}).get(name, colour) for name in values]
    for name in meaning:
        _known(name)
    error = np.array([float((errors or {}).get(name, 0)) for name in values])
    ax = plt.subplots(figsize=(5.0, 0.7 + 0.42 * len(numbers) + (0.3 if title else 0)))[1] if ax is None else ax
    at = np.arange(len(numbers))
    ax.barh(at, numbers, color=[COLOURS[name] for name in meaning], height=0.6)
    has = error > 0
    ax.errorbar(numbers[has], at[has], xerr=error[has], fmt="none", ecolor=INK, elinewidth=1.5, capsize=3)
    for i in range(len(numbers)):
        text = f"{numbers[i]:.{digits}f}" + (f" ± {error[i]:.{digits}f}" if has[i] else "")
        end = numbers[i] + error[i] if numbers[i] >= 0 else 0.0
        ax.annotate(text, (end, at[i]), (5, 0), textcoords="offset points", va="center")
    ax.set_yticks(at, list(values))
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.margins(x=0.02)
    ax.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    _say(ax, title, unit, "")
    return ax


def truth(y: Tensor | float, x: Tensor | None = None, *, label: str = "truth", ax: Axes | None = None) -> Axes:
    """What is known to be right, dashed grey: a number (a level line across) or a line (T,)."""
    array = _array(y, "truth").astype(float)
    if array.ndim > 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"truth: got shape {array.shape}, wanted a finite number or a finite (T,)")
    if array.ndim == 1:
        return curve(array, x, "truth", label=label, ax=ax)
    ax = plt.subplots()[1] if ax is None else ax
    ax.axhline(float(array), color=COLOURS["truth"], linestyle=DASHES["truth"])
    if label:
        _name_line(ax, float(array), label, "truth")
    return ax
