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
        return F.rms_norm(x, self.gain.shape, self.gain, self.eps)


def rotate(x: Tensor, start: int = 0, base: float = 10_000.0) -> Tensor:
    """Rotary positions: Su et al. (2021), "RoFormer", equation 34.

    ``x`` (..., T, D) stands at the positions start..start+T-1. The coordinates i and i + D/2 of position t turn by the
    angle t · base^(−2i/D); so the product of a query and a key depends on how far apart they are, not on where.
    """
    half = x.shape[-1] // 2
    t = torch.arange(start, start + x.shape[-2], device=x.device, dtype=torch.float32)
    speed = base ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = t[:, None] * speed  # (T, D/2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


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
        width: of the input, a multiple of ``heads``; with ``rotary`` positions an even multiple.
        bias: of the linear layers.
        qk_norm: queries and keys of unit mean square (Henry et al. 2020), which keeps the products in bounds at high
            learning rates.
    """

    def __init__(self, width: int, heads: int, rotary: bool = True, bias: bool = False, qk_norm: bool = False):
        super().__init__()
        if heads < 1 or width % heads or (rotary and width // heads % 2):
            kind = "an even multiple" if rotary else "a multiple"
            raise ValueError(f"width is {kind} of heads, not {width} with {heads} heads")
        self.heads, self.rotary, self.qk_norm = heads, rotary, qk_norm
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        q, k, v = self._queries_keys_values(x, cache.used if cache else 0)
        if cache is not None:
            k, v = cache.add(k, v)
        new, seen = q.shape[2], k.shape[2]
        if new == seen:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:  # after a past the mask's diagonal ends in the lower right corner
            mask = None if new == 1 else torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).flatten(2))  # heads side by side

    def weights(self, x: Tensor) -> Tensor:
        """How much each position attends to each, (B, heads, T, T); rows sum to 1."""
        q, k, _ = self._queries_keys_values(x, 0)
        score = q @ k.mT / math.sqrt(q.shape[-1])
        return score.masked_fill(torch.ones_like(score, dtype=torch.bool).triu(1), -math.inf).softmax(-1)

    def _queries_keys_values(self, x: Tensor, start: int) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, T, D) each
        if self.qk_norm:
            q, k = (F.rms_norm(a, a.shape[-1:]) for a in (q, k))
        if self.rotary:
            q, k = rotate(q, start), rotate(k, start)
        return q, k, v
