"""What the book learns from: every loader returns a :class:`~helpers.data.base.Dataset` with its split and papers.

>>> from helpers import data
>>> data.digits().train.x.shape
torch.Size([1000, 8, 8])
"""

from helpers.data.base import Dataset, Part
from helpers.data.documents import imdb, newsgroups
from helpers.data.images import digits, fashion, mnist
from helpers.data.letters import glyphs
from helpers.data.measurements import SERIES, TABLES, series, tables
from helpers.data.music import chorales, piano_roll, play
from helpers.data.points import TOYS, Toy, toys
from helpers.data.portraits import CAT_FACTORS, cat_factors, cats, draw_cats, faces
from helpers.data.shapes import caption_score, scenes
from helpers.data.text import Vocabulary, names, shakespeare, speeches
from helpers.data.voices import sound_of, spectrogram, speech

# Every set that needs no download, by name
ALL = {
    loader.__name__: loader
    for loader in (
        toys,
        digits,
        mnist,
        cats,
        faces,
        glyphs,
        scenes,
        shakespeare,
        speeches,
        names,
        chorales,
        speech,
        series,
        tables,
    )
}
OPTIONAL = {loader.__name__: loader for loader in (fashion, newsgroups, imdb)}

__all__ = [
    "ALL",
    "CAT_FACTORS",
    "OPTIONAL",
    "SERIES",
    "TABLES",
    "TOYS",
    "Dataset",
    "Part",
    "Toy",
    "Vocabulary",
    "caption_score",
    "cat_factors",
    "cats",
    "chorales",
    "digits",
    "draw_cats",
    "faces",
    "fashion",
    "glyphs",
    "imdb",
    "mnist",
    "names",
    "newsgroups",
    "piano_roll",
    "play",
    "scenes",
    "series",
    "shakespeare",
    "sound_of",
    "spectrogram",
    "speech",
    "speeches",
    "tables",
    "toys",
]
