"""The GPT: causal, a distribution, the same with a cache and without, and GPT-2 where it is told to be."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.layers import attention
from helpers.models import gpt
from helpers.models.base import AdamW
from helpers.models.gpt import FAMILY, GPT
from helpers.models.muon import Muon, orthogonalise
from helpers.training import fit, windows

GPT2 = dict(positions="learned", norm="layer", activation="gelu", bias=True, qk_norm=False, recent=1)
STYLES = pytest.mark.parametrize("style", [{}, GPT2], ids=["today", "gpt2"])


def small(levels=3, ends=False, length=4, **options):
    """An untrained GPT whose weights are large, so that everything matters."""
    torch.manual_seed(0)
    model = GPT(levels, ends, length, **{**dict(layers=2, heads=2, width=16), **options})
    for p in model.parameters():
        nn.init.normal_(p, std=0.4)
    return model.eval()


def attend_one_too_far(q, k, v, attn_mask=None, is_causal=False, scale=None):
    """Mutant of the attention: its mask is shifted by one, so that position t sees t + 1."""
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2] + 1)
    weight = (q @ k.mT * scale).masked_fill(~mask, -math.inf).softmax(-1)
    return weight @ v


def first_change(model, t):
    """The first position whose logits change when token ``t`` does."""
    tokens = torch.arange(8)[None] % 3
    other = tokens.clone()
    other[0, t] = (tokens[0, t] + 1) % 3
    with torch.no_grad():
        return int(((model(tokens) - model(other)).abs() > 1e-6).any(-1)[0].nonzero()[0])


@STYLES
def test_a_symbol_changes_no_earlier_logits(style, monkeypatch):
    model = small(length=8, **style)
    assert [first_change(model, t) for t in range(8)] == list(range(8))
    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", attend_one_too_far)
    assert first_change(model, 5) < 5  # mutant


@STYLES
@torch.no_grad()
def test_strings_of_one_length_sum_to_one(style):
    model = small(**style)
    strings = torch.tensor(list(itertools.product(range(3), repeat=4)))
    assert model.log_prob(strings).exp().sum().item() == pytest.approx(1, abs=1e-5)
    without_first = model.symbol_log_probs(strings)[:, 1:].sum(1)  # mutant: the first symbol is for free
    assert without_first.exp().sum().item() == pytest.approx(3, abs=1e-4)


@STYLES
@torch.no_grad()
def test_finite_sequences_sum_to_one(style):
    model = small(2, ends=True, **style)
    p_empty = model.next_probs(torch.empty(1, 0, dtype=torch.int64))[0, 2]
    total, unended = p_empty, 0.0
    for length in range(1, 5):
        x = torch.tensor(list(itertools.product(range(2), repeat=length)))
        total = total + model.log_prob(x).exp().sum()
        unended = model.symbol_log_probs(x)[:, :-1].sum(1).exp().sum()  # begins with x, and goes on somehow
        goes_on = unended - model.log_prob(x).exp().sum()
    assert float(total + goes_on) == pytest.approx(1, abs=1e-5)
    assert float(total + unended) > 1.005  # mutant: ends counted twice


@torch.no_grad()
def test_padding_changes_nothing():
    rows = [[0, 2, 1], [1], [2, 2, 0, 1, 1]]
    x = torch.tensor([row + [-1] * (5 - len(row)) for row in rows])
    for ends in (False, True):
        model = small(ends=ends, length=5)
        alone = torch.cat([model.log_prob(torch.tensor([row])) for row in rows])
        torch.testing.assert_close(model.log_prob(x), alone)
        symbols = 9 + 3 * ends
        assert float(model.loss(x)) == pytest.approx(-float(alone.sum()) / symbols, rel=1e-5)
        tokens, targets = model._framed(x)
        padded = -F.cross_entropy(model(tokens).flatten(0, 1), targets.clamp(min=0).flatten(), reduction="none")
        assert not torch.allclose(padded.view(3, -1).sum(1), alone, atol=1e-2)  # mutant: padding counted


@STYLES
def test_it_starts_as_ignorant_as_the_uniform_distribution(style):
    torch.manual_seed(
        0
    )  # the wider, the more a tied output favours the symbol just read: its own vector is in the stream
    x = torch.randint(65, (8, 64))
    assert float(GPT(65, length=64, width=64, **style).loss(x).detach()) == pytest.approx(math.log(65), abs=0.06)
    mutant = GPT(65, length=64, width=64, **style)
    nn.init.normal_(mutant.embedding.weight)  # as torch would do it
    assert float(mutant.loss(x).detach()) > math.log(65) + 1


@pytest.mark.parametrize(
    "options", [{}, GPT2, dict(ends=True), dict(prefix=True)], ids=["today", "gpt2", "ends", "prefix"]
)
def test_the_cache_changes_nothing_but_the_time(options, monkeypatch):
    options = dict(options)
    prefix = torch.tensor([2, 0, 1, 1, 0, 2, 0, 0, 1]) if options.pop("prefix", False) else None
    model = small(length=6, **options)

    def draw(cached, length=20):  # thrice the context: reading starts anew
        generator = torch.Generator().manual_seed(7)
        return model.sample(8, length=length, prefix=prefix, cached=cached, generator=generator)

    slow = draw(False)
    assert torch.equal(draw(True), slow) and slow.shape[1] == 20 or options.get("ends")
    assert prefix is None or (slow[:, :9] == prefix).all()
    assert torch.equal(slow, draw(False)) and not (slow[0] == slow[1:]).all()
    tokens, past = torch.arange(6)[None] % 3, gpt.Past(model)
    with torch.no_grad():
        logits = torch.cat([model(part, past) for part in tokens.split([2, 1, 3], 1)], 1)
        torch.testing.assert_close(logits, model(tokens), rtol=1e-4, atol=1e-5)
        past = gpt.Past(model)
        model(tokens[:, :3], past)
        past.layers[0].used = 2  # mutant: the last symbol is forgotten
        past.layers[1].used = 2
        assert not torch.allclose(model(tokens[:, 3:], past), model(tokens)[:, 3:], atol=1e-3)
        truth, plain = model(tokens), small(length=6, **options)
        for block in plain.blocks:
            nn.init.ones_(next(block.norm2.parameters()))
        past = gpt.Past(model)
        past.step = gpt.Step(plain)  # mutant: a gain is not in the matrix behind its norm
        assert not torch.allclose(torch.cat([model(t, past) for t in tokens.split(1, 1)], 1), truth, atol=1e-3)


def test_what_was_drawn_can_be_learnt_from():
    model = small(length=6)
    model.loss(model.sample(4)).backward()
    assert all(p.grad is not None for p in model.parameters())
    with torch.inference_mode():  # mutant: the sample leaves in the mode in which it was drawn
        drawn = model.sample(4)
    with pytest.raises(RuntimeError, match="Inference tensors"):
        model.loss(drawn)


@pytest.mark.parametrize("ends", [False, True])
def test_samples_follow_log_prob(ends):
    model = small(ends=ends, length=3)
    strings = torch.tensor(list(itertools.product(range(3), repeat=3)))
    with torch.no_grad():  # with ends: those that begin so, whether or not they go on; and the shorter ones together
        p = model.symbol_log_probs(strings)[:, :3].sum(1).exp().double()
    p = torch.cat([p, 1 - p.sum(0, keepdim=True)]) if ends else p

    def chi2(**options):
        x = model.sample(5000, generator=torch.Generator().manual_seed(0), **options)
        assert ends or (x >= 0).all()
        assert ((x < 0).cummax(1).values == (x < 0)).all()  # nothing after the end
        code = torch.where((x < 0).any(1), 27, (x * torch.tensor([9, 3, 1])).sum(1))
        return float(((torch.bincount(code, minlength=len(p)) - 5000 * p) ** 2 / (5000 * p)).sum())

    assert chi2() < 60  # 26 or 27 degrees of freedom: the 0.9998 quantile is 60
    assert chi2(temperature=2.0) > 100  # mutant


def test_greedy_and_top_k_reach_sample():
    model = small(length=6)
    greedy = model.sample(2, temperature=0.0)
    assert torch.equal(greedy[0], greedy[1]) and torch.equal(greedy, model.sample(2, top_k=1))
    x = torch.empty(1, 0, dtype=torch.int64)
    for _ in range(6):
        x = torch.cat([x, model.next_probs(x).argmax(1, keepdim=True)], 1)
    assert torch.equal(x[0], greedy[0])


# The reference implementation


@pytest.fixture(scope="module")
def reference():
    """transformers' GPT-2, random weights, and ours with the same."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = dict(n_positions=12, n_embd=24, n_layer=3, n_head=4)
    theirs = GPT2LMHeadModel(GPT2Config(vocab_size=11, bos_token_id=10, eos_token_id=10, **sizes)).eval()
    for p in theirs.parameters():
        nn.init.normal_(p, std=0.3)
    ours = GPT(10, length=12, layers=3, heads=4, width=24, **GPT2)
    body = theirs.transformer
    pairs = [(ours.embedding, body.wte), (ours.position, body.wpe), (ours.norm, body.ln_f)]
    linear = []
    for a, b in zip(ours.blocks, body.h, strict=True):
        pairs += [(a.norm1, b.ln_1), (a.norm2, b.ln_2)]
        linear += [(a.attention.qkv, b.attn.c_attn), (a.attention.out, b.attn.c_proj)]
        linear += [(a.mlp.up, b.mlp.c_fc), (a.mlp.down, b.mlp.c_proj)]
    for a, b in pairs:
        a.load_state_dict(b.state_dict())
    for a, b in linear:  # theirs are stored transposed
        a.load_state_dict({"weight": b.weight.T, "bias": b.bias})
    assert len(list(ours.parameters())) == len(list(theirs.parameters()))
    return ours.eval(), theirs


