"""Hidden Markov models against hmmlearn, and against the sum over all state paths."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
import torch
from hmmlearn.hmm import CategoricalHMM, GaussianHMM
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.models import hmm
from helpers.models.hmm import FAMILY, HMM

logging.getLogger("hmmlearn").setLevel(logging.ERROR)
NAMES = {"full": "full", "diagonal": "diag"}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_model(kind, k=3, seed=0, zeros=False, levels=4):
    """kind: "discrete", or that of the covariances."""
    g = generator(seed)
    model = HMM(k, levels=levels) if kind == "discrete" else HMM(k, dimensions=2, covariance=kind, ridge=0.0)
    model.initial = torch.rand(k, dtype=torch.float64, generator=g).softmax(0)
    model.transition = (3 * torch.rand(k, k, dtype=torch.float64, generator=g)).softmax(1)
    if zeros:  # left to right
        model.transition = hmm.normalise(model.transition.triu())
    if kind == "discrete":
        model.table = (3 * torch.rand(k, levels, dtype=torch.float64, generator=g)).softmax(1)
    else:
        model.means = torch.randn(k, 2, dtype=torch.float64, generator=g)
        root = torch.randn(k, 2, 2, dtype=torch.float64, generator=g)
        covariance = root @ root.mT + 0.5 * torch.eye(2)
        model.covariances = covariance if kind == "full" else covariance.diagonal(dim1=1, dim2=2).clone()
    return model


def data(kind, n=12, length=9, seed=1, levels=4):
    """Sequences of unequal length: what the model takes (x and options), and what hmmlearn takes."""
    g = generator(seed)
    lengths = torch.randint(1, length + 1, (n,), generator=g)
    inside = torch.arange(length) < lengths[:, None]
    if kind == "discrete":
        x = torch.randint(levels, (n, length), generator=g)
        return x.where(inside, -1), {}, x[inside][:, None].numpy(), lengths
    x = torch.randn(n, length, 2, dtype=torch.float64, generator=g) * 1.5
    return x, {"observed": inside}, x[inside].numpy(), lengths


def theirs(model, **options):
    """hmmlearn's model with the same parameters, at its documented fastest."""
    common = dict(implementation="scaling", init_params="", tol=-np.inf, **options)
    if model.levels is not None:
        reference = CategoricalHMM(model.k, n_features=model.levels, **common)
        reference.emissionprob_ = model.table.numpy()
    else:
        reference = GaussianHMM(model.k, NAMES[model.kind], covars_prior=0, covars_weight=1, min_covar=0, **common)
        reference.n_features = 2
        reference.means_, reference.covars_ = model.means.numpy(), model.covariances.numpy()
    reference.startprob_, reference.transmat_ = model.initial.numpy(), model.transition.numpy()
    return reference


def close(a, b, rtol=1e-8):
    a, b = (torch.as_tensor(value, dtype=torch.float64) for value in (a, b))
    return torch.allclose(a, b, rtol=rtol, atol=1e-10)


def log_joint(reference, flat, path, ends):
    """log p(x, z) of all sequences, by hmmlearn's parameters and emissions."""
    new = np.isin(np.arange(len(path)), [0, *ends.tolist()])
    with np.errstate(divide="ignore"):
        start, transition = np.log(reference.startprob_), np.log(reference.transmat_)
    steps = np.where(new[1:], start[path[1:]], transition[path[:-1], path[1:]])
    emissions = reference._compute_log_likelihood(flat)[np.arange(len(path)), path]
    return start[path[0]] + steps.sum() + emissions.sum()


