"""The mixture of categoricals: an exact mass that sums to one, EM that climbs, and its number on the digits."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import data
from helpers.models.mixture_of_categoricals import MixtureOfCategoricals

EVERY = torch.tensor(list(itertools.product(range(3), repeat=2)), dtype=torch.uint8).view(-1, 1, 2)


@pytest.fixture(scope="module")
def digits():
    return data.digits()


@pytest.fixture(scope="module")
def tiny():
    """A mixture of 2-pixel, 3-level images, fitted to two kinds of them."""
    torch.manual_seed(0)
    x = torch.tensor([[[0, 0]], [[2, 1]]], dtype=torch.uint8).repeat(30, 1, 1)
    return MixtureOfCategoricals((1, 2), 3, components=4, smoothing=2.0).fit(x)


def test_mass_sums_to_one_over_all_images_and_is_the_mixture_written_out(tiny):
    assert abs(tiny.log_prob(EVERY).exp().sum() - 1) < 1e-5
    pi, theta = tiny.log_weights.exp().double(), tiny.log_levels.exp().double()
    for x in EVERY:
        a, b = x.flatten().tolist()
        truth = sum(pi[k] * theta[k, 0, a] * theta[k, 1, b] for k in range(4))
        assert abs(tiny.log_prob(x[None]).exp().item() - truth) < 1e-6
    independent = (pi[:, None, None] * theta).sum(0)  # mutant: mixes each pixel by itself
    mutant = independent[0][EVERY[:, 0, 0].long()] * independent[1][EVERY[:, 0, 1].long()]
    assert (mutant - tiny.log_prob(EVERY).exp()).abs().max() > 0.1


def test_posterior_is_bayes_rule(tiny):
    pi, theta = tiny.log_weights.exp(), tiny.log_levels.exp()
    joint = pi * theta[:, 0, 2] * theta[:, 1, 1]
    got = tiny.posterior(torch.tensor([[[2, 1]]], dtype=torch.uint8))[0]
    torch.testing.assert_close(got, joint / joint.sum(), rtol=1e-4, atol=1e-6)


def test_samples_follow_the_mass_and_the_seed_decides(tiny):
    n = 40_000
    x, again = (tiny.sample(n, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(x, again) and x.dtype == torch.uint8 and x.shape == (n, 1, 2)
    counts = torch.stack([(x == e).flatten(1).all(1).float().mean() for e in EVERY])
    p = tiny.log_prob(EVERY).exp()
    assert ((counts - p).abs() < 4 * (p * (1 - p) / n).sqrt() + 1e-4).all()


def test_one_component_is_the_smoothed_histogram():
    x = torch.tensor([0, 0, 1, 2], dtype=torch.uint8).view(4, 1, 1)
    model = MixtureOfCategoricals((1, 1), 3, components=1, smoothing=10.0).fit(x)
    prior = (torch.tensor([2, 1, 1]) + 0.5 / 3) / 4.5
    truth = (torch.tensor([2, 1, 1]) + 10 * prior) / 14
    torch.testing.assert_close(model.log_levels.exp().flatten(), truth)


def test_each_iteration_raises_the_posterior_that_em_maximises(digits):
    x, values = digits.train.x[:200], []
    for iterations in (1, 2, 4, 8):
        torch.manual_seed(0)
        m = MixtureOfCategoricals((8, 8), 17, components=5, smoothing=2.0, iterations=iterations).fit(x)
        counts = torch.nn.functional.one_hot(x.flatten(1).long(), 17).float().sum(0)
        prior = 2.0 * (counts + 0.5 / 17) / (len(x) + 0.5)
        penalty = (prior * m.log_levels).sum() + m.log_weights.sum()  # log Dirichlet densities, up to constants
        values.append(float(m.log_prob(x).sum() + penalty))
    assert values == sorted(values) and values[-1] > values[0] + 10


def test_em_goes_on_where_the_likelihood_falls():
    """What EM raises is likelihood and prior together: it must not stop because the likelihood alone does not rise."""
    x = torch.randint(3, (6, 1, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    prior = (torch.nn.functional.one_hot(x.flatten(1).long(), 3).sum(0) + 0.5 / 3) / 6.5

    def after(iterations):
        torch.manual_seed(0)
        m = MixtureOfCategoricals((1, 2), 3, components=3, smoothing=1.0, iterations=iterations).fit(x)
        likelihood = float(m.log_prob(x).sum())
        return likelihood, likelihood + float((prior * m.log_levels).sum() + m.log_weights.sum())

    once, twice, end = after(1), after(2), after(100)
    assert twice[0] < once[0] and twice[1] > once[1]  # mutant: to stop by the likelihood is to stop here
    assert end[1] > twice[1] + 0.3


def test_digits_reach_the_known_number_of_nats(digits):
    torch.manual_seed(0)
    model = MixtureOfCategoricals.from_data(digits.train.x, levels=17).fit(digits.train.x)
    assert -model.log_prob(digits.validation.x).mean() < 103.2
    torch.manual_seed(0)
    bare = MixtureOfCategoricals.from_data(digits.train.x, levels=17, smoothing=0.01).fit(digits.train.x)
    assert -bare.log_prob(digits.validation.x).mean() > 130  # mutant: hardly any smoothing


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(
        [torch.zeros(2, 8, 8), torch.zeros(2, 1, 3).byte(), torch.zeros(0, 1, 2).byte(), torch.zeros(1, 2).byte()]
        + [torch.full((2, 1, 2), 3, dtype=torch.uint8), torch.full((2, 1, 2), -1), torch.full((2, 1, 2), torch.nan)]
        + [None, [[[0, 1]]]]
    ),
    st.sampled_from(["fit", "log_prob", "posterior"]),
)
def test_bad_input_is_a_value_error(bad, method):
    with pytest.raises(ValueError, match="x is"):
        getattr(MixtureOfCategoricals((1, 2), 3), method)(bad)


def test_bytes_of_256_levels():
    """256 does not fit into a byte: the largest level is compared as a number."""
    x = torch.tensor([[[0, 255]], [[7, 255]]], dtype=torch.uint8)
    model = MixtureOfCategoricals((1, 2), 256, components=1, smoothing=1e-6).fit(x)
    assert float(model.log_prob(x[:1]).exp()) == pytest.approx(1 / 2, rel=1e-3)
    with pytest.raises(ValueError, match="from 0 to 255"):
        model.log_prob(torch.tensor([[[0, 256]]]))


def test_other_refusals(tiny):
    for wrong in (dict(shape=(3,)), dict(levels=1), dict(components=0), dict(smoothing=0.0), dict(iterations=0)):
        with pytest.raises(ValueError, match="not "):
            MixtureOfCategoricals(**{"shape": (1, 2), "levels": 3, **wrong})
    for n in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="whole number"):
            tiny.sample(n)
    with pytest.raises(ValueError, match="condition"):
        tiny.log_prob(EVERY, torch.zeros(9))
    with pytest.raises(ValueError, match="images"):
        MixtureOfCategoricals.from_data(torch.zeros(5, 2))