@torch.no_grad()
def test_logits_equal_those_of_gpt2(reference, monkeypatch):
    ours, theirs = reference
    tokens = torch.randint(11, (5, 12), generator=torch.Generator().manual_seed(1))
    truth = theirs(tokens).logits[..., :10]  # theirs also predicts the begin symbol

    def error():
        return float((ours(tokens) - truth).abs().max() / truth.abs().max())

    assert error() < 1e-5
    with monkeypatch.context() as patch:
        gelu = F.gelu
        patch.setattr(gpt.F, "gelu", lambda x, approximate: gelu(x))  # mutant: the exact GELU
        assert error() > 1e-5
    for i, name, value in ((1, "heads", 2), (0, "qk_norm", True)):  # mutants
        with monkeypatch.context() as patch:
            patch.setattr(ours.blocks[i].attention, name, value)
            assert error() > 1e-3
    assert error() < 1e-5


@torch.no_grad()
def test_likelihood_and_greedy_text_equal_those_of_gpt2(reference):
    ours, theirs = reference
    x = torch.randint(10, (4, 12), generator=torch.Generator().manual_seed(2))
    logits = theirs(F.pad(x[:, :-1], (1, 0), value=10)).logits[..., :10]
    truth = logits.log_softmax(-1).gather(-1, x[..., None])[..., 0].sum(1)
    torch.testing.assert_close(ours.log_prob(x), truth, rtol=1e-4, atol=1e-4)
    forbid = [[10]]
    text = theirs.generate(
        torch.tensor([[10]]), attention_mask=torch.ones(1, 1), max_new_tokens=11, do_sample=False,
        bad_words_ids=forbid, pad_token_id=10,
    )  # fmt: skip
    assert torch.equal(ours.sample(1, length=11, temperature=0.0), text[:, 1:])


