"""Likelihoods and their units, against quadrature, enumeration and arithmetic by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import metrics
from helpers.metrics import bits_per_dimension, bits_to_nats, evaluate, nats_to_bits, perplexity
from helpers.models.base import GenerativeModel


class Normal(GenerativeModel):
    """A one-dimensional normal density; its answer is the mean over samples when asked for a bound."""

    def __init__(self, mean=0.0, scale=1.0):
        super().__init__()
        self.config = dict(mean=mean, scale=scale)
        self.mean, self.scale = mean, scale

    def log_prob(self, x, condition=None):
        assert not self.training
        shift = 0 if condition is None else condition
        z = (x[:, 0] - self.mean - shift) / self.scale
        return -0.5 * z**2 - math.log(self.scale) - 0.5 * math.log(2 * math.pi)


class Bound(GenerativeModel):
    """A bound that is as loose as its number of samples is small."""

    def log_prob_bound(self, x, condition=None, *, samples=1, generator=None):
        noise = torch.rand(len(x), generator=generator)
        return -1.0 - noise / samples


def test_mean_negative_log_likelihood_is_the_entropy_where_model_and_data_agree():
    """Truth by quadrature: midpoints of equal-probability cells of N(1, 2²) stand for the density."""
    grid = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    x = (1 + 2 * torch.special.ndtri(grid)).float()[:, None]
    entropy = 0.5 * math.log(2 * math.pi * math.e * 4)

    result = evaluate(Normal(1.0, 2.0), x)
    assert result.value == pytest.approx(entropy, abs=1e-3)
    assert (result.unit, result.kind, result.n) == ("nats", "exact", 100_000)
    assert evaluate(Normal(1.0, 4.0), x).value > entropy + 0.1  # mutant: variance for standard deviation


def test_standard_error_is_that_of_repeated_data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 250, 1, generator=generator)
    means = np.array([evaluate(Normal(), part).value for part in x])
    one = evaluate(Normal(), x[0])
    assert one.se == pytest.approx(means.std(), rel=0.2)
    mutant = one.se * math.sqrt(one.n)  # standard deviation for standard error
    assert mutant != pytest.approx(means.std(), rel=0.2)
    assert math.isnan(evaluate(Normal(), x[0, :1]).se)


def test_an_impossible_example_makes_the_value_infinite_and_not_nan():
    uniform = Wrong(lambda x: torch.where((x[:, 0] >= 0) & (x[:, 0] <= 1), 0.0, -math.inf))
    got = evaluate(uniform, torch.tensor([[0.5], [2.0]]))
    assert (got.value, got.se, str(got)) == (math.inf, math.inf, "inf ± inf nats (2 examples)")


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_batches_do_not_change_the_value(batch_size):
    x, condition = torch.randn(100, 1), torch.randn(100)
    whole = -Normal().eval().log_prob(x, condition).double().mean()
    assert evaluate(Normal(), x, condition, batch_size=batch_size).value == pytest.approx(float(whole), rel=1e-9)
    batches = (x * 1.0).split(7)  # mutant: mean of the means of unequal batches
    mutant = np.mean([float(-Normal().eval().log_prob(b).mean()) for b in batches])
    assert mutant != pytest.approx(float(-Normal().eval().log_prob(x).mean()), rel=1e-9)


def test_bound_is_called_a_bound_and_gets_samples_and_generator():
    x = torch.zeros(50, 1)
    result = evaluate(Bound(), x, samples=1000, generator=torch.Generator().manual_seed(1))
    again = evaluate(Bound(), x, samples=1000, generator=torch.Generator().manual_seed(1))
    loose = evaluate(Bound(), x, samples=1, generator=torch.Generator().manual_seed(1))
    assert result == again and result.kind == "bound"
    assert result.value < 1.002 < loose.value
    assert str(result).startswith("≤ 1.00")

    class Estimate(GenerativeModel):
        def log_prob_estimate(self, x, condition=None):
            return torch.full((len(x),), -2.0)

    assert evaluate(Estimate(), x).kind == "estimate"
    assert evaluate(type("Both", (Normal, Bound), {})(), x).kind == "exact"


def test_mode_of_the_model_is_left_as_it_was():
    model = Normal()
    evaluate(model.train(), torch.zeros(3, 1))
    assert model.training
    evaluate(model.eval(), torch.zeros(3, 1))
    assert not model.training


class Wrong(GenerativeModel):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def log_prob(self, x, condition=None):
        return self.answer(x)


@pytest.mark.parametrize(
    "model, x, options, message",
    [
        (Normal(), torch.zeros(0, 1), {}, "at least one example"),
        (Normal(), torch.tensor(1.0), {}, "at least one example"),
        (Normal(), [[1.0]], {}, "list"),
        (Normal(), torch.tensor([[math.nan]]), {}, "nan"),
        (Normal(), torch.tensor([[math.inf]]), {}, "inf"),
        (Normal(), torch.zeros(3, 1), {"condition": torch.zeros(2)}, "each of the 3"),
        (Normal(), torch.zeros(3, 1), {"condition": 5}, "int"),
        (Normal(), torch.zeros(3, 1), {"samples": 0}, "samples"),
        (GenerativeModel(), torch.zeros(3, 1), {}, "none of log_prob"),
        (Wrong(lambda x: x), torch.zeros(3, 1), {}, r"\(3,\), not \(3, 1\)"),
        (Wrong(lambda x: x.sum()), torch.zeros(3, 1), {}, r"not \(\)"),
        (Wrong(lambda x: x[:, 0] / 0), torch.zeros(3, 1), {}, "nan for example 0"),
        (Wrong(lambda x: (x[:, 0] - 1).exp() / (1 - x[:, 0])), torch.tensor([[0.0], [1.0]]), {}, "inf for example 1"),
        (Wrong(lambda x: [1.0] * len(x)), torch.zeros(3, 1), {}, r"\(3,\), not list"),
    ],
)
def test_evaluate_says_what_is_wrong(model, x, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, x, **options)


@given(st.one_of(st.integers(max_value=0), st.floats(), st.booleans(), st.none(), st.text(max_size=3)))
def test_evaluate_refuses_a_bad_batch_size(value):
    with pytest.raises(ValueError, match="batch_size"):
        evaluate(Normal(), torch.zeros(3, 1), batch_size=value)


@given(st.floats(-1e300, 1e300))
def test_nats_and_bits_are_inverse(nats):
    assert bits_to_nats(nats_to_bits(nats)) == pytest.approx(nats, rel=1e-12, abs=1e-300)


def test_units_by_counting():
    """256 equally likely values of each of 12 pixels: 8 bits a pixel, perplexity 256."""
    nats = -math.log(256.0**-12)
    assert bits_per_dimension(nats, 12) == pytest.approx(8)
    assert nats / 12 != pytest.approx(8)  # mutant: nats per dimension
    assert perplexity(nats / 12) == pytest.approx(256)
    assert nats_to_bits(math.log(1024)) == pytest.approx(10)
    assert perplexity(1e6) == math.inf
    tensor = torch.tensor([math.log(2.0), math.log(8.0)])
    assert torch.allclose(bits_per_dimension(tensor, 1), torch.tensor([1.0, 3.0]))
    assert torch.allclose(perplexity(tensor), torch.tensor([2.0, 8.0]))


not_numbers = st.one_of(st.none(), st.text(max_size=3), st.booleans(), st.just(math.nan), st.lists(st.floats()))


@given(not_numbers)
def test_units_refuse_what_is_no_number(value):
    for function in (nats_to_bits, bits_to_nats, perplexity, lambda v: bits_per_dimension(v, 3)):
        with pytest.raises(ValueError, match="number is needed"):
            function(value)
        with pytest.raises(ValueError, match="floating-point"):
            function(torch.tensor([1, 2]))
        with pytest.raises(ValueError, match="nan"):
            function(torch.tensor([1.0, math.nan]))


@given(st.one_of(st.integers(max_value=0), st.floats(), st.booleans(), st.none(), st.text(max_size=3)))
def test_bits_per_dimension_refuses_bad_dimensions(value):
    with pytest.raises(ValueError, match="dimensions"):
        bits_per_dimension(1.0, value)


def test_the_package_offers_all_of_it():
    assert set(metrics.__all__) <= set(dir(metrics))
