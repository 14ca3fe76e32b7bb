"""The commands, the set-up of the environment, the build of the pages, and what the CI watches."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import build  # noqa: E402
import environment  # noqa: E402


def make(*arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run(["make", "-C", root, *arguments], capture_output=True, text=True, timeout=300)


def test_help_lists_every_command():
    listed = make("--no-print-directory", "help").stdout
    rules = set(re.findall(r"^([a-z]+):.*  ## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"book", "test", "serve", "lab", "slides", "sync", "execute", "lint", "clean", "help"} <= rules
    assert {line.split()[1] for line in listed.splitlines()} == rules


def test_without_a_python_make_says_what_is_missing():
    done = make("environment", "PYTHON=")
    assert done.returncode != 0 and "needs Python 3.11 or newer" in done.stdout


@pytest.fixture
def installer(tmp_path, monkeypatch):
    """A checkout with requirements, and a stand-in for venv and pip that notes what was done."""
    done = []
    for name in ("requirements.txt", "requirements-test.txt", "pyproject.toml"):
        (tmp_path / name).write_text(name)

    def make_venv(venv: Path) -> None:
        done.append("venv")
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin" / "python").touch()
        for stamp in venv.glob(".*ed*"):  # venv --clear
            stamp.unlink()

    monkeypatch.setattr(environment, "make_venv", make_venv)
    monkeypatch.setattr(environment, "works", Path.exists)
    monkeypatch.setattr(environment, "run_pip", lambda command, root: done.append(command[command.index("-r") :]))

    def install(root: Path, *files: str) -> list:
        done.clear()
        environment.install(root, list(files))
        return list(done)

    return install


def test_the_environment_is_made_once_and_again_when_something_changed(installer, tmp_path):
    book, test = ["-r", "requirements.txt"], ["-r", "requirements.txt", "-r", "requirements-test.txt"]
    assert installer(tmp_path, "requirements.txt") == ["venv", book]
    assert installer(tmp_path, "requirements.txt") == []
    assert installer(tmp_path, "requirements.txt", "requirements-test.txt") == [test]
    assert installer(tmp_path, "requirements.txt", "requirements-test.txt") == []
    assert installer(tmp_path, "requirements.txt") == []
    (tmp_path / "requirements.txt").write_text("another")
    assert installer(tmp_path, "requirements.txt") == [book]
    assert installer(tmp_path, "requirements.txt", "requirements-test.txt") == [test]


def test_an_interrupted_installation_does_not_count(installer, tmp_path, monkeypatch):
    def interrupted(command, root):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(environment, "run_pip", interrupted)
        with pytest.raises(KeyboardInterrupt):
            installer(tmp_path, "requirements.txt")
    assert installer(tmp_path, "requirements.txt") == ["venv", ["-r", "requirements.txt"]]
    assert installer(tmp_path, "requirements.txt") == []


def test_a_moved_folder_is_installed_again(installer, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for name in ("requirements.txt", "pyproject.toml"):
        (old / name).write_text(name)
    installer(old, "requirements.txt")
    old.rename(new)
    assert installer(new, "requirements.txt") == [["-r", "requirements.txt"]]


def test_pip_failure_shows_its_last_lines(tmp_path):
    (tmp_path / "requirements.txt").write_text("no-such-file.whl\n")
    with pytest.raises(environment.Stop, match="could not install -r requirements.txt"):
        environment.run_pip([sys.executable, "-m", "pip", "install", "-r", "requirements.txt", "--no-index"], tmp_path)


@pytest.fixture
def small_book(tmp_path):
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n  - file: one\n")
    (tmp_path / "_config.yml").write_text(
        "title: Small\nonly_build_toc_files: true\nexclude_patterns: [_build, '.*/**']\n"
        "execute: {execute_notebooks: cache, cache: .jupyter_cache}\n"
    )
    (tmp_path / "index.md").write_text("# Small\n\nA book.\n")
    cells = [nbformat.v4.new_markdown_cell("# One", id="a"), nbformat.v4.new_code_cell("print(6 * 7)", id="b")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "one.ipynb")
    return tmp_path


def test_the_book_is_whole_after_an_interruption_and_warns_again_after_a_failure(small_book, capfd):
    root, page = small_book, small_book / "_build" / "html" / "one.html"
    assert build.main(["--root", str(root)]) == 0
    said = capfd.readouterr().out.strip().splitlines()[-1]
    assert said.startswith("The book is made: 2 pages, 1 chapters (1 executed now)")
    whole = page.read_text()
    assert ">42\n" in whole
    # Killed while it wrote: no stamp, and half a page that is newer than its source.
    (root / "_build" / ".book").unlink()
    page.write_text(whole[:100])
    assert build.build(root) == 2 and page.read_text() == whole
    # A warning is an error, also at the second time.
    (root / "index.md").write_text("# Small\n\n[Nowhere](nowhere.md)\n")
    for _ in range(2):
        with pytest.raises(environment.Stop, match="not built"):
            build.build(root)
        assert "nowhere.md" in capfd.readouterr().err


def test_a_skipped_test_fails_in_ci(tmp_path):
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    skipping = "import pytest\n\n\ndef test_a():\n    pytest.skip('no browser')\n"
    (tmp_path / "test_a.py").write_text(skipping)
    (tmp_path / "test_b.py").write_text("import pytest\n\npytest.importorskip('nowhere')\n")
    (tmp_path / "test_c.py").write_text("import pytest\n\n\n@pytest.mark.xfail\ndef test_c():\n    assert False\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, tmp_path]
    command += ["--continue-on-collection-errors"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "PYTEST"))}
    for ci, code in (("true", 1), ("", 0)):
        done = subprocess.run(
            command, env=env | {"CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True, text=True
        )
        assert min(done.returncode, 1) == code, done.stdout
        assert ("skipped, which counts as a failure here: Skipped: no browser" in done.stdout) == bool(code)


def test_the_ci_cannot_hide_a_failure():
    assert os.access(ROOT / ".ci" / "run", os.X_OK) and "set -euo pipefail" in (ROOT / ".ci" / "run").read_text()
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        workflow = yaml.safe_load(path.read_text())
        assert "-eo pipefail" in workflow["defaults"]["run"]["shell"], path.name
        push = (workflow[True] or {}).get("push")  # YAML reads "on" as true
        assert push is None or push["branches"] == ["main"], path.name


def test_the_npm_tools_are_locked_without_addresses():
    lock = (ROOT / "package-lock.json").read_text()
    assert "resolved" not in lock and "://" not in lock and '"integrity"' in lock
