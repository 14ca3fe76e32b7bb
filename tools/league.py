"""Every family on the same data, for the same minute: ``python tools/league.py [FAMILY/DATA …]``.

Each cell of the table is the training command, run once for each seed; its line stands in the result. A seed that is
done is kept (``book/results/league.json`` is written after each), so an interrupted run goes on where it stopped, and
one failure loses nothing. ``--redo`` forgets the named cells first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path("book/results/league.json")
SEEDS, SECONDS, THREADS = (0, 1, 2), 60, 2
# How a data set reaches the command: its parts in order, then their shares.
CELLS = ("mixture_of_categoricals/digits", "vae/digits", "gpt/shakespeare")
TEXT = 1_115_394  # characters of the plays, as many as the text known as Tiny Shakespeare has; 90 % to learn


def write_data(name: str, folder: Path) -> tuple[Path, list[str]]:
    """The data set as a file for the training command, and the arguments that restore its split."""
    import numpy as np

    from helpers import data

    dataset = getattr(data, name)()
    if dataset.train.text is not None:
        path = folder / f"{name}.txt"
        path.write_text(dataset.train.text[:TEXT], encoding="utf-8")
        return path, ["--fractions", ".9,.1"]
    parts = [dataset.train.x, dataset.validation.x, dataset.test.x]
    n = sum(len(part) for part in parts)
    path = folder / f"{name}.npz"
    np.savez(path, x=np.concatenate([part.numpy() for part in parts]))
    shares = ",".join(f"{len(part) / n:.6f}" for part in parts[:2])
    return path, ["--split", "order", "--fractions", shares]


def run(cell: str, seed: int, seconds: float = SECONDS, steps: int | None = None) -> dict:
    """One seed of one cell: the command's ``metrics.json``, and the line that made it. ``RuntimeError`` if it fails."""
    family, name = cell.split("/")
    with tempfile.TemporaryDirectory() as temporary:
        path, split = write_data(name, Path(temporary))
        amount = ["--seconds", f"{seconds:g}"] if steps is None else ["--steps", str(steps)]
        line = ["-m", "helpers.training", family, "--data", str(path), *split, *amount]
        line += ["--seed", str(seed), "--threads", str(THREADS), "--out", str(Path(temporary) / "run")]
        done = subprocess.run([sys.executable, *line], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it failed silently")
        metrics = json.loads((Path(temporary) / "run" / "metrics.json").read_text())
    return metrics | {"command": " ".join(["python", *line]).replace(f"{temporary}/", "")}


def values(results: dict) -> dict[str, float]:
    """The numbers that prose may bind: ``league_vae_digits_validation``, ``…_spread`` (over seeds), ``…_test``."""
    named = {}
    for cell, row in results.get("cells", {}).items():
        for split in ("validation", "test"):
            each = [run[split]["value"] for run in row["runs"].values() if run.get(split)]
            if each:
                name = f"league_{cell.replace('/', '_')}_{split}"
                named[name] = statistics.fmean(each)
                named[f"{name}_spread"] = statistics.stdev(each) if len(each) > 1 else 0.0
    return named


def read(root: Path = ROOT) -> dict:
    path = root / RESULTS
    return json.loads(path.read_text()) if path.exists() else {"cells": {}}


def write(results: dict) -> None:
    path = ROOT / RESULTS
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    os.replace(temporary, path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", default=list(CELLS), metavar="FAMILY/DATA", help=f"of {', '.join(CELLS)}")
    parser.add_argument("--redo", action="store_true", help="run the named cells anew")
    args = parser.parse_args(argv)
    unknown = [cell for cell in args.cells if cell not in CELLS]
    if unknown:
        parser.error(f"there is no cell {', '.join(unknown)}; there are {', '.join(CELLS)}")
    results, failed = read(), 0
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    for cell in args.cells:
        if args.redo:
            results["cells"].pop(cell, None)
        row = results["cells"].setdefault(cell, {"runs": {}})
        for seed in SEEDS:
            if str(seed) in row["runs"]:
                continue
            try:
                row["runs"][str(seed)] = metrics = run(cell, seed)
            except RuntimeError as error:
                failed += 1
                print(f"{cell} seed {seed}: failed: {error}", flush=True)
                continue
            row["commit"] = commit.stdout.strip()
            results["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
            write(results)
            print(
                f"{cell} seed {seed}: {metrics['validation']['value']:.2f} {metrics['validation']['unit']}", flush=True
            )
    print(f"league: {len(results['cells'])} cells in {RESULTS}" + (f", {failed} runs failed" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
