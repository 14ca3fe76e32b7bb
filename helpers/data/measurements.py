"""Series in time, and tables."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helpers.data.base import Dataset, Part, choose, package_file, split, whole
from helpers.data.points import LOG_2PI, Toy

SERIES = ("sunspots", "co2", "ar", "mnist1d")
TABLES = ("breast_cancer", "macrodata", "star98")


def _read_csv(file: Path) -> tuple[list[str], np.ndarray]:
    """The column names and the numbers (N, D) of a file; an empty field is NaN."""
    with file.open(encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    return header, np.array([[float(field or "nan") for field in row] for row in rows])


def _in_time(x: Tensor) -> dict[str, Part]:
    """The first 70 % of a series, the next 15, the last 15."""
    a, b = round(0.7 * len(x)), round(0.85 * len(x))
    return {"train": Part(x[:a]), "validation": Part(x[a:b]), "test": Part(x[b:])}


def series(name: str = "sunspots", n: int = 4_000, seed: int = 0) -> Dataset:
    """A series in time, float32.

    ``"sunspots"``: the sunspot number, mean of each year, 1700 to 2008, (T,). ``"co2"``: carbon dioxide at Mauna Loa
    in parts per million, each week from March 1958 to December 2001, (T,), missing weeks interpolated. Both are split
    in time: 70, 15, 15 %.

    ``"ar"``: ``n`` series (n, 64) of an autoregressive process of order 2, ``truth`` is its density.
    ``"mnist1d"``: ``n`` series (n, 40) of MNIST-1D, made as Greydanus (2020) makes them; ``y["digit"]``.
    These two are random, by ``seed``; n/10 validate, and test.
    """
    choose("a series' name", name, SERIES)
    n, seed = whole("n", n, 10), whole("seed", seed, 0)
    if name == "sunspots":
        _, table = _read_csv(package_file("statsmodels", "datasets", "sunspots", "sunspots.csv"))
        return Dataset(
            "series: sunspots",
            **_in_time(torch.from_numpy(table[:, 1].astype(np.float32))),
            levels=None,
            source="National Geophysical Data Center, https://www.ngdc.noaa.gov/stp/solar/solarda3.html, "
            "as the package statsmodels carries it",
            licence="public domain",
            credit="National Geophysical Data Center (NOAA)",
        )
    if name == "co2":
        _, table = _read_csv(package_file("statsmodels", "datasets", "co2", "co2.csv"))
        week, known = np.arange(len(table)), ~np.isnan(table[:, 1])
        return Dataset(
            "series: co2",
            **_in_time(torch.from_numpy(np.interp(week, week[known], table[known, 1]).astype(np.float32))),
            levels=None,
            source="Carbon Dioxide Information Analysis Center, Oak Ridge National Laboratory, "
            "as the package statsmodels carries it",
            licence="public domain",
            credit="C. D. Keeling and T. P. Whorf (2004)",
        )
    rng, total = np.random.default_rng(seed), n + 2 * (n // 10)
    if name == "ar":
        truth = _autoregressive()
        x, y, labels = truth.draw(total, rng)[0], {}, {}
        papers = {"source": "drawn from a process that this book defines", "licence": "MIT", "credit": "this book"}
    else:
        truth = None
        digit = rng.integers(10, size=total)
        x, y = _mnist1d(digit, rng), {"digit": torch.from_numpy(digit)}
        labels = {"digit": [str(k) for k in range(10)]}
        papers = {
            "source": "made here by the recipe of S. Greydanus, Scaling down deep learning, arXiv:2011.14439, "
            "with its ten templates",
            "licence": "Apache 2.0 (the templates)",
            "credit": "Sam Greydanus",
        }
    parts = split((n, n // 10, n // 10), torch.from_numpy(x.astype(np.float32)), y)
    return Dataset(f"series: {name}", *parts, levels=None, labels=labels, truth=truth, **papers)


def _autoregressive(length: int = 64, a: float = 1.6, b: float = -0.8) -> Toy:
    """x_t = a x_{t-1} + b x_{t-2} + noise of variance 1, from its stationary distribution: it swings every 14 steps."""
    # Stationary: variance g0 and covariance g1 of neighbours solve g0 = a g1 + b g2 + 1, g1 = a g0 + b g1
    g0 = (1 - b) / ((1 + b) * ((1 - b) ** 2 - a**2))
    rho = a / (1 - b)

    def draw(n, rng):
        noise = rng.standard_normal((n, length))
        x = np.empty((n, length))
        x[:, 0] = np.sqrt(g0) * noise[:, 0]
        x[:, 1] = rho * x[:, 0] + np.sqrt(g0 * (1 - rho**2)) * noise[:, 1]
        for t in range(2, length):
            x[:, t] = a * x[:, t - 1] + b * x[:, t - 2] + noise[:, t]
        return x, np.zeros(n, dtype=np.int64)

    def log_density(x):
        second = (x[:, 1] - rho * x[:, 0]) ** 2 / (g0 * (1 - rho**2)) + np.log(g0 * (1 - rho**2))
        later = (x[:, 2:] - a * x[:, 1:-1] - b * x[:, :-2]) ** 2
        return -(x[:, 0] ** 2 / g0 + np.log(g0) + second + later.sum(dim=1) + length * LOG_2PI) / 2

    return Toy("ar", length, 1, float(np.ceil(4 * np.sqrt(g0))), draw, log_density)


# The ten templates of MNIST-1D, by S. Greydanus, under the Apache License 2.0
_TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)


def _mnist1d(digit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Series (N, 40) for digits (N,): padded, stretched, scaled, moved round, noised, tilted, thinned out."""
    n = len(digit)
    x = (_TEMPLATES - _TEMPLATES.mean(axis=1, keepdims=True)) / _TEMPLATES.std(axis=1, keepdims=True)
    x = (x - x[:, :1]) / 6
    padded = np.concatenate([x, np.zeros((10, 60))], axis=1)[digit]  # (N, 72), of which 48 to 72 are used
    used = 12 + rng.integers(36, 61, size=n)
    place = np.linspace(0, 1, 72) * (used[:, None] - 1)
    left = np.minimum(place.astype(int), used[:, None] - 2)
    row = np.arange(n)[:, None]
    x = padded[row, left] + (place - left) * (padded[row, left + 1] - padded[row, left])
    # Of the template even the points of value 0 count as signal, not as padding
    signal = place < 12
    x = x * (1 + 0.4 * (rng.random(n)[:, None] - 0.5))
    turned = (np.arange(72) - rng.integers(48, size=n)[:, None]) % 72
    x, signal = x[row, turned], signal[row, turned]
    smooth = np.exp(-(np.arange(-8, 9) ** 2) / 8)
    noise = np.pad(0.25 * rng.standard_normal((n, 72)), ((0, 0), (8, 8)), mode="symmetric")
    noise = np.lib.stride_tricks.sliding_window_view(noise, 17, axis=1) @ (smooth / smooth.sum())
    x = np.where(signal, x, noise) + 0.02 * rng.standard_normal((n, 72))
    x = x - 0.75 * (rng.random(n)[:, None] - 0.5) * np.linspace(-0.5, 0.5, 72)
    place = np.linspace(0, 71, 40)
    left = np.minimum(place.astype(int), 70)
    x = x[:, left] + (place - left) * (x[:, left + 1] - x[:, left])
    return (x - x.mean()) / x.std()


