"""One loop for every model (:func:`fit`), and the command ``python -m helpers.training``."""

from helpers.training.loop import History, fit

__all__ = ["History", "fit"]
