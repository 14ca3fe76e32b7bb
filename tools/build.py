"""Make the book: execute what is stale, build ``_build/html``, and say in one line what was made."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from environment import ROOT, Stop, home_environment, lock, plain_errors
from execute import default_jobs, execute

# As chapters.py says: loading nbformat takes 2.4 s less.
JUPYTER_BOOK = "import sys; sys.modules['rfc3987_syntax'] = None; from jupyter_book.cli.main import main; main()"
NO_PAGES = {"search.html", "genindex.html", "py-modindex.html"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    root = parser.parse_args(argv).root.resolve()
    begin = time.monotonic()
    with plain_errors(root), lock(root):
        chapters, executed = execute(root, [], default_jobs(), float(os.environ.get("LIMIT_SCALE", 5)))
        pages = build(root)
    seconds = time.monotonic() - begin
    done = f"{pages} pages, {chapters} chapters ({executed} executed now)"
    print(f"The book is made: {done}, {seconds:.0f} s: _build/html/index.html", flush=True)
    return 0


def build(root: Path) -> int:
    """Build the pages and return how many there are. What an earlier build left is used if that build was finished."""
    html, doctrees, stamp = (root / "_build" / name for name in ("html", ".doctrees", ".book"))
    wanted = state(root)
    if not (stamp.exists() and stamp.read_text() == wanted and html.exists()):
        # An interrupted build leaves half-written pages that look new; a failed one would not warn again.
        shutil.rmtree(html, ignore_errors=True)
        shutil.rmtree(doctrees, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    print("Building the pages …", flush=True)
    command = [sys.executable, "-c", JUPYTER_BOOK, "build", ".", "-W", "-n", "--keep-going", "-q"]
    done = subprocess.run(
        command, cwd=root, env=home_environment(root), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    if done.returncode or not (html / "index.html").exists():
        sys.stdout.write(done.stdout.decode(errors="replace")[-2000:])
        raise Stop("The pages were not built: see the warnings above (each counts as an error).")
    stamp.write_text(wanted)
    pages = [path.relative_to(html) for path in html.rglob("*.html") if path.name not in NO_PAGES]
    return sum(not path.parts[0].startswith("_") for path in pages)


def state(root: Path) -> str:
    """A digest of what every page depends on: settings, theme, tools, library, outputs. Sphinx looks at the pages."""
    digest = hashlib.sha256(sys.version.encode())
    names = ["_config.yml", "_toc.yml", "requirements.txt", "_build/execution.json", "book/_*/**/*", "book/*.bib"]
    for pattern in [*names, "tools/*.py", "helpers/**/*.py", "helpers/**/*.js"]:
        for path in sorted(root.glob(pattern)):
            if path.is_file():
                digest.update(f"{path.relative_to(root)}".encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
