"""The table of one-minute runs: its data, that nothing done is lost, and that its numbers come again."""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import league  # noqa: E402

from helpers import data  # noqa: E402
from helpers.training import files, runs  # noqa: E402

CHEAP = 15  # seconds that a run may have taken, to be drawn


def drawn(count: int = 2) -> list[tuple[str, int]]:
    """Cells, each with a seed, drawn at random among the cheap ones: others for every commit, the same for each run.

    The names of the tests below show the draw. LEAGUE_DRAW=SEED draws otherwise.
    """
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    chance = random.Random(os.environ.get("LEAGUE_DRAW", head.stdout.strip()))
    cells = {
        cell: sorted(seed for seed, one in row["runs"].items() if one["seconds"] < CHEAP)
        for cell, row in league.read()["cells"].items()
        if cell in league.CELLS
    }
    cells = chance.sample(sorted(cell for cell, seeds in cells.items() if seeds), count)
    found = league.read()["cells"]
    return [(cell, int(chance.choice([s for s in sorted(found[cell]["runs"])]))) for cell in cells]


def agrees(value: float, stored: list[float]) -> bool:
    """Within the spread over the seeds, three standard deviations; without any, to rounding."""
    mean = statistics.fmean(stored)
    return abs(value - mean) <= 3 * statistics.stdev(stored) + 1e-5 * abs(mean)


@pytest.mark.parametrize("cell, seed", drawn())
def test_a_cell_run_again_agrees(cell, seed, monkeypatch):
    stored = league.read()["cells"][cell]["runs"]
    assert sorted(stored) == [str(s) for s in league.SEEDS]
    again = league.run(cell, seed, steps=stored[str(seed)]["steps"])
    for part in ("validation", "test"):
        if again[part] is None:  # of the plays nothing is left to test
            continue
        values = [one[part]["value"] for one in stored.values()]
        assert agrees(again[part]["value"], values), (cell, seed, part, again[part]["value"], values)
        assert again[part]["n"] == stored[str(seed)][part]["n"]
    mutant = {
        "gaussian_mixture/toys": "components=6",
        "ppca/toys": None,  # it has nothing else to set
        "mixture_of_categoricals/digits": "components=10",
        "mixture_of_categoricals/mnist": "smoothing=1",
        "mixture_of_categoricals/faces": "smoothing=100",
        "markov/shakespeare": "smoothing=0.021",
        "ngram/shakespeare": "n=7",
        "factor_analysis/toys": None,
        "markov/chorales": "smoothing=0.2",
        "ngram/chorales": "n=3",
        "hmm/chorales": "states=4",
    }.get(cell)
    if mutant:
        monkeypatch.setitem(league.CELLS, cell, [*league.CELLS[cell], "--set", mutant])
        other = league.run(cell, seed, steps=stored[str(seed)]["steps"])["validation"]["value"]
        assert not agrees(other, [one["validation"]["value"] for one in stored.values()]), (cell, seed, other)


def test_agreement_knows_the_spread():
    assert agrees(10.5, [10.0, 10.2, 10.4]) and not agrees(11.0, [10.0, 10.2, 10.4])
    assert agrees(1.0 + 1e-6, [1.0] * 3) and not agrees(1.001, [1.0] * 3)


def test_the_stored_rows_are_cells_of_today_with_the_lines_that_made_them():
    found = league.read()["cells"]
    assert set(found) <= set(league.CELLS)
    for cell, row in found.items():
        assert row["commit"] and "cores" in row["machine"]
        for seed, one in row["runs"].items():
            line = one["command"]
            assert line.startswith(f"python -m helpers.training {cell.split('/')[0]} --data {cell.split('/')[1]}.")
            assert f"--seed {seed} --threads {league.THREADS} " in line and "--seconds 60" in line
            assert " ".join(league.CELLS[cell]) in line and line.endswith("--out run") and "/" not in line
            assert one["seed"] == int(seed) and one["steps"] >= 0
    assert {cell.split("/")[0] for cell in league.CELLS} <= set(runs.families())
    assert {cell.split("/")[1] for cell in league.CELLS} <= set(league.DATA)


@pytest.mark.parametrize("name", league.DATA)
def test_a_data_set_comes_back_from_its_file_with_its_split(name, tmp_path):
    path, split = league.write_data(name, tmp_path)
    arguments = dict(zip(split[::2], split[1::2], strict=True))
    fractions = tuple(float(part) for part in arguments["--fractions"].split(","))
    parts = files.split(files.read(path), arguments["--split"], fractions)
    dataset = getattr(data, name)()
    if name == "shakespeare":
        whole = "".join(part.vocabulary.decode(part.x) for part in parts[:2])
        assert whole == dataset.train.text[: league.TEXT] and len(parts[1].x) == round(0.1 * league.TEXT)
        return
    for part, truth in zip(parts, (dataset.train, dataset.validation, dataset.test), strict=True):
        if name == "chorales":
            lines = part.vocabulary.decode(part.x).splitlines()
            for line, piece, length in zip(lines, truth.x, truth.y["length"].tolist(), strict=True):
                voices = torch.tensor([0 if c == "~" else ord(c) for c in line]).view(length, 4)
                assert torch.equal(voices, piece[:length])
        else:
            assert torch.equal(part.x, truth.x)


