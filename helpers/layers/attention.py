"""Causal self-attention: Vaswani et al. (2017), "Attention is all you need", with what was found useful since."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Direction(torch.autograd.Function):
    """u = x / ‖x‖, whose derivative is dx = (du − u (u · du)) / ‖x‖. Autograd would take more passes."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-6)
        u = x / size
        ctx.save_for_backward(u, size)
        return u

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        u, size = ctx.saved_tensors
        return torch.addcmul(gradient, u, torch.linalg.vecdot(u, gradient)[..., None], value=-1).div_(size)


def unit(x: Tensor) -> Tensor:
    """``x`` (..., D) at length 1: x / ‖x‖; what is shorter than 1e-6 stays shorter."""
    if x.requires_grad:
        return Direction.apply(x)
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-6)


class RMSNorm(nn.Module):
    """y = g · x / √(mean x²): Zhang & Sennrich (2019), equation 4; LayerNorm without mean and bias."""

    def __init__(self, width: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return unit(x) * (self.gain * len(self.gain) ** 0.5)


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
    cos, sin = turn
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)


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
        self.keys.narrow(2, self.used, keys.shape[2]).copy_(keys)
        self.values.narrow(2, self.used, keys.shape[2]).copy_(values)
        self.used += keys.shape[2]
        return self.keys.narrow(2, 0, self.used), self.values.narrow(2, 0, self.used)


class CausalSelfAttention(nn.Module):
    """softmax(q kᵀ / √D) v for each head, where position t sees the positions up to t; (B, T, width) → the same.

    Parameters:
        width: of the input, a multiple of ``heads``; with rotary positions an even one.
        bias: of the linear layers.
        qk_norm: queries and keys of length 1, the products times √D and not divided by it (Henry et al. 2020, whose
            factor is learnt), which keeps them in bounds at high learning rates.

    ``turn``: from :func:`turns` with ``size=width // heads``, for rotary positions; None: blind to order.
    """

    def __init__(self, width: int, heads: int, bias: bool = False, qk_norm: bool = False):
        super().__init__()
        if heads < 1 or width < 1 or width % heads:
            raise ValueError(f"width is a multiple of heads, not {width} with {heads} heads")
        self.heads, self.qk_norm, self.scale = heads, qk_norm, (width / heads) ** (0.5 if qk_norm else -0.5)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor] | None = None, cache: Cache | None = None) -> Tensor:
        q, k, v = self.split(self.qkv(x), turn)
        if cache is not None:
            k, v = cache.add(k, v)
        new, seen = q.shape[2], k.shape[2]
        if new == seen:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        else:  # after a past the mask's diagonal ends in the lower right corner
            mask = torch.ones(new, seen, dtype=torch.bool, device=x.device).tril(seen - new)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        return self.out(y.transpose(1, 2).flatten(2))  # heads side by side

    def weights(self, x: Tensor, turn: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """How much each position attends to each, (B, heads, T, T); rows sum to 1."""
        q, k, _ = self.split(self.qkv(x), turn)
        score = q @ k.mT * self.scale
        return score.masked_fill(torch.ones_like(score, dtype=torch.bool).triu(1), -math.inf).softmax(-1)

    def split(self, qkv: Tensor, turn: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (B, heads, T, D) each, of what the layer ``qkv`` gave, (B, T, 3 · width)."""
        qkv = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        qk, v = qkv[:2], qkv[2]
        if self.qk_norm:
            qk = unit(qk)
        if turn is not None:
            qk = rotate(qk, turn)
        return qk[0], qk[1], v
