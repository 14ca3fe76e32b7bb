"""The mixture over columns: every conditional against enumeration, EM that climbs, and columns that nobody saw."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from helpers import data
from helpers.models.joint_mixture import JointMixture
from helpers.models.mixture_of_categoricals import MixtureOfCategoricals

LEVELS = (3, 2, 4)
EVERY = torch.tensor(list(itertools.product(*map(range, LEVELS))))
QUESTIONS = torch.tensor(list(itertools.product(*(range(-1, n) for n in LEVELS))))


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    model = JointMixture(LEVELS, components=3)
    model.log_weights.copy_(torch.randn(3).log_softmax(0))
    model.log_levels.copy_((2 * torch.randn(3, 3, 4)).masked_fill(~model.exists, -torch.inf).log_softmax(2))
    return model


def written_out(model):  # p of every example, with loops
    pi, theta = model.log_weights.double().exp(), model.log_levels.double().exp()
    each = [sum(pi[k] * theta[k, 0, a] * theta[k, 1, b] * theta[k, 2, c] for k in range(3)) for a, b, c in EVERY]
    return torch.stack(each)


def test_what_is_unknown_is_summed_out(tiny):
    p = written_out(tiny)
    assert abs(p.sum() - 1) < 1e-6
    fits = ((EVERY == QUESTIONS[:, None]) | (QUESTIONS[:, None] < 0)).all(2)
    truth = (fits * p).sum(1)
    torch.testing.assert_close(tiny.log_prob(QUESTIONS).exp().double(), truth, rtol=1e-5, atol=1e-7)
    mutant = tiny.log_prob(QUESTIONS.clamp(min=0)).exp().double()  # −1 read as 0
    assert (mutant - truth).abs().max() > 0.1


def test_marginals_and_conditional_likelihood_are_those_of_the_table(tiny):
    p = written_out(tiny)
    marginals = tiny.marginals(QUESTIONS)
    for question, got in zip(QUESTIONS, marginals, strict=True):
        fits = ((EVERY == question) | (question < 0)).all(1)
        for d, n in enumerate(LEVELS):
            truth = torch.stack([p[fits & (EVERY[:, d] == v)].sum() for v in range(n)]) / p[fits].sum()
            torch.testing.assert_close(got[d, :n].double(), truth, rtol=1e-4, atol=1e-6)
            assert (got[d, n:] == 0).all()
        if not fits.all():
            inside = EVERY[fits]
            truth = (p[fits] / p[fits].sum()).log()
            torch.testing.assert_close(tiny.log_prob(inside, question).double(), truth, rtol=1e-4, atol=1e-5)
    assert (tiny.log_prob(EVERY, QUESTIONS[1]) - tiny.log_prob(EVERY)).abs().max() > 0.1  # mutant: not divided


def test_samples_agree_with_the_condition_and_follow_it(tiny):
    n, condition = 40_000, torch.tensor([-1, 1, -1])
    x, again = (tiny.sample(n, condition, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(x, again) and (x[:, 1] == 1).all()
    inside = EVERY[EVERY[:, 1] == 1]
    share = torch.stack([(x == e).all(1).double().mean() for e in inside])
    p = tiny.log_prob(inside, condition).exp().double()
    assert ((share - p).abs() < 4 * (p * (1 - p) / n).sqrt() + 1e-4).all()
    prior = tiny.sample(n, generator=torch.Generator().manual_seed(1))[:, 0]
    assert (torch.bincount(prior) / n - torch.bincount(x[:, 0]) / n).abs().max() > 0.02  # mutant: unconditional
    each = QUESTIONS[torch.arange(200) % len(QUESTIONS)]
    drawn = tiny.sample(200, each)
    assert ((drawn == each) | (each < 0)).all() and (drawn < torch.tensor(LEVELS)).all()


def test_equals_the_mixture_of_images_where_all_is_known():
    x = data.digits().train.x[:300]
    torch.manual_seed(0)
    other = MixtureOfCategoricals.from_data(x, levels=17, components=8).fit(x)
    model = JointMixture([17] * 64, components=8)
    model.log_weights.copy_(other.log_weights)
    model.log_levels.copy_(other.log_levels)
    torch.testing.assert_close(model.log_prob(x.flatten(1)), other.log_prob(x))


def test_em_climbs_with_holes_in_the_data(tiny):
    x = tiny.sample(400, generator=torch.Generator().manual_seed(0))
    holes = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    x[holes], values = -1, []
    for iterations in (1, 2, 4, 8, 16):
        torch.manual_seed(0)
        m = JointMixture(LEVELS, 3, smoothing=1.0, iterations=iterations).fit(x)
        known = torch.nn.functional.one_hot(x + 1, 5)[..., 1:].float().sum(0)
        prior = known + 0.5 * m.exists / m.exists.sum(1, keepdim=True)
        prior = prior / prior.sum(1, keepdim=True)
        penalty = (prior * m.log_levels.masked_fill(~m.exists, 0)).sum() + m.log_weights.sum()
        values.append(float(m.log_prob(x).sum() + penalty))
    assert values == sorted(values) and values[-1] > values[0] + 1


def test_one_component_is_the_smoothed_histogram_of_what_is_known():
    x = torch.tensor([[0, -1], [0, 1], [1, 1], [-1, 0]])
    got = JointMixture([2, 3], components=1, smoothing=2.0).fit(x).log_levels.exp()[0]
    for d, counts in enumerate(([2.0, 1.0], [1.0, 2.0, 0.0])):
        counts = torch.tensor(counts)
        prior = counts + 0.5 / len(counts)
        truth = (counts + 2 * prior / prior.sum()) / (counts.sum() + 2)
        torch.testing.assert_close(got[d, : len(counts)], truth)


def test_a_label_attached_later_is_bayes_rule():
    digits = data.digits()
    x = torch.cat([digits.train.x.flatten(1).long(), digits.train.y["digit"][:, None]], 1)
    without = x.clone()
    without[:, 64] = -1
    torch.manual_seed(0)
    model = JointMixture([17] * 64 + [10], components=20).fit(without)
    before, r = model.log_levels.clone(), model.posterior(without)
    model.learn_column(64, x)
    counts = torch.stack([r[x[:, 64] == k].sum(0) for k in range(10)], 1) + 0.02
    torch.testing.assert_close(model.log_levels[:, 64, :10].exp(), counts / counts.sum(1, keepdim=True))
    assert torch.equal(model.log_levels[:, :64], before[:, :64])
    guess = model.marginals(without)[:, 64, :10]
    loss = log_loss(x[:, 64].numpy(), guess.double().numpy() / guess.double().sum(1, keepdim=True).numpy())
    only = torch.zeros_like(x) - 1
    only[:, 64] = x[:, 64]
    # log p(y | x) = log p(x | y) + log p(y) − log p(x)
    bayes = model.log_prob(x, only) + model.log_prob(only) - model.log_prob(without)
    assert abs(-bayes.mean().item() - loss) < 1e-3 < abs(-model.log_prob(x, only).mean().item() - loss)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(
        [torch.zeros(2, 3), torch.zeros(2, 2, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.int64), None]
        + [torch.tensor([[0, 0, bad]]) for bad in (-2, 4, 99)]
        + [torch.zeros(3, dtype=torch.int64), [[0, 1, 0]], torch.zeros(2, 3, dtype=torch.bool)]
    ),
    st.sampled_from(["fit", "log_prob", "posterior", "marginals"]),
)
def test_bad_input_is_a_value_error(bad, method):
    with pytest.raises(ValueError, match="x is"):
        getattr(JointMixture(LEVELS), method)(bad)


def test_other_refusals(tiny):
    for wrong in (dict(levels=()), dict(levels=(0,)), dict(levels=3), dict(levels="12"), dict(components=0)):
        with pytest.raises(ValueError, match="not "):
            JointMixture(**{"levels": LEVELS, **wrong})
    # in float32 a weight of 1e-45 makes the logarithm of 0, and one of 1e39 that of inf / inf: both ended in nan
    for wrong in (dict(smoothing=0.0), dict(smoothing=1e-45), dict(smoothing=1e39), dict(smoothing="1")):
        with pytest.raises(ValueError, match="smoothing is"):
            JointMixture(LEVELS, **wrong)
    for wrong in (dict(smoothing=True), dict(iterations=0), dict(components=1.5)):
        with pytest.raises(ValueError, match="not "):
            JointMixture(LEVELS, **wrong)
    for bad in (torch.zeros(3), torch.tensor([0, 0, 7]), torch.zeros(2, 3, dtype=torch.int64), "x"):
        with pytest.raises(ValueError, match="condition is"):
            tiny.log_prob(EVERY, bad)
    for n in (0, 1.5, True):
        with pytest.raises(ValueError, match="whole number"):
            tiny.sample(n)
    with pytest.raises(ValueError, match="whole numbers"):
        JointMixture.from_data(torch.zeros(4, 2))
    assert JointMixture.from_data(EVERY).config["levels"] == LEVELS
    for d, x in ((5, EVERY), (1, QUESTIONS)):
        with pytest.raises(ValueError, match="column"):
            tiny.learn_column(d, x)
    for pseudo in (0.0, 1e-46, float("nan"), "a"):
        with pytest.raises(ValueError, match="pseudo is"):
            tiny.learn_column(0, EVERY, pseudo)
