"""How fast the families are, beside public references: ``python tools/bench.py [FAMILY …]``.

A row of ``bench_rows.py`` sets up the same work twice, ours and the reference's. Each side runs once to warm up (the
two answers must agree), then five times, in turns; the table gives the medians of wall and processor time. Both have
the same number of threads and, unless the row says otherwise, the same precision. The chapters' seconds and memory are
those of their last execution.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).resolve().parent))

import league  # noqa: E402
from bench_rows import ROWS  # noqa: E402

RESULT = Path("book/results/bench.json")
REPEATS, THREADS = 5, 2


def agree(ours, theirs, tolerance: float) -> bool:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    return ours.shape == theirs.shape and bool(np.allclose(ours, theirs, rtol=tolerance, atol=tolerance))


def measure(row: tuple, repeats: int = REPEATS, tiny: bool = False) -> dict:
    """Median seconds, wall and processor, of both sides. ``ValueError`` if their answers differ."""
    family, what, reference, make, small, tolerance = row
    ours, theirs = make(**small) if tiny else make()
    result = dict(family=family, what=what, reference=reference, repeats=repeats)
    answer = ours()
    if theirs is not None:
        other = theirs()
        if not agree(answer, other, tolerance):
            raise ValueError(f"{family}, {what}: ours and {reference} did not do the same work: {answer}, {other}")
    times = {"ours": [], "theirs": []}
    for _ in range(repeats):
        for side, function in (("ours", ours), ("theirs", theirs)):
            if function is not None:
                wall, processor = time.perf_counter(), time.process_time()
                function()
                times[side].append((time.perf_counter() - wall, time.process_time() - processor))
    for side, pairs in times.items():
        if pairs:
            wall, processor = (statistics.median(column) for column in zip(*pairs, strict=True))
            result[side] = dict(wall=wall, processor=processor)
    return result


def say(result: dict) -> str:
    ours, theirs = result["ours"], result.get("theirs")
    start = f"{result['family']:24} {result['what']:36} {seconds(ours)}"
    if theirs is None:
        return f"{start}   no reference"
    ratio = theirs["processor"] / ours["processor"]
    verdict = f"ours takes 1/{ratio:.3g}" if ratio >= 1 else f"the reference is faster: {1 / ratio:.3g} times"
    return f"{start}   {seconds(theirs)}   {result['reference']:30} {verdict} of the processor time"


def seconds(side: dict) -> str:
    return f"{side['wall']:9.4f} s ({side['processor']:8.4f})"


def chapters(root: Path = ROOT) -> dict:
    """Seconds and peak memory of each chapter when it was last executed."""
    path = root / "_build" / "execution.json"
    runs = json.loads(path.read_text()) if path.exists() else {}
    return {name: dict(seconds=run["seconds"], peak_mb=run["peak_mb"]) for name, run in sorted(runs.items())}


def text_models(root: Path = ROOT) -> dict[str, float]:
    """Nats per character on Shakespeare's validation plays, of the league's one-minute runs, the mean over seeds."""
    values = league.values(league.read(root))
    names = {family: f"league_{family}_shakespeare_validation" for family in ("markov", "ngram", "gpt")}
    return {family: values[name] for family, name in names.items() if name in values}


def main(argv: list[str] | None = None) -> int:
    families = list(dict.fromkeys(row[0] for row in ROWS))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(families)}; default: all")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.families if name not in families]:
        parser.error(f"there is no family {', '.join(unknown)}; there are {', '.join(families)}")
    torch.set_num_threads(THREADS)
    path = ROOT / RESULT
    done = json.loads(path.read_text())["rows"] if path.exists() else []
    failed = 0
    print(f"{'family':24} {'work':36} {'ours: wall (processor)':>22}   {'reference':>22}")
    with threadpool_limits(THREADS):
        for row in ROWS:
            if args.families and row[0] not in args.families:
                continue
            try:
                result = measure(row)
            except (ValueError, ImportError) as error:
                failed += 1
                print(f"{row[0]:24} {row[1]:36} failed: {error}", flush=True)
                continue
            print(say(result), flush=True)
            done = [old for old in done if (old["family"], old["what"]) != row[:2]] + [result]
    known = [row[:2] for row in ROWS]  # a row that is no more is forgotten
    done = sorted(
        (r for r in done if (r["family"], r["what"]) in known), key=lambda r: known.index((r["family"], r["what"]))
    )
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    machine = (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    )
    report = dict(rows=done, chapters=chapters(), nats_per_character=text_models())
    report |= dict(machine=machine, threads=THREADS, commit=commit.stdout.strip())
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    for name, run in report["chapters"].items():
        print(f"{name:60} {run['seconds']:7.1f} s {run['peak_mb']:6} MB")
    for name, value in report["nats_per_character"].items():
        print(f"{name} on Shakespeare, a minute of training at most: {value:.3f} nats/character")
    print(f"bench: {len(done)} rows in {RESULT}" + (f", {failed} failed" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