KINDS = ["discrete", "full", "diagonal"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zeros", [False, True])
def test_likelihood_posterior_and_best_path_are_those_of_hmmlearn(kind, zeros):
    model, (x, options, flat, lengths) = random_model(kind, zeros=zeros), data(kind)
    reference = theirs(model)
    ends = lengths.cumsum(0)
    parts = [flat[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    likelihoods = torch.tensor([reference.score(part) for part in parts], dtype=torch.float64)
    assert close(model.log_prob(x, **options), likelihoods)

    inside = torch.arange(x.shape[1]) < lengths[:, None]
    posterior = torch.from_numpy(reference.predict_proba(flat, lengths.tolist()))
    assert close(model.posterior(x, **options)[inside], posterior)
    assert not close(model.posterior(x, filtered=True, **options)[inside], posterior, 1e-3)  # mutant: no backward pass

    states, scores = model.viterbi(x, **options)
    total, _ = reference.decode(flat, lengths.tolist())
    assert close(scores.sum(), total)
    # Not the path itself: two may be as likely, and then rounding chooses
    assert close(log_joint(reference, flat, states[inside].numpy(), ends), total) and (states[~inside] == -1).all()
    each = model.posterior(x, **options)[inside].argmax(1).numpy()  # mutant: the likeliest state of each step
    assert not close(log_joint(reference, flat, each, ends), total, 1e-4)

    model.transition = hmm.normalise(model.transition.T)  # mutant: transition matrix transposed
    try:
        assert not close(model.log_prob(x, **options), likelihoods, 1e-4)
        assert not close(model.posterior(x, **options)[inside], posterior, 1e-3)
    except ValueError:
        assert zeros


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("steps", [1, 4])
def test_baum_welch_steps_are_those_of_hmmlearn(kind, zeros, steps, monkeypatch):
    model, (x, options, flat, lengths) = random_model(kind, zeros=zeros), data(kind, n=60)
    reference = theirs(model, n_iter=steps).fit(flat, lengths.tolist())
    before = model.state_dict()

    def agrees():
        model.load_state_dict(before)
        model.fit(x, steps=steps, tolerance=0, resume=True, **options)
        pairs = [(model.initial, reference.startprob_), (model.transition, reference.transmat_)]
        if kind == "discrete":
            pairs.append((model.table, reference.emissionprob_))
        else:
            covariances = reference.covars_ if kind == "full" else reference._covars_
            pairs += [(model.means, reference.means_), (model.covariances, covariances)]
        return all(close(a, b, 1e-6) for a, b in pairs)

    before = {name: value.clone() for name, value in before.items()}
    assert agrees()
    right = hmm.forward_backward

    def padded(
        parameters, columns, index, lengths, backward=True
    ):  # mutant: transitions behind the end are counted too
        return right(parameters, columns, index, torch.full_like(lengths, len(index)), backward)

    monkeypatch.setattr(hmm, "forward_backward", padded)
    assert not agrees()


def enumerate_paths(model, row, observed):
    """log p(x), p(z_t | x) and the best path's score, by the sum over all K^T paths of one sequence."""
    length = int(observed.nonzero().max()) + 1
    scores, paths = [], list(itertools.product(range(model.k), repeat=length))
    for path in paths:
        score = model.initial[path[0]].log()
        for t, z in enumerate(path):
            if t:
                score = score + model.transition[path[t - 1], z].log()
            if observed[t] and model.levels is not None:
                score = score + model.table[z, row[t]].log()
            elif observed[t]:
                density = torch.distributions.MultivariateNormal(model.means[z], torch.diag(model.covariances[z]))
                score = score + density.log_prob(row[t])
        scores.append(score)
    scores = torch.stack(scores)
    weights, paths = scores.softmax(0), torch.tensor(paths)
    posterior = torch.stack(
        [weights[paths[:, t : t + 1][:, 0] == z].sum() for t in range(length) for z in range(model.k)]
    )
    return scores.logsumexp(0), posterior.view(length, model.k), scores.max()


@pytest.mark.parametrize("kind", ["discrete", "diagonal"])
@pytest.mark.parametrize("zeros", [False, True])
def test_missing_observations_are_summed_out(kind, zeros):
    model, (x, options, _, _) = random_model(kind, k=2, zeros=zeros), data(kind, n=6, length=6)
    missing = torch.rand(x.shape[:2], generator=generator(3)) < 0.3
    missing[:, 0] = torch.tensor([True, False] * 3)
    missing[:, 1] = False
    x[:, 1] = x[:, 0].clamp(min=0)
    if kind == "discrete":
        x = x.masked_fill(missing, -1)
        observed = x >= 0
        ignored = x.clamp(min=0)
    else:
        observed = options["observed"] & ~missing
        observed[:, 1] = True
        options = {"observed": observed}
        x[~observed] = torch.nan  # what was not observed is not looked at
        ignored = x.nan_to_num(0.0)
    likelihoods, posteriors, (_, scores) = (
        model.log_prob(x, **options),
        model.posterior(x, **options),
        model.viterbi(x, **options),
    )
    for i in range(len(x)):
        log_prob, posterior, best = enumerate_paths(model, x[i], observed[i])
        assert close(likelihoods[i], log_prob) and close(scores[i], best)
        assert close(posteriors[i, : len(posterior)], posterior)
    everything = {} if kind == "discrete" else {"observed": torch.ones_like(observed)}
    assert not close(model.log_prob(ignored, **everything), likelihoods, 1e-4)  # mutant: the missing read as zeros


def test_scaling_is_exact_where_probabilities_underflow():
    """10,000 steps: e^-20000 is no float64; both methods agree, and without scaling nothing is left."""
    model = random_model("discrete")
    x = torch.randint(4, (2, 10_000), generator=generator())
    columns = model.table.log()
    arguments = model.initial, model.transition, columns, x.T, torch.tensor([10_000, 10_000]), False
    scaled, logarithmic = hmm._scaled(*arguments)[0], hmm._logarithmic(*arguments)[0]
    assert close(scaled, logarithmic) and (scaled < -5000).all()
    alpha = model.initial * model.table.T[x[:, 0]]
    for emission in model.table.T[x.T[1:]]:  # mutant: scaling dropped
        alpha = alpha @ model.transition * emission
    assert not alpha.sum(1).log().isfinite().any()


def test_forbidden_transitions_do_not_lose_what_underflowed():
    """State 1 seems impossible for three steps (e^-900 each), then state 0 does, for four: only state 1 explains it."""
    model = HMM(2, dimensions=1, covariance="diagonal", ridge=0.0)
    model.transition = torch.eye(2, dtype=torch.float64)
    model.means = torch.tensor([[0.0], [42.0]], dtype=torch.float64)
    x = torch.tensor([0.0] * 3 + [42.0] * 4, dtype=torch.float64)[None, :, None]
    each = -0.5 * ((x[0] - model.means.T) ** 2 + np.log(2 * np.pi))  # (T, K)
    truth = (each.sum(0) + np.log(0.5)).logsumexp(0)
    assert close(model.log_prob(x)[0], truth)
    steps = model._steps(x, None)
    logs = model._log_emissions(model.parameters_now, *steps[:2])
    assert not close(hmm._scaled(model.initial, model.transition, *logs, steps[2], False)[0][0], truth)  # mutant


@pytest.mark.parametrize("kind", [*KINDS, "tied"])
@pytest.mark.parametrize("prior", [0.0, 0.05])
def test_the_objective_never_falls(kind, prior):
    x, options, _, _ = data("discrete" if kind == "discrete" else "full", n=40)
    sizes = {"levels": 4} if kind == "discrete" else {"dimensions": 2, "covariance": kind}
    model = HMM(3, smoothing=prior, ridge=prior, **sizes).fit(
        x, steps=40, tolerance=0, generator=generator(), **options
    )
    assert (np.diff(model.climb.objective) > -1e-10).all()
    assert model.climb.objective[-1] > model.climb.objective[0] + 0.01
    right = model._m_step
    # mutant: transitions counted from "to" to "from"
    model._m_step = lambda statistics, ridge: (
        lambda p: p._replace(transition=hmm.normalise(p.transition.T.roll(1, 0)))
    )(right(statistics, ridge))
    with pytest.raises(ArithmeticError, match="lowered"):
        model.fit(x, steps=10, tolerance=0, resume=True, **options)


def test_whole_sequences_sum_to_one_over_all_lengths():
    x, _, _, _ = data("discrete", n=50, length=4, levels=3)
    model = HMM.from_data(x, states=3).fit(x, steps=20, generator=generator())
    assert model.ends and model.symbols == 4

    def strings(length):
        return torch.tensor(list(itertools.product(range(3), repeat=length)))

    ended = (model.initial @ model.table)[-1] + sum(model.log_prob(strings(n)).exp().sum() for n in (1, 2, 3))
    piece = HMM(3, levels=4)  # the same chain, which takes the end symbol for any other: P(none among the first four)
    piece.load_state_dict(model.state_dict())
    assert (ended + piece.log_prob(strings(4)).exp().sum()).item() == pytest.approx(1, abs=1e-12)
    assert abs((ended + model.log_prob(strings(4)).exp().sum()).item() - 1) > 1e-3  # mutant: those that end after four
    samples = model.sample(2000, length=50, generator=generator())
    share = ((samples >= 0).sum(1) == 1).double().mean().item()
    p = model.log_prob(strings(1)).exp().sum().item()
    assert abs(share - p) < 4 * (p * (1 - p) / 2000) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_samples_have_the_moments_of_the_model(kind):
    model, n = random_model(kind), 20_000
    x, z = model.sample(n, length=3, states=True, generator=generator())
    means = model.table @ torch.arange(4.0, dtype=torch.float64)[:, None] if kind == "discrete" else model.means
    x = x.double().view(n, 3, -1)
    at, errors = model.initial, []
    pair = model.initial[:, None] * model.transition  # p(z_1, z_2)
    for t in range(3):
        errors.append((x[:, t].mean(0) - at @ means) / (x[:, t].std(0) / n**0.5))
        at = at @ model.transition
    product = x[:, 0] * x[:, 1]
    truth = (pair[:, :, None] * means[:, None] * means[None]).sum((0, 1))
    errors.append((product.mean(0) - truth) / (product.std(0) / n**0.5))
    assert torch.stack(errors).abs().max() < 4
    share = torch.bincount(z[:, 0] * 3 + z[:, 1], minlength=9).view(3, 3) / n
    assert ((share - pair) / (pair * (1 - pair) / n).sqrt()).abs().max() < 4
    assert ((share.T - pair) / (pair * (1 - pair) / n).sqrt()).abs().max() > 4  # mutant: transition matrix transposed


def test_probability_zero_is_minus_infinity_or_a_clear_error_never_nan():
    for transition in (torch.eye(2), torch.full((2, 2), 0.5)):
        model = HMM(2, levels=3)
        model.transition = transition.double()
        model.table = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]], dtype=torch.float64)
        x = torch.tensor([[0, 1, 0], [0, 2, 1], [2, 0, 0], [1, 0, 2]])
        assert model.log_prob(x)[1:].tolist() == [-torch.inf] * 3 and model.log_prob(x)[0].isfinite()
        for call in (model.posterior, model.viterbi, lambda x, m=model: m.fit(x, resume=True)):
            with pytest.raises(ValueError, match="sequence 1 has probability zero|sequence 1"):
                call(x)
    line = torch.randn(5, 20, 1, generator=generator()).expand(5, 20, 2)
    with pytest.raises(ValueError, match="singular"):
        HMM(2, dimensions=2, ridge=0.0).fit(line)
    with pytest.raises(ValueError, match="nan"):
        HMM(2, dimensions=2).log_prob(torch.full((1, 3, 2), torch.nan))


