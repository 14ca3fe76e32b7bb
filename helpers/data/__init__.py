"""What the book learns from: every loader returns a :class:`~helpers.data.base.Dataset` with its split and papers.

>>> from helpers import data
>>> data.digits().train.x.shape
torch.Size([1000, 8, 8])
"""

from helpers.data.base import Dataset, Part
from helpers.data.images import digits, mnist
from helpers.data.points import TOYS, Toy, toys

__all__ = ["TOYS", "Dataset", "Part", "Toy", "digits", "mnist", "toys"]
