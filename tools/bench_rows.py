"""The work that ``tools/bench.py`` times: a function a row, which sets it up twice, ours and the reference's.

The reference is at its documented best setting. Families without a maintained reference stand alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch

from helpers.models.base import GenerativeModel
from helpers.models.gaussian_mixture import GaussianMixture
from helpers.models.gpt import GPT
from helpers.models.hmm import HMM
from helpers.models.markov import MarkovChain
from helpers.models.mixture_of_categoricals import MixtureOfCategoricals
from helpers.models.ngram import NGram
from helpers.models.ppca import PPCA
from helpers.models.vae import VAE

Sides = tuple[Callable, Callable | None]  # what to time, ours and the reference's; both return what must agree


# Sequences


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


# Points


def points(n: int, d: int, k: int) -> tuple[torch.Tensor, GaussianMixture]:
    """Points of a mixture, and a mixture to start from."""
    torch.manual_seed(0)
    x = 3 * torch.randn(k, d, dtype=torch.float64)[torch.randint(k, (n,))] + torch.randn(n, d, dtype=torch.float64)
    start = GaussianMixture(d, k, ridge=0.0)
    start.means = x[torch.randperm(n)[:k]].clone()
    return x, start


def sklearns(start: GaussianMixture, steps: int = 1):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Reference

    warnings.simplefilter("ignore", ConvergenceWarning)  # tol=0: all the steps, as ours
    inits = dict(weights_init=start.weights.numpy(), means_init=start.means.numpy())
    inits["precisions_init"] = torch.linalg.inv(start.covariances).numpy()
    return Reference(len(start.weights), tol=0.0, reg_covar=0.0, max_iter=steps, **inits)


def mixture_fit(n=100_000, d=16, k=16, steps=10) -> Sides:
    x, start = points(n, d, k)

    def ours():
        model = GaussianMixture(d, k, ridge=0.0)
        model.means = start.means
        return model.fit(x, steps=steps, tolerance=0, resume=True).means.numpy()

    return ours, lambda: sklearns(start, steps).fit(x.numpy()).means_


def mixture_score(n=100_000, d=16, k=16) -> Sides:
    x, start = points(n, d, k)
    theirs = sklearns(start).fit(x.numpy())
    start.weights, start.means, start.covariances = map(
        torch.from_numpy, (theirs.weights_, theirs.means_, theirs.covariances_)
    )
    return lambda: float(start.log_prob(x).mean()), lambda: theirs.score(x.numpy())


def mixture_sample(n=100_000, d=16, k=16) -> Sides:
    x, start = points(n, d, k)
    theirs = sklearns(start).fit(x.numpy())
    return lambda: start.sample(n).shape, lambda: theirs.sample(n)[0].shape


def ppca_fit(n=100_000, d=64, k=8) -> Sides:
    """Fit, and the likelihood of the data. scikit-learn divides by n - 1, ours by n."""
    from sklearn.decomposition import PCA

    torch.manual_seed(0)
    x = torch.randn(n, k, dtype=torch.float64) @ torch.randn(k, d, dtype=torch.float64)
    x += 0.5 * torch.randn(n, d, dtype=torch.float64)

    def ours():
        return float(PPCA(d, k).double().fit(x).log_prob(x).mean())

    return ours, lambda: PCA(k, svd_solver="covariance_eigh").fit(x.numpy()).score(x.numpy())


# Images: no maintained library has these models


def vae_train(batch=128, side=16, steps=5, **sizes) -> Sides:
    torch.manual_seed(0)
    x = torch.randint(256, (batch, side, side), dtype=torch.uint8)
    model = VAE((side, side), 256, **sizes)
    optimizers = model.optimizers(1e-3)
    return lambda: [model.training_step((x, None), optimizers) for _ in range(steps)][0]["loss"], None


def vae_sample(n=1000, side=16, **sizes) -> Sides:
    torch.manual_seed(0)
    model = VAE((side, side), 256, **sizes).eval()
    return lambda: model.sample(n), None


def categoricals(n=1000, side=8, levels=17, components=60) -> Sides:
    torch.manual_seed(0)
    x = torch.randint(levels, (n, side, side), dtype=torch.uint8)
    return lambda: MixtureOfCategoricals((side, side), levels, components, iterations=10).fit(x).log_weights, None


# The table: family, what is done, the reference, its row, sizes for the test, how far the answers may lie apart
SMALL = dict(layers=1, heads=2, width=16)
ROWS = (
    ("hmm", "10 steps of EM, 1,000 × 100 symbols", "hmmlearn, scaling", hmm_fit, dict(n=20, length=8), 1e-6),
    ("hmm", "score 1,000 × 100 symbols", "hmmlearn, scaling", hmm_score, dict(n=20, length=8), 1e-9),
    ("hmm", "sample 1,000 × 100 symbols", "hmmlearn", hmm_sample, dict(n=3, length=8), 0),
    ("gaussian_mixture", "10 steps of EM, 10⁵ × 16, K = 16", "scikit-learn", mixture_fit, dict(n=500, d=3, k=4), 1e-6),
    ("gaussian_mixture", "score 10⁵ × 16", "scikit-learn", mixture_score, dict(n=500, d=3, k=4), 1e-9),
    ("gaussian_mixture", "sample 10⁵ × 16", "scikit-learn", mixture_sample, dict(n=500, d=3, k=4), 0),
    ("ppca", "fit and score 10⁵ × 64", "scikit-learn, covariance_eigh", ppca_fit, dict(n=4000, d=6, k=2), 1e-3),
    ("markov", "count 2·10⁵, score 2·10⁴", "nltk, Lidstone", markov, dict(train=400, scored=40, levels=5), 1e-9),
    ("ngram", "count 2·10⁴, score 50", "nltk, Kneser–Ney", ngram, dict(train=400, scored=40, levels=5), 1e-2),
    ("gpt", "5 training steps, 16 × 128", "transformers, sdpa", gpt_train, dict(batch=2, length=8, **SMALL), 1e-5),
    ("gpt", "generate 255, cached", "transformers, sdpa", gpt_generate, dict(length=12, **SMALL), 0),
    ("gpt", "generate 256", "ours without cache", gpt_cache, dict(length=12, **SMALL), 0),
    ("vae", "5 training steps, 128 × 16²", None, vae_train, dict(batch=4, side=8, hidden=8, width=4), 0),
    ("vae", "sample 1,000 × 16²", None, vae_sample, dict(n=4, side=8, hidden=8, width=4), 0),
    ("mixture_of_categoricals", "10 steps of EM, 1,000 × 8²", None, categoricals, dict(n=30, components=3), 0),
)