def test_it_finds_what_generated_the_data_and_checkpoints():
    truth = random_model("discrete", k=2, seed=5, levels=6)
    x = truth.sample(300, length=40, generator=generator())
    model = FAMILY.from_data(x, states=2).fit(x, tries=3, generator=generator(1))
    held_out = truth.sample(300, length=40, generator=generator(2))
    assert model.log_prob(held_out).mean() > truth.log_prob(held_out).mean() - 0.1
    again = FAMILY(**model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.log_prob(x), model.log_prob(x))


@settings(deadline=None)
@given(
    st.sampled_from([None, "x", torch.zeros(3).long(), torch.zeros(0, 3).long(), torch.zeros(2, 0).long()])
    | st.sampled_from([torch.tensor([[-1, -1]]), torch.tensor([[0, 3]]), torch.tensor([[-2, 0]]), torch.zeros(2, 3)])
)
def test_bad_sequences_are_refused(x):
    model = HMM(2, levels=3)
    real = HMM(2, dimensions=2)
    for call in (model.fit, model.log_prob, model.posterior, model.viterbi, real.fit, real.log_prob):
        with pytest.raises(ValueError):
            call(x)


@given(
    st.sampled_from(["states", "levels", "dimensions", "covariance", "smoothing", "ridge", "length"]),
    st.sampled_from([-1, "a", float("nan"), 0.5]),
)
def test_bad_settings_are_refused(name, value):
    if value == 0.5 and name in ("smoothing", "ridge"):
        return
    with pytest.raises((ValueError, TypeError)):
        HMM(**{"states": 3, "levels": 3, name: value})


@pytest.mark.parametrize(
    ("x", "observed", "message"),
    [
        (torch.ones(2, 3, 2).long(), None, "floating-point numbers"),
        (torch.ones(2, 3, 2), [[True] * 3] * 2, "observed is bool"),
        (torch.ones(2, 3, 2), torch.ones(2, 3), "observed is bool"),
        (torch.ones(2, 3, 2), torch.ones(2, 2, dtype=torch.bool), "observed is bool"),
    ],
)
def test_real_sequences_and_what_was_observed_are_checked(x, observed, message):
    with pytest.raises(ValueError, match=message):
        HMM(2, dimensions=2).log_prob(x, observed=observed)
