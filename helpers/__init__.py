"""The small library of the book *Generative Models from First Principles*."""

__version__ = "0.2.0"
