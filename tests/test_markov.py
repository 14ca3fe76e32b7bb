"""Markov chains against counting by hand, enumeration of all strings, and linear algebra."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.models.checks import check_sequences
from helpers.models.markov import FAMILY, MarkovChain


def random_rows(n, length, levels, seed, ragged=True):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(levels, (n, length), generator=generator)
    follows = (x[:, :-1] + 1) % levels  # so that time has a direction
    x[:, 1:] = torch.where(torch.rand(n, length - 1, generator=generator) < 0.5, follows, x[:, 1:])
    if ragged:
        ends = torch.randint(1, length + 1, (n, 1), generator=generator)
        x[torch.arange(length) >= ends] = -1
    return x


def all_strings(levels, length):
    return torch.tensor(list(itertools.product(range(levels), repeat=length)))


def by_hand(x, y, levels, order, alpha, ends):
    """log p of each row of y, with probabilities counted in x by plain loops over the definition."""
    begin, end = "begin", levels

    def framed(row):
        row = [s for s in row.tolist() if s >= 0]
        return [begin] * order + row + [end] if ends else row

    train = [framed(row) for row in x]
    symbols = levels + ends
    answers = []
    for row in map(framed, y):
        total = torch.zeros((), dtype=torch.float64)
        for t in range(order if ends else 0, len(row)):
            context = row[max(0, t - order) : t]
            k = len(context)
            after = [r[i] for r in train for i in range(k, len(r)) if r[i - k : i] == context and r[i] != begin]
            count, n = after.count(row[t]), len(after)
            p = (count + alpha) / (n + alpha * symbols) if n else 1 / symbols
            total += torch.tensor(p, dtype=torch.float64).log()
        answers.append(total)
    return torch.stack(answers)


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize(("order", "alpha"), [(0, 1.0), (1, 0.0), (1, 0.5), (2, 0.1), (3, 1.0)])
def test_probabilities_are_smoothed_relative_frequencies(order, alpha, ends):
    x, y = random_rows(30, 12, 3, 0), random_rows(20, 9, 3, 1)
    truth = by_hand(x, y, 3, order, alpha, ends)
    model = MarkovChain(3, order, ends, alpha).fit(x)
    torch.testing.assert_close(model.log_prob(y), truth, rtol=1e-12, atol=0)
    mutant = MarkovChain(3, order, ends, alpha).fit(x.where(x < 0, 2 - x))  # symbols exchanged
    assert not torch.allclose(mutant.log_prob(y), truth, rtol=1e-3)
    if order:  # chain reversed: p(x_t | x_t+1), the transition matrix transposed before it is normalised
        backward = torch.stack([torch.cat([r[r >= 0].flip(0), r[r < 0]]) for r in x])
        assert not torch.allclose(MarkovChain(3, order, ends, alpha).fit(backward).log_prob(y), truth, rtol=1e-3)


@pytest.mark.parametrize("order", [0, 1, 2, 5])
def test_all_strings_of_one_length_sum_to_one_and_whole_sequences_over_all_lengths(order):
    x = random_rows(50, 6, 3, 2)
    piece = MarkovChain(3, order).fit(x)
    assert piece.log_prob(all_strings(3, 4)).exp().sum().item() == pytest.approx(1, abs=1e-12)

    ends = MarkovChain(3, order, ends=True).fit(x)
    ended = ends.next_probs(torch.empty(1, 0, dtype=torch.int64))[0, -1]  # the empty sequence
    ended = ended + sum(ends.log_prob(all_strings(3, length)).exp().sum() for length in (1, 2, 3))
    going_on = ends.symbol_log_probs(all_strings(3, 4))[:, :4].sum(1).exp().sum()
    assert (ended + going_on).item() == pytest.approx(1, abs=1e-12)
    mutant = sum(ends.symbol_log_probs(all_strings(3, n))[:, :n].sum(1).exp().sum() for n in (1, 2, 3))  # no end symbol
    assert abs((mutant + going_on).item() - 1) > 0.1


@pytest.mark.parametrize("ends", [False, True])
def test_next_symbol_distribution_is_that_of_the_likelihood(ends):
    model = MarkovChain(4, 2, ends).fit(random_rows(40, 10, 4, 3))
    y = random_rows(25, 7, 4, 4, ragged=False)
    scores = model.symbol_log_probs(y)
    for t in range(7):
        p = model.next_probs(y[:, :t])
        torch.testing.assert_close(p.sum(1), torch.ones(25, dtype=torch.float64))
        torch.testing.assert_close(p.gather(1, y[:, t : t + 1])[:, 0].log(), scores[:, t], rtol=1e-12, atol=1e-14)


def test_samples_have_the_probabilities_of_the_model():
    """Every string of length 3: its share among 20,000 samples within 4 standard errors of its exact probability."""
    model = MarkovChain(3, 1, smoothing=0.5).fit(random_rows(60, 8, 3, 5))
    n, strings = 20_000, all_strings(3, 3)
    p = model.log_prob(strings).exp()
    code = torch.tensor([9, 3, 1])

    def worst(samples):
        share = torch.bincount(samples @ code, minlength=27) / n
        return ((share - p).abs() / (p * (1 - p) / n).sqrt()).max().item()

    samples = model.sample(n, length=3, generator=torch.Generator().manual_seed(0))
    assert worst(samples) < 4
    assert worst(samples.flip(1)) > 4  # mutant: time reversed
    independent = samples.gather(0, torch.stack([torch.randperm(n) for _ in range(3)], 1))
    assert worst(independent) > 4  # mutant: context ignored
    again = model.sample(n, length=3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(samples, again)


def test_lengths_of_whole_samples():
    """Of independent symbols the length is geometric: mean (1 - q) / q with q the probability of the end."""
    model = MarkovChain(2, 0, ends=True, length=1000).fit(random_rows(50, 6, 2, 6))
    q = model.next_probs(torch.empty(1, 0, dtype=torch.int64))[0, -1].item()
    samples = model.sample(4000, generator=torch.Generator().manual_seed(1))
    lengths = (samples >= 0).sum(1).double()
    mean, sd = (1 - q) / q, (1 - q) ** 0.5 / q
    assert abs(lengths.mean().item() - mean) < 4 * sd / 4000**0.5
    assert abs(lengths.mean().item() + 1 - mean) > 4 * sd / 4000**0.5  # mutant: the end symbol counted as a symbol
    assert ((samples[:, 1:] < 0) | (samples[:, :-1] >= 0)).all()  # nothing after the end


def test_prefix_running_text_and_checkpoint():
    text = random_rows(1, 500, 5, 7, ragged=False)[0]
    model = MarkovChain.from_data(text, order=2).fit(text)
    assert model.config["length"] == 500 and not model.ends
    out = model.sample(3, length=8, prefix=torch.tensor([1, 2, 3]))
    assert out.shape == (3, 8) and (out[:, :3] == torch.tensor([1, 2, 3])).all()
    again = FAMILY(**model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.log_prob(text[None]), model.log_prob(text[None]))
    assert MarkovChain.from_data(random_rows(9, 5, 3, 8)).ends


def test_zero_probability_is_minus_infinity_never_nan():
    model = MarkovChain(3, 1, smoothing=0.0).fit(torch.tensor([[0, 1, 0, 1]]))
    assert model.log_prob(torch.tensor([[0, 0], [0, 2]])).tolist() == [-torch.inf, -torch.inf]
    assert model.next_probs(torch.tensor([[2]])).tolist() == [[pytest.approx(1 / 3)] * 3]  # context never seen
    unfitted = MarkovChain(4, 2)
    assert unfitted.log_prob(torch.tensor([[0, 1, 2]])).item() == pytest.approx(-3 * torch.tensor(4.0).log().item())


bad = st.one_of(
    st.sampled_from([None, "text", [[0, 1]], torch.zeros(0, 3).long(), torch.zeros(2, 0).long(), torch.zeros(2, 3)]),
    st.sampled_from([torch.tensor([[0, -1, 1]]), torch.tensor([[-1, -1]]), torch.tensor([[0, -2]]), torch.tensor(3)]),
    st.integers(3, 10**9).map(lambda s: torch.tensor([[0, s]])),
    st.just(torch.tensor([[float("nan")]])),
)


@settings(deadline=None)
@given(bad)
def test_bad_sequences_are_refused(x):
    model = MarkovChain(3)
    for call in (model.fit, model.log_prob, model.symbol_log_probs, lambda x: check_sequences(x, 3)):
        with pytest.raises(ValueError):
            call(x)


@pytest.mark.parametrize(
    "prefix", [torch.tensor([7, 0, 1]), torch.tensor([-1]), torch.tensor([0.7]), torch.tensor([[0], [1], [2]]), [1]]
)
def test_a_bad_prefix_is_refused(prefix):
    for order in (0, 1):
        with pytest.raises(ValueError, match="prefix"):
            MarkovChain(3, order).sample(2, length=5, prefix=prefix)
    with pytest.raises(ValueError, match="length"):
        MarkovChain(3).sample(2, length=0)


@settings(deadline=None)
@given(st.sampled_from(["levels", "order", "smoothing", "length"]), st.sampled_from([-1, 1.5, "a", None, float("nan")]))
def test_bad_settings_are_refused(name, value):
    if (name, value) == ("smoothing", 1.5):
        return
    with pytest.raises((ValueError, TypeError)):
        MarkovChain(**{"levels": 3, name: value})
