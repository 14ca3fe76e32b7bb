"""Work for the bench: the families of sequences, from hidden Markov models to Transformers."""

from __future__ import annotations

import numpy as np
import torch
from bench_points import Sides

from helpers.models.base import GenerativeModel
from helpers.models.gpt import GPT
from helpers.models.hmm import HMM
from helpers.models.markov import MarkovChain
from helpers.models.ngram import NGram


def sequences(n: int, length: int, states: int = 8, levels: int = 16) -> tuple[HMM, torch.Tensor]:
    """An HMM with random tables, and sequences (n, length) drawn from it."""
    torch.manual_seed(0)
    model = HMM(states, levels=levels)
    model.transition = (2 * torch.randn(states, states, dtype=torch.float64)).softmax(1)
    model.table = (2 * torch.randn(states, levels, dtype=torch.float64)).softmax(1)
    return model, model.sample(n, length=length)


def hmmlearns(model: HMM, **options):
    from hmmlearn.hmm import CategoricalHMM

    theirs = CategoricalHMM(
        model.k, n_features=model.levels, implementation="scaling", init_params="", tol=-np.inf, **options
    )
    theirs.startprob_, theirs.transmat_ = model.initial.numpy(), model.transition.numpy()
    theirs.emissionprob_ = model.table.numpy()
    return theirs


def hmm_fit(n=1000, length=100, steps=10) -> Sides:
    truth, x = sequences(n, length)
    start, flat, lengths = sequences(1, 1)[0], x.flatten()[:, None].numpy(), [length] * n
    start.table = (start.table + 1 / start.levels) / 2

    def ours():
        model = HMM(start.k, levels=start.levels)
        model.initial, model.transition, model.table = start.initial, start.transition, start.table
        return model.fit(x, steps=steps, tolerance=0, resume=True).transition.numpy()

    return ours, lambda: hmmlearns(start, n_iter=steps).fit(flat, lengths).transmat_


def hmm_score(n=1000, length=100) -> Sides:
    model, x = sequences(n, length)
    theirs, flat, lengths = hmmlearns(model), x.flatten()[:, None].numpy(), [length] * n
    return lambda: float(model.log_prob(x).sum()), lambda: theirs.score(flat, lengths)


def hmm_sample(n=1000, length=100) -> Sides:
    """hmmlearn draws one sequence a call. Compared: how many symbols."""
    model, _ = sequences(1, 1)
    theirs, seeds = hmmlearns(model), np.random.RandomState(0)
    return lambda: model.sample(n, length=length).numel(), lambda: sum(
        len(theirs.sample(length, random_state=seeds)[0]) for _ in range(n)
    )