# Learning


def test_muon_sets_singular_values_to_about_one():
    torch.manual_seed(0)
    for shape in ((6, 6), (4, 16), (16, 4)):
        g = torch.randn(shape, dtype=torch.float64)
        u, s, vt = torch.linalg.svd(g, full_matrices=False)
        got = u.T @ orthogonalise(g) @ vt.T
        assert (got - got.diag().diag()).abs().max() < 1e-6  # the directions stay
        if s.min() > 0.05 * s.max():
            assert ((got.diag() > 0.6) & (got.diag() < 1.3)).all()
    g = u @ torch.tensor([1.0, 0.3, 0.1, 0.03]).double().diag() @ vt
    assert torch.linalg.svdvals(orthogonalise(g)).min() > 0.6
    assert torch.linalg.svdvals(orthogonalise(g, 2)).min() < 0.6  # mutant: too few iterations


def test_muon_step_by_hand_and_resumed():
    torch.manual_seed(0)
    w, b = nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(3))
    reference, adam = w.detach().clone(), nn.Parameter(b.detach().clone())
    muon, adamw = Muon([w], [b], lr=0.1, matrix_lr=0.05), AdamW([adam], lr=0.1)
    momentum = torch.zeros(6, 3)
    for step in range(4):
        w.grad, b.grad = torch.randn(6, 3), torch.randn(3)
        adam.grad = b.grad.clone()
        momentum = 0.95 * momentum + w.grad
        reference = reference - 0.05 * 2**0.5 * orthogonalise(w.grad + 0.95 * momentum)
        muon.step()
        adamw.step()
        torch.testing.assert_close(w.detach(), reference)
        assert torch.equal(b, adam)
        if step == 1:
            state, muon = muon.state_dict(), Muon([w], [b], lr=0.1, matrix_lr=0.05)
            muon.load_state_dict(state)
    fresh = reference - 0.05 * 2**0.5 * orthogonalise(torch.ones(6, 3))
    assert not torch.allclose(fresh, w)


