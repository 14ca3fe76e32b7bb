"""The bench: each row does the same work twice, a row that does not is found, and nothing measured is lost."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import bench  # noqa: E402

# The rows with libraries of requirements-bench.txt are tested where that is installed.
EXTRA = [line.split("==")[0] for line in (ROOT / "requirements-bench.txt").read_text().splitlines() if "==" in line]
MISSING = [name for name in EXTRA if not importlib.util.find_spec(name)]
ROWS = [row for row in bench.ROWS if (row[2] or "").split(",")[0].lower() not in MISSING]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[0]}: {row[1]}" for row in ROWS])
def test_a_row_in_small(row):
    result = bench.measure(row, repeats=1, tiny=True)
    assert (result["family"], result["reference"], "theirs" in result) == (row[0], row[2], row[2] is not None)
    assert result["ours"]["wall"] > 0 and result["ours"]["processor"] >= 0
    assert row[1] in bench.say(result)


def test_another_answer_is_found():
    def sides(shift):
        return lambda: torch.arange(3.0), lambda: np.arange(3) + shift

    row = ("family", "count", "numpy", sides, dict(shift=1e-8), 1e-6)
    assert bench.measure(row, repeats=3, tiny=True)["repeats"] == 3
    with pytest.raises(ValueError, match="did not do the same work"):
        bench.measure((*row[:4], dict(shift=1e-3), 1e-6), tiny=True)
    with pytest.raises(ValueError, match="did not do the same work"):  # another shape is another answer
        bench.measure((*row[:3], lambda: (lambda: [1, 1], lambda: [1]), {}, 1e-6), tiny=True)


def test_a_failed_row_costs_no_other(tmp_path, monkeypatch, capsys):
    def good():
        return lambda: 1.0, lambda: 1.0

    def alone():
        return lambda: 1.0, None

    def wrong():
        return lambda: 1.0, lambda: 2.0

    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "RESULT", Path("bench.json"))
    monkeypatch.setattr(
        bench,
        "ROWS",
        (("a", "x", "numpy", good, {}, 0), ("a", "y", "numpy", wrong, {}, 0), ("b", "x", None, alone, {}, 0)),
    )
    assert bench.main([]) == 1
    assert "did not do the same work" in capsys.readouterr().out
    report = json.loads((tmp_path / "bench.json").read_text())
    assert [(row["family"], row["what"]) for row in report["rows"]] == [("a", "x"), ("b", "x")]
    assert report["threads"] == bench.THREADS and "torch" in report["machine"]
    assert bench.main(["b"]) == 0  # one family anew: the rows of the others stay
    assert len(json.loads((tmp_path / "bench.json").read_text())["rows"]) == 2
    with pytest.raises(SystemExit):
        bench.main(["nobody"])
