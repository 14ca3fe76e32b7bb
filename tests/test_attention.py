"""Causal self-attention against loops over positions, and rotary positions against complex numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from helpers.layers.attention import Cache, CausalSelfAttention, RMSNorm, rotate, turns, unit


def by_hand(layer, x, rotary, see=lambda t: t + 1):
    """Attention as the formula is read: for each sequence, head and position. ``see(t)``: how many t may look at."""
    heads, width = layer.heads, x.shape[2]
    d = width // heads
    out = torch.zeros_like(x)
    for b, rows in enumerate(x):
        q, k, v = (layer.qkv(rows)[:, i * width : (i + 1) * width] for i in range(3))
        for h in range(heads):
            part = slice(h * d, (h + 1) * d)
            qh, kh = q[:, part], k[:, part]
            if layer.qk_norm:
                qh, kh = (a / a.square().mean(1, keepdim=True).sqrt() for a in (qh, kh))
            if rotary:
                qh, kh = turned(qh), turned(kh)
            for t in range(len(rows)):
                n = min(see(t), len(rows))
                weight = torch.stack([qh[t] @ kh[s] / math.sqrt(d) for s in range(n)]).softmax(0)
                out[b, t, part] = sum(weight[s] * v[s, part] for s in range(n))
    return layer.out(out)


def rotated(x, start):
    return rotate(x, turns(start, x.shape[-2], x.shape[-1], x))


def turned(x, start=0):
    """Rotary positions by complex numbers: (a + ib) e^{i t ω}."""
    half = x.shape[-1] // 2
    omega = torch.tensor([10_000 ** (-2 * i / x.shape[-1]) for i in range(half)], dtype=torch.float64)
    t = torch.arange(start, start + x.shape[-2], dtype=torch.float64)
    z = torch.complex(x[..., :half].double(), x[..., half:].double()) * torch.exp(1j * t[:, None] * omega)
    return torch.cat([z.real, z.imag], -1).to(x.dtype)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
@torch.no_grad()
def test_equals_the_formula(rotary, qk_norm, bias):
    torch.manual_seed(0)
    layer = CausalSelfAttention(12, 3, bias, qk_norm).double()
    x = 2 * torch.randn(2, 5, 12, dtype=torch.float64)
    got = layer(x, turns(0, 5, 4, x) if rotary else None)
    torch.testing.assert_close(got, by_hand(layer, x, rotary), rtol=1e-6, atol=1e-6)
    for mutant in (lambda t: t + 2, lambda t: max(t, 1), lambda t: 5):  # mask shifted either way, no mask
        assert not torch.allclose(got, by_hand(layer, x, rotary, mutant), atol=1e-3)


@torch.no_grad()
def test_weights_are_those_of_forward():
    torch.manual_seed(1)
    layer = CausalSelfAttention(8, 2, qk_norm=True)
    x = torch.randn(3, 6, 8)
    turn = turns(0, 6, 4, x)
    weights = layer.weights(x, turn)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 6))
    assert (weights.triu(1) == 0).all()
    v = layer.qkv(x)[..., 16:].unflatten(2, (2, 4)).transpose(1, 2)
    torch.testing.assert_close(layer.out((weights @ v).transpose(1, 2).flatten(2)), layer(x, turn))
    assert not torch.allclose(
        layer.out((weights.mT @ v).transpose(1, 2).flatten(2)), layer(x, turn), atol=1e-3
    )  # mutant


def test_rotation_is_a_complex_product():
    x = torch.randn(2, 3, 7, 10)
    torch.testing.assert_close(rotated(x, 4), turned(x, 4), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(rotated(x, 3), turned(x, 4), atol=1e-2)  # mutant: positions off by one
    torch.testing.assert_close(rotated(x, 9).norm(dim=-1), x.norm(dim=-1))


def test_products_depend_on_the_distance_only():
    q, k = torch.randn(2, 1, 16, dtype=torch.float64)
    products = [float((rotated(q, t + 5) * rotated(k, t)).sum()) for t in (0, 3, 40)]
    assert products == pytest.approx([products[0]] * 3, rel=1e-4)
    assert float((rotated(q, 6) * rotated(k, 0)).sum()) != pytest.approx(
        products[0], rel=1e-3
    )  # mutant: 6 apart, not 5


def pieces(layer, x, sizes, advance=True):
    """The layer's answer to ``x`` read in pieces, through a cache."""
    cache, out = Cache(x.shape[1]), []
    for part in x.split(sizes, 1):
        turn = turns(cache.used if advance else 0, part.shape[1], 4, x)
        out.append(layer(part, turn, cache))
    return torch.cat(out, 1)


@pytest.mark.parametrize("sizes", [[1] * 7, [3, 1, 3], [6, 1], [1, 6], [7]])
@torch.no_grad()
def test_reading_in_pieces_changes_nothing(sizes):
    torch.manual_seed(2)
    layer = CausalSelfAttention(8, 2, qk_norm=True)
    x = torch.randn(2, 7, 8)
    whole = layer(x, turns(0, 7, 4, x))
    torch.testing.assert_close(pieces(layer, x, sizes), whole, rtol=1e-5, atol=1e-6)
    if len(sizes) > 1:  # mutant: each piece starts at position 0
        assert not torch.allclose(pieces(layer, x, sizes, advance=False), whole, atol=1e-4)


def test_a_full_cache_says_so():
    layer, cache = CausalSelfAttention(8, 2), Cache(4)
    layer(torch.randn(1, 3, 8), cache=cache)
    with pytest.raises(ValueError, match="holds 4 symbols: 3 and 2 do not fit"):
        layer(torch.randn(1, 2, 8), cache=cache)


def test_rms_norm():
    x, norm = 5 * torch.randn(4, 6), RMSNorm(6)
    nn.init.normal_(norm.gain)
    expected = norm.gain * x / x.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(norm(x), expected)
    centred = x - x.mean(1, keepdim=True)
    assert not torch.allclose(norm(centred), expected, atol=1e-2)  # mutant: LayerNorm


def test_the_direction_and_its_derivative(monkeypatch):
    x = (3 * torch.randn(4, 5, dtype=torch.float64)).requires_grad_()
    torch.testing.assert_close(unit(x), nn.functional.normalize(x, dim=-1))
    assert torch.autograd.gradcheck(unit, (x,))
    assert torch.equal(unit(torch.zeros(2, 3)), torch.zeros(2, 3))
    vecdot = torch.linalg.vecdot
    monkeypatch.setattr(torch.linalg, "vecdot", lambda *a: vecdot(*a) / 2)  # mutant: half of it stays along x
    assert not torch.autograd.gradcheck(unit, (x,), raise_exception=False)


@pytest.mark.parametrize(("width", "heads"), [(10, 3), (8, 0), (4, 8), (0, 1)])
def test_refuses_impossible_sizes(width, heads):
    with pytest.raises(ValueError, match="multiple of heads"):
        CausalSelfAttention(width, heads)