# Nothing that is done is lost


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two cells without training: a run's value is its number among the calls; ``small.fails`` names those to fail."""
    monkeypatch.setattr(league, "ROOT", tmp_path)
    monkeypatch.setattr(league, "CELLS", {"a/x": [], "b/x": []})
    monkeypatch.setattr(league, "read", lambda root=tmp_path, read=league.read: read(root))
    (tmp_path / "book").mkdir()

    class Small:
        calls, fails, path = [], set(), tmp_path / league.RESULTS

        def __call__(self, cell, seed):
            self.calls.append((cell, seed))
            if (cell, seed) in self.fails:
                raise RuntimeError("no memory")
            value = dict(value=float(len(self.calls)), unit="nats")
            return dict(validation=value, test=None, steps=3, calibration_seconds=0.5, seconds=1.5)

        def stored(self):
            cells = json.loads(self.path.read_text())["cells"]
            return {
                (c, int(s)): one["validation"]["value"] for c, row in cells.items() for s, one in row["runs"].items()
            }

    small = Small()
    small.calls = []
    monkeypatch.setattr(league, "run", small)
    return small


ALL = [(cell, seed) for cell in ("a/x", "b/x") for seed in league.SEEDS]


def test_one_failure_loses_nothing_and_is_tried_again(small, capsys):
    small.fails = {("a/x", 1)}
    assert league.main([]) == 1
    assert "[2/6] a/x seed 1: failed: no memory" in capsys.readouterr().out
    assert set(small.stored()) == set(ALL) - {("a/x", 1)}
    small.calls.clear()
    small.fails = set()
    assert league.main([]) == 0
    assert small.calls == [("a/x", 1)] and set(small.stored()) == set(ALL)
    assert league.main([]) == 0 and len(small.calls) == 1  # nothing is left to do
    assert league.main(["--list"]) == 0 and len(small.calls) == 1
    assert "a/x: 3 of 3 seeds, validation " in capsys.readouterr().out


def test_an_interrupted_run_goes_on_where_it_stopped(small, monkeypatch):
    def stop(cell, seed):
        if len(small.calls) == 4:
            raise KeyboardInterrupt
        return small(cell, seed)

    monkeypatch.setattr(league, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        league.main([])
    assert list(small.stored()) == ALL[:4]
    monkeypatch.setattr(league, "run", small)
    assert league.main([]) == 0 and small.calls == ALL


def test_redo_replaces_the_named_cells_alone_and_keeps_what_fails(small):
    assert league.main([]) == 0
    before = small.stored()
    small.fails = {("b/x", 2)}
    assert league.main(["b/x", "--redo"]) == 1
    after = small.stored()
    assert {key for key in ALL if after[key] != before[key]} == {("b/x", 0), ("b/x", 1)}


def test_a_cell_that_is_not_there(small, capsys):
    with pytest.raises(SystemExit) as error:
        league.main(["a/x", "c/x"])
    assert error.value.code == 2 and "there is no cell c/x; there are a/x, b/x" in capsys.readouterr().err
    assert not small.path.exists() and small.calls == []


def test_killed_while_it_writes_it_keeps_the_old_table(small, monkeypatch):
    assert league.main(["a/x"]) == 0
    before = small.path.read_text()
    write_text = Path.write_text

    def half(path, text, *args, **kwargs):  # the machine stops in the middle
        write_text(path, text[: len(text) // 2], *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "write_text", half)
        league.main(["b/x"])
    assert small.path.read_text() == before
    assert league.main(["b/x"]) == 0 and set(small.stored()) == set(ALL)


def test_the_error_of_a_run_is_the_commands(monkeypatch):
    monkeypatch.setitem(league.CELLS, "ppca/toys", ["--set", "latents=2"])
    with pytest.raises(RuntimeError, match="latents is from 1 to 1"):
        league.run("ppca/toys", 0)


def test_values_are_means_and_spreads_over_the_seeds():
    scored = {str(s): {"validation": {"value": v}, "test": None} for s, v in enumerate((1.0, 2.0, 6.0))}
    found = league.values({"cells": {"a/x": {"runs": scored}, "gan/x": {"runs": {"0": {"validation": None}}}}})
    assert found == {
        "league_a_x_validation": 3.0,
        "league_a_x_validation_spread": pytest.approx(statistics.stdev([1.0, 2.0, 6.0])),
    }
