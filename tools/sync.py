"""Write into the notebooks what is computed: ``python tools/sync.py [--check]`` (or ``--address URL``).

- The numbers in prose, ``93.7<!--=elbo:.1f±1.5-->``: plain text, then a comment with the name that the notebook
  recorded (``notebook.record(elbo=…)``), how to write it (Python's format), and how far it may lie from the value that
  another machine computes, in the unit of the text (``±2%`` beside a percentage). Numbers of the league table
  (``league_vae_digits_validation``, see ``tools/league.py``) are bound in the same way.
- The first cell, from the one address ``repository.url`` in ``_config.yml`` and from what the notebook's metadata say
  it needs: ``{"book": {"needs": ["scikit-learn"]}}``.

``--check`` changes nothing, and fails where the text is further off than that. ``--address`` moves the book to another
address, in every file that names the old one.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from urllib.parse import urlparse

import nbformat
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

import league
from chapters import notebooks_of, open_chapter, write_notebook, write_whole
from environment import ROOT

VALUES_TYPE = "application/vnd.book.values+json"
DISTRIBUTION = "generative-models-from-first-principles"
NUMBER = r"[-−+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?%?"
BOUND = re.compile(
    rf"(?P<text>{NUMBER}|[^\W\d][\w.+-]*|\?)<!--=(?P<name>\w+)(?::(?P<format>[^±>\s]+?))?(?:±(?P<tolerance>[\d.e-]+%?))?-->"
)
FIRST_CELL = """\
# In Colab this installs the book's library and data, and changes nothing else. Elsewhere it does nothing.
from importlib.metadata import distributions

needs = "{needs}"
if not {{"{distribution}", *needs.split()}} <= {{d.name for d in distributions()}}:
    %pip install -q --no-deps "git+{address}" {{needs}}
"""
FIRST_ID = "first-cell"


# Numbers


def recorded(executed: nbformat.NotebookNode) -> dict[str, float | int | str]:
    """The values that an executed notebook recorded, by name. A name with two values: ``ValueError``."""
    values = {}
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            for name, value in output.get("data", {}).get(VALUES_TYPE, {}).items():
                if name in values and values[name] != value:
                    raise ValueError(f"{name} is recorded twice, as {values[name]} and {value}")
                values[name] = value
    return values


def bind(prose: str, values: dict, exact: bool = False) -> tuple[str, list[str]]:
    """The prose with every bound text brought within its tolerance, and one line for each that had drifted.

    ``exact``: every text becomes its value, so that what stands in the book is what one run computed.

    A comment that cannot be bound (no text before it, an unknown name, a format that does not fit) is ``ValueError``.
    """
    drifted = []

    def write(match: re.Match) -> str:
        text, name, tolerance = match["text"], match["name"], match["tolerance"]
        if name not in values:
            raise ValueError(f"{match[0]}: nothing recorded {name}; recorded are {', '.join(values) or 'no values'}")
        new = formatted(values[name], match["format"], match[0])
        if text == new or (tolerance and not exact and near(text, values[name], tolerance, match["format"])):
            return match[0]
        drifted.append(f"{name}: the text says {text}, the notebook computed {new}")
        return new + match[0][len(text) :]

    loose = re.sub(BOUND, "", prose)
    if "<!--=" in loose:
        at = loose.index("<!--=")
        raise ValueError(f"cannot be bound: {loose[max(0, at - 20) : at + 40]!r}; wanted 93.7<!--=name:.1f±1.5-->")
    return BOUND.sub(write, prose), drifted


def formatted(value: float | int | str, spec: str | None, where: str) -> str:
    if isinstance(value, float) and not spec:
        raise ValueError(f"{where}: a number with decimals needs a format, as in {where[:-3]}:.1f-->")
    try:
        text = format(value, spec or "")
        return "−" + text[1:] if text[:1] == "-" and not isinstance(value, str) else text  # 2e-05 keeps its hyphen
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def near(text: str, value: float | int | str, tolerance: str, spec: str | None) -> bool:
    """Whether the text is a number, written as the format says, and within the tolerance of the value."""
    if isinstance(value, str):
        return False
    try:
        shown = number(text)
    except ValueError:
        return False
    return abs(shown - value) <= number(tolerance) and formatted(type(value)(shown), spec, text) == text


def number(text: str) -> float:
    plain = text.replace("−", "-").replace(",", "")
    return float(plain[:-1]) / 100 if plain.endswith("%") else float(plain)


# The first cell


def address_of(root: Path) -> str:
    """The book's one address."""
    return yaml.safe_load((root / "_config.yml").read_text(encoding="utf8"))["repository"]["url"].rstrip("/")


