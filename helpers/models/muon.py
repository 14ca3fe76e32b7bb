"""Muon: momentum whose singular values are all set to one. Jordan et al. (2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from helpers.models.base import AdamW, _plain


def orthogonalise(g: Tensor, iterations: int = 5) -> Tensor:
    """About U Vᵀ for each matrix G = U S Vᵀ of ``g`` (..., m, n), by Newton's and Schulz's iteration.

    X ← q(S) X with S = XXᵀ and q(S) = aI + bS + cS² acts on the singular values alone. Jordan's coefficients drive them
    to between 0.7 and 1.2, not to 1, but in few steps from as little as a thousandth. All factors are polynomials of
    the first S and commute, so S itself goes on as qSq, and the long side of X is read twice, not in each iteration.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.mT if g.shape[-2] > g.shape[-1] else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    s = x @ x.mT
    product = one = torch.eye(s.shape[-1], dtype=s.dtype, device=s.device)
    for i in range(iterations):
        q = a * one + b * s + c * s @ s
        product = q @ product if i else q
        s = q @ s @ q if i < iterations - 1 else s
    x = product @ x
    return x.mT if g.shape[-2] > g.shape[-1] else x


class Muon(AdamW):
    """Muon for ``matrices``, AdamW for ``others``, each with a learning rate of its own.

    M ← μM + G, then W ← W − lr · √max(1, rows/columns) · orthogonalise(G + μM). No direction of a weight matrix learns
    faster than another.
    """

    def __init__(self, matrices: list[nn.Parameter], others: list[nn.Parameter], lr: float, matrix_lr: float, **adamw):
        super().__init__([dict(params=others), dict(params=matrices, lr=matrix_lr, momentum=0.95)], lr=lr, **adamw)

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            shapes = {}
            for p in group["params"] if "momentum" in group else ():
                if p.grad is not None:
                    shapes.setdefault(p.shape, []).append(p)
            for (rows, columns), same in shapes.items():  # matrices of one shape in one product each
                for p in same:
                    if not self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                    self.state[p]["momentum"].mul_(group["momentum"]).add_(p.grad)
                moved = [p.grad.add(self.state[p]["momentum"], alpha=group["momentum"]) for p in same]
                scale = max(1.0, rows / columns) ** 0.5
                for p, update in zip(same, orthogonalise(torch.stack(moved)), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)
                    p.grad = None  # done: AdamW leaves out what has no gradient
        _plain(AdamW.step)(self)
