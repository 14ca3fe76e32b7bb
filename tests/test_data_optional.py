"""The data sets that a reader may add: read from files of their form, refused when they are another's."""

from __future__ import annotations

import gzip
import hashlib
import tarfile

import numpy as np
import pytest

from helpers import data
from helpers.data import base, documents, images


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HELPERS_CACHE", str(tmp_path / "cache"))


FASHION_SIZES = {"train": 60_000, "t10k": 10_000}


def test_fashion_without_the_data_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_FASHION_FOLDER", tmp_path / "none")
    monkeypatch.setattr(images, "_FASHION_URL", f"file://{tmp_path}/nowhere/")
    with pytest.raises(ConnectionError, match="cannot be fetched from .* install the system package dataset-fashion"):
        data.fashion()
    with pytest.raises(FileNotFoundError, match="no train-images-idx3-ubyte.gz in .* give the folder"):
        data.fashion(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(ValueError, match="is not Fashion-MNIST's: its decompressed SHA-256"):
        data.fashion(tmp_path)


def test_fashion_is_read_from_files_of_its_form(tmp_path, monkeypatch):
    """Files of the same form with few images; the checksums of the true ones are set aside for them."""
    rng = np.random.default_rng(0)
    pixels = {part: rng.integers(256, size=(n, 28, 28), dtype=np.uint8) for part, n in FASHION_SIZES.items()}
    digests = {}
    for part, x in pixels.items():
        contents = {
            f"{part}-images-idx3-ubyte": bytes(16) + x.tobytes(),
            f"{part}-labels-idx1-ubyte": bytes(8) + (np.arange(len(x)) % 10).astype(np.uint8).tobytes(),
        }
        for name, content in contents.items():
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content, 0))
            digests[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(images, "_FASHION", digests)
    monkeypatch.setattr(images, "_FASHION_FOLDER", tmp_path / "none")
    monkeypatch.setattr(images, "_FASHION_URL", f"file://{tmp_path}/")
    dataset = data.fashion()  # by way of the download
    assert [len(part) for part in dataset.parts.values()] == [55_000, 5_000, 10_000]
    assert (dataset.test.x.numpy() == pixels["t10k"]).all() and dataset.test.y["kind"][:12].tolist() == [
        *range(10),
        0,
        1,
    ]
    assert len(list((tmp_path / "cache").iterdir())) == 4


def test_a_download_that_is_not_the_file_is_refused_and_nothing_stays(tmp_path, monkeypatch):
    (tmp_path / "sent").write_bytes(b"an error page")
    with pytest.raises(ValueError, match="sends is not thing: its md5 is not .*; do this"):
        base.download("thing", f"file://{tmp_path}/sent", "md5:" + "0" * 32, "do this")
    assert not list((tmp_path / "cache").iterdir())
    monkeypatch.setenv("HELPERS_CACHE", "")
    with pytest.raises(OSError, match="nowhere to keep thing: set HELPERS_CACHE"):
        base.download("thing", f"file://{tmp_path}/sent", "md5:" + "0" * 32, "do this")


def write_reviews(folder):
    for part in ("train", "test"):
        for opinion in ("neg", "pos", "unsup"):
            (folder / part / opinion).mkdir(parents=True)
            for k in range(10):
                (folder / part / opinion / f"{k}_5.txt").write_text(f"{opinion} film number {k} of {part}")


def test_reviews_are_read_from_a_folder_and_from_the_archive(tmp_path, monkeypatch):
    write_reviews(tmp_path / "aclImdb")
    dataset = data.imdb(tmp_path / "aclImdb")
    assert [len(part) for part in dataset.parts.values()] == [18, 2, 20]
    for part in dataset.parts.values():
        assert [dataset.labels["opinion"][k] for k in part.y["opinion"]] == [text[:3] for text in part.texts]
        assert dataset.vocabulary.decode(part.x[0]) == part.texts[0]
    archive = tmp_path / "reviews.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "aclImdb", "aclImdb")
    monkeypatch.setattr(documents, "_REVIEWS_URL", f"file://{archive}")
    monkeypatch.setattr(documents, "_REVIEWS_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    again = data.imdb()
    assert sorted(again.test.texts) == sorted(dataset.test.texts)
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere/train; give the folder aclImdb"):
        data.imdb(tmp_path / "nowhere")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds documents of 0 kinds"):
        data.imdb(tmp_path / "empty")


def test_news_is_read_from_a_folder(tmp_path):
    for part in ("train", "test"):
        for group in ("sci.space", "rec.autos"):
            (tmp_path / f"20news-bydate-{part}" / group).mkdir(parents=True)
            for k in range(10):
                (tmp_path / f"20news-bydate-{part}" / group / str(k)).write_bytes(
                    f"About {group} \xe9 {k}".encode("latin-1")
                )
    dataset = data.newsgroups(tmp_path)
    assert [len(part) for part in dataset.parts.values()] == [18, 2, 20]
    assert dataset.labels["group"] == ["rec.autos", "sci.space"]
    with pytest.raises(FileNotFoundError, match="give the folder in which 20news-bydate"):
        data.newsgroups(tmp_path / "nowhere")
