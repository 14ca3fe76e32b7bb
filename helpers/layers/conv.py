"""A convolutional decoder: from a vector to a map of an image's size."""

from __future__ import annotations

import math

from torch import Tensor, nn


class ConvDecoder(nn.Module):
    """(B, inputs) → (B, outputs, *size): a small map first, then doubled until it covers the image.

    The small map is the image halved while its shorter side is longer than 7; ``width`` channels at full size, twice
    as many at each smaller one, at most eight times. What is too much (28 = 7·4 is not, 30 = 8·4 − 2 is) is cut off.
    """

    def __init__(
        self, inputs: int, outputs: int, size: tuple[int, int], *, width: int, hidden: int, dropout: float = 0.0
    ):
        super().__init__()
        self.size = size
        doublings = max(0, math.ceil(math.log2(min(size) / 7)))
        h, w = (math.ceil(side / 2**doublings) for side in size)
        channels = [width * min(8, 2**k) for k in range(doublings, -1, -1)]

        def block(*layers: nn.Module) -> list[nn.Module]:
            return [*layers, nn.SiLU()] + [nn.Dropout(dropout)] * (dropout > 0)

        layers = block(nn.Linear(inputs, hidden)) + block(nn.Linear(hidden, channels[0] * h * w))
        layers.append(nn.Unflatten(1, (channels[0], h, w)))
        for a, b in zip(channels, channels[1:], strict=False):
            layers += [nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], outputs, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        height, width = self.size
        return self.layers(z)[:, :, :height, :width]
