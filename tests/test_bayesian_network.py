"""Bayesian networks against the enumeration of every combination of values."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.models.bayesian_network import BayesianNetwork

LEVELS = {"a": 2, "b": 3, "c": 2, "d": 3, "e": 2, "f": 2}
PARENTS = {"c": ["b", "a"], "d": ["c"], "e": ["c", "b"], "f": ["d", "e"]}  # "b", "a": not in the order of the columns


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(model, seed=0):
    """With random tables."""
    g = generator(seed)
    for name in model.names:
        shape = model.table(name).shape
        model.set_table(name, (2 * torch.randn(shape, dtype=torch.float64, generator=g)).softmax(-1))
    return model


def random_model(seed=0, variables=6):
    """A random graph, its columns in an order that is not topological."""
    g = generator(seed)
    names = [f"v{i}" for i in range(variables)]
    rank = torch.randperm(variables, generator=g).tolist()
    parents = {
        names[i]: [names[j] for j in range(variables) if rank[j] < rank[i] and torch.rand((), generator=g) < 0.45][:3]
        for i in range(variables)
    }
    levels = {name: int(torch.randint(2, 4, (), generator=g)) for name in names}
    return filled(BayesianNetwork(levels, parents), seed + 1)


def joint(model):
    """p of every combination, one axis a variable, by the product of single numbers."""
    p = torch.zeros(model.levels, dtype=torch.float64)
    for values in itertools.product(*map(range, model.levels)):
        product = 1.0
        for i, name in enumerate(model.names):
            product *= float(model.table(name)[tuple(values[j] for j in model.parents[i])][values[i]])
        p[values] = product
    return p


def enumerated(p, row, keep):
    """log p(what the row shows) and the posterior table of the columns ``keep``."""
    mask = torch.ones_like(p)
    for i, value in enumerate(row):
        if value >= 0:
            shape = [1] * p.ndim
            shape[i] = p.shape[i]
            mask = mask * (torch.arange(p.shape[i]) == value).view(shape)
    shown = p * mask
    others = [i for i in range(p.ndim) if i not in keep]
    table = shown.sum(others) if others else shown
    table = table.permute([sorted(keep).index(i) for i in keep])
    return shown.sum().log(), table / shown.sum()


def rows(model, n=15, seed=2):
    """Evidence of every kind: nothing, some, everything observed."""
    g = generator(seed)
    x = torch.stack([torch.randint(levels, (n,), generator=g) for levels in model.levels], 1)
    x = x.masked_fill(torch.rand(x.shape, generator=g) < 0.5, -1)
    x[0], x[1] = -1, x[1].clamp(min=0)
    return x


class Transposed(BayesianNetwork):
    """Mutant: the parents' axes the other way round."""

    def _rows(self, i, x):
        table, row = super()._rows(i, x)
        parents = self.parents[i]
        if len(parents) > 1:
            row = torch.zeros_like(row)
            for j in reversed(parents):
                row = row * self.levels[j] + x[:, j]
            row = row.clamp(max=len(table) - 1)
        return table, row


class Unseen(BayesianNetwork):
    """Mutant: evidence on the last variable is overlooked."""

    def _eliminate(self, x, keep):
        return super()._eliminate(torch.cat([x[:, :-1], torch.full_like(x[:, -1:], -1)], 1), keep)


def twin(kind, model):
    made = kind(**model.config)
    made.load_state_dict(model.state_dict())
    return made


@pytest.mark.parametrize("seed", range(8))
def test_likelihood_and_posteriors_are_those_of_enumeration(seed):
    model = random_model(seed)
    p, x = joint(model), rows(model)
    assert p.sum().item() == pytest.approx(1, abs=1e-12)
    truth = torch.stack([enumerated(p, row, [0])[0] for row in x.tolist()])
    torch.testing.assert_close(model.log_prob(x), truth, rtol=1e-10, atol=1e-12)
    for names in ([model.names[2]], [model.names[4], model.names[1]], model.names[::-1]):
        keep = [model.index(name) for name in names]
        wanted = torch.stack([enumerated(p, row, keep)[1] for row in x.tolist()])
        torch.testing.assert_close(model.posterior(x, *names), wanted, rtol=1e-10, atol=1e-12)
    blind = twin(Unseen, model).posterior(x, model.names[0])
    wanted = torch.stack([enumerated(p, row, [0])[1] for row in x.tolist()])
    if not model.d_separated(model.names[0], model.names[-1]):
        assert not torch.allclose(blind, wanted, rtol=1e-4)


