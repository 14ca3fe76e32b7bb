"""Optional sets of documents: news groups and film reviews, from the reader's folder or downloaded."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import torch

from helpers.data.base import Dataset, Part, cache_dir, download, package_file
from helpers.data.text import Vocabulary

_REVIEWS_URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
_REVIEWS_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"


def _documents(name: str, label: str, train, test, length: int, papers: dict) -> Dataset:
    """A set of (text, label value) pairs; every tenth of the training documents, after a shuffle, validates."""
    values = sorted({value for _, value in train})
    order = np.random.default_rng(0).permutation(len(train))
    groups = {
        "train": [train[i] for i in order[len(train) // 10 :]],
        "validation": [train[i] for i in order[: len(train) // 10]],
        "test": test,
    }
    vocabulary = Vocabulary.from_text("".join(sorted({symbol for pair in train + test for symbol in set(pair[0])})))
    parts = {
        part: Part(
            vocabulary.encode_all(text[:length] for text, _ in pairs),
            {label: torch.tensor([values.index(value) for _, value in pairs])},
            texts=tuple(text for text, _ in pairs),
        )
        for part, pairs in groups.items()
    }
    return Dataset(name, **parts, levels=len(vocabulary), labels={label: values}, vocabulary=vocabulary, **papers)


def _read_folder(folder: Path, wanted: str, advice: str) -> list[tuple[str, str]]:
    """The documents of a folder of folders, with the name of the folder of each."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; {advice}")
    files = [file for kind in sorted(folder.iterdir()) if kind.is_dir() for file in sorted(kind.glob(wanted))]
    pairs = [(file.read_text(encoding="latin-1" if wanted == "*" else "utf-8"), file.parent.name) for file in files]
    pairs = [(text, kind) for text, kind in pairs if text and kind != "unsup"]
    if len({kind for _, kind in pairs}) < 2:
        raise ValueError(f"{folder} holds documents of {len({kind for _, kind in pairs})} kinds, not of two; {advice}")
    return pairs


def newsgroups(folder: str | Path | None = None, length: int = 500) -> Dataset:
    """Optional: 18,846 messages, the first ``length`` characters as int64 (N, length); ``y["group"]``, one of 20.

    Read from ``folder`` (with 20news-bydate-train and 20news-bydate-test), else fetched by scikit-learn (14 MB, with a
    checksum). The tests are later messages than the training ones. ``Part.texts`` holds the whole messages.
    """
    advice = "give the folder in which 20news-bydate.tar.gz (http://qwone.com/~jason/20Newsgroups/) was unpacked"
    if folder is not None:
        train, test = (_read_folder(Path(folder, f"20news-bydate-{part}"), "*", advice) for part in ("train", "test"))
    else:
        package_file("sklearn")  # a clear error where it is missing
        from sklearn.datasets import fetch_20newsgroups

        pairs = []
        for part in ("train", "test"):
            try:
                bunch = fetch_20newsgroups(data_home=cache_dir(), subset=part, shuffle=False, n_retries=1)
            except OSError as error:
                raise ConnectionError(f"the 20 newsgroups cannot be fetched ({error}); {advice}") from error
            pairs.append([(t, bunch.target_names[k]) for t, k in zip(bunch.data, bunch.target, strict=True) if t])
        train, test = pairs
    papers = {
        "source": "20 Newsgroups, sorted by date, http://qwone.com/~jason/20Newsgroups/",
        "licence": "none stated: public messages of 1993, used for research; not redistributed here",
        "credit": "Ken Lang (1995), Jason Rennie",
    }
    return _documents("newsgroups", "group", train, test, length, papers)


def imdb(folder: str | Path | None = None, length: int = 500) -> Dataset:
    """Optional: 50,000 film reviews, the first ``length`` characters as int64 (N, length); ``y["opinion"]``: neg, pos.

    Read from ``folder`` (the aclImdb of the archive), else downloaded (84 MB, with a checksum). ``Part.texts`` holds
    the whole reviews; the official test half is the test part.
    """
    advice = f"give the folder aclImdb of {_REVIEWS_URL}, unpacked"
    if folder is not None:
        train, test = (_read_folder(Path(folder, part), "*.txt", advice) for part in ("train", "test"))
    else:
        groups: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
        with tarfile.open(download("aclImdb_v1.tar.gz", _REVIEWS_URL, f"md5:{_REVIEWS_MD5}", advice)) as archive:
            for member in archive:
                place = member.name.split("/")
                if len(place) == 4 and place[1] in groups and place[2] in ("pos", "neg") and member.isfile():
                    groups[place[1]].append((archive.extractfile(member).read().decode(), place[2]))
        train, test = groups["train"], groups["test"]
    papers = {
        "source": "Large Movie Review Dataset, https://ai.stanford.edu/~amaas/data/sentiment/",
        "licence": "none stated: for research; not redistributed here",
        "credit": "A. Maas, R. Daly, P. Pham, D. Huang, A. Ng and C. Potts (2011)",
    }
    return _documents("imdb", "opinion", train, test, length, papers)
