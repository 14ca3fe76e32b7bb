"""What every notebook of the book must be: ``python tools/hygiene.py [notebook ...]`` names what is not so.

Rules that reading alone can check. What it computes is checked by the executor, its numbers by ``sync``, its style
by ruff, its page by the tests in a browser.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent))

import sync
from chapters import PYTHON_BLOCK, SOLUTION
from environment import ROOT
from freshness import plain_python

MAX_CELLS, MAX_CODE_LINES = 60, 400
MIN_EXERCISES, MIN_QUIZ = 4, 5
FIGURE_TYPE = "application/vnd.book.figure+json"
NOTEBOOK_METADATA, CELL_METADATA = {"kernelspec", "book"}, {"tags", "slideshow"}
SHOWING = {("notebook", "show"), ("notebook", "animate"), ("playground", "show")}

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
QUOTED = re.compile(r"^> \*\*(Exercise|Quiz) ([\d.]+)", re.MULTILINE)
DETAILS = re.compile(r"<details[^>]*>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
MYST = re.compile(r"^\s*(```+|:::+)\s*\{|\{[a-z:]+\}`", re.MULTILINE)


def faults(path: Path, root: Path = ROOT) -> list[str]:
    """Every fault of the notebook at ``path``, with the cell where it is."""
    text = path.read_text(encoding="utf8")
    ids = [cell.get("id") for cell in json.loads(text)["cells"]]  # nbformat puts new ones for what is wrong
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what is reported below
        notebook = nbformat.reads(text, as_version=4)
    found = [*clean(notebook, ids), *first(notebook, root), *described(notebook), *portable(notebook)]
    found += links(path, notebook, root)
    if is_chapter(path, root):
        found += [*sized(notebook), *complete(notebook), *exercises(notebook), *quiz(notebook)]
    return found


def is_chapter(path: Path, root: Path) -> bool:
    """Answers to questions and pages about data have another shape than chapters."""
    parts = path.relative_to(root).parts
    return parts == ("tools", "template.ipynb") or parts[1:2] in [("concepts",), ("math",), ("code",), ("future",)]


def clean(notebook, ids: list[str | None]) -> Iterator[str]:
    """No outputs, nothing of one machine, an id for each cell."""
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        yield f"is of format {notebook.nbformat}.{notebook.nbformat_minor}, wanted 4.5, which has cell ids"
    if extra := set(notebook.metadata) - NOTEBOOK_METADATA:
        yield f"the notebook's metadata hold {', '.join(sorted(extra))}"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel is not python3"
    if None in ids or len(set(ids)) < len(ids):
        yield "cell ids are missing or used twice"
    for cell in notebook.cells:
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None):
            yield f"{named(cell)}: has outputs or an execution count"
        if extra := set(cell.metadata) - CELL_METADATA:
            yield f"{named(cell)}: its metadata hold {', '.join(sorted(extra))}"


def first(notebook, root: Path) -> Iterator[str]:
    if sync.with_first_cell(notebook, sync.address_of(root)).cells[0] != notebook.cells[0]:
        yield "the first cell is not the template's: run make sync"


def described(notebook) -> Iterator[str]:
    """What is to be seen is said in words."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for image, text, target in LINK.findall(cell.source):
                if image and not text.strip():
                    yield f"{named(cell)}: the image {target} has no alternative text"
            for tag in re.findall(r"<img\b[^>]*>", cell.source):
                if not re.search(r"\balt\s*=\s*([\"'])(?!\s*\1)", tag):
                    yield f"{named(cell)}: {tag[:40]} has no alternative text"
        if cell.cell_type == "code":
            for call in calls(cell):
                name = dotted(call.func)
                if name in SHOWING and not has_alt(call, name):
                    yield f"{named(cell)}: {'.'.join(name)} without alt"
                if name == ("plt", "show"):
                    yield f"{named(cell)}: plt.show() shows no alternative text, use notebook.show(…, alt=…)"


def has_alt(call: ast.Call, name: tuple[str, str]) -> bool:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "alt"]
    if name[0] == "notebook":
        given += call.args[1:2]
    return any(not isinstance(alt, ast.Constant) or (isinstance(alt.value, str) and alt.value.strip()) for alt in given)


