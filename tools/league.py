"""Every family on the same data, for the same minute: ``python tools/league.py [FAMILY/DATA …]``.

Each cell of the table is the training command, run once for each seed; its line stands in the result. A seed that is
done is kept (``book/results/league.json`` is written after each), so an interrupted run goes on where it stopped, and
one failure loses nothing. ``--redo`` runs the named cells anew; what is there is replaced seed by seed. ``--list`` says
what is done. A run's ``steps`` repeat it: ``tests/test_league.py`` does so with two cells drawn at random.
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
DATA = ("toys", "digits", "mnist", "faces", "shakespeare", "chorales")
TEXT = 1_115_394  # characters of the plays, as many as the text known as Tiny Shakespeare has
# A cell for each family and each data set that it can learn, with what it is told. Chosen on the validation part:
# order and smoothing of the Markov chain, the length of the n-grams, the mixture's templates and how much they share.
CELLS = {
    "gaussian_mixture/toys": [],
    "ppca/toys": ["--set", "latents=1"],
    "factor_analysis/toys": ["--set", "latents=1"],
    "mixture_of_categoricals/digits": [],
    "mixture_of_categoricals/mnist": ["--set", "components=200", "--set", "smoothing=100"],
    "mixture_of_categoricals/faces": ["--set", "components=200", "--set", "smoothing=10"],
    "vae/digits": [],
    "vae/mnist": [],
    "vae/faces": [],
    "markov/shakespeare": ["--set", "order=4", "--set", "smoothing=0.02"],
    "ngram/shakespeare": ["--set", "n=6"],
    "hmm/shakespeare": [],
    "gpt/shakespeare": [],
    "markov/chorales": ["--set", "order=4", "--set", "smoothing=0.02"],
    "ngram/chorales": ["--set", "n=20"],
    "hmm/chorales": [],
    "gpt/chorales": [],
}


def write_data(name: str, folder: Path) -> tuple[Path, list[str]]:
    """The data set as a file for the training command, and the arguments that restore its split.

    Its parts stand in order. Of the plays the first ``TEXT`` characters are taken, 90 % to learn from, the rest to
    choose on. The chorales become a text: see :func:`score`.
    """
    import numpy as np

    from helpers import data

    dataset = getattr(data, name)()
    parts = [dataset.train, dataset.validation, dataset.test]
    if parts[0].text:
        path = folder / f"{name}.txt"
        path.write_text(parts[0].text[:TEXT], encoding="utf8")
        return path, ["--split", "order", "--fractions", ".9,.1"]
    if name == "chorales":
        path = folder / f"{name}.txt"
        texts = ["".join(score(x) for x in part.x) for part in parts]
        path.write_text("".join(texts), encoding="utf8")
    else:
        path, texts = folder / f"{name}.npz", parts
        np.savez(path, x=np.concatenate([part.x.numpy() for part in parts]))
    sizes = [len(part) for part in texts]
    return path, ["--split", "order", "--fractions", ",".join(f"{size / sum(sizes):.9f}" for size in sizes[:2])]


def score(x) -> str:
    """A chorale (T, 4) as a line: sixteenth by sixteenth, a character for each voice, from the soprano down.

    The code of the character is the MIDI pitch, 36 to 81, which are ``$`` to ``Q``; a rest is ``~``.
    """
    return "".join(chr(pitch) if pitch else "~" for pitch in x[x >= 0].tolist()) + "\n"


def run(cell: str, seed: int, seconds: float = SECONDS, steps: int | None = None) -> dict:
    """One seed of one cell: the command's ``metrics.json``, and the line that made it. ``RuntimeError`` if it fails.

    ``steps``: of an earlier run, to repeat it whatever the speed of the machine; 0: of a family that makes none.
    """
    family, name = cell.split("/")
    with tempfile.TemporaryDirectory() as temporary:
        path, split = write_data(name, Path(temporary))
        amount = ["--seconds", f"{seconds:g}"] if not steps else ["--steps", str(steps)]
        line = ["-m", "helpers.training", family, "--data", str(path), *split, *amount, *CELLS[cell]]
        line += ["--seed", str(seed), "--threads", str(THREADS), "--out", str(Path(temporary) / "run")]
        env = {name: value for name, value in os.environ.items() if name not in ("MAX_STEPS", "OMP_NUM_THREADS")}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [env.get("PYTHONPATH")])])
        done = subprocess.run([sys.executable, *line], cwd=ROOT, env=env, capture_output=True, text=True)
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


def _sentence(metrics: dict) -> str:
    found = metrics["validation"]
    value = "no likelihood" if found is None else f"{found['value']:.4g} {found['unit']}"
    return f"{value}, {metrics['steps']:,} steps, {metrics['calibration_seconds'] + metrics['seconds']:.1f} s"


def _summary(runs: dict) -> str:
    each = [one["validation"]["value"] for one in runs.values() if one.get("validation")]
    if not each:
        return f"{len(runs)} of {len(SEEDS)} seeds"
    spread = f" ± {statistics.stdev(each):.2g}" if len(each) > 1 else ""
    return f"{len(runs)} of {len(SEEDS)} seeds, validation {statistics.fmean(each):.4g}{spread}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", metavar="FAMILY/DATA", help=f"of {', '.join(CELLS)}; default: all")
    parser.add_argument("--redo", action="store_true", help="run the named cells anew")
    parser.add_argument("--list", action="store_true", help="say what is done, and run nothing")
    args = parser.parse_args(argv)
    unknown = [cell for cell in args.cells if cell not in CELLS]
    if unknown:
        parser.error(f"there is no cell {', '.join(unknown)}; there are {', '.join(CELLS)}")
    results, failed = read(), 0
    if args.list:
        for cell in args.cells or CELLS:
            print(f"{cell}: {_summary(results['cells'].get(cell, {}).get('runs', {}))}")
        return 0
    todo = [(cell, seed) for cell in args.cells or CELLS for seed in SEEDS]
    if not args.redo:
        todo = [(c, seed) for c, seed in todo if str(seed) not in results["cells"].get(c, {}).get("runs", {})]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    for number, (cell, seed) in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}] {cell} seed {seed}: ", end="", flush=True)
        try:
            metrics = run(cell, seed)
        except RuntimeError as error:
            failed += 1
            print(f"failed: {error}", flush=True)
            continue
        row = results["cells"].setdefault(cell, {"runs": {}})
        row["runs"][str(seed)] = metrics
        row["commit"] = commit.stdout.strip()
        row["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        write(results)
        print(_sentence(metrics), flush=True)
    print(f"league: {len(results['cells'])} cells in {RESULTS}" + (f", {failed} runs failed" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