def test_complete_rows_take_parents_in_their_order():
    model = filled(BayesianNetwork(LEVELS, PARENTS))
    p = joint(model)
    x = torch.cartesian_prod(*map(torch.arange, model.levels))
    torch.testing.assert_close(model.log_prob(x), p.flatten().log(), rtol=1e-12, atol=0)
    assert not torch.allclose(twin(Transposed, model).log_prob(x), p.flatten().log(), rtol=1e-3)
    assert model.log_prob(x[:5] * 0 - 1).tolist() == pytest.approx([0] * 5, abs=1e-12)  # nothing observed


def test_a_long_chain_neither_underflows_nor_explodes():
    """300 variables: enumeration would take 2^300 sums; the same model as a Markov chain says what is right."""
    n = 300
    names = [f"v{i}" for i in range(n)]
    model = BayesianNetwork(dict.fromkeys(names, 2), {b: [a] for a, b in itertools.pairwise(names)})
    table = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64)
    for name in names[1:]:
        model.set_table(name, table)
    x = torch.full((2, n), -1)
    x[0, ::2], x[1, -1] = 1, 1
    two = (table @ table)[1, 1]
    last = 0.5 * torch.ones(2, dtype=torch.float64) @ torch.linalg.matrix_power(table, n - 1)
    truth = torch.stack([math.log(0.5) + 149 * two.log(), last[1].log()])
    torch.testing.assert_close(model.log_prob(x), truth, rtol=1e-10, atol=0)
    many = torch.zeros(1, n, dtype=torch.int64)
    many[0, 0] = -1
    wanted = torch.stack([table[:, 0]]) / table[:, 0].sum()
    torch.testing.assert_close(model.posterior(many, "v0"), wanted, rtol=1e-10, atol=0)


def test_samples_have_the_probabilities_of_the_model():
    model, n = filled(BayesianNetwork({k: 2 for k in "abcd"}, {"a": ["d"], "b": ["a"], "c": ["b", "d"]})), 40_000
    p = joint(model).flatten()

    def worst(x):
        share = torch.bincount(x @ torch.tensor([8, 4, 2, 1]), minlength=16) / n
        return ((share - p).abs() / (p * (1 - p) / n).sqrt()).max().item()

    x = model.sample(n, generator=generator())
    assert worst(x) < 4 and torch.equal(x, model.sample(n, generator=generator()))
    model.order = [0, 1, 2, 3]
    assert worst(model.sample(n, generator=generator())) > 4  # mutant: children before their parents


