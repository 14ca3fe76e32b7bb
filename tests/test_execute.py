"""The executor on small projects: what runs, what does not, and what it says when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"
sys.path.insert(0, str(TOOLS))

import chapters  # noqa: E402
import environment  # noqa: E402
import execute  # noqa: E402
import freshness  # noqa: E402


def notebook(*cells: str, **book) -> str:
    """A notebook of code cells; a cell that begins with ``#:`` is Markdown."""
    made = [
        nbformat.v4.new_markdown_cell(source[2:], id=f"cell-{i}")
        if source.startswith("#:")
        else nbformat.v4.new_code_cell(source, id=f"cell-{i}")
        for i, source in enumerate(cells)
    ]
    return nbformat.writes(nbformat.v4.new_notebook(cells=made, metadata={"book": book} if book else {}))


@pytest.fixture
def project(tmp_path):
    """A function that makes a project, in a folder whose name has spaces and letters beyond ASCII."""
    root = tmp_path / "Bücher und 书"
    (root / "helpers").mkdir(parents=True)
    (root / "helpers" / "__init__.py").write_text("")
    (root / "helpers" / "used.py").write_text("from helpers import below\n\n\ndef f():\n    return below.value()\n")
    (root / "helpers" / "below.py").write_text("def value():\n    return 41\n")
    (root / "helpers" / "unrelated.py").write_text("")
    (root / "requirements.txt").write_text("numpy==0\n")

    def make(**notebooks: str) -> Path:
        for name, text in notebooks.items():
            (root / f"{name}.ipynb").write_text(text)
        files = "".join(f"  - file: {name}\n" for name in notebooks)
        (root / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{files}")
        return root

    return make


def start(root: Path, *options: str, **env: str) -> subprocess.Popen:
    command = [sys.executable, TOOLS / "execute.py", "--root", root, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=os.environ | {"PYTHONUTF8": "1"} | env, **pipes)


def run(root: Path, *options: str, **env: str) -> tuple[int, str]:
    process = start(root, *options, **env)
    said, _ = process.communicate(timeout=100)
    return process.returncode, said


def record(root: Path) -> dict:
    return json.loads((root / "_build" / "execution.json").read_text())


def printed(root: Path, name: str) -> list[str]:
    cells = nbformat.read(root / "_build" / "executed" / f"{name}.ipynb", as_version=4).cells
    return ["".join(o.get("text", "") for o in cell.outputs) for cell in cells if cell.cell_type == "code"]


def cached(root: Path, name: str) -> list[str] | None:
    """What the book build finds for a notebook in the cache."""
    from jupyter_cache import get_cache

    source = nbformat.read(root / f"{name}.ipynb", as_version=4)
    try:
        _, merged = get_cache(root / ".jupyter_cache").merge_match_into_notebook(source)
    except KeyError:
        return None
    return ["".join(o.get("text", "") for o in cell.outputs) for cell in merged.cells if cell.cell_type == "code"]


def test_what_is_stale_runs_and_nothing_else(project):
    root = project(
        one=notebook("#:Prose.", "from helpers import used", "print(used.f() + 1)"),
        two=notebook("import os\nprint(os.environ['OMP_NUM_THREADS'], 'thread')"),
    )
    code, said = run(root)
    assert code == 0 and "executed 2" in said, said
    assert printed(root, "one") == cached(root, "one") == ["", "42\n"]
    assert printed(root, "two") == ["1 thread\n"]
    first = record(root)
    assert set(first) == {"one.ipynb", "two.ipynb"}
    assert set(first["one.ipynb"]) == {"seconds", "peak_mb", "size", "versions", "key", "when"}
    assert first["one.ipynb"]["peak_mb"] > 10 and first["one.ipynb"]["versions"]["numpy"] != "0"
    assert not [path for path in (root / ".run").iterdir() if path.name.startswith("run-")]

    # Other prose, and a module that nobody imports: nothing runs; the stored copy has the new prose.
    (root / "one.ipynb").write_text(notebook("#:New prose.", "from helpers import used", "print(used.f() + 1)"))
    (root / "helpers" / "unrelated.py").write_text("x = 1")
    code, said = run(root)
    assert code == 0 and "nothing changed" in said
    assert "New prose." in (root / "_build" / "executed" / "one.ipynb").read_text()
    assert printed(root, "one") == ["", "42\n"] and record(root) == first

    # A module that an imported module imports.
    (root / "helpers" / "below.py").write_text("def value():\n    return 42\n")
    code, said = run(root)
    assert "executed 1, 1 unchanged" in said and printed(root, "one") == cached(root, "one") == ["", "43\n"]
    assert record(root)["two.ipynb"] == first["two.ipynb"]


def test_failure_names_chapter_cell_and_error_and_leaves_the_rest(project):
    bad = notebook("x = 0", "# Divide\ny = 2\nz = y / x")
    solved = notebook(
        "#:> **Exercise 1.** …\n\n<details><summary>Solution</summary>\n\n```python\nseen = secret\n```\n\n</details>",
        "secret = 3",
    )
    root = project(bad=bad, good=notebook("print('fine')"), solved=solved)
    code, said = run(root)
    assert code == 1
    assert "bad.ipynb, cell 2, which begins '# Divide'" in said and "ZeroDivisionError: division by zero" in said
    assert "line 3: z = y / x" in said and said.rstrip().endswith("s: bad.ipynb")
    assert len(said.splitlines()) <= 15
    assert printed(root, "good") == cached(root, "good") == ["fine\n"]
    assert cached(root, "bad") is None and "bad.ipynb" not in record(root)
    # The solution ran after the last cell, and left no cell behind.
    assert printed(root, "solved") == [""] and cached(root, "solved") == [""]

    # What failed runs again; a solution that fails is reported; a stale success does not stay in the cache.
    (root / "bad.ipynb").write_text(notebook("x = 1", "z = 2 / x"))
    (root / "solved.ipynb").write_text(solved.replace("seen = secret", "seen = secrets"))
    code, said = run(root)
    assert code == 1 and "solved.ipynb, the folded solution that begins 'seen = secrets'" in said
    assert "1 of 2 stale chapters failed" in said and cached(root, "bad") == ["", ""] and cached(root, "solved") is None


def test_kill_at_any_time_then_the_rest_only(project):
    slow = "import time, os\nopen(os.environ['MARK'], 'a').write('slow ')\ntime.sleep(float(os.environ['WAIT']))"
    quick = "import os\nopen(os.environ['MARK'], 'a').write('quick ')\nprint('done')"
    root = project(quick=notebook(quick), slow=notebook(slow, "print('done')"))
    mark = root / "mark"
    process = start(root, "--jobs", "2", MARK=str(mark), WAIT="60")
    wait_until(lambda: (root / "_build" / "executed" / "quick.ipynb").exists() and "slow" in mark.read_text())
    process.kill()
    process.communicate(timeout=10)
    code, said = run(root, MARK=str(mark), WAIT="0")
    assert code == 0 and "executed 1, 1 unchanged" in said, said
    assert printed(root, "quick") == cached(root, "quick") == ["done\n"] and printed(root, "slow")[1] == "done\n"
    assert sorted(mark.read_text().split()) == ["quick", "slow", "slow"]


def test_two_at_once_share_the_work(project):
    root = project(one=notebook("import os, time\nopen(os.environ['MARK'], 'a').write('x')\ntime.sleep(1)"))
    mark = root / "mark"
    first = start(root, MARK=str(mark))
    wait_until(lambda: (root / ".run" / "lock").exists() and (root / ".run" / "lock").read_text())
    code, said = run(root, MARK=str(mark))
    assert code == 0 and "nothing changed" in said
    assert f"Waiting for another build here (process {first.pid}) to end" in said
    assert first.wait(timeout=60) == 0 and mark.read_text() == "x"
    first.stdout.close()


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
