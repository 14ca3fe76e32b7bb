"""One loop for every model (:func:`fit`), and the command ``python -m helpers.training``."""

from helpers.training.loop import History, fit, learning_rate_factor
from helpers.training.parts import chunks, windows
from helpers.training.runs import load

__all__ = ["History", "chunks", "fit", "learning_rate_factor", "load", "windows"]
