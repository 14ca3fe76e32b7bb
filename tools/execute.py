"""Execute the chapters that changed: ``python tools/execute.py [notebook ...]``.

Every notebook of ``_toc.yml`` has a key: its code, the parts of ``helpers`` that it imports, the versions of the
packages that these name, and the size. Where the key has changed, a copy runs under nbmake, with the solutions of the
exercises as further cells; its outputs are kept in ``_build/executed``, from which ``_build/execution.json`` and the
cache of the book build can be made anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path

import psutil
from chapters import Chapter, notebooks_of, open_chapter, write_whole
from environment import DENIED, ROOT, Stop, lock, plain_errors
from runner import BUDGET, Runner


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("notebooks", nargs="*", help="only these (default: all of _toc.yml)")
    parser.add_argument("--jobs", type=int, default=default_jobs(), help="so many at once (default here: %(default)s)")
    parser.add_argument(
        "--limit-scale",
        type=float,
        default=float(os.environ.get("LIMIT_SCALE", 5)),
        help=f"stop a chapter after so many times {BUDGET} s (default: $LIMIT_SCALE, else 5)",
    )
    parser.add_argument("--build", default="_build", help="where the outputs go, another place for a trial")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    root = options.root.resolve()
    with plain_errors(root), lock(root):
        execute(root, options.notebooks, options.jobs, options.limit_scale, options.build)
    return 0


def execute(root: Path, only: list[str], jobs: int, limit_scale: float, build: str = "_build") -> tuple[int, int]:
    """Execute what is stale and fill the cache; return (chapters, executed now). Failures raise ``Stop``."""
    begin = time.monotonic()
    store = root / build / "executed"
    run_folder = root / ".run" / f"run-{os.getpid()}"
    for old in (root / ".run").glob("run-*"):
        shutil.rmtree(old, ignore_errors=True)  # of a run that was killed: we hold the lock
    chapters = [open_chapter(root, path, store) for path in notebooks_of(root)]
    unknown = {str(Path(name)) for name in only} - {chapter.path for chapter in chapters}
    if unknown:
        raise Stop(f"Not a notebook of _toc.yml: {', '.join(sorted(unknown))}.")
    chosen = [c for c in chapters if not only or c.path in {str(Path(name)) for name in only}]
    stale = [chapter for chapter in chosen if chapter.stale]
    failures = {}
    try:
        failures = Runner(root, run_folder, store, jobs, limit_scale).run_all(stale)
    finally:
        write_record(root / build / "execution.json", chapters)
        shutil.rmtree(run_folder, ignore_errors=True)
    # A trial elsewhere must not fill the cache from which the book is built.
    fill_cache(root / ".jupyter_cache" if build == "_build" else root / build / "cache", chapters)
    seconds = f"{time.monotonic() - begin:.0f} s"
    if failures:
        names = ", ".join(chapter.path for chapter in failures)
        raise Stop(f"{len(failures)} of {len(stale)} stale chapters failed after {seconds}: {names}")
    done = f"executed {len(stale)}, {len(chosen) - len(stale)} unchanged" if stale else "nothing changed"
    print(f"Chapters: {len(chosen)}, {done}, {seconds}: {build}/execution.json", flush=True)
    return len(chosen), len(stale)


def default_jobs() -> int:
    """One notebook a core, each with 4 GB."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().total / 4e9)))


def write_record(path: Path, chapters: list[Chapter]) -> None:
    text = json.dumps({chapter.path: dict(chapter.run) for chapter in chapters if chapter.executed}, indent=1) + "\n"
    if not path.exists() or path.read_text(encoding="utf8", errors="replace") != text:
        write_whole(path, text)


def fill_cache(folder: Path, chapters: list[Chapter]) -> None:
    """Make the cache of the book build hold the outputs of every chapter, and of no stale one."""
    try:
        fill_cache_once(folder, chapters)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DENIED:
            raise
        print(f"The cache {folder.name} is broken ({str(error).splitlines()[0][:80]}): made anew.", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            fill_cache_once(folder, chapters)
        except Exception as again:
            raise Stop(f"Cannot write the cache {folder}: {again}") from None


def fill_cache_once(folder: Path, chapters: list[Chapter]) -> None:
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    cache = get_cache(folder)
    for chapter in chapters:
        try:
            pk, cached = cache.merge_match_into_notebook(chapter.source)
        except KeyError:
            pk, cached = None, None
        if chapter.stale:
            if pk is not None:
                cache.remove_cache(pk)
        elif cached is None or outputs_of(cached) != outputs_of(chapter.executed):
            data = {"execution_seconds": chapter.run["seconds"]}
            bundle = CacheBundleIn(nb=chapter.executed, uri=chapter.path, data=data)
            cache.cache_notebook_bundle(bundle, overwrite=True, check_validity=False)


def outputs_of(notebook) -> list:
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


if __name__ == "__main__":
    raise SystemExit(main())
