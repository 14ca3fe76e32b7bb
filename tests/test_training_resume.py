"""The training loop interrupted and killed: it ends as if nothing had been, and never with half a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from families import Drift, Line, line

from helpers.training import fit
from helpers.training.parts import save_atomically


@pytest.fixture(autouse=True)
def all_steps(monkeypatch):
    monkeypatch.delenv("MAX_STEPS", raising=False)


def test_ctrl_c_finishes_the_step_and_keeps_the_best(capsys):
    model, x = Drift(), torch.zeros(4, 1)

    def callback(step, model):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    options = dict(learning_rate=1.0, schedule="constant", validate_every=1)
    history = fit(model, x, validation=x, steps=1000, callback=callback, **options)
    assert (history.stopped, history.steps, model.w.item()) == ("interrupted", 5, 3)
    assert "after step 5 of 1000" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is handler


KILLED = '''
import os, signal, sys, random
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
import helpers.training.loop as loop
import helpers.training.parts as parts
from families import Line
parts.os.fsync = lambda file: None  # slow, and of no use against SIGKILL
replace, restore = os.replace, loop.set_random_state

def run(path, kill=None, inside_save=False):
    """Train in a child that kills itself after the step ``kill``, or in the midst of writing it down."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    torch.manual_seed(0)
    model = Line(dropout=0.2)
    x = torch.randn(50, 2)
    saves = []
    def dying(part, path):
        saves.append(path)
        if len(saves) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(part, path)
    if inside_save:
        parts.os.replace = dying
    def callback(step, model):
        if step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
    history = loop.fit(model, x, validation=x, steps=40, batch_size=16, learning_rate=0.01, ema=0.9, clip=1.0,
        weight_decay=0.1, warmup=0.1, validate_every=3, seed=1, checkpoint=path + ".state", checkpoint_seconds=0.0,
        progress=False, callback=callback)
    torch.save([model.state_dict(), history.logs, history.validation, torch.get_rng_state()], path)
    assert "torch._dynamo" not in sys.modules, "the compiler was imported: 2 s"
    os._exit(0)

def read(path):
    result, state = (torch.load(name, weights_only=True) for name in (path, path + ".state"))
    state["history"]["seconds"] = 0.0
    return result, state

def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b

whole = sys.argv[2] + "/whole"
assert run(whole)
for kind in ("true", "mutant"):
    if kind == "mutant":  # the global generator's state is not restored
        loop.set_random_state = lambda *_: None
    path = sys.argv[2] + "/" + kind
    for kill in sorted(random.Random(5).sample(range(1, 40), 4)):
        assert not run(path, kill)
    assert not run(path, inside_save=True)
    assert not os.path.exists(path)
    assert run(path)
    print(kind, same(read(whole), read(path)))
'''


def test_killed_at_any_step_and_resumed_it_ends_with_the_same_bits(tmp_path):
    """SIGKILL after four steps chosen at random, and once more within the writing of a checkpoint.

    Compared: weights, history, the global generator, and the whole last state with optimiser, average and batches.
    """
    arguments = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["true True", "mutant False"]


def test_checkpoint_of_another_training_is_refused(tmp_path):
    model, x = line()
    path = tmp_path / "state.pt"
    options = dict(steps=5, progress=False, checkpoint=path)
    fit(model, x, batch_size=16, **options)
    with pytest.raises(ValueError, match="batch_size=16, not 32"):
        fit(model, x, batch_size=32, **options)
    with pytest.raises(ValueError, match="train="):
        fit(model, x + 1, batch_size=16, **options)
    again = fit(line(seed=9)[0], x, batch_size=16, **options)  # finished: nothing is left to do
    assert again.steps == 5 and len(again.loss) == 5


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.pt"
    save_atomically(path, {"a": 1})
    with pytest.raises(Exception, match="pickle|local"):
        save_atomically(path, {"a": lambda: 0})
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["file.pt"]


@pytest.mark.gpu
def test_on_a_gpu_it_learns_and_resumes(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(256, 2)
    path = tmp_path / "state.pt"
    stop = []
    options = dict(steps=200, batch_size=64, learning_rate=0.02, ema=0.9, clip=1.0, progress=False, validation=x)

    def interrupt(step, model):
        if step == 60 and not stop:
            stop.append(step)
            os.kill(os.getpid(), signal.SIGINT)

    torch.manual_seed(1)
    model = Line(dropout=0.1).cuda()
    assert fit(model, x, seed=2, checkpoint=path, callback=interrupt, **options).stopped == "interrupted"
    torch.manual_seed(1)
    resumed, whole = Line(dropout=0.1).cuda(), Line(dropout=0.1).cuda()
    whole.load_state_dict(resumed.state_dict())
    history = fit(resumed, x, seed=3, checkpoint=path, **options)
    truth = fit(whole, x, seed=2, **options)
    assert history.steps == 200 and history.best[1] < 0.05
    assert history.loss == pytest.approx(truth.loss, rel=1e-3, abs=1e-5)