def first_cell(address: str, needs: list[str]) -> str:
    """The source of every notebook's first cell."""
    for name in needs:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            raise ValueError(f"got {name!r} in the metadata book.needs, wanted the name of a package")
    return FIRST_CELL.format(distribution=DISTRIBUTION, address=address, needs=" ".join(needs)).rstrip("\n")


def with_first_cell(notebook: nbformat.NotebookNode, address: str) -> nbformat.NotebookNode:
    """A copy whose first cell is the one of the template; it stays out of the pages, where nothing is installed."""
    copy = nbformat.from_dict(notebook)
    cell = nbformat.v4.new_code_cell(
        first_cell(address, notebook.metadata.get("book", {}).get("needs", [])),
        id=FIRST_ID,
        metadata={"tags": ["remove-cell"]},
    )
    if copy.cells and copy.cells[0].get("id") == FIRST_ID:
        copy.cells[0] = cell
    else:
        copy.cells.insert(0, cell)
    return copy


# The book


def sync(root: Path, *, write: bool) -> list[str]:
    """Bring every notebook up to date; return what had to change. What cannot be made right is ``ValueError``."""
    changes, faults = [], []
    address, of_book = address_of(root), set(notebooks_of(root))
    for path in notebooks(root):
        name = path.relative_to(root).as_posix()
        notebook = nbformat.read(path, as_version=4)
        new = notebook
        try:
            new = with_first_cell(notebook, address)
            if new != notebook:
                changes.append(f"{name}: the first cell is not the one of the template")
            prose = [cell for cell in new.cells if cell.cell_type == "markdown" and "<!--=" in cell.source]
            if prose and name in of_book:
                values = executed_values(root, name)
                for cell in prose:
                    cell.source, drifted = bind(cell.source, values, exact=write)
                    changes += [f"{name}: {line}" for line in drifted]
        except ValueError as error:
            faults.append(f"{name}: {error}")
        if write and new != notebook:  # what can be mended is, beside a fault
            write_notebook(path, new)
    if faults:
        raise ValueError("\n".join(faults))
    return changes


def notebooks(root: Path) -> list[Path]:
    found = [path for path in (root / "book").rglob("*.ipynb") if not any(p.startswith(".") for p in path.parts)]
    return sorted(found) + [path for path in [root / "tools" / "template.ipynb"] if path.exists()]


def executed_values(root: Path, name: str) -> dict:
    chapter = open_chapter(root, name, root / "_build" / "executed")
    if chapter.executed is None or chapter.stale:
        raise ValueError("its numbers are not computed, or have changed since: run make execute")
    return recorded(chapter.executed) | league.values(league.read(root))


def move(root: Path, new: str) -> list[str]:
    """Put the address ``new`` where the old one stands; return the files that changed."""
    old, new = address_of(root), new.rstrip("/")
    where = urlparse(new)
    if where.scheme != "https" or not where.netloc or not re.fullmatch(r"/[\w.-]+(/[\w.-]+)+", where.path):
        raise ValueError(f"got {new!r}, wanted an address as https://github.com/OWNER/NAME")
    changed = []
    for path in texts(root):
        text = path.read_text(encoding="utf8")
        moved = text.replace(old, new).replace(urlparse(old).path.strip("/"), where.path.strip("/"))
        if moved != text:
            write_whole(path, moved)
            changed.append(path.relative_to(root).as_posix())
    return changed


def texts(root: Path) -> list[Path]:
    """The files that may name the address: those at the root, and below the folders of the project."""
    kinds = {".md", ".yml", ".toml", ".cff", ".ipynb", ".py", ".html", ".js", ".json"}
    found = [path for path in root.iterdir() if path.is_file()]
    for folder in ("book", "helpers", "tools", ".github"):
        found += [path for path in (root / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(path for path in found if path.suffix in kinds)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail where something would change")
    parser.add_argument("--address", metavar="URL", help="the book's new address, as https://github.com/OWNER/NAME")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    root = options.root.resolve()
    try:
        if options.address is not None:
            changed = move(root, options.address)
            print(f"The address is {options.address}: {len(changed)} files changed.", *changed, sep="\n  ")
            return 0
        changes = sync(root, write=not options.check)
    except ValueError as error:
        print(error)
        return 1
    print(*changes, sep="\n", end="\n" if changes else "")
    if options.check and changes:
        print("Not in step with the outputs: run make sync.")
        return 1
    print(f"{len(notebooks(root))} notebooks in step, {len(changes)} changes.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
