"""How exercises are judged: right from wrong, why, and never by failing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.notebook import Check, checks


@pytest.fixture(autouse=True)
def as_it_was():
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


def variance_check() -> Check:
    return Check(
        cases=[torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.0, 3.0])],
        truth=lambda x: ((x - x.mean()) ** 2).mean(),
        wrong={
            "That is the standard deviation: leave the root out.": lambda x: x.std(correction=0),
            "You divide by N − 1.": lambda x: x.var(),
        },
    )


def test_a_check_tells_right_from_wrong_and_why(capsys):
    check = variance_check()
    assert check(lambda x: (x * x).mean() - x.mean() ** 2) is True
    assert "✓ Right, in 2 of 2 cases" in capsys.readouterr().out
    for answer, said in (
        (lambda x: x.var(correction=0).sqrt(), "That is the standard deviation"),
        (lambda x: x.var(correction=1), "You divide by N − 1"),
        (lambda x: x.sum(), "Case 1 of 2, f([1., 2., 4.] of shape (3,)): got 7."),
        (lambda x: (x - x.mean()) ** 2, "of shape (3,), wanted 1.5556"),
        (lambda x: None, "Not answered yet"),
        (lambda x: ..., "Not answered yet"),
        (..., "Not answered yet"),
        (torch.tensor(1.0), "Give the function itself"),
        (lambda: 0, "raises TypeError"),
        (lambda x: x @ torch.zeros(9), "raises RuntimeError"),
    ):
        assert check(answer) is False
        assert said in capsys.readouterr().out


def test_an_answer_cannot_pass_by_changing_its_argument(capsys):
    assert not variance_check()(lambda x: x.zero_().sum())


def test_draws_are_the_same_for_the_answer_and_the_truth_and_disturb_nothing(capsys):
    wrong = {"Scale the noise.": lambda m: m + torch.randn(3), "Add the mean.": lambda m: 2 * torch.randn(3)}
    check = Check([1.0, -2.0], lambda m: m + 2 * torch.randn(3), wrong)
    torch.manual_seed(5)
    assert check(lambda m: 2 * torch.randn(3) + m)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)


def test_a_check_that_cannot_tell_the_mistakes_apart_is_refused():
    same = {"One.": lambda x: x + 1, "Two.": lambda x: 1 + x}
    for cases, truth, wrong, said in (
        ([1.0], lambda x: x, {"One.": lambda x: x + 1}, "2 or more"),
        ([1.0], lambda x: x, same, "“Two.” is told “One.”"),
        ([0.0], lambda x: x, {"Doubles.": lambda x: 2 * x, "Adds.": lambda x: x + 1}, "do not tell the wrong answer"),
        ([1.0], lambda x: None, same, "returns nothing"),
        ([1.0], lambda x: x, {"Fails.": lambda: 0, "Two.": lambda x: 1 + x}, "is told “Case 1 of 1"),
    ):
        with pytest.raises(AssertionError, match=said):
            Check(cases, truth, wrong)
    with pytest.raises(ValueError, match="at least one"):
        Check([], lambda x: x, same)
    with pytest.raises(ValueError, match="got 1 results, wanted 2"):
        Check([1.0, 2.0], [1.0], same)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3),
    lambda inner: st.tuples(inner, inner) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60)
@given(values, values)
def test_equality_of_results(a, b):
    assert checks._same(a, a, 1e-6)
    if type(a) is type(b) and isinstance(a, bool | str | type(None)):
        assert checks._same(a, b, 1e-6) == (a == b)
    assert isinstance(checks._same(a, b, 1e-6), bool)


@settings(max_examples=40, deadline=None)
@given(values)
def test_a_check_judges_any_answer_without_failing(value):
    right, message = variance_check().judge(lambda x: value)
    assert not right and message
