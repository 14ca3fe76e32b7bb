"""What judges: proof boxes, and the checks of exercises."""

from __future__ import annotations

import copy
import html
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from helpers.notebook import output


@dataclass(frozen=True)
class Proof:
    """One check: ``value`` must agree with ``truth`` within ``tolerance``, and the value of a wrong version must not.

    ``relation`` is "=", or "≤" or "≥" where the truth is a bound of the value.
    ``mutant`` names the mistake ("g for g²"), ``mutant_value`` is what it gives.
    """

    name: str
    value: float
    truth: float
    tolerance: float
    mutant: str
    mutant_value: float
    relation: str = "="

    def accepts(self, value: float) -> bool:
        value, truth = float(value), float(self.truth)
        if self.relation == "≤":
            return value <= truth + self.tolerance
        if self.relation == "≥":
            return value >= truth - self.tolerance
        return abs(value - truth) <= self.tolerance

    def __post_init__(self):
        if self.relation not in ("=", "≤", "≥"):
            raise ValueError(f"got relation={self.relation!r}, wanted =, ≤ or ≥")
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0 and math.isfinite(float(self.truth))):
            raise ValueError(f"got truth={self.truth}, tolerance={self.tolerance}, wanted finite, tolerance 0 or more")
        if not self.mutant:
            raise ValueError("got no name for the mutant, wanted the mistake that this check would find")


def proof(rows: Sequence[Proof]) -> None:
    """Show the chapter's checks as a table, then raise AssertionError if one fails or lets its mutant pass."""
    rows = list(rows)
    if not rows or not all(isinstance(row, Proof) for row in rows):
        raise ValueError(f"got {rows!r}, wanted at least one Proof")
    head, body, faults = ["Check", "Value", "Wanted", "Mutant", "Its value"], [], []
    for row in rows:
        good, caught = row.accepts(row.value), not row.accepts(row.mutant_value)
        sign = {"=": "±", "≤": "+", "≥": "−"}[row.relation]
        wanted = f"{row.relation} {float(row.truth):.6g}" + (f" {sign} {row.tolerance:.2g}" if row.tolerance else "")
        value, mutant_value = f"{float(row.value):.6g}", f"{float(row.mutant_value):.6g}"
        if not good:
            faults.append(f"{row.name}: got {value}, wanted {wanted}")
        if not caught:
            faults.append(f"{row.name}: the mutant “{row.mutant}” passes with {mutant_value}")
        verdicts = (
            f"{value} {'✓ holds' if good else '✗ FAILS'}",
            f"{mutant_value} {'✓ found' if caught else '✗ NOT FOUND'}",
        )
        body.append([row.name, verdicts[0], wanted, row.mutant, verdicts[1]])
    output.display({"text/html": _table(head, body), "text/plain": _plain_table(head, body)})
    if faults:
        raise AssertionError("; ".join(faults))


def _table(head: list[str], body: list[list[str]]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in head)
    lines = [
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(c)}</td>" for c in row[1:])
        + "</tr>"
        for row in body
    ]
    caption = "<caption>Proof: each check, and the mistake that it finds</caption>"
    return f'<table class="proof">{caption}<thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _plain_table(head: list[str], body: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in [head, *body]
    )


