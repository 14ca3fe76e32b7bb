"""Top-k, top-p and decoding against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.decoding import adjust, decode, top_k, top_p

LOGITS = st.lists(st.integers(-40, 40), min_size=1, max_size=9, unique=True).map(lambda v: torch.tensor(v) / 8)


def nucleus(logits, p, reached=lambda before, q, p: before >= p):
    """The kept symbols, gathered one by one from the likeliest; ``reached`` says when to stop."""
    q, kept, before = logits.double().softmax(0).tolist(), set(), 0.0
    for i in sorted(range(len(q)), key=lambda i: -q[i]):
        if kept and reached(before, q[i], p):
            break
        kept.add(i)
        before += q[i]
    return kept


def kept(logits):
    return {i for i, v in enumerate(logits.tolist()) if v > -math.inf}


@settings(max_examples=60, deadline=None)
@given(LOGITS, st.integers(1, 12))
def test_top_k_keeps_the_k_largest(logits, k):
    found = top_k(logits, k)
    assert kept(found) == set(sorted(range(len(logits)), key=lambda i: -logits[i])[:k])
    assert all(found[i] == logits[i] for i in kept(found))


@settings(max_examples=60, deadline=None)
@given(LOGITS, st.sampled_from([0.013, 0.21, 0.4999, 0.777, 0.95, 0.999]))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits, p):
    found = top_p(logits, p)
    assert kept(found) == nucleus(logits, p)
    assert float(logits.softmax(0)[list(kept(found))].sum()) >= p - 1e-6


def test_top_p_mutant_that_stops_before_p():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert kept(top_p(logits, 0.7)) == {0, 1}
    assert nucleus(logits, 0.7, lambda before, q, p: before + q > p) != {0, 1}  # mutant
    assert kept(top_p(logits, 1.0)) == {0, 1, 2, 3}
    assert kept(top_p(torch.stack([logits, logits.flip(0)]), 0.7)[1]) == {2, 3}  # each row on its own


@settings(max_examples=40, deadline=None)
@given(LOGITS, st.floats(0.1, 5))
def test_temperature_is_a_power_of_the_probabilities(logits, temperature):
    q = logits.double().softmax(0) ** (1 / temperature)
    torch.testing.assert_close(adjust(logits, temperature).exp().double(), q / q.sum(), rtol=1e-4, atol=1e-6)


def test_temperature_zero_takes_the_likeliest():
    assert adjust(torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, -1.0]]), 0.0).exp().tolist() == [[0, 1, 0], [1, 0, 0]]


def test_temperature_comes_before_top_p():
    logits = torch.tensor([0.6, 0.3, 0.1]).log()
    assert kept(adjust(logits, 4.0, p=0.6)) == nucleus(logits / 4, 0.6) == {0, 1}
    assert nucleus(logits, 0.6) == {0}  # mutant: top-p first


CHAIN = torch.tensor([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25], [0.2, 0.2, 0.6]])


def test_decode_follows_the_callable():
    calls = []

    def step(new):
        calls.append(new.shape[1])
        return CHAIN.log()[new[:, -1]]

    generator = torch.Generator().manual_seed(0)
    x = decode(step, torch.tensor([[1, 0]] * 6000), 3, generator=generator)
    assert x.shape == (6000, 3) and calls == [2, 1, 1]
    truth = CHAIN[0][:, None, None] * CHAIN[:, :, None] * CHAIN[None]  # after the 0
    share = torch.bincount(x @ torch.tensor([9, 3, 1]), minlength=27) / 6000

    def chi2(p):
        return float((6000 * (share - p.flatten()) ** 2 / p.flatten()).sum())

    assert chi2(truth) < 55  # 26 degrees of freedom: the 0.9993 quantile is 55
    assert chi2(CHAIN[1][:, None, None] * CHAIN[:, :, None] * CHAIN[None]) > 500  # mutant: reads the wrong column


def test_rows_end_and_decoding_stops():
    script = torch.tensor([[0, 2, 1, 1], [1, 0, 2, 0]])  # 2 ends

    def play(script):
        columns = iter(script.T)
        return decode(lambda new: 99.0 * torch.nn.functional.one_hot(next(columns), 3), script[:, :1], 4, end=2)

    assert play(script).tolist() == [[0, -1], [1, 0]]
    assert play(torch.tensor([[2, 0, 0, 0]])).shape == (1, 0)
    assert play(torch.tensor([[2, 0, 0, 0], [0, 0, 0, 0]])).tolist() == [[-1] * 4, [0] * 4]


@settings(max_examples=30, deadline=None)
@given(
    st.one_of(
        st.tuples(st.just("temperature"), st.one_of(st.floats(max_value=-1e-9), st.sampled_from([math.inf, math.nan]))),
        st.tuples(st.just("k"), st.one_of(st.integers(max_value=0), st.floats(), st.booleans())),
        st.tuples(st.just("p"), st.one_of(st.floats(max_value=0), st.floats(1.0001, 9), st.just(math.nan))),
    )
)
def test_refuses_what_is_out_of_range(bad):
    name, value = bad
    with pytest.raises(ValueError, match="temperature is|top_k is|top_p is"):
        adjust(torch.zeros(3), **{name: value})


@pytest.mark.parametrize("logits", [[math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_logits_without_a_distribution_are_refused(logits):
    """Without a look at them, decoding would write the first symbol for ever."""
    rows = iter(torch.tensor([[0.0, 0.0], logits, [0.0, 0.0]])[:, None])
    with pytest.raises(ValueError, match="no distribution"):
        decode(lambda new: next(rows), torch.zeros(1, 1, dtype=torch.int64), 3)
    if math.isnan(logits[0]):
        with pytest.raises(ValueError, match="no distribution"):
            adjust(torch.tensor(logits), 0.0)
