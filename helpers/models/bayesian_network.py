"""Discrete Bayesian networks (Pearl 1988): exact likelihood, inference by variable elimination, sampling, learning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from helpers.models.base import GenerativeModel
from helpers.models.checks import no_condition, whole_number
from helpers.models.hmm import normalise


class BayesianNetwork(GenerativeModel):
    """p(x) = Π_i p(x_i | x_parents(i)) over variables with finitely many values each, in float64.

    An example is a row of ``x`` (N, D) int64 with the variables in the order of ``levels``; -1: not observed, summed
    out exactly. Buffers ``table_0``, ``table_1``, …: of each variable (levels of its parents in their order …, its own
    levels), the last axis summing to 1; uniform until :meth:`set_table` or :meth:`fit`.

    Parameters:
        levels: by name, the number of values 0, 1, … of each variable.
        parents: by name, the names of a variable's parents; who is not named has none.
        smoothing: pseudo-count of each value for each combination of parents; 0: maximum likelihood. A combination
            that never occurred then has the uniform distribution.

    Raises:
        ValueError: no variable, an unknown or repeated parent, arrows that go in a circle.
    """

    def __init__(self, levels: Mapping[str, int], parents: Mapping[str, Sequence[str]], smoothing: float = 1.0):
        super().__init__()
        if not 0 <= smoothing < math.inf:
            raise ValueError(f"smoothing is a finite number from 0, not {smoothing!r}")
        if not levels:
            raise ValueError("a network needs at least one variable")
        self.names, self.smoothing = list(levels), smoothing
        self.levels = [whole_number(f"levels of {name}", levels[name], 1) for name in self.names]
        if unknown := set(parents) - set(self.names):
            raise ValueError(f"parents are given for {sorted(unknown)}, but the variables are {self.names}")
        self.parents: list[list[int]] = []
        for name in self.names:
            own = [self.index(parent) for parent in parents.get(name, ())]
            if len(set(own)) < len(own):
                raise ValueError(f"{name} has a parent twice: {list(parents[name])}")
            self.parents.append(own)
        self.order = self._topological()
        self.config = dict(
            levels=dict(zip(self.names, self.levels, strict=True)),
            parents={name: list(parents.get(name, ())) for name in self.names},
            smoothing=smoothing,
        )
        for i in range(len(self.names)):
            shape = [self.levels[j] for j in (*self.parents[i], i)]
            self.register_buffer(f"table_{i}", torch.full(shape, 1 / shape[-1], dtype=torch.float64))

    def index(self, name: str) -> int:
        """The column of a variable."""
        if name not in self.names:
            raise ValueError(f"there is no variable {name!r}: there are {', '.join(self.names)}")
        return self.names.index(name)

    def _topological(self) -> list[int]:
        """The variables, parents before children."""
        order: list[int] = []
        left = set(range(len(self.names)))
        while left:
            ready = [i for i in sorted(left) if not left & set(self.parents[i])]
            if not ready:
                i, path = min(left), []
                while i not in path:
                    path.append(i)
                    i = next(j for j in self.parents[i] if j in left)
                circle = " → ".join(self.names[j] for j in [*path[path.index(i) :], i][::-1])
                raise ValueError(f"the arrows go in a circle: {circle}")
            order += ready
            left -= set(ready)
        return order

    def table(self, name: str) -> Tensor:
        return getattr(self, f"table_{self.index(name)}")

    def set_table(self, name: str, table: Tensor | Sequence) -> BayesianNetwork:
        """Set p(name | parents), (levels of the parents …, own levels). ValueError: another shape, no distribution."""
        i = self.index(name)
        new, old = torch.as_tensor(table, dtype=torch.float64, device=self.device), self.table(name)
        if new.shape != old.shape:
            raise ValueError(f"the table of {name} has shape {tuple(old.shape)}; got {tuple(new.shape)}")
        if not (new >= 0).all() or not torch.allclose(new.sum(-1), torch.ones_like(new.sum(-1)), rtol=0, atol=1e-6):
            raise ValueError(f"the table of {name} holds probabilities that sum to 1 along the last axis; got {new}")
        setattr(self, f"table_{i}", new / new.sum(-1, keepdim=True))
        return self

    def evidence(self, **values: int) -> Tensor:
        """The row (1, D) in which these variables have these values, and the others are not observed."""
        x = torch.full((1, len(self.names)), -1, dtype=torch.int64, device=self.device)
        for name, value in values.items():
            x[0, self.index(name)] = whole_number(name, value, 0)
        return self._checked(x)

    def _checked(self, x: Tensor, complete: bool = False) -> Tensor:
        wanted = f"integers (N, {len(self.names)})"
        if not isinstance(x, Tensor) or x.ndim != 2 or x.is_floating_point() or x.dtype == torch.bool:
            raise ValueError(f"examples are {wanted}; got {getattr(x, 'dtype', type(x).__name__)}")
        if x.shape[1] != len(self.names) or len(x) == 0:
            raise ValueError(f"examples are {wanted}, at least one; got {tuple(x.shape)}")
        x = x.to(self.device).long()
        bad = (x < (0 if complete else -1)) | (x >= x.new_tensor(self.levels))
        if bad.any():
            row, i = bad.nonzero()[0].tolist()
            missing = "" if complete else ", or -1 where it was not observed"
            raise ValueError(f"{self.names[i]} is 0..{self.levels[i] - 1}{missing}; got {int(x[row, i])} in row {row}")
        return x

    def _rows(self, i: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """The table of variable i, one row for each combination of its parents, and the row that holds for each x."""
        row = torch.zeros_like(x[:, 0])
        for j in self.parents[i]:
            row = row * self.levels[j] + x[:, j]
        return getattr(self, f"table_{i}").flatten(0, -2) if self.parents[i] else getattr(self, f"table_{i}")[None], row

    # Likelihood and inference

    @torch.no_grad()
    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """(N,) nats, float64, of what each row of ``x`` (N, D) shows; -inf where that is impossible."""
        no_condition(self, condition)
        x = self._checked(x)
        if (x < 0).any():
            return self._eliminate(x, ())[1]
        each = []
        for i in range(len(self.names)):
            table, row = self._rows(i, x)
            each.append(table[row, x[:, i]].log())
        return torch.stack(each).sum(0)

    @torch.no_grad()
    def posterior(self, x: Tensor, *names: str) -> Tensor:
        """p(names | what each row of ``x`` shows): (N, levels of each name …), the joint table of several names.

        A name that was observed has all its mass on what was seen. ValueError: a row of probability zero.
        """
        if not names or len(set(names)) < len(names):
            raise ValueError(f"give one variable or several different ones; got {names}")
        keep = tuple(self.index(name) for name in names)
        factor, log_p = self._eliminate(self._checked(x), keep)
        if not log_p.isfinite().all():
            raise ValueError(f"what row {int((~log_p.isfinite()).nonzero()[0])} shows has probability zero")
        return factor

    def _eliminate(self, x: Tensor, keep: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The posterior over ``keep`` (N, levels …) and log p of what is shown (N,), by variable elimination.

        Each variable is summed out of the product of the factors that hold it; the next one is always that whose
        product is smallest. Rows of ``x`` share the order: -1 and a value differ only in an indicator (N, levels).
        """
        factors = [((*self.parents[i], i), getattr(self, f"table_{i}")[None]) for i in range(len(self.names))]
        for i, levels in enumerate(self.levels):
            if (x[:, i] >= 0).any():
                seen = (x[:, i : i + 1] < 0) | (x[:, i : i + 1] == torch.arange(levels, device=x.device))
                factors.append(((i,), seen.double()))
        log_scale = torch.zeros(len(x), dtype=torch.float64, device=x.device)

        def cost(i: int) -> int:
            return math.prod(self.levels[j] for j in set().union(*(scope for scope, _ in factors if i in scope)))

        costs = {i: cost(i) for i in range(len(self.names)) if i not in keep}
        while costs:
            i = min(costs, key=costs.__getitem__)
            del costs[i]
            touched = [factor for factor in factors if i in factor[0]]
            factors = [factor for factor in factors if i not in factor[0]]
            scope = tuple(sorted(set().union(*(s for s, _ in touched)) - {i}))
            new = self._product(touched, scope)
            largest = new.reshape(len(new), -1).amax(1).clamp(min=1e-300)  # so that long products do not underflow
            log_scale = log_scale + largest.log()
            factors.append((scope, new / largest.view(-1, *[1] * len(scope))))
            costs |= {j: cost(j) for j in scope if j in costs}
        joint = self._product(factors, keep).expand(len(x), *[self.levels[i] for i in keep])
        total = joint.reshape(len(x), -1).sum(1)
        return joint / total.clamp(min=1e-300).view(-1, *[1] * len(keep)), total.log() + log_scale

    def _product(self, factors: list[tuple[tuple[int, ...], Tensor]], scope: tuple[int, ...]) -> Tensor:
        """Σ over all but ``scope`` of the product of (scope, (N or 1, levels …)): (N or 1, levels of scope …)."""
        n = max(len(table) for _, table in factors)
        label = {i: k + 1 for k, i in enumerate(sorted(set().union(*(s for s, _ in factors))))}  # 0 is the batch
        operands: list = []
        for s, table in factors:
            operands += [table.expand(n, *table.shape[1:]), [0, *(label[i] for i in s)]]
        return torch.einsum(*operands, [0, *(label[i] for i in scope)])

    # Sampling and learning

    @torch.no_grad()
    def sample(self, n: int, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` examples (n, D) int64 by ancestral sampling: each variable after its parents."""
        no_condition(self, condition)
        x = torch.zeros(whole_number("n", n, 1), len(self.names), dtype=torch.int64, device=self.device)
        for i in self.order:
            table, row = self._rows(i, x)
            x[:, i] = torch.multinomial(table[row], 1, generator=generator)[:, 0]
        return x

    @torch.no_grad()
    def fit(self, x: Tensor, condition: Tensor | None = None) -> BayesianNetwork:
        """Tables by counting complete examples ``x`` (N, D): the maximum of likelihood, or with the smoothing's prior.

        ValueError: a value that is out of range or missing.
        """
        no_condition(self, condition)
        x = self._checked(x, complete=True)
        for i, levels in enumerate(self.levels):
            table, row = self._rows(i, x)
            counts = torch.bincount(row * levels + x[:, i], minlength=table.numel()).double().view(table.shape)
            setattr(self, f"table_{i}", normalise(counts, self.smoothing).view(getattr(self, f"table_{i}").shape))
        return self

    # Structure

    def ancestors(self, names: Iterable[str]) -> set[int]:
        """The columns of ``names`` and of everything above them."""
        found, todo = set(), [self.index(name) for name in names]
        while todo:
            i = todo.pop()
            if i not in found:
                found.add(i)
                todo += self.parents[i]
        return found

    def d_separated(self, a: str, b: str, given: Iterable[str] = ()) -> bool:
        """Whether the graph alone makes ``a`` and ``b`` independent given ``given``, whatever the tables.

        By the moral graph (Lauritzen et al. 1990): among the ancestors of all three, link parents of one child, drop
        directions, delete ``given``; then separated means not connected.
        """
        given = list(given)
        start, goal, blocked = self.index(a), self.index(b), {self.index(name) for name in given}
        if start == goal or {start, goal} & blocked:
            raise ValueError(f"a, b and given are different variables; got {a}, {b} and {given}")
        kept = self.ancestors([a, b, *given])
        links: dict[int, set[int]] = {i: set() for i in kept}
        for i in kept:
            family = [*self.parents[i], i]
            for j in family:
                links[j] |= set(family) - {j}
        found, todo = set(), [start]
        while todo:
            i = todo.pop()
            if i not in found and i not in blocked:
                found.add(i)
                todo += links[i]
        return goal not in found
