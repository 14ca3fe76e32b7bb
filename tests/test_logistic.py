"""Logistic and softmax regression against scikit-learn, finite differences and linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression as Reference

from helpers.classifiers import logistic
from helpers.classifiers.logistic import LogisticRegression, check_labels, conjugate_gradients


def problem(classes=2, n=200, d=5, seed=0, scale=1.0):
    """Overlapping classes: x (n, d) float64 with columns of different sizes, y (n,) with every class."""
    g = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.arange(classes), torch.randint(classes, (n - classes,), generator=g)])
    means = torch.randn(classes, d, dtype=torch.float64, generator=g)
    x = scale * means[y] + torch.randn(n, d, dtype=torch.float64, generator=g)
    return x * torch.logspace(-1, 1, d, dtype=torch.float64), y


def reference(x, y, penalty):
    """scikit-learn's answer, as far as it goes: Newton's method on a dense Hessian."""
    C = 1 / penalty if penalty else np.inf
    return Reference(C=C, solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(x.numpy(), y.numpy())


def close(a, b, rtol=1e-6):
    a, b = (torch.as_tensor(value, dtype=torch.float64) for value in (a, b))
    return torch.allclose(a, b, rtol=rtol, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("penalty", [0.0, 1e-3, 1.0, 30.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_weights_and_objective_are_those_of_scikit_learn(classes, penalty, seed):
    x, y = problem(classes, seed=seed, scale=0.4)
    model, theirs = LogisticRegression(classes, 5, penalty).fit(x, y), reference(x, y, penalty)
    assert close(model.log_probs(x).exp(), theirs.predict_proba(x.numpy()))
    assert torch.equal(model.classify(x), torch.from_numpy(theirs.predict(x.numpy())))
    weight, bias = (model.weight[1:], model.bias[1:]) if classes == 2 else (model.weight, model.bias)
    centre = (lambda t: t) if classes == 2 else (lambda t: t - t.mean(0))  # a softmax leaves this open
    assert close(centre(weight), centre(torch.from_numpy(theirs.coef_)))
    assert close(centre(bias), centre(torch.from_numpy(theirs.intercept_)))
    nats = -torch.from_numpy(theirs.predict_log_proba(x.numpy())).gather(1, y[:, None]).sum()
    assert close(model.objective(x, y), nats + penalty / 2 * np.square(theirs.coef_).sum())
    if penalty:  # mutants: the penalty without its ½, and one that takes the intercept too
        doubled = LogisticRegression(classes, 5, 2 * penalty).fit(x, y)
        with_one = torch.cat([x, torch.ones(len(x), 1)], 1)
        also_bias = Reference(C=1 / penalty, fit_intercept=False, solver="newton-cholesky", tol=1e-12)
        also_bias.fit(with_one.numpy(), y.numpy())
        for mutant in (doubled.log_probs(x).exp(), also_bias.predict_proba(with_one.numpy())):
            assert not close(mutant, theirs.predict_proba(x.numpy()))


@pytest.mark.parametrize("classes", [2, 4])
def test_the_gradient_is_zero_and_the_curvature_is_that_of_finite_differences(classes):
    x, y = problem(classes, n=60, d=3)
    model = LogisticRegression(classes, 3, 0.7).fit(x, y)
    w = model.weight.clone().requires_grad_()
    b = model.bias.clone().requires_grad_()
    log_p = (x @ w.T + b).log_softmax(1)
    (0.35 * w.square().sum() - log_p.gather(1, y[:, None]).sum()).backward()
    free = 1 if classes == 2 else 0
    assert w.grad[free:].abs().max() < 1e-6 and b.grad[free:].abs().max() < 1e-6
    assert close(model.log_probs(x).exp().sum(0), torch.bincount(y).double(), 1e-7)  # what the intercept sees to
    assert classes > 2 or (model.weight[0] == 0).all()


def test_a_wrong_curvature_is_found(monkeypatch):
    """Mutant: a step that follows the gradient (no curvature) does not arrive where Newton does in as many steps."""
    x, y = problem(3)
    assert LogisticRegression(3, 5).fit(x, y, steps=20) is not None
    monkeypatch.setattr(logistic, "conjugate_gradients", lambda product, b, tolerance, steps: b)
    with pytest.raises(ValueError, match="no convergence|no step"):
        LogisticRegression(3, 5).fit(x, y, steps=20)


def test_conjugate_gradients_solve_and_stand_singular_systems():
    g = torch.Generator().manual_seed(0)
    root = torch.randn(8, 6, dtype=torch.float64, generator=g)
    for a in (root.T @ root, root[:3].T @ root[:3]):  # full rank, then rank 3
        b = a @ torch.randn(6, dtype=torch.float64, generator=g)
        v = conjugate_gradients(lambda v, a=a: a @ v, b, 1e-12, 100)
        assert close(a @ v, b)
        assert close(v, torch.linalg.pinv(a, hermitian=True) @ b)
        assert not close(conjugate_gradients(lambda v, a=a: a @ v, b, 1e-12, 1), v)  # mutant: one step
    assert torch.equal(conjugate_gradients(lambda v: -v, b, 1e-12, 5), b)  # no bend: the way down


def test_text_sized_problems_and_other_dtypes():
    g = torch.Generator().manual_seed(0)
    x = torch.poisson(torch.rand(300, 2000, generator=g).pow(8), generator=g)  # more columns than examples
    y = (x[:, :50].sum(1) > x[:, 50:100].sum(1)).long()
    model = LogisticRegression(2, 2000).fit(x, y)
    theirs = Reference(C=1.0, solver="newton-cg", tol=1e-12, max_iter=5000).fit(x.double().numpy(), y.numpy())
    assert close(model.log_probs(x).exp(), theirs.predict_proba(x.double().numpy()))
    assert close(LogisticRegression(2, 2000).fit(x.to(torch.uint8), y.int()).weight, model.weight)
    again = LogisticRegression(**model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.log_probs(x), model.log_probs(x))


def test_separable_classes_have_no_maximum_likelihood_but_a_penalised_one():
    x, y = problem(scale=20.0)
    with pytest.raises(ValueError, match="separable"):
        LogisticRegression(2, 5, 0.0).fit(x, y)
    losses = [LogisticRegression(2, 5, p).fit(x, y) for p in (1.0, 1e-2, 1e-4)]
    norms = [float(m.weight.norm()) for m in losses]
    assert norms[0] < norms[1] < norms[2]  # the smaller the penalty, the larger the weights
    partly, z = problem(3, scale=0.5)
    partly[z == 2] += 40  # one class of three stands apart
    with pytest.raises(ValueError, match="separable"):
        LogisticRegression(3, 5, 0.0).fit(partly, z)
    touching = torch.tensor([[-2.0], [-1.0], [0.0], [0.0], [1.0], [2.0]])  # separable but for the two that meet
    with pytest.raises(ValueError, match="separable"):
        LogisticRegression(2, 1, 0.0).fit(touching, torch.tensor([0, 0, 0, 1, 1, 1]), steps=60)


X, Y = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
BAD_X = [None, [[0.0, 1.0]], torch.zeros(4), torch.zeros(4, 3), torch.zeros(0, 2), torch.zeros(4, 2) * 1j]
BAD_X += [torch.full((4, 2), torch.nan), torch.full((4, 2), torch.inf)]
BAD_Y = [
    None,
    [0, 1, 0, 1],
    torch.zeros(4),
    torch.tensor([0, 1]),
    torch.tensor([0, 1, 0, 2]),
    torch.tensor([0, -1, 0, 1]),
]


@settings(deadline=None)
@given(st.sampled_from(BAD_X), st.sampled_from(["fit", "log_probs", "classify", "objective"]))
def test_bad_examples_are_value_errors(x, method):
    with pytest.raises(ValueError, match="x is"):
        getattr(LogisticRegression(2, 2), method)(*([x, Y] if method in ("fit", "objective") else [x]))


@settings(deadline=None)
@given(st.sampled_from(BAD_Y), st.sampled_from(["fit", "objective"]))
def test_bad_labels_are_value_errors(y, method):
    with pytest.raises(ValueError, match="labels are"):
        getattr(LogisticRegression(2, 2), method)(X, y)
    with pytest.raises(ValueError, match="labels are"):
        check_labels(y, 4, 2)


def test_bad_settings_and_missing_classes_are_value_errors():
    for options in (
        {"classes": 1},
        {"classes": True},
        {"features": 0},
        {"penalty": -1.0},
        {"penalty": float("nan")},
        {"penalty": "1"},
        {"penalty": None},
    ):
        with pytest.raises(ValueError):
            LogisticRegression(**{"classes": 2, "features": 2, **options})
    with pytest.raises(ValueError, match="class 1 has no examples"):
        LogisticRegression(3, 2).fit(X, torch.tensor([0, 2, 0, 2]))
