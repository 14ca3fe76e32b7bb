"""The map on the first page leads to every chapter that the book has."""

import nbformat
import pytest
import yaml
from test_notebooks_hygiene import ROOT

TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
CHAPTERS = [c["file"] for part in TOC["parts"] if part["caption"] != "Back matter" for c in part["chapters"]]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_map_links_to_the_chapter(chapter):
    cells = nbformat.read(ROOT / "book" / "index.ipynb", as_version=4).cells
    text = next(cell.source for cell in cells if '<div class="map">' in cell.source).partition('<div class="map">')[2]
    link = f"]({chapter.removeprefix('book/')}.ipynb)"
    assert link in text, f"add the link to {chapter} to the map of book/index.ipynb"