def test_counting_is_the_maximum_of_likelihood_and_smoothing_its_prior():
    truth = filled(BayesianNetwork(LEVELS, PARENTS), 5)
    x = truth.sample(3000, generator=generator())
    model = BayesianNetwork(LEVELS, PARENTS, smoothing=0.0).fit(x)
    e = model.index("e")  # by a loop over the examples
    counts = torch.zeros(model.table("e").shape, dtype=torch.float64)
    for row in x.tolist():
        counts[row[model.index("c")], row[model.index("b")], row[e]] += 1
    torch.testing.assert_close(model.table("e"), counts / counts.sum(-1, keepdim=True), rtol=1e-12, atol=0)
    smoothed = BayesianNetwork(LEVELS, PARENTS, smoothing=2.0).fit(x).table("e")
    torch.testing.assert_close(smoothed, (counts + 2) / (counts.sum(-1, keepdim=True) + 4), rtol=1e-12, atol=0)
    best = model.log_prob(x).sum()
    assert best >= truth.log_prob(x).sum()
    for seed in range(5):  # no table nearby is likelier
        near = twin(BayesianNetwork, model)
        g = generator(seed)
        for name in near.names:
            noisy = near.table(name) * (0.1 * torch.randn(near.table(name).shape, generator=g)).exp()
            near.set_table(name, noisy / noisy.sum(-1, keepdim=True))
        assert near.log_prob(x).sum() < best
    assert not torch.allclose(twin(Transposed, model).fit(x).table("e"), model.table("e"), rtol=1e-3)
    for name in LEVELS:  # and it comes back: within 5 standard errors, where a combination occurred often
        table, row = truth._rows(truth.index(name), x)
        n = torch.bincount(row, minlength=len(table))
        error = (model.table(name) - truth.table(name)).abs().reshape(len(n), -1).amax(1)
        assert (error[n > 50] < 5 * 0.5 / n[n > 50].sqrt()).all()
    rare = BayesianNetwork({"a": 2, "b": 2}, {"b": ["a"]}, smoothing=0.0).fit(torch.tensor([[0, 1], [0, 1]]))
    assert rare.table("b").tolist() == [[0.0, 1.0], [0.5, 0.5]]  # never seen: uniform, not NaN


def reachable(model, a, b, given):
    """Pearl's rules, path by path: every path without repetition, blocked at each inner variable or not."""
    children = {i: [j for j in range(len(model.names)) if i in model.parents[j]] for i in range(len(model.names))}
    seen = {model.index(name) for name in given}
    above = model.ancestors(given)  # a collider is open if it, or one below it, was observed
    a, b = model.index(a), model.index(b)

    def paths(path):
        if path[-1] == b:
            yield path
            return
        for j in {*model.parents[path[-1]], *children[path[-1]]} - set(path):
            yield from paths([*path, j])

    def open_(path):
        for i, j, k in zip(path, path[1:], path[2:], strict=False):
            collider = i in model.parents[j] and k in model.parents[j]
            if collider != (j in above if collider else j in seen) if collider else j in seen:
                return False
        return True

    return any(open_(path) for path in paths([a]))


@pytest.mark.parametrize("seed", range(6))
def test_d_separation_is_pearls_and_its_independence_is_in_the_numbers(seed):
    model = random_model(seed, variables=5)
    p, agreed = joint(model), []
    for a, b in itertools.combinations(model.names, 2):
        others = [name for name in model.names if name not in (a, b)]
        for size in range(4):
            for given_ in itertools.combinations(others, size):
                separated = model.d_separated(a, b, given_)
                assert separated == (not reachable(model, a, b, given_))
                names = [*given_, a, b]
                keep = [model.index(name) for name in names]
                table = enumerated(p, [-1] * 5, keep)[1].reshape(-1, model.levels[keep[-2]], model.levels[keep[-1]])
                product = table.sum(2, keepdim=True) * table.sum(1, keepdim=True) / table.sum((1, 2), keepdim=True)
                independent = torch.allclose(table, product, rtol=1e-9, atol=1e-12)
                assert independent == separated  # random tables hold no other independence
                agreed.append(separated)
    assert True in agreed and False in agreed


def test_explaining_away_is_where_the_textbook_has_it():
    model = BayesianNetwork({"burglar": 2, "earthquake": 2, "alarm": 2}, {"alarm": ["burglar", "earthquake"]})
    assert model.d_separated("burglar", "earthquake")
    assert not model.d_separated("burglar", "earthquake", ["alarm"])  # mutant: separation by undirected paths alone
    model.set_table("burglar", [0.99, 0.01]).set_table("earthquake", [0.98, 0.02])
    model.set_table("alarm", [[[0.999, 0.001], [0.7, 0.3]], [[0.1, 0.9], [0.05, 0.95]]])
    alone = model.posterior(model.evidence(alarm=1), "burglar")[0, 1]
    explained = model.posterior(model.evidence(alarm=1, earthquake=1), "burglar")[0, 1]
    assert alone.item() == pytest.approx(
        (0.01 * (0.98 * 0.9 + 0.02 * 0.95)) / (0.01 * (0.98 * 0.9 + 0.02 * 0.95) + 0.99 * (0.98 * 0.001 + 0.02 * 0.3))
    )
    assert explained.item() == pytest.approx(0.01 * 0.95 / (0.01 * 0.95 + 0.99 * 0.3))
    assert explained < 0.1 * alone


