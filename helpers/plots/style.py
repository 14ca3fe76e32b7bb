"""The colours, marks and settings of every figure. Colour never stands alone: each meaning also has its own marker and
dash pattern."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.colors import LinearSegmentedColormap

COLOURS = {
    "data": "#0072B2",
    "model": "#D55E00",  # and its samples
    "truth": "#767676",  # always dashed
    "noise": "#7A5BA6",  # and the prior
    "latent": "#009E73",  # and the posterior
    "condition": "#B8860B",
}
# The same hues, dark enough to be read as text on white (contrast 4.5 : 1 or more).
TEXT = {
    "data": "#00659E",
    "model": "#B34F00",
    "truth": "#666666",
    "noise": "#6B4F93",
    "latent": "#00774F",
    "condition": "#8A6400",
}
MARKERS = {"data": "o", "model": "^", "truth": "x", "noise": "D", "latent": "s", "condition": "P"}
DASHES = {
    "data": (0, ()),
    "model": (0, (7, 1.5)),
    "truth": (0, (4, 3)),
    "noise": (0, (1, 1.2)),
    "latent": (0, (6, 1.5, 1, 1.5)),
    "condition": (0, (6, 1.5, 1, 1.5, 1, 1.5)),
}

INK, GROUND, RULE = "#1A1A1A", "#FFFFFF", "#D9D9D9"
# What each colour becomes on a dark page: lighter, and spread in lightness, so that no two meanings
# fall together for a reader with any kind of colour blindness.
DARK_COLOURS = {
    "data": "#3A9AD9",
    "model": "#D9722E",
    "truth": "#8A8A8A",
    "noise": "#D3C2F2",
    "latent": "#45DDB0",
    "condition": "#FFCB47",
}
DARK_INK, DARK_GROUND, DARK_RULE = "#E6E6E6", "#14181E", "#3B424C"
DARK = (
    {COLOURS[name]: colour for name, colour in DARK_COLOURS.items()}
    | {TEXT[name]: colour for name, colour in DARK_COLOURS.items()}
    | {INK: DARK_INK, GROUND: DARK_GROUND, RULE: DARK_RULE, "#000000": DARK_INK}
)

DENSITY_MAP = "viridis"
DIFFERENCE_MAP = LinearSegmentedColormap.from_list("difference", [COLOURS["data"], "#F5F5F5", COLOURS["model"]])

STYLE = {
    "figure.figsize": (5.0, 3.2),
    "figure.dpi": 100,
    "figure.facecolor": GROUND,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "normal",
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "legend.fontsize": 11,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": RULE,
    "lines.linewidth": 2,
    "lines.markersize": 5,
    "axes.prop_cycle": mpl.cycler(
        color=[COLOURS[name] for name in ("data", "model", "latent", "noise", "condition")],
        linestyle=[DASHES[name] for name in ("data", "model", "latent", "noise", "condition")],
    ),
    "image.cmap": DENSITY_MAP,
    "image.interpolation": "nearest",
    "savefig.facecolor": "auto",
    "xtick.major.size": 3,
    "ytick.major.size": 3,
}
