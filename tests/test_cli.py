"""The command ``python -m helpers.training``: what it writes, what it refuses, and that it may be interrupted."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import helpers.models
from helpers import training
from helpers.training import files
from helpers.training.cli import main

TESTS = Path(__file__).parent
WORDS = ["anna", "bob", "cora", "dan", "emma"] * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Modules with the families of tests/families.py, and a file of each kind."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "models").mkdir()
    for name in ("Pixels", "Letters", "Gauss", "Duel"):
        (folder / "models" / f"tiny_{name.lower()}.py").write_text(f"from families import {name} as FAMILY\n")
    (folder / "models" / "needy.py").write_text("import a_package_that_is_not_there\n")
    (folder / "models" / "no_family.py").write_text("")
    generator = np.random.default_rng(0)
    images = generator.integers(0, 5, (100, 4, 4), dtype=np.uint8)
    images[0, 0, 0] = 4
    np.savez(folder / "images.npz", x=images)
    np.savez(folder / "colour.npz", x=generator.integers(0, 256, (40, 4, 4, 3), dtype=np.uint8))
    np.savez(folder / "points.npz", x=generator.normal(size=(100, 2)).astype(np.float32))
    (folder / "words.txt").write_text("\n".join(WORDS) + "\n")
    return folder


@pytest.fixture(autouse=True)
def surroundings(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("MAX_STEPS", raising=False)
    monkeypatch.setattr(helpers.models, "__path__", [*helpers.models.__path__, str(folder / "models")])
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_num_threads(threads)


def train(folder, name="tiny_pixels", data="images.npz", *options, out="run"):
    return main([name, "--data", str(folder / data), "--out", str(out), *options])


def metrics(out="run"):
    return json.loads((Path(out) / "metrics.json").read_text())


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


def assert_refused(arguments, message, capsys, code=2):
    """Exit code 2, one line that says what is wrong, and nothing new in the folder."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    folders = {path for path in Path().rglob("*") if path.is_dir()}
    capsys.readouterr()
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err, err
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()} == before
    assert {path for path in Path().rglob("*") if path.is_dir()} == folders


def save(name, **arrays):
    np.savez(name, **arrays)
    return name