def portable(notebook) -> Iterator[str]:
    """JupyterLab, Colab and slides show MyST's roles and directives as raw text; a GPU wants all in one place."""
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    if "Generator(settings.device)" in code and ".to(settings.device)" not in code:
        yield "draws with a generator on settings.device, but sends no model there: on a GPU it stops"
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (match := MYST.search(re.sub(r"``.*?``", "", cell.source))):
            yield f"{named(cell)}: {match[0].strip()!r} is MyST, which other readers of notebooks show raw"


def sized(notebook) -> Iterator[str]:
    if len(notebook.cells) > MAX_CELLS:
        yield f"has {len(notebook.cells)} cells, more than {MAX_CELLS}"
    code = [cell.source for cell in notebook.cells[1:] if cell.cell_type == "code"]
    lines = sum(bool(line.strip()) for source in code for line in source.splitlines())
    if lines > MAX_CODE_LINES:
        yield f"has {lines} lines of code, more than {MAX_CODE_LINES}"


def complete(notebook) -> Iterator[str]:
    """What belongs to every chapter."""
    called = {dotted(call.func) for cell in notebook.cells if cell.cell_type == "code" for call in calls(cell)}
    for name, what in (
        (("notebook", "setup"), "set-up (notebook.setup)"),
        (("notebook", "proof"), "proof box (notebook.proof)"),
        (("notebook", "record"), "number bound to its output (notebook.record)"),
        (("notebook", "Check"), "programming exercise with a check (notebook.Check)"),
    ):
        if name not in called:
            yield f"has no {what}"
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for pattern, what in (
        (r"^# ", "title"),
        (r"^## Summary", "summary"),
        (r"^> \*\*Predict first\.", "question to answer first (Predict first)"),
        (r"^> \*\*Misconception", "misconception"),
        (r"references\.md#", "citation"),
        (r"reference\.md#helpers", "link to the code of an equation or method"),
    ):
        if not re.search(pattern, prose, re.MULTILINE):
            yield f"has no {what}"
    slides = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in notebook.cells]
    if slides.count("slide") < 3 or "notes" not in slides:
        yield "has fewer than three slides, or no lecturer's notes with minutes"


def exercises(notebook) -> Iterator[str]:
    found = list(quoted(notebook, "Exercise"))
    if len(found) < MIN_EXERCISES:
        yield f"has {len(found)} exercises, fewer than {MIN_EXERCISES}"
    if [number for number, _, _ in found] != [str(i + 1) for i in range(len(found))]:
        yield "the exercises are not numbered from 1"
    grades = {match[1] for _, text, _ in found if (match := re.search(r"\((easy|medium|hard)\)\.?\*\*", text))}
    if len(grades) < 3:
        yield "the exercises are not of three grades: (easy), (medium), (hard)"
    for number, text, cell in found:
        folded = [re.sub(r"\W.*", "", summary.strip()) for summary, _ in DETAILS.findall(text)]
        for wanted in ("Hint", "Solution"):
            if wanted not in folded:
                yield f"{named(cell)}: exercise {number} has no {wanted.lower()}"
        for code in (code for solution in SOLUTION.findall(text) for code in PYTHON_BLOCK.findall(solution)):
            if "assert " not in code:
                yield f"{named(cell)}: the solution of exercise {number} asserts nothing when it is executed"


def quiz(notebook) -> Iterator[str]:
    found = list(quoted(notebook, "Quiz"))
    if len(found) < MIN_QUIZ:
        yield f"has {len(found)} quiz questions, fewer than {MIN_QUIZ}"
    for number, text, cell in found:
        answers = DETAILS.findall(text)
        if len(answers) < 2:
            yield f"{named(cell)}: quiz {number} has {len(answers)} answers, fewer than 2"
        said = [re.match(r"\s*\**(Right|Wrong)\b\W*(.*)", body, re.DOTALL) for _, body in answers]
        if not all(match and len(match[2].split()) >= 3 for match in said):
            yield f"{named(cell)}: an answer of quiz {number} is not explained as Right or Wrong because …"
        elif not any(match[1] == "Right" for match in said):
            yield f"{named(cell)}: no answer of quiz {number} is right"