class Check:
    """Judges a reader's function by cases, and knows the usual mistakes.

    Args:
        cases: arguments, one tuple for each call (or the single argument, where there is one).
        truth: the right function, or the list of right results.
        wrong: from a message to a wrong function that deserves it; at least two.
        tolerance: relative and absolute, for numbers and arrays.

    The same seed is set before each call, so a function may draw random numbers if it draws as ``truth`` does.
    """

    def __init__(
        self,
        cases: Sequence,
        truth: Callable | Sequence,
        wrong: Mapping[str, Callable],
        *,
        tolerance: float = 1e-4,
    ):
        self.cases = [case if isinstance(case, tuple) else (case,) for case in cases]
        if not self.cases:
            raise ValueError("got no case, wanted at least one")
        self.wanted = [_call(truth, case) for case in self.cases] if callable(truth) else list(truth)
        if len(self.wanted) != len(self.cases):
            raise ValueError(f"got {len(self.wanted)} results, wanted {len(self.cases)}, one for each case")
        self.wrong, self.tolerance = dict(wrong), tolerance
        self.selftest()

    def __call__(self, answer: Callable) -> bool:
        """Say whether ``answer`` is right, and if not, why; True if it is."""
        right, message = self.judge(answer)
        print(("✓ " if right else "✗ ") + message)
        return right

    def judge(self, answer: Callable) -> tuple[bool, str]:
        """Whether the answer is right, and what to tell the reader."""
        if answer is None or answer is ...:
            return False, "Not answered yet."
        if not callable(answer):
            return False, f"Give the function itself, not its result: got {_short(answer)}."
        results = []
        for i, case in enumerate(self.cases):
            try:
                results.append(_call(answer, case))
            except Exception as error:  # whatever a reader's code may raise
                place = f"Case {i + 1} of {len(self.cases)}, {_arguments(case)}"
                return False, f"{place}, raises {type(error).__name__}: {error}"
        if all(result is None or result is ... for result in results):
            return False, "Not answered yet: the function returns nothing."
        verdicts = [_same(got, want, self.tolerance) for got, want in zip(results, self.wanted, strict=True)]
        if all(verdicts):
            return True, f"Right, in {len(verdicts)} of {len(verdicts)} cases."
        for message, function in self.wrong.items():
            mistaken = [_call(function, case) for case in self.cases]
            if all(_same(got, want, self.tolerance) for got, want in zip(results, mistaken, strict=True)):
                return False, message
        i = verdicts.index(False)
        got, want = _short(results[i]), _short(self.wanted[i])
        return False, f"Case {i + 1} of {len(verdicts)}, {_arguments(self.cases[i])}: got {got}, wanted {want}."

    def selftest(self) -> None:
        """Assert that each wrong function is rejected with its own message, and that there are two of them."""
        if len(self.wrong) < 2:
            raise AssertionError(f"got {len(self.wrong)} wrong answer(s), wanted 2 or more, with a message each")
        if any(want is None or want is ... for want in self.wanted):
            raise AssertionError("the right answer returns nothing for some case")
        for message, function in self.wrong.items():
            right, said = self.judge(function)
            if right:
                raise AssertionError(f"the cases do not tell the wrong answer “{message}” from the right one")
            if said != message:
                raise AssertionError(f"the wrong answer “{message}” is told “{said}”")


def _call(function: Callable, case: tuple):
    """The result on copies of the arguments, from a fixed seed, leaving the notebook's random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return function(*copy.deepcopy(case))


def _same(got, want, tolerance: float) -> bool:
    if isinstance(want, Mapping):
        return (
            isinstance(got, Mapping)
            and got.keys() == want.keys()
            and all(_same(got[key], want[key], tolerance) for key in want)
        )
    if isinstance(want, str | bool) or want is None:
        return type(got) is type(want) and got == want
    if isinstance(want, tuple):
        return (
            isinstance(got, tuple | list)
            and len(got) == len(want)
            and all(_same(g, w, tolerance) for g, w in zip(got, want, strict=True))
        )
    try:
        a, b = (np.asarray(x.detach().cpu() if isinstance(x, torch.Tensor) else x) for x in (got, want))
        return a.shape == b.shape and bool(np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True))
    except (TypeError, ValueError):
        return False


def _short(value) -> str:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        text = np.array2string(np.asarray(value), precision=4, threshold=8, edgeitems=3, separator=", ")
        if np.ndim(value):
            text += f" of shape {np.shape(value)}"
        return re.sub(r"\s+", " ", text)
    return textwrap.shorten(f"{value:.6g}" if isinstance(value, float) else repr(value), 120)


def _arguments(case: tuple) -> str:
    return "f(" + ", ".join(_short(argument) for argument in case) + ")"
