"""The notebooks of the book and their stored outputs."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml
from environment import Stop
from freshness import key_of

# jsonschema, which nbformat loads, would take 2.4 s to build a grammar of addresses that nobody here needs.
sys.modules.setdefault("rfc3987_syntax", None)

import nbformat  # noqa: E402

SOLUTION = re.compile(r"<details[^>]*>\s*<summary>\s*Solution[^<]*</summary>(.*?)</details>", re.DOTALL)
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(eq=False)
class Chapter:
    """A notebook of the book: ``path`` relative to the root, ``source`` as committed, and what is known of it."""

    path: str
    source: nbformat.NotebookNode
    key: str
    executed: nbformat.NotebookNode | None = None  # the stored outputs, of whatever key

    @property
    def settings(self) -> dict:
        return self.source.metadata.get("book", {})

    @property
    def run(self) -> dict:
        """What the last finished execution recorded."""
        return self.executed.metadata["book_run"] if self.executed else {}

    @property
    def stale(self) -> bool:
        return self.run.get("key") != self.key


def notebooks_of(root: Path) -> list[str]:
    """The notebooks of ``_toc.yml``, in its order."""

    def files(node) -> list[str]:
        if isinstance(node, list):
            return [name for item in node for name in files(item)]
        if isinstance(node, dict):
            own = [node[name] for name in ("root", "file") if name in node]
            return own + [name for item in node.values() for name in files(item)]
        return []

    names = [name.removesuffix(".ipynb") + ".ipynb" for name in files(yaml.safe_load((root / "_toc.yml").read_text()))]
    return [name for name in dict.fromkeys(names) if (root / name).exists()]


def open_chapter(root: Path, path: str, store: Path) -> Chapter:
    try:
        source = read_notebook(root / path)
    except Exception as error:
        raise Stop(f"{path}: cannot be read as a notebook: {error}") from None
    chapter = Chapter(path, source, key_of(root, code_of(with_solutions(source))))
    try:
        chapter.executed = read_notebook(store / path)
        chapter.run["key"]
    except FileNotFoundError:
        chapter.executed = None
    except Exception:
        print(f"{path}: its stored outputs are broken, so it runs again.", flush=True)
        chapter.executed = None
    if chapter.executed and not chapter.stale:
        # The prose may have changed since: put the outputs into the present source.
        merged = merge(source, chapter.executed, chapter.run)
        if merged != chapter.executed:
            write_notebook(store / path, merged)
        chapter.executed = merged
    return chapter


def with_solutions(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy without outputs, and with the Python of each folded solution as a cell at the end, tagged ``solution``."""
    copy = nbformat.from_dict(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            continue
        for solution in SOLUTION.findall(cell.source):
            for code in PYTHON_BLOCK.findall(solution):
                copy.cells.append(nbformat.v4.new_code_cell(code, metadata={"tags": ["solution"]}))
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return copy


def merge(source: nbformat.NotebookNode, executed: nbformat.NotebookNode, run: dict) -> nbformat.NotebookNode:
    """The source with outputs, execution counts and language of the executed copy, and nothing else of it."""
    merged = nbformat.from_dict(source)
    ran = (cell for cell in executed.cells if cell.cell_type == "code")
    for cell in merged.cells:
        if cell.cell_type == "code":
            done = next(ran)
            cell.outputs, cell.execution_count = done.outputs, done.execution_count
    if "language_info" in executed.metadata:
        merged.metadata["language_info"] = executed.metadata["language_info"]
    merged.metadata["book_run"] = run
    return merged


def code_of(notebook: nbformat.NotebookNode) -> list[tuple[str, list[str]]]:
    """Source and tags of each code cell."""
    return [(cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells if cell.cell_type == "code"]


def read_notebook(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def write_notebook(path: Path, notebook: nbformat.NotebookNode) -> None:
    write_whole(path, nbformat.writes(notebook) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
