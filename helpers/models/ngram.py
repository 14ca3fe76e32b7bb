"""Interpolated Kneser–Ney n-grams (Kneser & Ney 1995; Chen & Goodman 1999): the text model that counts."""

from __future__ import annotations

import torch
from torch import Tensor

from helpers.models.checks import whole_number
from helpers.models.markov import MarkovChain


class NGram(MarkovChain):
    """p_k(w | context) = max(c(context w) − D, 0) / c(context) + γ(context) · p_{k−1}(w | shorter context).

    The counts c of the longest grams are their occurrences; those of the shorter ones are how many different symbols
    they follow ("Francisco" is frequent, but follows only "San"). γ is what the discounts took away, so that p sums
    to 1; below the single symbols lies the uniform distribution. After a context never seen, p_k = p_{k−1}.

    Parameters:
        levels, ends, length: as for :class:`helpers.models.markov.MarkovChain`.
        n: symbols in the longest grams, their last one included.
        discounts: 1: for each k one D = n₁ / (n₁ + 2 n₂) from the numbers nᵢ of grams with count i; 3: one each for
            the counts 1, 2 and from 3 (the "modified" Kneser–Ney of Chen & Goodman, equation 26).
    """

    backs_off = True

    def __init__(self, levels: int, n: int = 6, ends: bool = False, discounts: int = 3, length: int = 100):
        super(MarkovChain, self).__init__()
        if discounts not in (1, 3):
            raise ValueError(f"discounts is 1 or 3, not {discounts!r}")
        self.config = dict(levels=levels, n=n, ends=ends, discounts=discounts, length=length)
        self._set_up(levels, whole_number("n", n, 1) - 1, ends, length)

    def _counts(self, k: int, raw: list[Tensor], shorter: list[Tensor]) -> Tensor:
        """Occurrences of the longest grams; of the others, how many different symbols come before them."""
        if k == self.order:
            return raw[k]
        return torch.bincount(shorter[k + 1], minlength=len(raw[k]))

    def _estimate(self, counts: Tensor, context: Tensor, contexts: int) -> tuple[Tensor, Tensor]:
        removed = torch.minimum(self._discounts(counts)[counts.long().clamp(max=3)], counts)
        total, gone = counts.new_zeros(2, contexts).index_add_(1, context, torch.stack([counts, removed]))
        return (counts - removed) / total.clamp(min=1)[context], torch.where(total > 0, gone / total, 1.0)

    def _discounts(self, counts: Tensor) -> Tensor:
        """What to take from the counts 0, 1, 2, and 3 or more."""
        n1, n2, n3, n4 = torch.bincount(counts.long().clamp(max=5), minlength=6)[1:5].tolist()
        # Where counts of counts are missing (few symbols, all frequent) the estimates are undefined: half a count.
        y = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
        three = [y, y, y]
        if self.config["discounts"] == 3 and n1 and n2 and n3 and n4:
            three = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            three = [d if 0 < d < i + 1 else y for i, d in enumerate(three)]
        return counts.new_tensor([0.0, *three])


FAMILY = NGram
