"""Work for the bench: the families of words, labels and other categories."""

from __future__ import annotations

import math

import numpy as np
import torch
from bench_points import Sides
from torch.distributions import Dirichlet

from helpers.models.bayesian_network import BayesianNetwork
from helpers.models.joint_mixture import JointMixture
from helpers.models.mixture_of_categoricals import MixtureOfCategoricals
from helpers.models.naive_bayes import Bernoulli, Gaussian, Multinomial
from helpers.models.topic_model import TopicModel

# Documents


def documents(n: int, vocabulary: int, topics: int) -> tuple[TopicModel, torch.Tensor]:
    """A topic model, and counts of words (n, vocabulary) of documents drawn from it."""
    torch.manual_seed(0)
    model = TopicModel(vocabulary, topics, alpha=0.1)
    model.topics = Dirichlet(torch.full((topics, vocabulary), 0.05, dtype=torch.float64)).sample()
    return model, model.sample(n)


def sparse(x: torch.Tensor):
    """As scikit-learn prefers counts of which most are zero."""
    from scipy.sparse import csr_matrix

    return csr_matrix(x.double().numpy())


def allocation(topics: int, **options):
    from sklearn.decomposition import LatentDirichletAllocation

    return LatentDirichletAllocation(
        topics, doc_topic_prior=0.1, topic_word_prior=0.1, learning_method="batch", random_state=0, **options
    )


def topics_fit(n=2000, vocabulary=1000, topics=20, steps=10, sweeps=5) -> Sides:
    """The same passes over the documents. Ours learns the likeliest topics, scikit-learn a distribution of them, and
    each starts by chance. Compared: nats a word of 20 other documents given the topics, by our bound."""
    truth, x = documents(n, vocabulary, topics)
    given, others = sparse(x), truth.sample(20)

    def nats(found: torch.Tensor) -> float:
        model = TopicModel(vocabulary, topics, alpha=0.1)
        model.topics = found / found.sum(1, keepdim=True)
        return float(model.log_prob_bound(others).sum() / others.sum())

    def ours():
        model = TopicModel(vocabulary, topics, alpha=0.1, smoothing=0.1, sweeps=sweeps)
        return nats(model.fit(x, steps=steps, tolerance=0, generator=torch.Generator().manual_seed(0)).topics)

    theirs = allocation(topics, max_iter=steps, max_doc_update_iter=sweeps, mean_change_tol=0.0)
    return ours, lambda: nats(torch.from_numpy(theirs.fit(given).components_))


def topics_posterior(n=500, vocabulary=1000, topics=20) -> Sides:
    """The Dirichlet distribution of each document's proportions, given the topics, until it stands still.

    scikit-learn ends each document by itself, ours all of them when the last one stands still.
    """
    model, x = documents(n, vocabulary, topics)
    given = sparse(x)
    theirs = allocation(topics, max_iter=1, max_doc_update_iter=200, mean_change_tol=1e-6).fit(given)
    theirs.exp_dirichlet_component_ = model.topics.numpy()
    return lambda: model.posterior(x).numpy(), lambda: theirs.transform(given, normalize=False)


def topics_sample(n=2000, vocabulary=1000, topics=20) -> Sides:
    model, _ = documents(1, vocabulary, topics)
    return lambda: model.sample(n), None


# Classes


def labelled(kind: str, n: int, features: int, classes: int):
    """Classifiers of a kind, ours and theirs, with examples as each prefers them, and labels."""
    from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB

    torch.manual_seed(0)
    y, p = torch.arange(n) % classes, torch.rand(classes, features, dtype=torch.float64)
    if kind == "words":
        model, theirs = Multinomial(classes, features), MultinomialNB()
        model.theta = p**8 / (p**8).sum(1, keepdim=True)
    elif kind == "bits":
        model, theirs = Bernoulli(classes, features), BernoulliNB(binarize=None)
        model.p = p
    else:
        model, theirs = Gaussian(classes, features), GaussianNB()
        model.mean = p
    x = model.sample(n, y)
    return model, theirs, x, sparse(x) if kind == "words" else x.numpy(), y


def bayes_fit(kind, n=10_000, features=1000, classes=10) -> Sides:
    """Compared: what ten examples tell of their class."""
    model, theirs, x, given, y = labelled(kind, n, features, classes)
    return (
        lambda: model.fit(x, y).log_probs(x[:10]).numpy(),
        lambda: theirs.fit(given, y.numpy()).predict_log_proba(given[:10]),
    )


def bayes_score(kind, n=10_000, features=1000, classes=10) -> Sides:
    model, theirs, x, given, y = labelled(kind, n, features, classes)
    model.fit(x, y), theirs.fit(given, y.numpy())
    return lambda: model.log_probs(x).numpy(), lambda: theirs.predict_log_proba(given)


def bayes_sample(kind, n=10_000, features=1000, classes=10) -> Sides:
    model, *_ = labelled(kind, classes, features, classes)
    return lambda: model.sample(n), None


# Networks


def network(variables: int, levels: int = 3) -> BayesianNetwork:
    """A network with random tables and arrows, at most two to a variable."""
    torch.manual_seed(0)
    names = [f"v{i:02}" for i in range(variables)]
    above = {names[i]: [names[j] for j in sorted(torch.randperm(i)[:2].tolist())] for i in range(1, variables)}
    model = BayesianNetwork(dict.fromkeys(names, levels), above)
    for name in names:
        model.set_table(name, (2 * torch.randn(model.table(name).shape, dtype=torch.float64)).softmax(-1))
    return model


def reordered(model: BayesianNetwork, name: str, theirs) -> torch.Tensor:
    """The entries of a variable's table in the order of pyAgrum, whose first variable is the fastest."""
    own = [*model.config["parents"][name], name]
    return model.table(name).permute([own.index(other) for other in theirs.cpt(name).names[::-1]]).flatten()


