"""How the next symbol is chosen from a model's logits: temperature, top-k, top-p.

Everything here works on callables that give logits; no model is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

NAN = "the logits give no distribution: nan, infinity, or none of a symbol that is possible"


def top_k(logits: Tensor, k: int) -> Tensor:
    """``logits`` (..., V) with all but the ``k`` largest at -inf (Fan et al. 2018); ties with the k-th stay."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"top_k is a whole number from 1, not {k!r}")
    least = logits.topk(min(k, logits.shape[-1])).values[..., -1:]
    return logits.masked_fill(logits < least, -math.inf)


def top_p(logits: Tensor, p: float) -> Tensor:
    """``logits`` (..., V) with all at -inf but the smallest set of likeliest symbols whose probabilities reach ``p``.

    Nucleus sampling: Holtzman et al. (2020), equation 2. The likeliest symbol always stays.
    """
    if not 0 < p <= 1:
        raise ValueError(f"top_p is a probability, 0 < top_p <= 1, not {p!r}")
    if p == 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    q = ordered.softmax(-1)
    out = (q.cumsum(-1) - q) >= p  # the likelier ones reach p without it
    out[..., 0] = False
    return logits.masked_fill(out.scatter(-1, order, out), -math.inf)


def adjust(logits: Tensor, temperature: float = 1.0, k: int | None = None, p: float | None = None) -> Tensor:
    """Log-probabilities (..., V) after temperature, then top-k, then top-p. Temperature 0: all on the likeliest."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is a finite number from 0, not {temperature!r}")
    if temperature == 0:
        if logits.isnan().any():
            raise ValueError(NAN)
        best = torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
        return best.log()
    if temperature != 1:
        logits = logits / temperature
    if k is not None:
        logits = top_k(logits, k)
    if p is not None:
        logits = top_p(logits, p)
    return logits.log_softmax(-1)


@torch.no_grad()
def decode(
    step: Callable[[Tensor], Tensor],
    start: Tensor,
    length: int,
    *,
    temperature: float = 1.0,
    k: int | None = None,
    p: float | None = None,
    end: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw ``length`` symbols, one by one, after ``start`` (N, T), T >= 1: (N, length) int64.

    ``step(new)`` gets the symbols that it has not read yet, first ``start``, then one column a call, and returns the
    logits (N, V) of what comes next: it may keep what it likes of the past. After the symbol ``end`` a row is padded
    with -1; when all have ended, decoding stops, and fewer columns come back. Logits with nan: ``ValueError``.
    """
    going = torch.ones(len(start), dtype=torch.bool, device=start.device)
    drawn, first, new = [], [], start
    for _ in range(length):
        probabilities = adjust(step(new), temperature, k, p).exp()
        # The first of exponential clocks with rates p rings at i with probability p_i: torch.multinomial, less checks.
        clocks = torch.empty_like(probabilities).exponential_(generator=generator)
        ring, new = (probabilities / clocks).max(-1, keepdim=True)  # (N, 1)
        first.append(ring)  # nan, where a probability was: looked at in the end, once for all
        if end is not None:
            going = going & (new[:, 0] != end)
            if not going.any():
                break
        drawn.append(new if end is None else torch.where(going[:, None], new, -1))
    if first and torch.cat(first, 1).isnan().any():
        raise ValueError(NAN)
    return torch.cat(drawn, 1) if drawn else start.new_empty(len(start), 0)
