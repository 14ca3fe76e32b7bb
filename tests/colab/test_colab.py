"""A chapter as Colab opens it: one notebook in an empty folder, and an environment that knows nothing of the book.

What is real here: the first cell runs as it is, but for the address, which is that of a repository on this machine;
pip builds and installs the package from it; the notebook runs to its end in a kernel of that environment; nothing
that was installed before has changed. What is not: Colab itself, its Python, its GPU, and all but the packages of
``requirements-colab.txt``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import platformdirs
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import sync  # noqa: E402

LIST = Path(__file__).with_name("requirements-colab.txt")
CHAPTERS = ["tools/template.ipynb", "book/code/02_vae.ipynb"]


@pytest.fixture
def colab():
    """The Python of an environment that holds the list and nothing else.

    To install torch takes a minute, so the environment is kept, under the list's hash, in the user's cache; what a
    test adds is removed after it, and an environment that is not as it was made is made anew.
    """
    digest = hashlib.sha256((LIST.read_text() + sys.version + sys.prefix).encode()).hexdigest()[:12]
    folder = Path(platformdirs.user_cache_dir(sync.DISTRIBUTION)) / f"colab-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        python, made = folder / "bin" / "python", folder / "as-made.json"
        if not made.exists() or not python.exists() or json.loads(made.read_text()) != installed(python):
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            pip(python, "install", "--no-deps", "-r", LIST)
            pip(python, "install", "torch")  # it is there; a build for GPUs needs more than the list holds
            made.write_text(json.dumps(installed(python)))
        before = installed(python)
        assert not {"helpers", sync.DISTRIBUTION} & before.keys()
        yield python
        if added := installed(python).keys() - before.keys():
            pip(python, "uninstall", "-y", *added)


def pip(python: Path, *arguments) -> None:
    # Isolated (-I), here and below: what lies in the present folder is not part of that environment.
    subprocess.run([python, "-I", "-m", "pip", "-q", *arguments], check=True, env=bare(), stdout=subprocess.DEVNULL)


def bare() -> dict[str, str]:
    """The environment of a process that must not find the book: no path to it, nothing of this environment."""
    dropped = ("PYTHON", "VIRTUAL_ENV", "JUPYTER", "IPYTHON", "PYTEST", "SIZE")
    env = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    return env | {"MAX_STEPS": "20", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def installed(python: Path) -> dict[str, str]:
    """Name to version, as the kernel sees it."""
    code = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    return json.loads(
        subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True, env=bare()).stdout
    )


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """The project as it lies here, committed to a repository of its own, as pip may fetch it."""
    copy = tmp_path_factory.mktemp("published")
    for path in (ROOT / "pyproject.toml", ROOT / "README.md", *ROOT.glob("LICENSE*")):
        shutil.copy(path, copy)
    shutil.copytree(ROOT / "helpers", copy / "helpers", ignore=shutil.ignore_patterns("__pycache__"))
    git = ["git", "-C", copy, "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "published"]):
        subprocess.run([*git, *command], check=True)
    return f"file://{copy}"


class Kernel(KernelManager):
    """A kernel of another Python."""

    python: Path

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(argv=[str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"])


def run(notebook, python: Path, folder: Path) -> None:
    manager = type("ColabKernel", (Kernel,), {"python": python})()
    client = NotebookClient(notebook, km=manager, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute(env=bare())


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_alone_runs_and_changes_nothing_that_was_there(name, colab, address, tmp_path):
    before = installed(colab)
    notebook = nbformat.read(ROOT / name, as_version=4)
    needs = set(notebook.metadata.get("book", {}).get("needs", []))
    notebook.cells[0].source = notebook.cells[0].source.replace(sync.address_of(ROOT), address)
    assert address in notebook.cells[0].source
    nbformat.write(notebook, tmp_path / "chapter.ipynb")

    run(notebook, colab, tmp_path)
    after = installed(colab)
    assert {package: after.get(package) for package in before} == before
    assert after.keys() - before.keys() == {sync.DISTRIBUTION} | (needs - before.keys())

    # Opened again, it installs nothing.
    again = nbformat.v4.new_notebook(cells=[notebook.cells[0].copy()])
    again.cells[0].source = again.cells[0].source.replace(address, "file:///nowhere")
    run(again, colab, tmp_path)
    assert again.cells[0].outputs == [] and installed(colab) == after


def test_another_package_called_helpers_is_not_taken_for_the_book(colab, address, tmp_path):
    other = tmp_path / "other"
    (other / "helpers").mkdir(parents=True)
    (other / "helpers" / "__init__.py").write_text("")
    (other / "setup.py").write_text("from setuptools import setup; setup(name='helpers', packages=['helpers'])")
    pip(colab, "uninstall", "-y", sync.DISTRIBUTION)
    pip(colab, "install", "--no-deps", "--no-build-isolation", other)
    import_book = "from helpers import notebook; notebook.setup(seed=0).seed"

    def answer(first: str) -> str:
        cells = [nbformat.v4.new_code_cell(source) for source in (first, import_book)]
        notebook = nbformat.v4.new_notebook(cells=cells)
        run(notebook, colab, tmp_path)
        return notebook.cells[1].outputs[0].data["text/plain"]

    # The mutant: a first cell that asks only whether `helpers` can be imported.
    with pytest.raises(CellExecutionError):
        answer(f"try:\n    import helpers\nexcept ImportError:\n    %pip install -q --no-deps 'git+{address}'")
    assert answer(sync.first_cell(address, [])) == "0"
    assert "helpers" in installed(colab)


def test_without_no_deps_the_environment_would_change(colab, address, tmp_path):
    """The mutant of the first cell: pip replaces what the package asks for in another version."""
    copy = tmp_path / "wanting"
    (copy / "wanting").mkdir(parents=True)
    (copy / "wanting" / "__init__.py").write_text("")
    (copy / "setup.py").write_text(
        "from setuptools import setup; setup(name='wanting', packages=['wanting'], install_requires=['cycler!=0.12.1'])"
    )
    before = installed(colab)
    pip(colab, "install", "--no-deps", "--no-build-isolation", copy)
    assert installed(colab)["cycler"] == before["cycler"]
    pip(colab, "uninstall", "-y", "wanting")
    report = tmp_path / "report.json"
    pip(colab, "install", "--no-build-isolation", "--dry-run", "--report", report, copy)
    would = {
        item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(report.read_text())["install"]
    }
    assert would.get("cycler") not in (None, before["cycler"])