def agrums(model: BayesianNetwork):
    """The same network for pyAgrum."""
    import pyagrum

    pyagrum.setNumberOfThreads(torch.get_num_threads())
    theirs = pyagrum.BayesNet()
    for name, levels in model.config["levels"].items():
        theirs.add(pyagrum.RangeVariable(name, name, 0, levels - 1))
    for name, above in model.config["parents"].items():
        for other in above:
            theirs.addArc(other, name)
        theirs.cpt(name).fillWith(reordered(model, name, theirs).tolist())
    return theirs


def network_fit(n=100_000, variables=20) -> Sides:
    """Tables by counting, with a pseudo-count of 1. pyAgrum has read the examples before, which takes it far longer."""
    import pandas
    import pyagrum

    model = network(variables)
    x, names, net = model.sample(n), model.names, agrums(model)
    learner = pyagrum.BNLearner(pandas.DataFrame(x.numpy(), columns=names), net)
    learner.useSmoothingPrior(1.0)
    like = learner.learnParameters(net.dag())  # has an order of parents of its own

    def ours():
        fitted = BayesianNetwork(**model.config).fit(x)
        return torch.cat([reordered(fitted, name, like) for name in names]).numpy()

    def theirs():
        fitted = learner.learnParameters(net.dag())
        return np.concatenate([fitted.cpt(name).toarray().ravel() for name in names])

    return ours, theirs


def network_posterior(n=2000, variables=20, seen=5) -> Sides:
    """p(first variable | the last ones), exactly. Ours eliminates variables for all questions at once; pyAgrum keeps a
    junction tree from one question to the next, the faster of its ways."""
    import pyagrum

    model = network(variables)
    x, last, net = model.sample(n), range(variables - seen, variables), agrums(model)
    x[:, :-seen] = -1

    def theirs():
        tree, found = pyagrum.LazyPropagation(net), []
        tree.setTargets({0})
        tree.setEvidence(dict.fromkeys(last, 0))
        for row in x.tolist():
            for i in last:
                tree.chgEvidence(i, row[i])
            tree.makeInference()
            found.append(tree.posterior(0).toarray())
        return np.stack(found)

    return lambda: model.posterior(x, model.names[0]).numpy(), theirs


def network_sample(n=100_000, variables=20) -> Sides:
    """Compared: the mean log-likelihood of what was drawn, which pyAgrum sums up on the way."""
    import pyagrum

    model = network(variables)
    net = agrums(model)
    pyagrum.initRandom(0)

    def theirs():
        return pyagrum.BNDatabaseGenerator(net).drawSamples(n) * math.log(2) / n  # in bits, of all

    return lambda: float(model.log_prob(model.sample(n)).mean()), theirs


# Mixtures: EM stands alone, since StepMix starts elsewhere and arrives at another maximum


def categoricals(n=1000, side=8, levels=17, components=60) -> Sides:
    torch.manual_seed(0)
    x = torch.randint(levels, (n, side, side), dtype=torch.uint8)
    return lambda: MixtureOfCategoricals((side, side), levels, components, iterations=10).fit(x).log_weights, None


def categoricals_sample(n=1000, side=8, levels=17, components=60) -> Sides:
    model = MixtureOfCategoricals((side, side), levels, components)
    return lambda: model.sample(n), None


def answers(n: int, columns: int, levels: int, components: int) -> tuple[JointMixture, torch.Tensor]:
    """A mixture, and examples drawn from it in which every tenth value is unknown, -1."""
    torch.manual_seed(0)
    model = JointMixture([levels] * columns, components, iterations=10)
    model.log_levels.copy_((2 * torch.randn(components, columns, levels)).log_softmax(2))
    x = model.sample(n)
    return model, x.masked_fill(torch.rand(x.shape) < 0.1, -1)


def joint_fit(n=5000, columns=64, levels=10, components=20) -> Sides:
    model, x = answers(n, columns, levels, components)
    return lambda: JointMixture(**model.config).fit(x).log_weights, None


def joint_score(n=5000, columns=64, levels=10, components=20) -> Sides:
    """StepMix computes in double precision only, and is given the examples one-hot, which ours does on the way."""
    model, x = answers(n, columns, levels, components)
    theirs, given = stepmixs(model, x)
    return lambda: float(model.log_prob(x).mean()), lambda: theirs.score(given)


def joint_sample(n=5000, columns=64, levels=10, components=20) -> Sides:
    """Compared: the mean of what was drawn."""
    model, x = answers(1000, columns, levels, components)
    theirs, _ = stepmixs(model, x)
    return lambda: float(model.sample(n).double().mean()), lambda: float(theirs.sample(n)[0].mean())


def stepmixs(model: JointMixture, x: torch.Tensor):
    """The same mixture for StepMix, and the examples one-hot."""
    from stepmix import StepMix

    levels, (components, columns) = model.config["levels"][0], model.log_levels.shape[:2]
    given = torch.nn.functional.one_hot(x.clamp(min=0), levels).double()
    given = given.masked_fill((x < 0)[..., None], math.nan).flatten(1).numpy()
    codes = dict(integer_codes=False, max_n_outcomes=levels, total_outcomes=columns * levels)
    options = dict(measurement_params=codes, max_iter=2, abs_tol=math.inf, progress_bar=0)
    theirs = StepMix(components, measurement="categorical_nan", **options)
    learnt = theirs.fit(given).get_parameters()  # what it learnt is replaced
    learnt["weights"] = model.log_weights.double().exp().numpy()
    learnt["measurement"]["pis"] = model.log_levels.double().exp().flatten(1).numpy()
    theirs.set_parameters(learnt)
    return theirs, given