def tables(name: str = "breast_cancer") -> Dataset:
    """A table, float32 (N, D); ``columns`` names its D columns; about 70, 15, 15 %.

    ``"breast_cancer"``: 569 tumours by 30 measurements, shuffled; ``y["diagnosis"]``: malignant or benign.
    ``"macrodata"``: 203 quarters of the economy of the United States by 12 figures, 1959 to 2009, split in time;
    ``y["year"]``, ``y["quarter"]``.
    ``"star98"``: 303 Californian school districts by 12 figures of students, teachers and schools, shuffled;
    ``y["above"]``, ``y["below"]``: how many students are above and below the nation's median in mathematics.
    """
    choose("a table's name", name, TABLES)
    labels = {}
    if name == "breast_cancer":
        file = package_file("sklearn", "datasets", "data", "breast_cancer.csv")
        table = np.loadtxt(file, delimiter=",", skiprows=1)
        x, y = table[:, :30], {"diagnosis": table[:, 30].astype(np.int64)}
        measures = "radius texture perimeter area smoothness compactness concavity concave_points symmetry".split()
        measures.append("fractal_dimension")
        columns = [f"{kind} {measure}" for kind in ("mean", "error", "worst") for measure in measures]
        labels = {"diagnosis": ["malignant", "benign"]}
        papers = {
            "source": "Breast Cancer Wisconsin (Diagnostic), UCI Machine Learning Repository, "
            "https://doi.org/10.24432/C5DW2B, as scikit-learn carries it",
            "licence": "CC BY 4.0",
            "credit": "W. H. Wolberg, W. N. Street and O. L. Mangasarian (1995)",
        }
    else:
        header, table = _read_csv(package_file("statsmodels", "datasets", name, f"{name}.csv"))
        if name == "macrodata":
            x, columns = table[:, 2:], header[2:]
            y = {"year": table[:, 0].astype(np.int64), "quarter": table[:, 1].astype(np.int64)}
            papers = {
                "source": "Federal Reserve Bank of St. Louis and Bureau of Labor Statistics, as statsmodels carries it",
                "licence": "public domain",
                "credit": "compiled by Skipper Seabold (2009)",
            }
        else:
            # The file gives all students and how many of them are above; what follows column 14 are products
            x, columns = table[:, 2:14], header[2:14]
            y = {"above": table[:, 1].astype(np.int64), "below": (table[:, 0] - table[:, 1]).astype(np.int64)}
            papers = {
                "source": "J. Gill, Generalized Linear Models: A Unified Approach (2000), as statsmodels carries it",
                "licence": "all rights with the author, who permits its use in statsmodels; read there, not copied",
                "credit": "Jeff Gill",
            }
    order = np.arange(len(x)) if name == "macrodata" else np.random.default_rng(0).permutation(len(x))
    held_out = round(0.15 * len(x))
    parts = split(
        (len(x) - 2 * held_out, held_out, held_out),
        torch.from_numpy(x[order].astype(np.float32)),
        {key: torch.from_numpy(value[order]) for key, value in y.items()},
    )
    return Dataset(f"tables: {name}", *parts, levels=None, labels=labels, columns=tuple(columns), **papers)
