"""The command ``python -m helpers.training``: what it writes, and that it may be interrupted."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import one_command
import pytest
import torch
from one_command import WORDS, assert_refused, metrics, train

from helpers import training
from helpers.training.cli import main

TESTS = Path(__file__).parent
folder, surroundings = one_command.folder, one_command.surroundings


def test_run_writes_what_it_promises(folder, capsys):
    assert train(folder, "tiny_pixels", "images.npz", "--steps", "30", "--seed", "4", "--threads", "1") == 0
    names = ["checkpoint.pt", "metrics.json", "samples.npz", "samples.png", "settings.json"]
    assert sorted(path.name for path in Path("run").iterdir()) == names
    found = metrics()
    assert {"validation", "test", "parameters", "seconds", "steps", "seed"} <= found.keys()
    assert (found["steps"], found["seed"], found["parameters"]) == (30, 4, 4 * 4 * 5)
    for part in ("validation", "test"):
        assert found[part]["unit"] == "nats" and found[part]["kind"] == "exact" and found[part]["n"] == 10
    model = training.load("run")
    x = torch.from_numpy(np.load(folder / "images.npz")["x"])
    for part, piece in (("validation", x[80:90]), ("test", x[90:])):  # in file order
        truth = -model.log_prob(piece).double().mean().item()
        assert found[part]["value"] == pytest.approx(truth, rel=1e-6)
        assert found[part]["bits_per_dimension"] == pytest.approx(truth / 16 / math.log(2), rel=1e-6)
    assert found["test"]["value"] != pytest.approx(
        -model.log_prob(x[:10]).mean().item(), rel=1e-6
    )  # mutant: other part
    samples = np.load("run/samples.npz")["x"]
    assert samples.shape == (64, 4, 4) and samples.dtype == np.uint8 and samples.max() <= 4
    torch.load("run/checkpoint.pt", weights_only=True)
    assert "written to run" in capsys.readouterr().out


def test_same_seed_same_run_other_seed_another(folder):
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert train(folder, "tiny_pixels", "images.npz", "--steps", "10", "--seed", seed, out=out) == 0
    assert metrics("a")["validation"] == metrics("b")["validation"] != metrics("c")["validation"]
    a, b = (np.load(f"{out}/samples.npz")["x"] for out in "ab")
    assert (a == b).all()


def test_seconds_fix_the_steps_and_the_steps_repeat_the_run(folder):
    start = time.perf_counter()
    last = ["--set", "keep_best=False"]
    assert train(folder, "tiny_pixels", "images.npz", "--seconds", "1.5", *last, out="timed") == 0
    wall = time.perf_counter() - start
    timed = metrics("timed")
    assert 0 < timed["seconds"] + timed["calibration_seconds"] <= wall
    assert timed["steps"] > 10
    assert json.loads(Path("timed/settings.json").read_text())["steps"] == timed["steps"]
    assert train(folder, "tiny_pixels", "images.npz", "--steps", str(timed["steps"]), *last, out="again") == 0
    assert metrics("again")["validation"] == timed["validation"]
    a, b = (torch.load(f"{out}/checkpoint.pt", weights_only=True)["state"] for out in ("timed", "again"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert train(folder, "tiny_pixels", "images.npz", "--steps", str(timed["steps"] + 1), *last, out="other") == 0
    assert metrics("other")["validation"] != timed["validation"]  # mutant: a schedule over other steps


def test_text_by_line_counts_the_ends(folder):
    options = ["--examples", "lines", "--steps", "300", "--set", "learning_rate=0.05"]
    assert train(folder, "tiny_letters", "words.txt", *options) == 0
    found = metrics()["validation"]
    part = "".join(word + "$" for word in WORDS[160:180])  # counted by hand, with an end each
    assert (found["unit"], found["n"]) == ("nats/character", len(part))
    everything = "".join(word + "$" for word in WORDS[:160])
    optimum = -sum(math.log(everything.count(c) / len(everything)) for c in part) / len(part)
    assert found["value"] == pytest.approx(optimum, abs=0.005)
    without = part.replace("$", "")
    mutant = -sum(math.log(without.count(c) / len(without)) for c in without) / len(without)  # no ends
    assert mutant != pytest.approx(optimum, abs=0.005)
    assert set(Path("run/samples.txt").read_text()) <= set("".join(WORDS) + "\n")


def test_running_text_in_windows(folder):
    options = ["--steps", "300", "--length", "8", "--fractions", ".9,.1", "--set", "learning_rate=0.05"]
    assert train(folder, "tiny_letters", "words.txt", *options) == 0
    found = metrics()
    text = "\n".join(WORDS) + "\n"
    cut = round(0.9 * len(text))
    train_part, part = text[:cut], text[cut:]
    assert found["test"] is None and found["validation"]["n"] == len(part)
    optimum = -sum(math.log(train_part.count(c) / cut) for c in part) / len(part)
    assert found["validation"]["value"] == pytest.approx(optimum, abs=0.01)


@pytest.mark.parametrize("ends", [False, True], ids=["running text", "lines"])
def test_a_family_that_counts_learns_text(folder, ends):
    options = ["--examples", "lines"] if ends else ["--length", "8", "--fractions", ".9,.1"]
    assert train(folder, "markov", "words.txt", *options, "--set", "order=0", "--set", "smoothing=1e-9") == 0
    found, end = metrics()["validation"], "$" if ends else "\n"
    text = "".join(word + end for word in WORDS)
    cut = len("".join(word + end for word in WORDS[:160])) if ends else round(0.9 * len(text))
    part = "".join(word + end for word in WORDS[160:180]) if ends else text[cut:]
    truth = -sum(math.log(text[:cut].count(c) / cut) for c in part) / len(part)
    assert (found["value"], found["n"]) == (pytest.approx(truth, rel=1e-6), len(part))
    assert found["value"] != pytest.approx(math.log(len(set(text))), rel=0.01)  # mutant: it has counted nothing


def test_families_without_gradients_or_likelihood(folder):
    assert train(folder, "tiny_gauss", "points.npz", out="gauss") == 0
    x = np.load(folder / "points.npz")["x"].astype(np.float64)
    z = (x[90:] - x[:80].mean(0)) / x[:80].std(0)
    truth = (0.5 * z**2 + np.log(x[:80].std(0)) + 0.5 * math.log(2 * math.pi)).sum(1).mean()
    assert metrics("gauss")["test"]["value"] == pytest.approx(truth, rel=1e-5)
    assert train(folder, "tiny_duel", "points.npz", "--steps", "5", out="duel") == 0
    assert metrics("duel")["validation"] is None
    assert np.load("duel/samples.npz")["x"].shape == (64, 2)


def test_colour_images_have_a_contact_sheet(folder):
    from matplotlib.image import imread

    assert train(folder, "tiny_pixels", "colour.npz", "--steps", "3", "--levels", "256") == 0
    sheet = imread("run/samples.png")
    samples = np.load("run/samples.npz")["x"]
    assert sheet.shape == (8 * 68, 8 * 68, 4)  # images of 4 pixels drawn 16 each, a margin of 2 around
    assert sheet[68 + 2 + 5, 2 * 68 + 2 + 20, :3] == pytest.approx(samples[10, 0, 1] / 255, abs=0.003)


def test_evaluate_scores_another_file(folder, capsys):
    assert train(folder, "tiny_pixels", "images.npz", "--steps", "5") == 0
    x = np.load(folder / "images.npz")["x"][80:90]
    np.savez("other.npz", x=x)
    capsys.readouterr()
    assert main(["evaluate", "run", "--data", "other.npz"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(Path("run/evaluate-other.json").read_text())
    assert printed["value"] == pytest.approx(metrics()["validation"]["value"]) and printed["n"] == 10
    np.savez("bright.npz", x=x + 5)
    np.savez("large.npz", x=np.zeros((3, 5, 5), np.uint8))
    for data, message in (
        ("bright.npz", "knows 0..4"),
        ("large.npz", "trained on (4, 4)"),
        (folder / "points.npz", "trained on images"),
        (folder / "words.txt", "trained on images"),
        ("absent.npz", "does not exist"),
    ):
        assert_refused(["evaluate", "run", "--data", str(data)], message, capsys)
    assert_refused(["evaluate", "nowhere", "--data", "other.npz"], "no checkpoint.pt", capsys)
    Path("run/checkpoint.pt").write_bytes(b"broken")
    assert_refused(["evaluate", "run", "--data", "other.npz"], "not a checkpoint", capsys)


def test_evaluate_text_keeps_symbols(folder, capsys):
    assert train(folder, "tiny_letters", "words.txt", "--examples", "lines", "--steps", "5") == 0
    Path("bobs.txt").write_text("bob\nnora\n")
    assert main(["evaluate", "run", "--data", "bobs.txt", "--out", "score.json"]) == 0
    model = training.load("run")
    p = dict(zip([*"abcdemnor", "$"], model.logits.softmax(0).tolist(), strict=True))
    truth = -sum(math.log(p[c]) for c in "bob$nora$") / 9
    assert json.loads(Path("score.json").read_text())["value"] == pytest.approx(truth, rel=1e-5)
    Path("zoe.txt").write_text("zoe\n")
    assert_refused(["evaluate", "run", "--data", "zoe.txt"], "'z'", capsys)


def test_finished_run_is_kept_unless_told(folder, capsys):
    assert train(folder, "tiny_pixels", "images.npz", "--steps", "3") == 0
    arguments = ["tiny_pixels", "--data", str(folder / "images.npz"), "--out", "run", "--steps", "4"]
    assert_refused(arguments, "--overwrite", capsys)
    assert_refused([*arguments, "--resume"], "--overwrite", capsys)
    assert_refused([*arguments, "--overwrite", "--set", "batch_size=0"], "batch_size", capsys)
    assert metrics()["steps"] == 3
    assert main([*arguments, "--overwrite"]) == 0
    assert metrics()["steps"] == 4


def test_diverging_training_says_so(folder, capsys):
    arguments = ["tiny_pixels", "--data", str(folder / "images.npz"), "--out", "run", "--steps", "50"]
    assert_refused([*arguments, "--set", "noise=1e39"], "is nan at step", capsys, code=1)


def test_help_explains_with_examples(capsys):
    for arguments in (["--help"], ["evaluate", "--help"]):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text and "tiny_gauss, tiny_letters" in text and "needy" not in text and "--resume" in text


DRIVER = """
import sys
sys.path[:0] = [{tests!r}, {root!r}]
import torch
import helpers.models
helpers.models.__path__.append({models!r})
import families
families.Pixels.recipe |= dict(checkpoint_seconds=0.1)
from helpers.training.cli import main
print("ready", flush=True)
sys.exit(main())
"""


def test_killed_or_interrupted_and_resumed_it_equals_the_whole_run(folder, tmp_path):
    """SIGKILL at some moment, resumed; SIGINT, resumed: the same checkpoint as a run that nobody disturbed."""
    code = DRIVER.format(tests=str(TESTS), root=str(TESTS.parent), models=str(folder / "models"))
    line = ["tiny_pixels", "--data", str(folder / "images.npz"), "--steps", "2000", "--threads", "1", "--out"]

    def start(*more):
        command = [sys.executable, "-c", code, *line, "run", *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for_change(process):
        state = tmp_path / "run" / "training.pt"
        before = state.stat().st_mtime_ns if state.exists() else None
        while process.poll() is None and (state.stat().st_mtime_ns if state.exists() else None) == before:
            time.sleep(0.005)
        assert process.poll() is None

    process = start()
    wait_for_change(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert main([*line, "run"]) == 2  # neither --resume nor --overwrite
    assert main([*line, "run", "--resume", "--seed", "1"]) == 2  # another run
    process = start("--resume")
    wait_for_change(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130 and "--resume" in err and err.count("\n") == 1
    assert main([*line, "run", "--resume"]) == 0
    assert main([*line, "whole"]) == 0
    a, b = metrics("run"), metrics("whole")
    assert {**a, "seconds": 0} == {**b, "seconds": 0}
    a, b = (torch.load(f"{out}/checkpoint.pt", weights_only=True)["state"] for out in ("run", "whole"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not (tmp_path / "run" / "training.pt").exists()
