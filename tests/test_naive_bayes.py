"""Naive Bayes against scikit-learn, scipy's distributions, and the sum over everything that can be observed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import naive_bayes as sklearn_bayes

from helpers.models.naive_bayes import Bernoulli, Gaussian, Multinomial

KINDS = ["bernoulli", "multinomial", "gaussian"]
OURS = {"bernoulli": Bernoulli, "multinomial": Multinomial, "gaussian": Gaussian}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(kind, classes=3, n=90, d=4, seed=0):
    """x (n, d) float64 and y (n,), every class present, features that depend on the class."""
    g = generator(seed)
    y = torch.cat([torch.arange(classes).repeat(5), torch.randint(classes, (n - 5 * classes,), generator=g)])
    p = 0.1 + 0.8 * torch.rand(classes, d, dtype=torch.float64, generator=g)
    if kind == "bernoulli":
        return torch.bernoulli(p[y], generator=g), y
    if kind == "multinomial":
        return torch.poisson(3 * p[y], generator=g), y
    return 4 * p[y] + p.flip(0)[y] * torch.randn(n, d, dtype=torch.float64, generator=g), y


def theirs(kind, smoothing):
    if kind == "gaussian":
        return sklearn_bayes.GaussianNB(var_smoothing=smoothing)
    family = {"bernoulli": sklearn_bayes.BernoulliNB, "multinomial": sklearn_bayes.MultinomialNB}[kind]
    return family(alpha=smoothing)


def close(a, b, rtol=1e-9):
    a, b = (torch.as_tensor(value, dtype=torch.float64) for value in (a, b))
    return torch.allclose(a, b, rtol=rtol, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smoothing", [1e-9, 0.3, 2.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_posterior_and_classes_are_those_of_scikit_learn(kind, smoothing, classes):
    x, y = problem(kind, classes)
    fresh, _ = problem(kind, classes, seed=1)
    model = OURS[kind](classes, 4, smoothing).fit(x, y)
    reference = theirs(kind, smoothing).fit(x.numpy(), y.numpy())
    assert close(model.log_probs(fresh), reference.predict_log_proba(fresh.numpy()))
    assert torch.equal(model.classify(fresh), torch.from_numpy(reference.predict(fresh.numpy())))
    if kind == "gaussian":  # the variances divided by N; mutant: by N − 1
        right = model.log_probs(fresh)
        counts = torch.bincount(y).double()[:, None]
        model.variance = model.variance * counts / (counts - 1)
        assert not close(model.log_probs(fresh), right, 1e-4)
    else:
        assert close(model.log_joint(fresh).diff(dim=1), np.diff(reference.predict_joint_log_proba(fresh.numpy())))
        if smoothing > 0.1:  # mutant: no smoothing
            assert not close(OURS[kind](classes, 4, 1e-9).fit(x, y).log_probs(fresh), model.log_probs(fresh), 1e-4)
    model.log_prior = torch.full_like(model.log_prior, 1 / classes).log()  # mutant: p(y) left out
    assert not close(model.log_probs(fresh), reference.predict_log_proba(fresh.numpy()), 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_log_prob_given_the_class_is_that_of_scipys_distributions(kind):
    x, y = problem(kind)
    model = OURS[kind](3, 4, 0.5).fit(x, y)
    given = model.log_prob(x, y)
    if kind == "bernoulli":
        truth = scipy.stats.bernoulli.logpmf(x, model.p[y]).sum(1)
        mutant = (x * model.p[y].log()).sum(1)  # a 0 says nothing
    elif kind == "multinomial":
        truth = scipy.stats.multinomial.logpmf(x.numpy(), n=x.sum(1).long().numpy(), p=model.theta[y].numpy())
        mutant = (x * model.theta[y].log()).sum(1)  # no multinomial coefficient
    else:
        truth = scipy.stats.norm.logpdf(x, model.mean[y], model.variance[y].sqrt()).sum(1)
        mutant = scipy.stats.norm.logpdf(x, model.mean[y], model.variance[y]).sum(1)  # σ² for σ
    assert close(given, truth) and not close(given, mutant, 1e-3)
    prior = torch.bincount(y).double() / len(y)
    every = torch.stack([model.log_prob(x, torch.full_like(y, c)) for c in range(3)], 1)
    assert close(model.log_joint(x), every + prior.log())
    assert close(model.log_prob(x), (every.exp() @ prior).log())
    assert not close(model.log_prob(x), every.mean(1), 1e-3)  # mutant: the mean of logarithms


def test_masses_sum_to_one():
    x, y = problem("bernoulli")
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    assert close(Bernoulli(3, 4).fit(x, y).log_prob(every).exp().sum(), 1)
    x, y = problem("multinomial")
    every = torch.tensor([v for v in itertools.product(range(6), repeat=4) if sum(v) == 5]).double()
    model = Multinomial(3, 4).fit(x, y)
    assert close(model.log_prob(every).exp().sum(), 1)
    product = torch.einsum("nd,cd->nc", every, model.theta.log())  # mutant: no multinomial coefficient
    assert not close((product + model.log_prior).exp().sum(), 1, 1e-2)


def test_tied_variances_are_the_pooled_ones_and_make_the_log_odds_linear():
    x, y = problem("gaussian")
    model = Gaussian(3, 4, 0.0, tied=True).fit(x, y)
    residual = x - torch.stack([x[y == c].mean(0) for c in range(3)])[y]
    assert close(model.variance, residual.square().mean(0).expand(3, 4))
    odds = lambda m, x: m.log_joint(x)[:, 1] - m.log_joint(x)[:, 0]  # noqa: E731
    bend = lambda m: odds(m, x[:40]) + odds(m, x[40:80]) - 2 * odds(m, (x[:40] + x[40:80]) / 2)  # noqa: E731
    assert bend(model).abs().max() < 1e-9
    assert bend(Gaussian(3, 4).fit(x, y)).abs().max() > 0.1  # mutant: a variance for each class


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_moments_of_the_class(kind):
    x, y = problem(kind)
    model, n = OURS[kind](3, 4, 0.5).fit(x, y), 20_000
    draw, again = (model.sample(n, labels=True, generator=generator(3)) for _ in range(2))
    assert torch.equal(draw[0], again[0]) and draw[0].shape == (n, 4)
    share = torch.bincount(draw[1]) / n
    prior = model.log_prior.exp()
    assert ((share - prior).abs() < 4 * (prior * (1 - prior) / n).sqrt()).all()
    for c in range(3):
        one = model.sample(n, torch.full((n,), c), generator=generator(c))
        mean = {"bernoulli": "p", "multinomial": "theta", "gaussian": "mean"}[kind]
        mean = getattr(model, mean)[c] * (100 if kind == "multinomial" else 1)
        assert ((one.mean(0) - mean).abs() < 4 * one.std(0) / n**0.5 + 1e-9).all()
        other = model.sample(n, torch.full((n,), (c + 1) % 3), generator=generator(c))  # mutant: another class
        assert ((other.mean(0) - mean).abs() > 4 * other.std(0) / n**0.5).any()
    if kind == "multinomial":
        assert (one.sum(1) == 100).all()
        assert (one.var(0) / (100 * model.theta[2] * (1 - model.theta[2])) - 1).abs().max() < 0.1
    if kind == "gaussian":
        assert (one.var(0) / model.variance[2] - 1).abs().max() < 0.1


def test_it_learns_what_it_sampled_and_checkpoints():
    x, y = problem("bernoulli", n=300)
    truth = Bernoulli(3, 4).fit(x, y)
    model = Bernoulli(3, 4).fit(*truth.sample(20_000, labels=True, generator=generator()))
    assert (model.p - truth.p).abs().max() < 0.03
    again = Bernoulli(**model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.log_prob(x), model.log_prob(x))


def test_what_was_never_seen_is_impossible_and_never_nan():
    x = torch.tensor([[1, 0, 0], [2, 0, 0], [0, 3, 0]])
    y = torch.tensor([0, 0, 1])
    model = Multinomial(2, 3, smoothing=0).fit(x, y)
    new = torch.tensor([[1, 0, 0], [0, 1, 0]])
    assert model.log_prob(new, torch.tensor([0, 0])).tolist() == [0.0, -torch.inf]
    assert model.log_probs(new).exp().tolist() == [[1, 0], [0, 1]]
    for bad in ([1, 1, 0], [0, 0, 1]):  # a word of each class, a word of none
        assert model.log_prob(torch.tensor([bad])).item() == -torch.inf
        for call in (model.log_probs, model.classify):
            with pytest.raises(ValueError, match="example 1 has probability zero in every class"):
                call(torch.tensor([[1, 0, 0], bad]))
    both = Bernoulli(2, 3, smoothing=0).fit(x.clamp(max=1), y)
    assert both.log_prob(torch.tensor([[0, 0, 0]])).item() == -torch.inf
    with pytest.raises(ValueError, match="class 0 has no words"):
        Multinomial(2, 3, smoothing=0).fit(torch.tensor([[0, 0, 0], [0, 3, 0]]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="feature 1 is constant in class 0"):
        Gaussian(2, 2, smoothing=0).fit(
            torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [3.0, 1.0]]), y.new_tensor([0, 0, 1, 1])
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_class_without_examples_is_a_value_error(kind):
    x, y = problem(kind)
    with pytest.raises(ValueError, match="class 3 has no examples"):
        OURS[kind](4, 4).fit(x, y)


BAD_X = [None, [[0, 1]], torch.zeros(2), torch.zeros(2, 3), torch.zeros(0, 2), torch.full((2, 2), torch.nan)]


@settings(deadline=None)
@given(st.sampled_from(BAD_X), st.sampled_from(KINDS), st.sampled_from(["fit", "log_prob", "log_probs", "classify"]))
def test_bad_examples_are_value_errors(x, kind, method):
    with pytest.raises(ValueError):
        getattr(OURS[kind](2, 2), method)(*([x, torch.tensor([0, 1])] if method == "fit" else [x]))


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from([None, torch.zeros(2), torch.tensor([0]), torch.tensor([0, 2])]))
def test_bad_classes_and_settings_are_value_errors(kind, y):
    model = OURS[kind](2, 2)
    with pytest.raises(ValueError, match="labels are"):
        model.fit(torch.zeros(2, 2), y)
    for call in (lambda: model.log_prob(torch.zeros(2, 2), y), lambda: model.sample(2, y)):
        if y is not None:
            with pytest.raises(ValueError, match="labels are"):
                call()
    for options in ({"classes": 0}, {"features": 0}, {"smoothing": -1.0}, {"smoothing": float("nan")}):
        with pytest.raises(ValueError):
            OURS[kind](**{"classes": 2, "features": 2, **options})
    with pytest.raises(ValueError, match="n is a whole number"):
        model.sample(0)


def test_values_that_the_kind_cannot_hold_are_value_errors():
    y = torch.tensor([0, 1])
    for model, x in (
        (Bernoulli(2, 1), [[0.5], [1]]),
        (Multinomial(2, 1), [[0.5], [1]]),
        (Multinomial(2, 1), [[-1], [1]]),
        (Multinomial(2, 1), [[1e308], [1e308]]),  # their sum is infinite: the shares were nan
    ):
        with pytest.raises(ValueError, match="features are"):
            model.fit(torch.tensor(x, dtype=torch.float64), y)
    with pytest.raises(ValueError, match="no float"):
        Gaussian(2, 1).fit(torch.tensor([[1e200], [0.0], [1.0], [2.0]], dtype=torch.float64), y.repeat(2))
