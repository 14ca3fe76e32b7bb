"""The training loop: against hand-written loops and torch's own optimiser; what it shows, what it refuses."""

from __future__ import annotations

import json
import math
import sys
import threading
import time

import pytest
import torch
from families import Drift, Duel, Gauss, Line, Pixels, line, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.models.base import AdamW, GenerativeModel
from helpers.training import History, chunks, fit, learning_rate_factor, windows
from helpers.training.loop import SCHEDULES
from helpers.training.parts import Batches


@pytest.fixture(autouse=True)
def all_steps(monkeypatch):
    monkeypatch.delenv("MAX_STEPS", raising=False)


def test_fit_is_the_loop_one_would_write():
    """Without options: AdamW, cosine, shuffled epochs; a plain loop with torch's own scheduler gives the same bits."""
    model, x = line()
    history = fit(model, x, steps=20, batch_size=16, learning_rate=0.01, seed=3, progress=False)

    other, _ = line()
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    optimizer = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.0, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.5 * (1 + math.cos(math.pi * k / 20)))
    losses = []
    for step in range(20):
        if step % 4 == 0:
            order = torch.randperm(64, generator=generator)
        loss = other.loss(x[order[step % 4 * 16 : step % 4 * 16 + 16]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert history.loss == losses and history.steps == 20 and history.stopped == "steps"
    assert torch.equal(weights(model), weights(other))
    assert not model.training

    constant, _ = line()  # mutant: the schedule forgotten
    fit(constant, x, steps=20, batch_size=16, learning_rate=0.01, schedule="constant", seed=3, progress=False)
    assert not torch.allclose(weights(constant), weights(other), atol=1e-4)


def test_optimizer_equals_torchs():
    def run(make):
        torch.manual_seed(0)
        net = nn.Linear(5, 3)
        optimizer = make(net.parameters())
        for _ in range(10):
            optimizer.zero_grad()
            net(torch.randn(7, 5)).square().mean().backward()
            optimizer.step()
        return weights(net)

    ours = run(lambda p: AdamW(p, lr=0.01, weight_decay=0.1))
    assert torch.equal(ours, run(lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, fused=True)))
    mutant = run(lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1))  # decay inside the gradient
    assert not torch.allclose(ours, mutant)


def test_weight_decay_spares_biases():
    model, _ = line()
    groups = model.optimizers(1e-3, 0.1)[0].param_groups
    assert [(g["weight_decay"], {p.ndim for p in g["params"]}) for g in groups] == [(0.1, {2}), (0.0, {1})]
    assert [g["weight_decay"] for g in model.optimizers(1e-3)[0].param_groups] == [0.0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps, warmup", [(1, 0.0), (10, 0.0), (100, 0.1), (7, 0.9), (1000, 0.05)])
def test_schedule_spans_exactly_the_steps(schedule, steps, warmup):
    rates = [learning_rate_factor(k, steps, schedule, warmup) for k in range(steps)]
    rise = round(warmup * steps)
    assert rates[rise] == 1 and all(0 < rate <= 1 for rate in rates)
    assert rates[:rise] == pytest.approx([(k + 1) / (rise + 1) for k in range(rise)])
    assert all(a >= b for a, b in zip(rates[rise:], rates[rise + 1 :], strict=False))
    if steps - rise >= 10 and schedule != "constant":
        assert rates[-1] < 0.15
        stretched = [learning_rate_factor(k, 2 * steps, schedule, warmup) for k in range(steps)]
        assert stretched[-1] > 0.15  # mutant: a schedule over another number of steps


def test_average_is_the_weighted_sum_of_all_weights():
    """The recursion unrolled: each step's weights times its decay and all later ones."""
    model, x = line()
    seen = [weights(model)]

    class Spy(Line):
        def training_step(self, batch, optimizers):
            logs = super().training_step(batch, optimizers)
            seen.append(weights(self))
            return logs

    model.__class__ = Spy
    fit(model, x, steps=15, batch_size=16, learning_rate=0.05, ema=0.8, seed=0, progress=False)
    decays = [min(0.8, (1 + k) / (10 + k)) for k in range(1, 16)]
    expected = seen[0] * math.prod(decays)
    for k in range(1, 16):
        expected = expected + seen[k] * (1 - decays[k - 1]) * math.prod(decays[k:])
    assert torch.allclose(weights(model), expected, atol=1e-6)
    assert not torch.allclose(seen[-1], expected, atol=1e-3)  # mutant: the last weights returned


def test_clipping_limits_what_one_step_can_do():
    class Steep(GenerativeModel):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3))

        def optimizers(self, learning_rate, weight_decay=0.0):
            return [torch.optim.SGD([self.w], lr=learning_rate)]

        def loss(self, x, condition=None):
            return (self.w * torch.tensor([300.0, 0.0, 400.0])).sum()

    for clip, expected in ((2.0, [-1.2, 0.0, -1.6]), (None, [-300.0, 0.0, -400.0])):
        model = Steep()
        fit(model, torch.zeros(4, 1), steps=1, learning_rate=1.0, clip=clip, progress=False)
        assert model.w.tolist() == pytest.approx(expected, abs=1e-4)


