"""The decks of ``make slides``: whole, in step with the marks of the chapters, and in need of no network."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from nbconvert.exporters import SlidesExporter

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import slides  # noqa: E402

EXECUTED = ROOT / "_build" / "executed"


def marked(path: Path) -> list[str]:
    cells = nbformat.read(path, as_version=4).cells
    return [mark for cell in cells if (mark := cell.metadata.get("slideshow", {}).get("slide_type")) in slides.MARKS]


CHAPTERS = [path for path in sorted(EXECUTED.rglob("*.ipynb")) if marked(path)] or [EXECUTED / "none.ipynb"]


@pytest.fixture(scope="module")
def decks() -> Path:
    assert slides.main([]) == 0
    return ROOT / "_build" / "slides"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_deck_shows_what_is_marked_and_asks_no_one(visit, decks, path):
    deck = decks / path.relative_to(EXECUTED).with_suffix(".html")
    seen = visit(deck.relative_to(decks).as_posix(), base=decks.as_uri())
    page = seen.page
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    marks = marked(path)
    shown = page.locator(".slides > section > section").count()
    # The first marked cell begins a slide, whatever its mark.
    assert shown == sum(mark in ("slide", "subslide") for mark in marks) + (marks[0] not in ("slide", "subslide"))
    assert page.locator("aside.notes").count() == marks.count("notes")
    assert page.locator("aside.notes:visible").count() == 0
    title = page.locator("section.present h1").first.inner_text().strip("¶ ")
    for _ in range(3):
        page.keyboard.press("Space")
    assert page.evaluate("Reveal.getState()") != {"indexh": 0, "indexv": 0}
    assert title and title in (decks / "index.html").read_text(encoding="utf8")
    assert not seen.faults


def test_links_of_the_decks_lead_to_pages(decks):
    broken = []
    for deck in decks.rglob("*.html"):
        if "assets" in deck.parts:
            continue
        for link in re.findall(r'<a\b[^>]*\bhref="([^"#][^"]*)"', deck.read_text(encoding="utf8")):
            parts = urlsplit(link)
            if not parts.scheme and not (deck.parent / unquote(parts.path)).resolve().exists():
                broken.append(f"{deck.name}: {link}")
    assert broken == []


def test_nbconverts_own_deck_would_ask_others(visit, decks):
    """The mutant: the template that nbconvert ships, with its scripts from the network."""
    text, _ = SlidesExporter().from_notebook_node(nbformat.read(CHAPTERS[0], as_version=4))
    (decks / "mutant.html").write_text(text, encoding="utf8")
    try:
        faults = visit("mutant.html", base=decks.as_uri()).faults
    finally:
        (decks / "mutant.html").unlink()
    assert any(fault.startswith("asked another host") for fault in faults)