# Links


def links(path: Path, notebook, root: Path) -> Iterator[str]:
    """Every relative link leads to a file, and its fragment to a place there."""
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for _, _, target in LINK.findall(re.sub(r"```.*?```|`[^`\n]*`", "code", cell.source, flags=re.DOTALL)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, fragment = target.partition("#")
            home = root / "book" / "code" if path.parent == root / "tools" else path.parent  # of the template's copy
            file = (home / name).resolve() if name else path
            if not file.is_relative_to(root / "book") and name:
                yield f"{named(cell)}: the link {target} leads out of the book"
            elif not file.exists():
                yield f"{named(cell)}: the link {target} leads to no file"
            elif fragment and not leads(file, fragment):
                yield f"{named(cell)}: the link {target} leads to no place of that file"


def leads(file: Path, fragment: str) -> bool:
    if file.name == "reference.md":
        return fragment in ("helpers", "") or is_importable(fragment)
    if file.name == "references.md":
        return fragment in re.findall(r"@\w+\{([^,\s]+)", file.with_suffix(".bib").read_text(encoding="utf8"))
    return fragment in places(file, file.stat().st_mtime_ns)


@cache
def places(file: Path, changed: int) -> set[str]:
    """The fragments of a page: its headings, anchors, numbered call-outs and tagged equations."""
    if file.suffix == ".ipynb":
        cells = nbformat.read(file, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = file.read_text(encoding="utf8")
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text)) | set(re.findall(r"^\((.+)\)=$", text, re.MULTILINE))
    found |= {f"equation-{tag}" for tag in re.findall(r"\\tag\{([^}]*)\}", text)}
    for kind, number in re.findall(r"^> \*\*([A-Z][a-z]+(?: [a-z]+)?) (\d[\d.]*\d|\d)", text, re.MULTILINE):
        found.add(f"{kind.lower().replace(' ', '-')}-{number}")
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        found.add(re.sub(r"[^\w\- ]", "", re.sub(r"<!--.*?-->", "", heading)).strip().lower().replace(" ", "-"))
    return found


@cache
def is_importable(name: str) -> bool:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:length]))
        except ImportError:
            continue
        for part in parts[length:]:
            if not hasattr(thing, part):
                return False
            thing = getattr(thing, part)
        return True
    return False


# Outputs


def undescribed_pictures(executed) -> Iterator[str]:
    """Pictures in the outputs that did not come by ``notebook.show``, so have no description and no dark rendering."""
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            types = set(output.get("data", {}))
            if {"image/png", "image/jpeg", "image/svg+xml"} & types and FIGURE_TYPE not in types:
                yield f"{named(cell)}: a picture without description: use notebook.show(…, alt=…)"


# Reading cells


def named(cell) -> str:
    return f"cell {cell.get('id')}"


def calls(cell) -> Iterator[ast.Call]:
    try:
        tree = ast.parse(plain_python(cell.source))
    except SyntaxError:  # the executor will tell
        return
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def dotted(function: ast.expr) -> tuple[str, ...]:
    return tuple(ast.unparse(function).split(".")) if isinstance(function, ast.Attribute | ast.Name) else ()


def quoted(notebook, kind: str) -> Iterator[tuple[str, str, nbformat.NotebookNode]]:
    """(number, text to the next one in its cell, cell) of every numbered quote of a kind."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            starts = [match for match in QUOTED.finditer(cell.source) if match[1] == kind]
            ends = [match.start() for match in starts[1:]] + [len(cell.source)]
            for match, end in zip(starts, ends, strict=False):  # where there is no start, one end is left over
                yield match[2].strip("."), cell.source[match.start() : end], cell


def main(names: list[str]) -> int:
    paths = [Path(name).resolve() for name in names] or sync.notebooks(ROOT)
    found = [f"{path.relative_to(ROOT)}: {fault}" for path in paths for fault in faults(path)]
    print(*found, f"{len(paths)} notebooks, {len(found)} faults.", sep="\n")
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