def running_text(train: int, scored: int, levels: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    """A text in which each symbol depends on the one before, in two parts."""
    torch.manual_seed(0)
    chain = MarkovChain(levels, length=train + scored).fit(torch.randint(levels, (60,)))
    text = chain.sample(1, length=train + scored)[0]
    return text[:train], text[train:]


def nltk_model(make, order: int, text: torch.Tensor, levels: int):
    from nltk.lm import Vocabulary
    from nltk.util import everygrams

    words = [str(s) for s in text.tolist()]
    model = make(order, vocabulary=Vocabulary(map(str, range(levels - 1)), unk_label=str(levels - 1)))
    model.fit([list(everygrams(words, max_len=order))])
    return model


def nltk_score(model, order: int, text: torch.Tensor) -> float:
    """Nats of all symbols of the text that have a full context."""
    words = [str(s) for s in text.tolist()]
    return sum(np.log(model.score(words[t], words[t - order + 1 : t])) for t in range(order - 1, len(words)))


def markov(train=200_000, scored=20_000, order=3, levels=30) -> Sides:
    from nltk.lm import Lidstone

    text, rest = running_text(train, scored, levels)

    def ours():
        model = MarkovChain(levels, order - 1, smoothing=0.5).fit(text)
        return float(model.symbol_log_probs(rest[None])[0, order - 1 :].sum())

    def make(order, vocabulary):
        return Lidstone(0.5, order, vocabulary=vocabulary)

    return ours, lambda: nltk_score(nltk_model(make, order, text, levels), order, rest)


def drawn(ours, theirs, n: int, length: int) -> Sides:
    """Texts (n, length). nltk draws one a call. Compared: how many symbols."""
    return lambda: ours.sample(n, length=length).numel(), lambda: sum(
        len(theirs.generate(length, random_seed=seed)) for seed in range(n)
    )


def markov_sample(n=10, length=200, train=20_000, order=3, levels=30) -> Sides:
    from nltk.lm import Lidstone

    text, _ = running_text(train, 1, levels)
    theirs = nltk_model(lambda order, vocabulary: Lidstone(0.5, order, vocabulary=vocabulary), order, text, levels)
    return drawn(MarkovChain(levels, order - 1, smoothing=0.5).fit(text), theirs, n, length)


class SameDiscount(NGram):
    """nltk's Kneser–Ney takes one given discount, and does not estimate it."""

    def _discounts(self, counts):
        return counts.new_tensor([0.0, 0.1, 0.1, 0.1])


def ngram(train=20_000, scored=50, order=3, levels=30) -> Sides:
    """nltk sums over all contexts for each lower-order score: it cannot do more in reasonable time."""
    from nltk.lm import KneserNeyInterpolated

    text, rest = running_text(train, scored, levels)

    def ours():
        model = SameDiscount(levels, order).fit(text)
        return float(model.symbol_log_probs(rest[None])[0, order - 1 :].sum())

    return ours, lambda: nltk_score(nltk_model(KneserNeyInterpolated, order, text, levels), order, rest)


def ngram_sample(n=1, length=10, train=20_000, order=3, levels=30) -> Sides:
    from nltk.lm import KneserNeyInterpolated

    text, _ = running_text(train, 1, levels)
    theirs = nltk_model(KneserNeyInterpolated, order, text, levels)
    return drawn(SameDiscount(levels, order).fit(text), theirs, n, length)


# Transformers


def gpts(length: int, layers=3, heads=4, width=128, levels=64):
    """transformers' GPT-2, and ours with the same weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = dict(n_positions=length, n_embd=width, n_layer=layers, n_head=heads, vocab_size=levels + 1)
    off = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=levels, eos_token_id=None)
    theirs = GPT2LMHeadModel(GPT2Config(**sizes, **off, attn_implementation="sdpa"))
    like_gpt2 = dict(positions="learned", norm="layer", activation="gelu", bias=True, qk_norm=False, recent=1)
    ours = GPT(levels, length=length, layers=layers, heads=heads, width=width, **like_gpt2)
    body = theirs.transformer
    alike = [(ours.embedding, body.wte), (ours.position, body.wpe), (ours.norm, body.ln_f)]
    for a, b in zip(ours.blocks, body.h, strict=True):
        alike += [(a.norm1, b.ln_1), (a.norm2, b.ln_2)]
        for mine, other in (
            (a.attention.qkv, b.attn.c_attn),
            (a.attention.out, b.attn.c_proj),
            (a.mlp.up, b.mlp.c_fc),
            (a.mlp.down, b.mlp.c_proj),
        ):
            mine.load_state_dict({"weight": other.weight.T, "bias": other.bias})  # theirs are stored transposed
    for mine, other in alike:
        mine.load_state_dict(other.state_dict())
    return ours, theirs


def gpt_train(batch=16, length=128, steps=5, levels=64, **sizes) -> Sides:
    """Training steps of AdamW. Ours predicts ``length`` symbols, the begin symbol read first; so does theirs."""
    ours, theirs = gpts(length, levels=levels, **sizes)
    x = torch.randint(levels, (batch, length))
    read = torch.nn.functional.pad(x[:, :-1], (1, 0), value=levels)
    optimizers = GenerativeModel.optimizers(ours, 1e-4)
    theirs_adam = torch.optim.AdamW(theirs.parameters(), lr=1e-4, weight_decay=0.0, fused=True)

    def step_ours():
        ours.train()
        return [float(ours.training_step((x, None), optimizers)["loss"]) for _ in range(steps)][0]

    def step_theirs():
        theirs.train()
        losses = []
        for _ in range(steps):
            logits = theirs(read).logits[..., :levels]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), x.flatten())
            theirs_adam.zero_grad()
            loss.backward()
            theirs_adam.step()
            losses.append(float(loss.detach()))
        return losses[0]

    return step_ours, step_theirs


def gpt_generate(n=1, length=256, levels=64, **sizes) -> Sides:
    """The likeliest symbol each time, with a cache of keys and values. Both draw the same ones."""
    ours, theirs = (model.eval() for model in gpts(length, levels=levels, **sizes))
    begin = torch.full((n, 1), levels)
    options = dict(max_new_tokens=length - 1, do_sample=False, use_cache=True, suppress_tokens=[levels], pad_token_id=0)
    options["attention_mask"] = torch.ones_like(begin)

    @torch.no_grad()
    def generate():
        return theirs.generate(begin, **options)[:, 1:].numpy()

    return lambda: ours.sample(n, length=length - 1, top_k=1).numpy(), generate


def gpt_cache(n=1, length=256, **sizes) -> Sides:
    """Ours with the cache, beside ours without it."""
    torch.manual_seed(0)
    model = GPT(64, length=length, **sizes).eval()

    def drawn(cached):
        return model.sample(n, cached=cached, generator=torch.Generator().manual_seed(0)).numpy()

    return lambda: drawn(True), lambda: drawn(False)
