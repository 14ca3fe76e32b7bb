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
    said, _ = process.communicate(timeout=400)
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
    threads = "print(used.f() + 1, os.environ['OMP_NUM_THREADS'])"
    others = "import glob, os\nprint(os.environ['OMP_NUM_THREADS'], glob.glob('*.running'))"
    brief = "open('brief.running', 'w').close()\nimport os, time\ntime.sleep(1)\nos.remove('brief.running')"
    root = project(
        alone=notebook(others, exclusive=True),
        one=notebook("#:Prose.", brief, "from helpers import used", threads),
        empty=notebook("#:No code."),
    )
    code, said = run(root, "--jobs", "2")
    assert code == 0 and "executed 3" in said, said
    assert printed(root, "one") == cached(root, "one") == ["", "", "42 1\n"]
    assert printed(root, "alone") == [f"{os.cpu_count()} []\n"]
    first = record(root)
    assert set(first) == {"one.ipynb", "alone.ipynb", "empty.ipynb"}
    assert set(first["one.ipynb"]) == {"seconds", "peak_mb", "size", "versions", "key", "when"}
    assert first["one.ipynb"]["peak_mb"] > 10 and first["one.ipynb"]["seconds"] > 1
    assert not list((root / ".run").glob("run-*"))

    # Other prose, and a module that nobody imports: nothing runs; the stored copy has the new prose.
    (root / "one.ipynb").write_text((root / "one.ipynb").read_text().replace("Prose.", "New prose."))
    (root / "helpers" / "unrelated.py").write_text("x = 1")
    execute.execute(root, [], jobs=1, limit_scale=1)
    assert "New prose." in (root / "_build" / "executed" / "one.ipynb").read_text()
    assert printed(root, "one") == ["", "", "42 1\n"] and record(root) == first

    # A module that an imported module imports.
    (root / "helpers" / "below.py").write_text("def value():\n    return 42\n")
    code, said = run(root)
    assert "executed 1, 2 unchanged" in said and printed(root, "one") == cached(root, "one") == ["", "", "43 1\n"]
    assert record(root)["alone.ipynb"] == first["alone.ipynb"]


def test_failures_name_chapter_cell_and_error_and_leave_the_rest(project):
    solution = "#:> **Exercise 1.** …\n\n<details><summary>Solution</summary>\n\n```python\n{}\n```\n\n</details>"
    root = project(
        bad=notebook("x = 0", "# Divide\ny = 2\nz = y / x"),
        solved=notebook(solution.format("assert secret == 3"), "secret = 3\nprint('fine')"),
        unsolved=notebook(solution.format("seen = secrets"), "secret = 3"),
        dead=notebook("import os", "os._exit(1)"),
        endless=notebook("import time", "time.sleep(1000)", limit=5),
    )
    pretend(root, "dead", "once it worked")
    make_stale(root, "dead")
    code, said = run(root, "--limit-scale", "3")
    assert code == 1
    assert "bad.ipynb, cell 2, which begins '# Divide'\n    line 3: z = y / x\n    ZeroDivisionError: division" in said
    assert "unsolved.ipynb, the folded solution that begins 'seen = secrets'" in said
    assert "dead.ipynb, cell 2, which begins 'os._exit(1)'\n    the kernel died" in said
    assert "endless.ipynb, cell 2, which begins 'time.sleep(1000)'\n    stopped" in said
    assert "4 of 5 stale chapters failed" in said and "solved.ipynb: " in said
    # The solution ran after the last cell, and left no cell behind.
    assert printed(root, "solved") == cached(root, "solved") == ["fine\n"]
    assert all(cached(root, name) is None for name in ("bad", "unsolved", "dead", "endless"))


def test_kill_at_any_time_then_the_rest_only(project):
    slow = "import time, os\nopen(os.environ['MARK'], 'a').write('slow ')\ntime.sleep(float(os.environ['WAIT']))"
    quick = "import os\nopen(os.environ['MARK'], 'a').write('quick ')\nprint('done')"
    root = project(quick=notebook(quick), slow=notebook(slow, "print('done')"))
    mark = root / "mark"
    process = start(root, "--jobs", "2", MARK=str(mark), WAIT="300")
    wait_until(lambda: (root / "_build" / "executed" / "quick.ipynb").exists() and "slow" in mark.read_text())
    process.kill()
    process.communicate(timeout=60)
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
    assert first.wait(timeout=300) == 0 and mark.read_text() == "x"
    first.stdout.close()


def pretend(root: Path, name: str, text: str) -> None:
    """Store an output as if the notebook had run."""
    chapter = chapters.open_chapter(root, f"{name}.ipynb", root / "_build" / "executed")
    run = {"seconds": 1.0, "peak_mb": 1, "size": "laptop", "versions": {}, "key": chapter.key, "when": "now"}
    done = chapters.merge(chapter.source, chapter.source, run)
    [cell for cell in done.cells if cell.cell_type == "code"][-1].outputs = [
        nbformat.v4.new_output("stream", text=text)
    ]
    chapters.write_notebook(root / "_build" / "executed" / f"{name}.ipynb", done)
    execute.execute(root, [f"{name}.ipynb"], jobs=1, limit_scale=1)
    assert cached(root, name)[-1] == text


def make_stale(root: Path, name: str) -> None:
    path = root / "_build" / "executed" / f"{name}.ipynb"
    path.write_text(path.read_text().replace('"key": "', '"key": "not '))


def spoil_database(root: Path) -> None:
    (root / ".jupyter_cache" / "global.db").write_bytes(b"no database" * 1000)


def spoil_entry(root: Path) -> None:
    for path in (root / ".jupyter_cache" / "executed").rglob("base.ipynb"):
        path.write_text(path.read_text()[:50])