def test_best_weights_and_patience():
    x, settings_ = torch.zeros(4, 1), dict(learning_rate=1.0, schedule="constant", validate_every=1, progress=False)
    model = Drift()
    history = fit(model, x, validation=x, steps=10, **settings_)
    assert model.w.item() == 3 and history.best == (3, 0.0) and history.steps == 10
    model = Drift()
    history = fit(model, x, validation=x, steps=10, patience=2, **settings_)
    assert (model.w.item(), history.steps, history.stopped) == (3, 5, "patience")
    model = Drift()
    fit(model, x, validation=x, steps=10, keep_best=False, **settings_)
    assert model.w.item() == 10


def test_validation_and_callback_do_not_change_the_training():
    x = line()[1]
    plain, watched = line(dropout=0.5)[0], line(dropout=0.5)[0]
    options = dict(steps=12, batch_size=16, seed=1, ema=0.9, progress=False)
    first = fit(plain, x, **options)
    modes = []

    def callback(step, model):
        torch.randn(5)
        modes.append((step, model.training))

    second = fit(watched, x, validation=x, validate_every=2, keep_best=False, callback=callback, **options)
    assert first.loss == second.loss and torch.equal(weights(plain), weights(watched))
    assert modes == [(step, False) for step in range(1, 13)]
    assert len(second.validation) == 6


def test_validation_loss_is_the_mean_over_examples():
    model, _ = line()
    x = torch.randn(1100, 2)
    history = fit(model, x[:8], validation=x, steps=1, learning_rate=1e-12, progress=False)
    assert history.validation[0][1] == pytest.approx(float(model.loss(x).detach()), rel=1e-5)
    mutant = sum(model.loss(part).item() for part in x.split(512)) / 3  # the mean of unequal batches' means
    assert mutant != pytest.approx(model.loss(x).item(), rel=1e-5)


def test_each_epoch_shows_every_example_once():
    batches = Batches((torch.arange(12), torch.arange(12) * 10), 4, torch.device("cpu"))
    epochs = []
    for _ in range(3):
        seen = [batches.next() for _ in range(3)]
        x = torch.cat([x for x, _ in seen])
        assert torch.equal(torch.cat([c for _, c in seen]), 10 * x)
        assert sorted(x.tolist()) == list(range(12))
        epochs.append(x.tolist())
    assert epochs[0] != epochs[1] != epochs[2]
    assert len(Batches(torch.arange(3), 100, torch.device("cpu")).next()[0]) == 3


def test_conditions_and_functions_are_data_too():
    model, x = line()
    fit(model, (x, x[:, 0]), steps=300, batch_size=64, learning_rate=0.02, seed=0, progress=False)
    assert model.loss(x, x[:, 0]).item() < 0.05
    other, _ = line()

    def draw(n, generator):
        x = torch.randn(n, 2, generator=generator)
        return x, x[:, 0]

    fit(other, draw, steps=300, batch_size=64, learning_rate=0.02, seed=0, progress=False)
    assert other.loss(x, x[:, 0]).item() < 0.05


def test_several_networks_and_no_gradients():
    torch.manual_seed(0)
    model, x = Duel(), torch.randn(100, 2)
    before = weights(model)
    history = fit(model, x, steps=5, clip=1.0, progress=False)
    assert set(history.logs) == {"generator", "critic"} and history.loss == []
    assert (weights(model) != before).any()
    model = Gauss(2)
    assert fit(model, x).steps == 0
    assert torch.allclose(model.mean, x.mean(0))


def test_max_steps_caps(monkeypatch):
    monkeypatch.setenv("MAX_STEPS", "2")
    model, x = line()
    assert fit(model, x, steps=50, progress=False).steps == 2


@pytest.mark.parametrize("step", [1, 4])
def test_infinite_loss_names_its_step(step):
    class Bad(Line):
        calls = 0

        def loss(self, x, condition=None):
            self.calls += 1
            return super().loss(x) * (math.nan if self.calls == step else 1)

    with pytest.raises(FloatingPointError, match=f"loss is nan at step {step} of 10"):
        fit(Bad(), torch.randn(8, 2), steps=10, progress=False)


def test_works_outside_the_main_thread():
    model, x = line()
    thread = threading.Thread(target=fit, args=(model, x), kwargs=dict(steps=3, progress=False))
    thread.start()
    thread.join()
    assert not model.training