ones = np.ones((3, 4, 2), np.uint8)
BAD_ARRAYS = {
    "no x": (dict(y=np.zeros(3)), "needs an array x; it holds y"),
    "rank 1": (dict(x=np.zeros(3, np.uint8)), "x in bad.npz is uint8 (3,)"),
    "rank 5": (dict(x=np.zeros((2, 2, 2, 2, 2), np.uint8)), "images are uint8 (N, H, W)"),
    "integer points": (dict(x=np.zeros((3, 2), np.int64)), "points are float (N, D)"),
    "float images": (dict(x=np.zeros((3, 2, 2))), "images are uint8"),
    "wide integers": (dict(x=np.zeros((3, 2, 2), np.int64)), "astype('uint8')"),
    "nan image": (dict(x=np.full((3, 2, 2), np.nan)), "nan or inf"),
    "nan points": (dict(x=np.array([[0, 1], [np.nan, 0]])), "nan or inf in example 1"),
    "inf points": (dict(x=np.array([[np.inf, 1]])), "nan or inf in example 0"),
    "no examples": (dict(x=np.zeros((0, 4, 4), np.uint8)), "it is empty"),
    "objects": (dict(x=np.array([None, 1])), "no .npz of plain arrays"),
    "text": (dict(x=np.array(["a", "b"])), "images are uint8"),
    "complex": (dict(x=np.zeros((3, 2), complex)), "points are float"),
    "sequence of 2": (dict(x=2 * ones, lengths=np.array([1, 1, 1])), "whole numbers 0 and 1"),
    "float lengths": (dict(x=ones, lengths=np.ones(3)), "3 whole numbers from 1 to 4"),
    "long lengths": (dict(x=ones, lengths=np.array([1, 2, 5])), "3 whole numbers from 1 to 4"),
    "few lengths": (dict(x=ones, lengths=np.array([1, 2])), "3 whole numbers from 1 to 4"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused(case, capsys):
    arrays, message = BAD_ARRAYS[case]
    save("bad.npz", **arrays)
    assert_refused(["tiny_pixels", "--data", "bad.npz", "--out", "run", "--steps", "2"], message, capsys)


BAD_FILES = {
    "empty": (b"", "is empty"),
    "blank": (b"\n\n\r\n", "empty lines"),
    "one symbol": (b"aaaa\n\n", "one symbol only"),
    "binary": (bytes(range(256)) * 4, "no text in UTF-8 (byte 128)"),
    "nul": (b"abc\0def", "NUL"),
    "latin": ("naïve".encode("latin-1"), "UTF-8"),
    "a few": (b"ab\nba\n" * 10, "fewer than --length"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_texts_are_refused(case, capsys):
    content, message = BAD_FILES[case]
    Path("bad.txt").write_bytes(content)
    mode = "characters" if case == "a few" else "lines"
    arguments = ["tiny_letters", "--data", "bad.txt", "--out", "run", "--examples", mode, "--steps", "2"]
    assert_refused(arguments, message, capsys)


@pytest.mark.parametrize(
    "change, message",
    [
        (["nope"], "there is no family nope; there are: "),
        (["no_family"], "tiny_gauss, tiny_letters, tiny_pixels"),
        (["../x"], "there is no family ../x"),
        (["needy"], "needs the package a_package_that_is_not_there"),
        (["--data", "absent.npz"], "absent.npz does not exist"),
        (["--data", "."], ". is a folder"),
        (["--steps", "0"], "0 is not a positive whole number"),
        (["--steps", "ten"], "ten"),
        (["--steps", "9" * 400], "positive whole number"),
        (["--seconds", "inf"], "positive number"),
        (["--seconds", "3", "--steps", "3"], "not allowed with"),
        (["--seed", "-1"], "-1 is not from 0"),
        (["--split", "random"], "order or shuffle:SEED"),
        (["--split", "shuffle:x"], "order or shuffle:SEED"),
        (["--fractions", ".9"], "two or three numbers"),
        (["--fractions", ".9,.2"], "sum to 1.1"),
        (["--fractions", ".5,.2,.2"], "sum to 0.9"),
        (["--fractions", ".9,nan"], "between 0 and 1"),
        (["--fractions", "a,b"], "list of numbers"),
        (["--fractions", ".999,.001"], "leave no validation part"),
        (["--levels", "3"], "holds values up to 4"),
        (["--set", "depth=3"], "depth"),
        (["--set", "depth"], "KEY=VALUE"),
        (["--set", "learning_rate=fast"], "learning_rate is a positive number, not 'fast'"),
        (["--set", "batch_size=0"], "batch_size"),
        (["--resume", "--overwrite"], "choose one"),
        (["--unknown"], "--unknown"),
        (["--out", "file/run"], "cannot be written"),
        (["--out", "file"], "is a file"),
        (["--out", "full"], "something else than a run"),
    ],
)
def test_bad_arguments_are_refused(folder, change, message, capsys):
    Path("file").write_text("")
    Path("full").mkdir()
    Path("full/treasure").write_text("")
    name = change.pop(0) if not change[0].startswith("--") else "tiny_pixels"
    arguments = [name, "--data", str(folder / "images.npz"), "--out", "a/b", *change]
    assert_refused(arguments + ([] if {"--steps", "--seconds"} & set(change) else ["--steps", "2"]), message, capsys)


@pytest.mark.parametrize("missing", ["--data", "--out"])
def test_missing_arguments(missing, capsys):
    arguments = ["tiny_pixels", "--data", "x.npz", "--out", "y"]
    i = arguments.index(missing)
    assert_refused(arguments[:i] + arguments[i + 2 :], missing, capsys)
    assert_refused([], "NAME", capsys)


def test_data_of_another_kind_is_the_familys_to_refuse(folder, capsys):
    for name, data in (("tiny_letters", "images.npz"), ("tiny_pixels", "points.npz"), ("tiny_gauss", "images.npz")):
        arguments = [name, "--data", str(folder / data), "--out", "run", "--steps", "2"]
        assert_refused(arguments, "", capsys)


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


# The reading and splitting of files, on their own


def examples(n, kind="points"):
    return files.Examples(kind, torch.arange(n))


@pytest.mark.parametrize(
    "n, fractions, sizes",
    [
        (1797, (0.5565, 0.1948), (1000, 350, 447)),
        (10, (0.9, 0.1), (9, 1, 0)),
        (15, (0.9, 0.1), (14, 1, 0)),
        (1797, (0.8, 0.1, 0.1), (1438, 180, 179)),
        (3, (0.34, 0.33, 0.33), (1, 1, 1)),
    ],
)
def test_split_sizes(n, fractions, sizes):
    parts = files.split(examples(n), "order", fractions)
    assert tuple(0 if part is None else len(part) for part in parts) == sizes
    assert torch.cat([part.x for part in parts if part]).tolist() == list(range(n))
    shuffled = torch.cat([part.x for part in files.split(examples(n), "shuffle:42", fractions) if part])
    assert sorted(shuffled.tolist()) == list(range(n))
    if n > 3:
        assert shuffled.tolist() != list(range(n))
        again = torch.cat([part.x for part in files.split(examples(n), "shuffle:42", fractions) if part])
        other = torch.cat([part.x for part in files.split(examples(n), "shuffle:43", fractions) if part])
        assert torch.equal(shuffled, again) and not torch.equal(shuffled, other)


@given(st.integers(3, 3000), st.lists(st.floats(0, 1.1), max_size=4), st.sampled_from(["order", "shuffle:1", "x"]))
def test_split_cuts_or_refuses(n, fractions, how):
    try:
        parts = files.split(examples(n), how, tuple(fractions))
    except ValueError:
        return
    assert how != "x" and len(fractions) in (2, 3)
    assert sum(len(part) for part in parts if part is not None) == n
    assert len(parts[0]) > 0 and len(parts[1]) > 0


def test_running_text_is_not_shuffled():
    with pytest.raises(ValueError, match="running text"):
        files.split(examples(100, "characters"), "shuffle:1", (0.5, 0.5))


def test_binary_sequences_are_padded():
    x = np.zeros((2, 3, 2), np.uint8)
    x[0, 1] = 1
    found = files.read(save("rolls.npz", x=x, lengths=np.array([2, 3])))
    assert found.kind == "binary sequences" and found.levels == 2
    assert found.x[0].tolist() == [[0, 0], [1, 1], [-1, -1]] and (found.x[1] == 0).all()


def test_text_is_read_as_written():
    Path("text.txt").write_bytes(b"\xef\xbb\xbf" + "zß\r\na\n\nß".encode())
    found = files.read("text.txt")
    assert found.vocabulary.decode(found.x) == "zß\na\n\nß"
    found = files.read("text.txt", "lines")
    assert [found.vocabulary.decode(row) for row in found.x] == ["zß", "a", "ß"] and len(found.vocabulary) == 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300),
    suffix=st.sampled_from(["txt", "npz"]),
    mode=st.sampled_from(["lines", "characters"]),
)
def test_no_file_breaks_the_reader(content, suffix, mode):
    path = Path(f"some.{suffix}")
    path.write_bytes(content)
    try:
        found = files.read(path, mode)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert len(found) > 0


dtypes = st.sampled_from(["uint8", "int64", "float32", "float64", "bool", "complex64", "U3", "datetime64[s]"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.lists(st.integers(0, 3), max_size=5), dtype=dtypes, lengths=st.none() | st.lists(st.integers(-1, 4)))
def test_no_array_breaks_the_reader(shape, dtype, lengths):
    arrays = dict(x=np.zeros(shape, dtype)) | ({} if lengths is None else dict(lengths=np.array(lengths)))
    try:
        found = files.read(save("some.npz", **arrays))
    except ValueError as error:
        assert "some.npz" in str(error) and "\n" not in str(error)
    else:
        assert found.kind in ("images", "points", "binary sequences") and len(found) == shape[0]


def test_unreadable_file(capsys):
    save("x.npz", x=np.zeros((9, 2)))
    os.chmod("x.npz", 0)
    if os.access("x.npz", os.R_OK):  # root reads everything
        return
    assert_refused(["tiny_gauss", "--data", "x.npz", "--out", "run"], "cannot be read", capsys)