def lose_entry(root: Path) -> None:
    for path in (root / ".jupyter_cache" / "executed").rglob("base.ipynb"):
        path.unlink()


def spoil_record(root: Path) -> None:
    path = root / "_build" / "execution.json"
    path.write_bytes(path.read_bytes()[:40] + b"\xff")


@pytest.mark.parametrize("spoil", [spoil_database, spoil_entry, lose_entry, spoil_record])
def test_a_broken_cache_is_made_anew_without_running(project, capsys, spoil):
    root = project(one=notebook("print('done')"))
    pretend(root, "one", "done\n")
    before = record(root)
    spoil(root)
    capsys.readouterr()
    assert execute.execute(root, [], jobs=1, limit_scale=1) == (1, 0)
    assert cached(root, "one") == ["done\n"] and record(root) == before
    assert ("is broken" in capsys.readouterr().out) == (spoil is not spoil_record)


def test_broken_stored_outputs_run_again(project, capsys):
    root = project(one=notebook("print('done')"))
    pretend(root, "one", "done\n")
    stored = root / "_build" / "executed" / "one.ipynb"
    stored.write_text(stored.read_text()[:100])
    assert chapters.open_chapter(root, "one.ipynb", stored.parent).stale
    assert "stored outputs are broken" in capsys.readouterr().out


@pytest.mark.parametrize(
    "number, wanted",
    [(errno.ENOSPC, "The disk is full"), (errno.EROFS, "Cannot write"), (errno.EACCES, "Cannot write")],
)
def test_what_the_disk_refuses_is_one_line_and_leaves_what_was(project, monkeypatch, number, wanted):
    root = project(one=notebook("print('done')"))
    pretend(root, "one", "done\n")
    (root / "one.ipynb").write_text(notebook("print('done')", "#:More prose."))
    before = (root / "_build" / "executed" / "one.ipynb").read_text()

    def refuse(path, text, **_):
        path.touch()
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", refuse)
        with pytest.raises(SystemExit) as stop:
            execute.main(["--root", str(root)])
    assert wanted in str(stop.value) and "\n" not in str(stop.value)
    stored = root / "_build" / "executed"
    assert (stored / "one.ipynb").read_text() == before and [p.name for p in stored.iterdir()] == ["one.ipynb"]
    assert execute.execute(root, [], jobs=1, limit_scale=1) == (1, 0)


@pytest.mark.parametrize("home", [None, "/nowhere", "/proc/1"])
def test_without_a_home_there_is_one_in_the_run_folder(tmp_path, monkeypatch, home):
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere/cache")
    monkeypatch.delenv("HOME") if home is None else monkeypatch.setenv("HOME", home)
    env = environment.home_environment(tmp_path)
    assert env["HOME"] == str(tmp_path / ".run" / "home") and Path(env["HOME"]).is_dir()
    assert "XDG_CACHE_HOME" not in env
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment.home_environment(tmp_path)["HOME"] == str(tmp_path)


@pytest.mark.parametrize(
    "code, wanted",
    [
        ("import helpers", {""}),
        ("from helpers import used", {"", "used", "below"}),
        ("import helpers.used as u", {"", "used", "below"}),
        ("import helpers\nhelpers.below.value()", {"", "below"}),
        ("%matplotlib inline\nif True:\n    !ls\n    from helpers.below import value", {"", "below"}),
        ("from helpers import package", {"", "package", "package.inner", "package.data.npz"}),
        ("from helpers import any_of_it", {"", "any_of_it", "used", "below", "unrelated", "package", "package.inner"}),
        ("x = 'helpers.below'", {"", "below"}),
        ("import math, json, nowhere", set()),
        ("def broken(:", set()),
    ],
)
def test_the_key_sees_what_is_imported_directly_or_not(project, code, wanted):
    root = project()
    package = root / "helpers" / "package"
    package.mkdir()
    (package / "__init__.py").write_text("def load():\n    from .inner import x\n")
    (package / "inner.py").write_text("x = 1")
    (package / "data.npz").write_bytes(b"1")
    (root / "helpers" / "any_of_it.py").write_text("import importlib\n\nload = importlib.import_module\n")
    found = {str(path.relative_to(root / "helpers")) for path in freshness.Imports(root, [(code, [])]).files}
    names = {name.removesuffix(".py").removesuffix("__init__").strip("/").replace("/", ".") for name in found}
    assert names - {"package.data.npz"} == wanted - {"package.data.npz"}
    assert ("package.data.npz" in names) == ("package" in names)


def test_the_key_sees_code_tags_size_and_the_packages_that_are_named(project, monkeypatch):
    root = project()
    monkeypatch.delenv("SIZE", raising=False)
    (root / "requirements.txt").write_text("numpy==0\npytest==0\nscikit-learn>=1  # a comment\npyyaml\n")
    cells = [("import sklearn.datasets", [])]
    assert set(freshness.versions_of(root, cells)) == {"python", "numpy", "scikit-learn"}
    assert set(freshness.versions_of(root, [("find_spec('pytest'); import yaml", [])])) >= {"pytest", "pyyaml"}
    keys = {freshness.key_of(root, code) for code in (cells, cells * 2, [(cells[0][0], ["raises-exception"])])}
    for name, value in (("SIZE", "gpu"), ("MAX_STEPS", "2")):
        monkeypatch.setenv(name, value)
        keys.add(freshness.key_of(root, cells))
    monkeypatch.setattr(freshness, "installed", lambda name: "another")
    keys.add(freshness.key_of(root, cells))
    assert len(keys) == 6


def wait_until(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
