"""Make a deck of slides of each executed chapter, in ``_build/slides``: it needs no network, over http or as a file.

A chapter marks the cells of its deck (``slideshow.slide_type``: slide, subslide, fragment, notes, or ``-`` to
continue); cells without a mark are left out. reveal.js comes from npm (``package-lock.json``), MathJax from PyPI.
"""

from __future__ import annotations

import argparse
import html
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from nbconvert.exporters import SlidesExporter

ROOT = Path(__file__).resolve().parent.parent
MARKS = ("slide", "subslide", "fragment", "notes", "-")
LOOK = """
.reveal { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; color: #1d2126; }
.reveal { font-size: 26px; }
.reveal .slides { text-align: left; }
.reveal :is(h1, h2, h3) { font-family: inherit; text-transform: none; letter-spacing: -0.012em; color: #1d2126; }
.reveal h1 { font-size: 1.9em; } .reveal h2 { font-size: 1.4em; } .reveal h3 { font-size: 1.15em; }
.reveal a { color: #0b5a8c; }
.reveal blockquote { width: auto; margin: 0.8em 0; padding: 0.1em 0 0.1em 0.9em; border-left: 4px solid #66498f;
  background: none; box-shadow: none; font-style: normal; }
.reveal pre { width: auto; margin: 0; box-shadow: none; font-size: 0.62em; line-height: 1.45; }
.reveal .jp-InputArea-editor { border: 0; background: #f6f6f4; padding: 0.4em 0.7em; }
.reveal .jp-RenderedImage img { max-height: 520px; width: auto; margin: 0; }
.reveal table { margin: 0.6em 0; font-size: 0.8em; }
.reveal details > summary { cursor: pointer; }
"""
TEMPLATE = (
    """{% extends 'index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}
<script>MathJax = {tex: {inlineMath: [["$", "$"], ["\\\\(", "\\\\)"]], processEscapes: true},
  options: {skipHtmlTags: ["script", "style", "textarea", "pre", "code"]}};</script>
<script defer src="{{ resources.assets }}/mathjax/tex-mml-chtml.js"></script>
{% endblock %}
{% block html_head_css %}<meta name="viewport" content="width=device-width, initial-scale=1">{% endblock %}
{% block footer_js %}
<style>"""
    + LOOK
    + """</style>
<script src="{{ resources.reveal.url_prefix }}/dist/reveal.js"></script>
<script src="{{ resources.reveal.url_prefix }}/plugin/notes/notes.js"></script>
<script>Reveal.initialize({controls: true, progress: true, hash: true, slideNumber: "c/t", transition: "none",
  center: false, width: 1120, height: 760, plugins: [RevealNotes]});</script>
{% endblock %}
"""
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    root = parser.parse_args(argv).root.resolve()
    executed, out = root / "_build" / "executed", root / "_build" / "slides"
    notebooks = sorted(executed.rglob("*.ipynb"))
    if not notebooks:
        sys.exit("There is no executed chapter in _build/executed: run `make execute` first.")
    copy_assets(root, out / "assets")
    decks = {path.relative_to(executed): deck(path, path.relative_to(executed), out) for path in notebooks}
    decks = {path: title for path, title in decks.items() if title}
    items = "".join(
        f'<li><a href="{path.with_suffix(".html").as_posix()}">{html.escape(title)}</a></li>'
        for path, title in decks.items()
    )
    (out / "index.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Slides</title>'
        f'<body style="font: 18px system-ui, sans-serif; margin: 3rem"><h1>Slides</h1><ul>{items}</ul></body></html>',
        encoding="utf-8",
    )
    print(f"Slides: {len(decks)} decks of {len(notebooks)} chapters: _build/slides/index.html")
    return 0


def deck(path: Path, relative: Path, out: Path) -> str:
    """Write one deck; returns its title, or nothing where no cell is marked."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.pop("widgets", None)
    up = "../" * len(relative.parent.parts)
    marked = 0
    for cell in notebook.cells:
        mark = cell.metadata.get("slideshow", {}).get("slide_type")
        marked += mark in MARKS
        cell.metadata["slideshow"] = {"slide_type": mark if mark in MARKS else "skip"}
        if cell.cell_type == "markdown":
            cell.source = book_links(cell.source, relative, up)
        for output in cell.get("outputs", []):
            for kind in [kind for kind in output.get("data", {}) if kind.startswith("application/vnd.")]:
                del output.data[kind]
        if "outputs" in cell:  # what held nothing but values for the book
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]
    if not marked:
        return ""
    title = next(
        (
            line[2:]
            for cell in notebook.cells
            if cell.cell_type == "markdown"  # in code it begins a comment
            for line in cell.source.splitlines()
            if line.startswith("# ")
        ),
        relative.stem,
    )
    notebook.metadata["title"] = title
    exporter = SlidesExporter(
        extra_loaders=[DictLoader({"deck.html.j2": TEMPLATE})],
        template_file="deck.html.j2",
        reveal_url_prefix=f"{up}assets/reveal.js",
        reveal_theme="white",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    text, _ = exporter.from_notebook_node(notebook, resources={"assets": f"{up}assets"})
    target = out / relative.with_suffix(".html")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return title


def book_links(text: str, relative: Path, up: str) -> str:
    """Links between pages of the sources lead to the built pages, which lie beside the slides."""

    def link(match: re.Match) -> str:
        target = os.path.normpath(relative.parent / match[1]).replace(os.sep, "/")
        return f"]({up}../html/{target}.html{match[2] or ''})"

    return re.sub(r"\]\((?!\w+:)([^)#\s]+)\.(?:md|ipynb)(#[^)\s]*)?\)", link, text)


def copy_assets(root: Path, target: Path) -> None:
    reveal = root / "node_modules" / "reveal.js"
    if not reveal.exists():
        if not shutil.which("npm"):
            sys.exit("The slides need reveal.js from npm: install Node.js, then run again.")
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=root, check=True)
    for name in ("dist", "plugin/notes"):
        shutil.copytree(reveal / name, target / "reveal.js" / name, dirs_exist_ok=True)
    mathjax = Path(importlib.util.find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax"
    (target / "mathjax").mkdir(parents=True, exist_ok=True)
    shutil.copy(mathjax / "tex-mml-chtml.js", target / "mathjax")
    fonts = "output/chtml/fonts/woff-v2"
    shutil.copytree(mathjax / fonts, target / "mathjax" / fonts, dirs_exist_ok=True)


if __name__ == "__main__":
    raise SystemExit(main())
