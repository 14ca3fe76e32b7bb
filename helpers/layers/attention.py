"""Causal self-attention: Vaswani et al. (2017), "Attention is all you need", with what was found useful since."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """y = g · x / √(mean x² + ε): Zhang & Sennrich (2019), equation 4; LayerNorm without mean and bias."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.gain, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return torch.rms_norm(x, self.gain.shape, self.gain, self.eps)


def turns(start: int | Tensor, length: int, size: int, like: Tensor, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines, (length, size) each, that :func:`rotate` takes for positions from ``start``.

    Pair i of ``size / 2`` turns at position t by the angle t · base^(−2i/size). On device and dtype of ``like``.
    """
    half = size // 2
    t = torch.arange(length, device=like.device, dtype=torch.float32) + start
    angle = t[:, None] * base ** (-torch.arange(half, device=like.device, dtype=torch.float32) / half)
    sin = angle.sin()
    return angle.cos().repeat(1, 2).to(like.dtype), torch.cat([-sin, sin], 1).to(like.dtype)


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions: Su et al. (2021), "RoFormer", equation 34, of queries or keys ``x`` (..., T, D).

    Coordinates i and i + D/2 are a point in the plane, which turns about the origin as its position grows; so the
    product of a query and a key depends on how far apart they are, not on where they are.
    """
    (cos, sin), (a, b) = turn, x.chunk(2, -1)
    return x * cos + torch.cat([b, a], -1) * sin


class Cache:
    """Keys and values of the symbols that a layer has read, so that a new symbol costs one row and not all."""

    def __init__(self, length: int):
        self.length, self.used = length, 0
        self.keys = self.values = None  # (B, heads, length, D), of which the first ``used`` rows are filled

    def add(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, heads, T, D) each; returns all that is held."""
        if self.used + keys.shape[2] > self.length:
            raise ValueError(f"the cache holds {self.length} symbols: {self.used} and {keys.shape[2]} do not fit")
        if self.keys is None:
            self.keys, self.values = (a.new_empty(*a.shape[:2], self.length, a.shape[3]) for a in (keys, values))
        new = slice(self.used, self.used + keys.shape[2])
        self.keys[:, :, new], self.values[:, :, new] = keys, values
        self.used = new.stop
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]


class CausalSelfAttention(nn.Module):
    """softmax(q kᵀ / √D) v for each head, where position t sees the positions up to t; (B, T, width) → the same.

    Parameters:
        width: of the input, a multiple of ``heads``; with rotary positions an even one.
        bias: of the linear layers.
        qk_norm: queries and keys of unit mean square (Henry et al. 2020), which keeps the products in bounds at high
            learning rates.

    ``turn``: from :func:`turns` with ``size=width // heads``, for rotary positions; None: blind to order.
    """

    def __init__(self, width: int, heads: int, bias: bool = False, qk_norm: bool = False):
        super().__init__()
        if heads < 1 or width < 1 or width % heads:
            raise ValueError(f"width is a multiple of heads, not {width} with {heads} heads")
        self.heads, self.qk_norm = heads, qk_norm
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None = None, cache: Cache | None = None) -> Tensor:
        q, k, v = self._queries_keys_values(x, turn)
        if cache is not None:
            k, v = cache.add(k, v)
        new, seen = q.shape[2], k.shape[2]
        if new == seen:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:  # after a past the mask's diagonal ends in the lower right corner
            mask = None if new == 1 else torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).flatten(2))  # heads side by side

    def weights(self, x: Tensor, turn: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """How much each position attends to each, (B, heads, T, T); rows sum to 1."""
        q, k, _ = self._queries_keys_values(x, turn)
        score = q @ k.mT / math.sqrt(q.shape[-1])
        return score.masked_fill(torch.ones_like(score, dtype=torch.bool).triu(1), -math.inf).softmax(-1)

    def _queries_keys_values(self, x: Tensor, turn: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, heads, T, D)
        qk, v = qkv[:2], qkv[2]
        if self.qk_norm:
            qk = torch.rms_norm(qk, qk.shape[-1:], eps=1e-6)
        if turn is not None:
            qk = rotate(qk, turn)
        return qk[0], qk[1], v