def test_notebook_progress_is_one_display(monkeypatch):
    """A kernel's shell and display are played by stand-ins: one display, updated a few times."""
    import types

    calls = []

    class Handle:
        def update(self, data, raw):
            calls.append(data["text/plain"])

    def display(data, raw, display_id):
        calls.append(data["text/plain"])
        return Handle()

    shell = types.SimpleNamespace(kernel=True)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    model, x = line()
    fit(model, x, validation=x, steps=30)
    assert calls[0] == "step 0/30" and calls[-1].startswith("step 30/30 · loss ")
    assert "validation" in calls[-1] and len(calls) < 10
    fit(model, x, steps=30)
    assert calls[-1].startswith("step 30/30 · loss ") and "validation" not in calls[-1]


def test_terminal_progress_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    model, x = line()
    fit(model, x, steps=30)
    out, err = capsys.readouterr()
    assert out == "" and "30/30" in err and "loss " in err


def test_silent_where_nobody_looks(capfd):
    model, x = line()
    fit(model, x, steps=5)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_windows_and_chunks():
    text = torch.arange(100)
    draw = windows(text, 7)
    x = draw(2000, torch.Generator().manual_seed(0))
    assert x.shape == (2000, 7) and (x.diff(dim=1) == 1).all()
    assert set(x[:, 0].tolist()) == set(range(94))  # the last window included
    cut = chunks(text, 30)
    assert cut.shape == (4, 30) and cut[cut >= 0].tolist() == list(range(100)) and (cut[3, 10:] == -1).all()


numbers = st.one_of(st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3))
RIGHT = {
    "steps": lambda v: type(v) is int and v >= 0,
    "batch_size": lambda v: type(v) is int and v >= 1,
    "learning_rate": lambda v: type(v) in (int, float) and 0 < v < math.inf,
    "warmup": lambda v: type(v) in (int, float) and 0 <= v < 1,
    "weight_decay": lambda v: type(v) in (int, float) and 0 <= v < math.inf,
    "ema": lambda v: type(v) in (int, float) and 0 <= v < 1,
    "clip": lambda v: v is None or type(v) in (int, float) and v > 0,
    "validate_every": lambda v: v is None or type(v) is int and v >= 1,
    "patience": lambda v: v is None or type(v) is int and v >= 1,
    "schedule": lambda v: v in SCHEDULES,
}


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(RIGHT)), numbers)
def test_fit_refuses_bad_arguments(name, value):
    if RIGHT[name](value):
        return
    with pytest.raises(ValueError, match=name):
        fit(Drift(), torch.zeros(4, 1), progress=False, **{name: value})


@pytest.mark.parametrize(
    "data, message",
    [
        (torch.zeros(0, 2), "at least one"),
        (torch.tensor(1.0), "at least one"),
        ([1, 2], "list"),
        ((torch.zeros(3, 2), torch.zeros(2)), "each of the 3"),
        ((torch.zeros(3, 2), [0, 1, 2]), "list"),
        (torch.full((3, 2), math.nan), "nan"),
    ],
)
def test_fit_refuses_bad_data(data, message):
    for options in (dict(train=data), dict(train=torch.zeros(3, 2), validation=data)):
        with pytest.raises(ValueError, match=message):
            fit(line()[0], steps=1, progress=False, **options)


@pytest.mark.parametrize(
    "text, length", [(torch.zeros(3, 3), 2), (torch.zeros(3), 4), (torch.zeros(3), 0), (torch.zeros(3), 1.5)]
)
def test_windows_refuse(text, length):
    with pytest.raises(ValueError, match="windows"):
        windows(text, length)


@pytest.mark.parametrize(
    "text, length", [(torch.zeros(3, 3), 2), (torch.zeros(0), 2), (torch.zeros(3), 0), (torch.zeros(3), 1.5)]
)
def test_chunks_refuse(text, length):
    with pytest.raises(ValueError, match="stretches"):
        chunks(text, length)


def test_history_of_nothing():
    assert History().best is None and json.dumps(History().logs) == "{}"


def test_pixels_learn_the_frequencies():
    """The optimum of independent pixels is known: the frequencies, so the entropy is the loss."""
    torch.manual_seed(0)
    x = (torch.rand(400, 2, 2) < torch.tensor([[0.1, 0.5], [0.8, 0.3]])).to(torch.uint8)
    model = Pixels((2, 2), 2, noise=0.0)
    start = time.perf_counter()
    history = fit(model, x, steps=400, batch_size=400, learning_rate=0.1, progress=False)
    assert 0 < history.seconds <= time.perf_counter() - start
    p = x.float().mean(0)
    entropy = float(-(p * p.log() + (1 - p) * (1 - p).log()).sum())
    assert -model.log_prob(x).mean().item() == pytest.approx(entropy, abs=1e-3)


@pytest.mark.gpu
def test_a_gpu_gets_windows_of_a_text_that_is_elsewhere():
    x = windows(torch.arange(100), 7)(2000, torch.Generator("cuda").manual_seed(0))
    assert (x.diff(dim=1) == 1).all() and set(x[:, 0].tolist()) == set(range(94))
