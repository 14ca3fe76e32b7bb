"""The topic model against the sum over all assignments of words to topics, and against scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln
from scipy.stats import dirichlet
from sklearn.decomposition import LatentDirichletAllocation as Reference

from helpers.models import topic_model
from helpers.models.topic_model import TopicModel, draw_dirichlet, expected_log, log_normaliser

ALPHA, V, K = 0.4, 4, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def problem(seed=0, **options):
    """A model with random topics."""
    model = TopicModel(V, K, **dict(alpha=ALPHA) | options)
    topics = torch.rand(K, V, dtype=torch.float64, generator=generator(seed)) ** 2
    model.topics = topics / topics.sum(1, keepdim=True)
    return model


def counts(words):
    return torch.nn.functional.one_hot(words, V).sum(1)


def enumerated(model, words):
    """log p(w) and the posterior mean of θ, by the sum over all K^T assignments of topics to words (T,)."""
    total, mean = 0.0, torch.zeros(K, dtype=torch.float64)
    t = len(words)
    for z in itertools.product(range(K), repeat=t):
        n = np.bincount(z, minlength=K)
        prior = gammaln(K * ALPHA) - gammaln(K * ALPHA + t) + (gammaln(ALPHA + n) - gammaln(ALPHA)).sum()
        p = math.exp(prior) * math.prod(model.topics[k, w].item() for k, w in zip(z, words, strict=True))
        total += p
        mean += p * torch.from_numpy((ALPHA + n) / (K * ALPHA + t))
    return math.log(total), mean / total


@pytest.mark.parametrize("seed", range(3))
def test_the_bounds_lie_below_the_enumerated_mass_and_come_close(seed):
    model = problem(seed)
    words = torch.randint(V, (6, 5), generator=generator(seed))
    truth = torch.tensor([enumerated(model, row.tolist())[0] for row in words], dtype=torch.float64)
    bound = model.log_prob_bound(counts(words))
    assert (bound <= truth).all()
    tight = model.log_prob_bound(counts(words), samples=4000, generator=generator())
    assert (tight - truth).abs().max() < 0.1 < (truth - bound).max()
    x, state = counts(words).double(), model._posterior(counts(words).double())
    fit = torch.xlogy(x, model._responses(x, state)[2]).sum(1)
    assert (2 * fit - bound > truth).any()  # mutant: the divergence added, not subtracted


def test_all_documents_of_three_words_have_mass_one():
    model = problem()
    words = torch.cartesian_prod(*[torch.arange(V)] * 3)
    x = counts(words)
    exact = sum(math.exp(enumerated(model, row.tolist())[0]) for row in words)
    assert exact == pytest.approx(1, abs=1e-12)
    assert model.log_prob_bound(x).exp().sum() < 1
    assert model.log_prob_bound(x, samples=2000, generator=generator()).exp().sum().item() == pytest.approx(1, abs=0.02)
    coefficient = torch.lgamma(x.sum(1) + 1.0) - torch.lgamma(x + 1.0).sum(1)  # mutant: words without their order
    assert (model.log_prob_bound(x, samples=2000, generator=generator()) + coefficient).exp().sum() > 1.5


def test_the_bound_is_the_elbo_by_sampling():
    """E_q[log p(w, z, θ) − log q(z, θ)] over draws of θ, with the densities of scipy."""
    model = problem()
    x = counts(torch.randint(V, (4, 7), generator=generator(1)))
    gamma = model.posterior(x)
    theta = np.random.default_rng(0).dirichlet
    for n in range(4):
        draws = theta(gamma[n].numpy(), 20_000)
        q = expected_log(gamma[n : n + 1]).exp()[0, :, None] * model.topics
        q /= q.sum(0)  # (K, V)
        each = (x[n] * q * (torch.from_numpy(draws).log()[:, :, None] + model.topics.log() - q.log())).sum((1, 2))
        each += torch.from_numpy(dirichlet.logpdf(draws.T, np.full(K, ALPHA)) - dirichlet.logpdf(draws.T, gamma[n]))
        bound = model.log_prob_bound(x)[n]
        assert (each.mean() - bound).abs() < 5 * each.std() / 20_000**0.5 + 1e-9
        without = (
            x[n].double() @ expected_log(gamma[n : n + 1]).exp().matmul(model.topics).log()[0]
        )  # mutant: no divergence
        assert (without - bound).abs() > 0.1


def test_the_posterior_is_scikit_learns():
    model = problem()
    x = counts(torch.randint(V, (20, 12), generator=generator(2)))
    theirs = Reference(K, doc_topic_prior=ALPHA, max_doc_update_iter=5000, mean_change_tol=1e-14)
    theirs._init_latent_vars(V, dtype=float)
    theirs.components_ = theirs.exp_dirichlet_component_ = model.topics.numpy()
    theirs.n_features_in_ = V
    wanted = torch.from_numpy(theirs.transform(x.numpy(), normalize=False))
    assert torch.allclose(model._posterior(x.double(), steps=20_000).gamma, wanted, rtol=1e-4)
    point = torch.softmax(x.double() @ model.topics.T.log(), 1) * 12 + ALPHA  # mutant: one topic for the document
    assert not torch.allclose(point, wanted, rtol=0.1)


def test_the_posterior_mean_is_near_the_enumerated_one():
    model = problem()
    words = torch.randint(V, (6, 7), generator=generator(3))
    truth = torch.stack([enumerated(model, row.tolist())[1] for row in words])
    gamma = model.posterior(counts(words))
    assert (gamma / gamma.sum(1, keepdim=True) - truth).abs().mean() < 0.1
    assert (torch.full_like(truth, 1 / K) - truth).abs().mean() > 0.1  # mutant: the prior


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_objective_never_falls(smoothing, monkeypatch):
    x = problem(length=30).sample(60, generator=generator())
    model = TopicModel(V, K, alpha=ALPHA, smoothing=smoothing)
    model.fit(x, steps=40, tolerance=0.0, generator=generator(1))
    gains = np.diff(model.climb.objective)
    assert (gains > -1e-9).all() and model.climb.objective[-1] > model.climb.objective[0] + 0.5
    right = TopicModel._m_step

    def exchanged(self, statistics):  # mutant: each topic gets its neighbour's words
        state = right(self, statistics)
        return state._replace(topics=state.topics.roll(1, 0))

    monkeypatch.setattr(topic_model.TopicModel, "_m_step", exchanged)
    with pytest.raises(ArithmeticError, match="lowered"):
        model.fit(x, steps=40, tolerance=0.0, generator=generator(1))


def test_topics_that_made_the_documents_are_found():
    v, k = 12, 3
    truth = TopicModel(v, k, alpha=0.2, length=80)
    truth.topics = (0.01 + torch.eye(k, dtype=torch.float64).repeat_interleave(4, 1)) / 4.12
    x = truth.sample(400, generator=generator())
    model = TopicModel.from_data(x, topics=k, alpha=0.2).fit(x, generator=generator(2))

    def error(topics):
        return min((topics[list(p)] - truth.topics).abs().max().item() for p in itertools.permutations(range(k)))

    assert error(model.topics) < 0.02
    unigram = (x.sum(0) / x.sum()).expand(k, -1)  # mutant: every topic the average of all words
    assert error(unigram) > 0.1


def test_with_one_topic_the_bound_is_exact():
    x = counts(torch.randint(V, (5, 6), generator=generator()))
    model = TopicModel(V, 1, smoothing=0.0).fit(x)
    share = x.sum(0) / x.sum()
    assert torch.allclose(model.log_prob_bound(x), torch.xlogy(x, share).sum(1).double(), rtol=1e-6)


def test_samples_have_the_moments_of_the_prior():
    model = problem(length=50)
    n = 4000
    x = model.sample(n, generator=generator()).double()
    assert (x.sum(1) == 50).all() and x.shape == (n, V)
    mean = 50 * model.topics.mean(0)
    assert ((x.mean(0) - mean) / (x.std(0) / n**0.5)).abs().max() < 4
    # Var = E[multinomial variance] + Var[mean], with Var[θ] of the Dirichlet
    p, total = model.topics, K * ALPHA
    spread = (torch.eye(K) / K - 1 / K**2).double() / (total + 1)
    second = p.T @ (spread + 1 / K**2) @ p
    variance = 50 * (mean / 50 - second.diagonal()) + 2500 * (p.T @ spread @ p).diagonal()
    assert (x.var(0) / variance - 1).abs().max() < 0.1
    plain = 50 * (mean / 50) * (1 - mean / 50)  # mutant: every document with the same proportions
    assert (x.var(0) / plain - 1).abs().max() > 0.3
    assert torch.equal(x, model.sample(n, generator=generator()).double())


def test_dirichlet_draws():
    a = torch.tensor([[0.3, 1.0, 2.0]], dtype=torch.float64).expand(20_000, -1)
    draws = draw_dirichlet(a, generator())
    assert torch.allclose(draws.sum(1), torch.ones(20_000, dtype=torch.float64))
    assert torch.allclose(draws.mean(0), a[0] / 3.3, atol=0.01)
    assert torch.allclose(draws.log().mean(0), expected_log(a[:1])[0], rtol=0.03)
    assert not torch.allclose((a[0] / 3.3).log(), expected_log(a[:1])[0], rtol=0.03)  # mutant: log of the mean
    at = np.array([0.2, 0.3, 0.5])
    density = log_normaliser(a[:1]) + ((a[0] - 1) * torch.from_numpy(at).log()).sum()
    assert density.item() == pytest.approx(dirichlet.logpdf(at, a[0].numpy()))


def test_a_word_that_no_topic_has_is_impossible_not_nan():
    model = problem()
    model.topics[:, 0] = 0
    model.topics /= model.topics.sum(1, keepdim=True)
    x = counts(torch.tensor([[0, 1, 2], [1, 2, 3]]))
    for options in ({}, {"samples": 10}):
        bound = model.log_prob_bound(x, **options)
        assert bound[0] == -math.inf and bound[1].isfinite()
    assert model.posterior(x[1:]).isfinite().all()
    with pytest.raises(ValueError, match="document 0 has probability zero"):
        model.posterior(x)


BAD = [None, "x", torch.zeros(3).long(), torch.zeros(0, V).long(), torch.ones(2, V), torch.ones(2, 3).long()]
BAD += [torch.tensor([[1, 0, 0, -1]]), torch.zeros(2, V).long()]


@settings(deadline=None)
@given(st.sampled_from(BAD), st.sampled_from(["fit", "log_prob_bound", "posterior"]))
def test_bad_documents_are_refused(x, method):
    with pytest.raises(ValueError, match="documents are|counts are|is empty"):
        getattr(TopicModel(V, K), method)(x)


@given(
    st.sampled_from(["vocabulary", "topics", "alpha", "smoothing", "length", "sweeps"]),
    st.sampled_from([-1, float("nan"), float("inf")]),
)
def test_bad_settings_are_refused(name, value):
    with pytest.raises(ValueError):
        TopicModel(**{"vocabulary": 5, name: value})


def test_other_refusals():
    model, x = problem(), torch.ones(2, V, dtype=torch.int64)
    for call in (model.fit, model.log_prob_bound):
        with pytest.raises(ValueError, match="condition"):
            call(x, torch.zeros(2))
    with pytest.raises(ValueError, match="whole number"):
        model.sample(0)
    with pytest.raises(ValueError, match="whole number"):
        model.log_prob_bound(x, samples=0)
    with pytest.raises(ValueError, match="documents are"):
        TopicModel.from_data(torch.zeros(3))
