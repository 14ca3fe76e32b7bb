"""A stack of fully connected layers."""

from __future__ import annotations

from torch import nn


def mlp(*sizes: int, dropout: float = 0.0, activation: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """Linear layers ``sizes[0]`` → … → ``sizes[-1]``, with activation and dropout between them, none at the end.

    ``mlp(64, 256, 32)`` maps (..., 64) to (..., 32) through one hidden layer of 256.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"mlp needs at least an input and an output size, all from 1, not {sizes}")
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
        if i:
            layers += [activation()] + [nn.Dropout(dropout)] * (dropout > 0)
        layers.append(nn.Linear(a, b))
    return nn.Sequential(*layers)
