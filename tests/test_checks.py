"""What the families check alike."""

import pytest
import torch

from helpers.models.bayesian_network import BayesianNetwork
from helpers.models.factor_analysis import FactorAnalysis
from helpers.models.gaussian_mixture import GaussianMixture
from helpers.models.gpt import GPT
from helpers.models.hmm import HMM
from helpers.models.markov import MarkovChain
from helpers.models.mixture_of_categoricals import MixtureOfCategoricals
from helpers.models.ngram import NGram
from helpers.models.ppca import PPCA
from helpers.models.topic_model import TopicModel
from helpers.models.vae import VAE

POINTS = torch.linspace(-1, 1, 24).view(12, 2).cos()
SYMBOLS = torch.arange(24).view(4, 6) % 3
IMAGES = (torch.arange(4 * 4 * 4) % 2).view(4, 4, 4).to(torch.uint8)
UNCONDITIONAL = {  # a family that knows p(x) alone, and what it learns from
    "bayesian_network": (lambda: BayesianNetwork({"a": 3, "b": 3}, {"b": ["a"]}), SYMBOLS[:, :2]),
    "factor_analysis": (lambda: FactorAnalysis(2, 1), POINTS),
    "gaussian_mixture": (lambda: GaussianMixture(2, 2), POINTS),
    "gpt": (lambda: GPT(3, length=8, layers=1, heads=1, width=8), SYMBOLS),
    "hmm": (lambda: HMM(2, levels=3), SYMBOLS),
    "markov": (lambda: MarkovChain(3), SYMBOLS),
    "mixture_of_categoricals": (lambda: MixtureOfCategoricals((4, 4), levels=2, components=2), IMAGES),
    "ngram": (lambda: NGram(3, n=2), SYMBOLS),
    "ppca": (lambda: PPCA(2, 1), POINTS),
    "topic_model": (lambda: TopicModel(6, topics=2), SYMBOLS),
    "vae": (lambda: VAE((4, 4), levels=2, latents=2, hidden=8), IMAGES),
}


@pytest.mark.parametrize("name", UNCONDITIONAL)
def test_a_condition_is_refused_and_not_ignored(name):
    make, x = UNCONDITIONAL[name]
    model, condition = make(), torch.zeros(len(x), dtype=torch.int64)
    likelihood = next(m for m in ("log_prob", "log_prob_bound") if hasattr(model, m))
    learn = "fit" if hasattr(model, "fit") else "loss"
    for call in (
        lambda: getattr(model, learn)(x, condition),
        lambda: getattr(model, likelihood)(x, condition),
        lambda: model.sample(2, condition),
    ):
        with pytest.raises(ValueError, match="takes no condition"):
            call()
    getattr(model, learn)(x)  # and without one it works
    assert len(model.sample(2)) == 2
