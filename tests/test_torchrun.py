"""The command under torchrun: a worker is killed, both are interrupted, and the result is that of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

TESTS = Path(__file__).parent
SECONDS = 150  # after which a child that hangs is killed, and its test fails

COMMAND = """
import sys
sys.path.insert(0, {tests!r})
import helpers.models
helpers.models.__path__.append({models!r})
from helpers.training import loop
from helpers.training.cli import main
loop.fit.__kwdefaults__["checkpoint_seconds"] = 0.1
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def started(tmp_path, monkeypatch):
    """``started("torchrun" or "python", *arguments)``: the command in tmp_path, all of whose processes end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("Pixels", "Gauss"):
        (tmp_path / "models" / f"tiny_{name.lower()}.py").write_text(f"from families import {name} as FAMILY\n")
    Path("command.py").write_text(COMMAND.format(tests=str(TESTS), models=str(tmp_path / "models")))
    generator = np.random.default_rng(0)
    np.savez("images.npz", x=generator.integers(0, 5, (100, 4, 4), dtype=np.uint8))
    np.savez("points.npz", x=generator.normal(size=(100, 2)).astype(np.float32))
    env = {name: value for name, value in os.environ.items() if name != "MAX_STEPS"}
    env |= {"PYTHONPATH": str(TESTS.parent), "OMP_NUM_THREADS": "1"}
    processes = []

    def start(how: str, *arguments: str) -> subprocess.Popen:
        launch = [] if how == "python" else ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        launch += ["--max-restarts", "1"] * (how == "restarting")
        process = subprocess.Popen(
            [sys.executable, *launch, "command.py", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The two, when the training has left its first checkpoint."""
    end = time.monotonic() + SECONDS
    while not Path("run/training.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)
    found = {}
    for child in psutil.Process(process.pid).children(recursive=True):
        if rank := child.environ().get("RANK"):
            found[rank] = child
    return [found["0"], found["1"]]


LINE = ["tiny_pixels", "--data", "images.npz", "--steps", "1500", "--set", "noise=0.0", "--seed", "3", "--out"]


def test_a_killed_worker_starts_again_from_the_last_checkpoint(started):
    """SIGKILL to the second worker; the result is that of one process that nothing happened to."""
    process = started("restarting", *LINE, "run", "--resume")
    workers_of(process)[1].send_signal(signal.SIGKILL)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert out.count("80 parameters") == 1 and out.count("continuing run: 1,500 steps in all") == 1
    assert out.count("written to run") == 1  # the first worker speaks, the other is silent
    names = ["checkpoint.pt", "metrics.json", "samples.npz", "samples.png", "settings.json"]
    assert sorted(path.name for path in Path("run").iterdir()) == names
    assert started("python", *LINE, "alone").communicate(timeout=SECONDS) and Path("alone/metrics.json").exists()
    two, one = (json.loads(Path(f"{name}/metrics.json").read_text()) for name in ("run", "alone"))
    assert (two["workers"], one["workers"]) == (2, 1) and two["steps"] == one["steps"] == 1500
    assert two["validation"]["value"] == pytest.approx(one["validation"]["value"], rel=1e-5)
    a, b = (torch.load(f"{name}/checkpoint.pt", weights_only=True)["state"]["logits"] for name in ("run", "alone"))
    assert torch.allclose(a, b, atol=1e-4) and a.std() > 0.1


def test_ctrl_c_ends_both_and_one_continues(started):
    process = started("torchrun", *LINE, "run", "--accumulate", "2")
    workers_of(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode != 0 and err.count("error: interrupted; run/training.pt holds the training") == 1, err
    steps = torch.load("run/training.pt", weights_only=True)["history"]["steps"]
    assert 0 < steps < 1500
    process = started("python", *LINE, "run", "--resume")
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0 and "written to run" in out, err


def test_a_family_without_gradients_is_refused(started):
    process = started("torchrun", "tiny_gauss", "--data", "points.npz", "--out", "run")
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode != 0 and "error: Gauss is not learnt by gradient: run it without torchrun" in err, err
    assert not Path("run").exists()


@pytest.mark.gpu
def test_on_gpus_each_worker_has_one(started):
    if torch.cuda.device_count() < 2:
        return
    process = started("torchrun", *LINE, "run", "--device", "cuda")
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