def test_impossible_evidence_is_minus_infinity_or_a_clear_error_never_nan():
    model = BayesianNetwork({"a": 2, "b": 2, "c": 2}, {"b": ["a"], "c": ["b"]})
    model.set_table("b", [[1.0, 0.0], [0.0, 1.0]])
    x = torch.tensor([[0, 0, 1], [0, 1, 1], [0, 1, -1]])
    assert model.log_prob(x).tolist()[1:] == [-math.inf] * 2
    assert model.log_prob(x[2:]).tolist() == [-math.inf]
    with pytest.raises(ValueError, match="row 1 shows has probability zero"):
        model.posterior(x, "c")
    assert model.posterior(x[:1], "b").tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("levels", "parents", "message"),
    [
        ({"a": 2, "b": 2, "c": 2}, {"a": ["c"], "b": ["a"], "c": ["b"]}, "circle: .* → .* → "),
        ({"a": 2}, {"a": ["a"]}, "circle: a → a"),
        ({"a": 2}, {"a": ["z"]}, "no variable 'z'"),
        ({"a": 2}, {"z": ["a"]}, r"given for \['z'\]"),
        ({"a": 2, "b": 2}, {"a": ["b", "b"]}, "twice"),
        ({"a": 0}, {}, "levels of a"),
        ({}, {}, "at least one variable"),
    ],
)
def test_bad_graphs_are_refused(levels, parents, message):
    with pytest.raises(ValueError, match=message):
        BayesianNetwork(levels, parents)


@settings(deadline=None)
@given(st.sampled_from([[0.5, 0.6], [math.nan, 1.0], [-0.1, 1.1], [1.0], [[0.5, 0.5]], [math.inf, 0.0]]))
def test_bad_tables_are_refused(table):
    with pytest.raises(ValueError, match="table of a"):
        BayesianNetwork({"a": 2}, {}).set_table("a", table)


@settings(deadline=None)
@given(
    st.sampled_from([None, [[0, 1]], torch.zeros(2, 2), torch.tensor([[0, math.nan]]), torch.zeros(2).long()])
    | st.sampled_from([torch.zeros(0, 2).long(), torch.zeros(1, 3).long(), torch.zeros(1, 2).bool()])
    | st.integers(2, 10**9).map(lambda v: torch.tensor([[0, v]]))
    | st.just(torch.tensor([[-2, 0]]))
)
def test_bad_examples_are_refused(x):
    model = BayesianNetwork({"a": 2, "b": 2}, {"b": ["a"]})
    for call in (model.fit, model.log_prob, lambda x: model.posterior(x, "a")):
        with pytest.raises(ValueError, match="integers|is 0..1"):
            call(x)


def test_other_bad_calls_are_refused():
    model = BayesianNetwork({"a": 2, "b": 2}, {"b": ["a"]})
    for call, message in (
        (lambda: model.evidence(z=1), "no variable 'z'"),
        (lambda: model.evidence(a=2), "a is 0..1"),
        (lambda: model.evidence(a="yes"), "whole number"),
        (lambda: model.posterior(model.evidence(), "z"), "no variable"),
        (lambda: model.posterior(model.evidence()), "one variable or several"),
        (lambda: model.posterior(model.evidence(), "a", "a"), "different"),
        (lambda: model.fit(torch.tensor([[0, -1]])), "got -1 in row 0"),
        (lambda: model.sample(0), "whole number"),
        (lambda: model.d_separated("a", "a"), "different variables"),
        (lambda: BayesianNetwork({"a": 2}, {}, smoothing=math.nan), "smoothing"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