@pytest.mark.parametrize("ends", [False, True])
def test_it_learns_by_its_recipe(ends):
    torch.manual_seed(0)
    text = torch.tensor([0, 1, 2, 3, 2, 1]).repeat(100)  # what follows 1 and 2 depends on what came before
    rows = torch.stack([text[i : i + 12] for i in range(6)])
    model = FAMILY.from_data(rows, 4, ends, layers=1, heads=2, width=32)
    before = float(model.loss(rows).detach())
    fit(model, rows if ends else windows(text, 12), steps=80, seed=0, progress=False, **model.recipe)
    # Left to chance is only which of six phases it is. Without memory the directions stay unknown: 2/3 log 2 more.
    entropy, symbols = math.log(6), 12 + ends
    assert float(model.loss(rows).detach()) < entropy / symbols + 0.15
    forgetful = (entropy + 11 * 2 / 3 * math.log(2)) / symbols
    assert before > forgetful > entropy / symbols + 0.3


def test_a_checkpoint_rebuilds_it():
    model = small(5, ends=True, length=7, heads=4)
    again = GPT(**model.config)
    again.load_state_dict(model.state_dict())
    x = torch.randint(5, (3, 7))
    assert torch.equal(again.log_prob(x), model.log_prob(x))


def test_attention_maps():
    model = small(length=6)
    maps = model.attention(torch.tensor([[0, 1, 2, 1, 0, 2]]))
    assert maps.shape == (2, 1, 2, 6, 6)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 1, 2, 6))
    assert (maps.triu(1) == 0).all() and (maps[..., 5, 2] > 0).all()


# Bad input


@settings(max_examples=40, deadline=None)
@given(
    st.one_of(
        st.sampled_from(
            [torch.zeros(3, dtype=torch.int64), torch.zeros(2, 3), torch.empty(0, 3, dtype=torch.int64), None]
        ),
        st.integers(3, 99).map(lambda v: torch.tensor([[0, v]])),
        st.integers(-99, -2).map(lambda v: torch.tensor([[0, v]])),
        st.sampled_from([torch.tensor([[-1, 0]]), torch.tensor([[0, -1, 1]])]),
    )
)
def test_refuses_what_is_no_text(x):
    model = GPT(3, length=4, layers=1, heads=1, width=4)
    for method in (model.log_prob, model.loss, lambda x: GPT.from_data(x, 3)):
        with pytest.raises(ValueError, match="sequence|symbol"):
            method(x)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["levels", "length", "layers", "heads", "width", "recent", "positions", "norm", "activation"]),
    st.one_of(st.integers(max_value=0), st.floats(), st.text(max_size=3), st.booleans(), st.none()),
)
def test_refuses_impossible_options(name, value):
    with pytest.raises(ValueError, match=name):
        GPT(**{**dict(levels=3, length=4, layers=1, heads=1, width=4), name: value})


def test_refuses_what_it_cannot_do():
    model = small(length=4, **GPT2)
    with pytest.raises(ValueError, match="learned positions reach 4 symbols, not 5"):
        model.log_prob(torch.zeros(1, 5, dtype=torch.int64))
    for call in (lambda: model.sample(1, torch.zeros(1)), lambda: model.loss(torch.zeros(1, 2).long(), torch.zeros(1))):
        with pytest.raises(ValueError, match="no condition"):
            call()
    with pytest.raises(ValueError, match="top_p"):
        model.sample(1, top_p=0.0)
    with pytest.raises(ValueError, match="symbols are 0..2"):
        model.sample(1, prefix=torch.tensor([7]))
    assert model.sample(0, length=4).shape == (0, 4)
    with pytest.raises(ValueError, match="even multiple of heads, not 9 with 3"):
        GPT(3, heads=3, width=9)


NO_CONTEXTS = {
    "the begin symbol": torch.tensor([[3]]),
    "padding": torch.tensor([[0, -1]]),
    "real numbers": torch.tensor([[0.5]]),
    "a row": torch.tensor([1]),
    "a list": [[1]],
}


@pytest.mark.parametrize("name", NO_CONTEXTS)
def test_refuses_what_is_no_context_or_prefix(name):
    for model in (small(length=4), small(ends=True, length=4)):
        with pytest.raises(ValueError, match="symbols are|no padding|sequences are"):
            model.next_probs(NO_CONTEXTS[name])
        if name != "a row":  # which is a prefix
            with pytest.raises(ValueError, match="symbols are|no padding|sequences are"):
                model.sample(1, prefix=NO_CONTEXTS[name])
    assert model.next_probs(torch.empty(2, 0, dtype=torch.int64)).shape == (2, 4)
    with pytest.raises(ValueError, match="each of the 2 sequences is needed, not 3"):
        model.sample(2, prefix=torch.tensor([[0], [1], [2]]))
    with pytest.raises(ValueError, match="length is a whole number from 1, not 0"):
        model.sample(2, length=0)


def test_a_network_full_of_nan_draws_nothing():
    model = small(length=4)
    nn.init.constant_(model.norm.gain, math.nan)
    for temperature in (1.0, 0.0):
        with pytest.raises(ValueError, match="no distribution: nan"):
            model.sample(2, temperature=temperature)
