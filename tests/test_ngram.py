"""Kneser–Ney n-grams against a slow implementation of the textbook's formulas, and on Shakespeare."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.models.markov import MarkovChain
from helpers.models.ngram import FAMILY, NGram


def rows(n, length, levels, seed):
    """Ragged rows in which common symbols follow few others: raw and continuation counts differ."""
    rng = np.random.default_rng(seed)
    steps = rng.dirichlet(np.full(levels, 0.3), size=levels)
    x = np.full((n, length), -1)
    for row in x:
        symbol = rng.integers(levels)
        for t in range(rng.integers(1, length + 1)):
            row[t] = symbol = rng.choice(levels, p=steps[symbol])
    return torch.from_numpy(x)


def textbook(train, n, levels, ends, discounts):
    """p(w | context) of interpolated Kneser–Ney with dictionaries (Chen & Goodman 1999, sections 2.7 and 3)."""
    symbols = levels + ends

    def framed(row):
        row = [s for s in row.tolist() if s >= 0]
        return ["<s>"] * (n - 1) + row + [levels] if ends else row

    sentences = [framed(row) for row in train]
    tables = {}  # k -> context -> Counter of next symbols
    for k in range(1, n + 1):
        table = tables[k] = defaultdict(Counter)
        extended = set()
        for s in sentences:
            for i in range(len(s) - k + 1):
                gram = tuple(s[i : i + k])
                if gram[-1] == "<s>":
                    continue
                if k == n:
                    table[gram[:-1]][gram[-1]] += 1
                elif i > 0 and (s[i - 1], gram) not in extended:
                    extended.add((s[i - 1], gram))
                    table[gram[:-1]][gram[-1]] += 1

    def discount(k):
        counts = Counter(c for table in tables[k].values() for c in table.values())
        n1, n2, n3, n4 = (counts[i] for i in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
        three = [y, y, y]
        if discounts == 3 and n1 and n2 and n3 and n4:
            three = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            three = [d if 0 < d < i else y for i, d in enumerate(three, 1)]
        return lambda count: three[min(count, 3) - 1]

    take = {k: discount(k) for k in tables}

    def p(word, context, k):
        if k == 0:
            return 1 / symbols
        after = tables[k].get(tuple(context))
        if not after:
            return p(word, context[1:], k - 1)
        total = sum(after.values())
        kept = max(after[word] - take[k](after[word]), 0) if after[word] else 0
        gone = sum(take[k](c) for c in after.values())
        return kept / total + gone / total * p(word, context[1:], k - 1)

    def log_prob(row):
        s, first = framed(row), n - 1 if ends else 0
        return sum(np.log(p(s[t], s[max(0, t - n + 1) : t], min(t, n - 1) + 1)) for t in range(first, len(s)))

    return log_prob


class RawCounts(NGram):
    """Mutant: shorter grams by their occurrences, not by what they follow."""

    _counts = MarkovChain._counts


class Backoff(NGram):
    """Mutant: what is left over is spread evenly, not by the shorter context."""

    backs_off = False


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("discounts", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_equals_the_textbook(n, discounts, ends):
    x, y = rows(60, 15, 6, 0), rows(25, 12, 6, 1)
    log_prob = textbook(x, n, 6, ends, discounts)
    truth = torch.tensor([log_prob(row) for row in y], dtype=torch.float64)
    options = dict(n=n, ends=ends, discounts=discounts)
    torch.testing.assert_close(NGram(6, **options).fit(x).log_prob(y), truth, rtol=1e-10, atol=0)
    for mutant in (RawCounts, Backoff) if n > 1 else ():
        assert not torch.allclose(mutant(6, **options).fit(x).log_prob(y), truth, rtol=1e-4), mutant.__doc__


def test_three_discounts_differ_from_one():
    x, y = rows(300, 15, 12, 2), rows(25, 12, 12, 3)
    one, three = (NGram(12, n=3, discounts=d).fit(x).log_prob(y) for d in (1, 3))
    assert not torch.allclose(one, three, rtol=1e-4)


def test_all_strings_sum_to_one():
    x = rows(40, 8, 3, 4)
    strings = torch.tensor(list(itertools.product(range(3), repeat=4)))
    for n in (1, 2, 4, 6):
        piece = NGram(3, n=n).fit(x)
        assert piece.log_prob(strings).exp().sum().item() == pytest.approx(1, abs=1e-12)
        undiscounted = NGram(3, n=n)
        undiscounted._discounts = lambda counts: counts.new_zeros(4)
        undiscounted.fit(x)
        assert undiscounted.log_prob(strings).exp().min() < 1e-3 * piece.log_prob(strings).exp().min() or n == 1
        for k in range(n):  # mutant: γ kept where nothing was taken away
            setattr(undiscounted, f"gamma_{k}", getattr(piece, f"gamma_{k}"))
        assert undiscounted.log_prob(strings).exp().sum() > 1.01 or n == 1
        ends = NGram(3, n=n, ends=True).fit(x)
        ended = ends.next_probs(torch.empty(1, 0, dtype=torch.int64))[0, -1]
        ended = ended + sum(ends.log_prob(strings[:: 3**k, : 4 - k]).exp().sum() for k in (1, 2, 3))
        going_on = ends.symbol_log_probs(strings)[:, :4].sum(1).exp().sum()
        assert (ended + going_on).item() == pytest.approx(1, abs=1e-12)


def test_next_symbol_distribution_for_any_context():
    x = rows(60, 15, 6, 5)
    for ends in (False, True):
        model = NGram(6, n=4, ends=ends).fit(x)
        y = torch.randint(6, (30, 9), generator=torch.Generator().manual_seed(0))  # most contexts were never seen
        scores = model.symbol_log_probs(y)
        for t in range(9):
            p = model.next_probs(y[:, :t])
            assert (p > 0).all()
            torch.testing.assert_close(p.sum(1), torch.ones(30, dtype=torch.float64), rtol=1e-12, atol=0)
            torch.testing.assert_close(p.gather(1, y[:, t : t + 1])[:, 0].log(), scores[:, t], rtol=1e-11, atol=0)
    with pytest.raises(ValueError, match="0..5"):
        model.next_probs(torch.tensor([[6]]))


def test_samples_have_the_probabilities_of_the_model():
    model = NGram(3, n=3).fit(rows(80, 10, 3, 6))
    n, strings = 20_000, torch.tensor(list(itertools.product(range(3), repeat=4)))
    p = model.log_prob(strings).exp()
    code = torch.tensor([27, 9, 3, 1])

    def worst(samples):
        share = torch.bincount(samples @ code, minlength=81) / n
        return ((share - p).abs() / (p * (1 - p) / n).sqrt()).max().item()

    samples = model.sample(n, length=4, generator=torch.Generator().manual_seed(0))
    assert worst(samples) < 4
    unigrams = samples.gather(0, torch.stack([torch.randperm(n) for _ in range(4)], 1))
    assert worst(unigrams) > 4  # mutant: context ignored


def test_shakespeare_by_six_characters():
    """1.1 MB of Shakespeare, 90 % to learn: the number beside which every neural model of the book stands."""
    from helpers.data.text import shakespeare

    text = shakespeare().train.text[:1_115_394]
    symbols, x = np.unique(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32), return_inverse=True)
    x = torch.from_numpy(x)
    cut = len(x) * 9 // 10
    held_out = x[cut:]
    nats = {}
    for model in (NGram, RawCounts):
        fitted = model.from_data(x[:cut], levels=len(symbols), n=6).fit(x[:cut])
        nats[model] = -fitted.log_prob(held_out[None]).item() / len(held_out)
    assert nats[NGram] < 1.533  # measured: 1.451
    assert nats[RawCounts] > nats[NGram] + 0.01


def test_tables_beyond_64_bits_and_checkpoint():
    """6-grams over 50,000 symbols would need 94-bit codes; numbers of contexts need fewer."""
    x = torch.randint(50_000, (1, 3000), generator=torch.Generator().manual_seed(0))
    model = NGram(50_000).fit(x)
    assert model.next_probs(x[:, 1000:1005]).argmax() == x[0, 1005]
    again = FAMILY(**model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.log_prob(x), model.log_prob(x))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=5), st.integers(1, 6))
def test_any_little_data_gives_a_distribution(data, n):
    x = torch.tensor([row + [-1] * (6 - len(row)) for row in data])
    for ends in (False, True):
        model = NGram(4, n=n, ends=ends).fit(x)
        p = model.next_probs(torch.tensor([[0, 1, 2], [3, 3, 3]]))
        assert (p > 0).all() and torch.allclose(p.sum(1), torch.ones(2, dtype=torch.float64), atol=1e-12)


@settings(deadline=None)
@given(st.sampled_from(["levels", "n", "discounts", "length"]), st.sampled_from([-1, 0, 1.5, "a", None]))
def test_bad_settings_are_refused(name, value):
    with pytest.raises(ValueError):
        NGram(**{"levels": 3, name: value})


def test_bad_sequences_are_refused():
    for x in (torch.zeros(2, 0).long(), torch.tensor([[7]]), torch.tensor([[0.5]]), torch.tensor([[0, -1, 1]]), "text"):
        with pytest.raises(ValueError):
            NGram(3).fit(x)


def test_a_bad_prefix_or_length_is_refused():
    model = NGram(3, n=2).fit(rows(20, 8, 3, 0))
    for prefix in (torch.tensor([9, 0, 0, 0]), torch.tensor([0.7]), torch.tensor([0, -1])):
        with pytest.raises(ValueError, match="symbols of a prefix are|integers"):
            model.sample(1, length=6, prefix=prefix)
    with pytest.raises(ValueError, match=r"\(L,\) or \(2, L\); got torch.int64 \(3, 1\)"):
        model.sample(2, prefix=torch.tensor([[0], [1], [2]]))
    with pytest.raises(ValueError, match="length is a whole number from 1, not 0"):
        model.sample(1, length=0)
    assert model.sample(2, length=4, prefix=torch.tensor([[0], [1]]))[:, 0].tolist() == [0, 1]
