"""The table of what ``tools/bench.py`` times: a function a row, which sets the work up twice, ours and the reference's.

The reference is at its documented best setting. Families without a maintained reference stand alone.
"""

from __future__ import annotations

from functools import partial

from bench_counts import (
    bayes_fit,
    bayes_sample,
    bayes_score,
    categoricals,
    categoricals_sample,
    joint_fit,
    joint_sample,
    joint_score,
    network_fit,
    network_posterior,
    network_sample,
    topics_fit,
    topics_posterior,
    topics_sample,
)
from bench_points import (
    factors_fit,
    factors_score,
    linear_sample,
    logistic_fit,
    mixture_fit,
    mixture_sample,
    mixture_score,
    ppca_fit,
    vae_sample,
    vae_train,
)
from bench_sequences import (
    gpt_cache,
    gpt_generate,
    gpt_train,
    hmm_fit,
    hmm_sample,
    hmm_score,
    markov,
    markov_sample,
    ngram,
    ngram_sample,
)

from helpers.models.factor_analysis import FactorAnalysis
from helpers.models.ppca import PPCA

# Family, what is done, the reference, its row, sizes for the test, how far the answers may lie apart
SMALL = dict(layers=1, heads=2, width=16)
WORDS, MIXED = dict(n=60, vocabulary=20, topics=3), dict(n=50, columns=4, levels=3, components=2)
SOME, CLASSES = dict(n=50, variables=8), dict(n=60, features=12, classes=3)
PLANE, TEXT = dict(n=20_000, d=5, k=2), dict(n=2, length=5, train=400, levels=5)
ROWS = (
    ("hmm", "10 steps of EM, 1,000 × 100 symbols", "hmmlearn, scaling", hmm_fit, dict(n=20, length=8), 1e-6),
    ("hmm", "score 1,000 × 100 symbols", "hmmlearn, scaling", hmm_score, dict(n=20, length=8), 1e-9),
    ("hmm", "sample 1,000 × 100 symbols", "hmmlearn", hmm_sample, dict(n=3, length=8), 0),
    ("gaussian_mixture", "10 steps of EM, 10⁵ × 16, K = 16", "scikit-learn", mixture_fit, dict(n=500, d=3, k=4), 1e-6),
    ("gaussian_mixture", "score 10⁵ × 16", "scikit-learn", mixture_score, dict(n=500, d=3, k=4), 1e-9),
    ("gaussian_mixture", "sample 10⁵ × 16", "scikit-learn", mixture_sample, dict(n=500, d=3, k=4), 0),
    ("ppca", "fit and score 10⁵ × 64", "scikit-learn, covariance_eigh", ppca_fit, dict(n=4000, d=6, k=2), 1e-3),
    ("ppca", "sample 10⁵ × 64", "numpy, cholesky, float64", partial(linear_sample, PPCA), PLANE, 0.05),
    ("markov", "count 2·10⁵, score 2·10⁴", "nltk, Lidstone", markov, dict(train=400, scored=40, levels=5), 1e-9),
    ("markov", "sample 10 × 200", "nltk, Lidstone", markov_sample, TEXT, 0),
    ("ngram", "count 2·10⁴, score 50", "nltk, Kneser–Ney", ngram, dict(train=400, scored=40, levels=5), 1e-2),
    ("ngram", "sample 10", "nltk, Kneser–Ney", ngram_sample, TEXT, 0),
    ("gpt", "5 training steps, 16 × 128", "transformers, sdpa", gpt_train, dict(batch=2, length=8, **SMALL), 1e-5),
    ("gpt", "generate 255, cached", "transformers, sdpa", gpt_generate, dict(length=12, **SMALL), 0),
    ("gpt", "generate 256", "ours without cache", gpt_cache, dict(length=12, **SMALL), 0),
    ("vae", "5 training steps, 128 × 16²", None, vae_train, dict(batch=4, side=8, hidden=8, width=4), 0),
    ("vae", "sample 1,000 × 16²", None, vae_sample, dict(n=4, side=8, hidden=8, width=4), 0),
    ("factor_analysis", "20 steps of EM, 10⁴ × 64", "scikit-learn, lapack", factors_fit, dict(n=200, d=5, k=2), 1e-8),
    ("factor_analysis", "score 10⁵ × 64", "scikit-learn", factors_score, dict(n=200, d=5, k=2), 1e-9),
    (
        "factor_analysis",
        "sample 10⁵ × 64",
        "numpy, cholesky, float64",
        partial(linear_sample, FactorAnalysis),
        PLANE,
        0.05,
    ),  # fmt: skip
    ("topic_model", "10 passes, 2,000 × 1,000 words", "scikit-learn, batch, sparse", topics_fit, WORDS, 0.02),
    ("topic_model", "posterior of 500 × 1,000 words", "scikit-learn, sparse", topics_posterior, WORDS, 1e-3),
    ("topic_model", "sample 2,000 × 1,000 words", None, topics_sample, WORDS, 0),
    ("naive_bayes", "fit words, 10⁴ × 10³", "scikit-learn, sparse", partial(bayes_fit, "words"), CLASSES, 1e-9),
    ("naive_bayes", "score words, 10⁴ × 10³", "scikit-learn, sparse", partial(bayes_score, "words"), CLASSES, 1e-9),
    ("naive_bayes", "sample words, 10⁴ × 10³", None, partial(bayes_sample, "words"), CLASSES, 0),
    ("naive_bayes", "fit bits, 10⁴ × 10³", "scikit-learn", partial(bayes_fit, "bits"), CLASSES, 1e-9),
    ("naive_bayes", "score bits, 10⁴ × 10³", "scikit-learn", partial(bayes_score, "bits"), CLASSES, 1e-9),
    ("naive_bayes", "sample bits, 10⁴ × 10³", None, partial(bayes_sample, "bits"), CLASSES, 0),
    ("naive_bayes", "fit reals, 10⁴ × 10³", "scikit-learn", partial(bayes_fit, "reals"), CLASSES, 1e-9),
    ("naive_bayes", "score reals, 10⁴ × 10³", "scikit-learn", partial(bayes_score, "reals"), CLASSES, 1e-9),
    ("naive_bayes", "sample reals, 10⁴ × 10³", None, partial(bayes_sample, "reals"), CLASSES, 0),
    ("logistic", "fit 20,000 × 50", "scikit-learn, newton-cg", logistic_fit, dict(n=90, d=4), 1e-4),
    ("bayesian_network", "fit 10⁵ × 20", "pyAgrum", network_fit, SOME, 1e-12),
    ("bayesian_network", "2,000 exact posteriors of 20", "pyAgrum, LazyPropagation", network_posterior, SOME, 1e-9),
    ("bayesian_network", "sample 10⁵ × 20", "pyAgrum", network_sample, dict(n=5000, variables=8), 0.02),
    ("joint_mixture", "10 steps of EM, 5,000 × 64", None, joint_fit, MIXED, 0),
    ("joint_mixture", "score 5,000 × 64", "StepMix, float64", joint_score, MIXED, 1e-5),
    ("joint_mixture", "sample 5,000 × 64", "StepMix, float64", joint_sample, MIXED | dict(n=5000), 0.05),
    ("mixture_of_categoricals", "10 steps of EM, 1,000 × 8²", None, categoricals, dict(n=30, components=3), 0),
    ("mixture_of_categoricals", "sample 1,000 × 8²", None, categoricals_sample, dict(n=30, components=3), 0),
)
