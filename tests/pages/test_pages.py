"""Every page of the built book, in a real browser: nothing fails, nothing is foreign, everything can be read."""

from __future__ import annotations

import html as html_module
import json
import re
from urllib.parse import unquote, urlsplit

import pytest
from conftest import HTML, ROOT, page_names

PAGES = page_names()
CHAPTERS = [name for name in PAGES if re.search(r"/\d\d_", name)]
SAMPLE = sorted({*CHAPTERS[:2], *(f"book/{name}.html" for name in ("index", "glossary", "reference", "references"))})
VIEWS = [(width, theme) for width in (1280, 360) for theme in ("light", "dark")]
PAGE_BYTES = 1_500_000  # compressed, before a playground is touched


@pytest.mark.parametrize("name", PAGES)
def test_page_is_sound(visit, name):
    """At two widths and in both themes: no error, no foreign or failed request, no sideways scroll, light enough."""
    for width, theme in VIEWS:
        seen = visit(name, width, theme)
        seen.read_through()
        page = seen.page
        assert not seen.faults, f"{width} px, {theme}"
        assert page.evaluate("document.documentElement.dataset.theme") == theme
        overflow = page.evaluate(
            """() => [...document.querySelectorAll('body *')]
                .filter((el) => el.getBoundingClientRect().right > innerWidth + 1 && !el.closest('pre, .math, dialog'))
                .map((el) => el.tagName + '.' + el.className).slice(0, 5)"""
        )
        width_of_page = page.evaluate("document.documentElement.scrollWidth")
        assert width_of_page <= width, f"scrolls sideways at {width} px, perhaps because of {overflow}"
        beyond = page.evaluate(
            """() => [...document.querySelectorAll('.prev-next-area a > *')]
                .map((el) => [el, el.parentElement.parentElement].map((one) => one.getBoundingClientRect().right))
                .filter(([right, edge]) => right > edge + 1)"""
        )
        assert beyond == [], f"cut off at {width} px: the way to the next page"
        weights = {path: size for path, size in seen.weights().items() if "_static/playgrounds/" not in path}
        assert sum(weights.values()) <= PAGE_BYTES, sorted(weights.items(), key=lambda item: -item[1])[:5]


@pytest.mark.parametrize("name", PAGES)
def test_pictures_are_described_and_keep_their_place(visit, name):
    page = visit(name).page
    pictures = page.eval_on_selector_all(
        "article img", "els => els.map(el => [el.src.slice(-60), el.alt, el.width > 0 && el.height > 0 || el.hidden])"
    )
    assert [source for source, alt, _ in pictures if len(alt) < 10] == []
    sizes = page.eval_on_selector_all(
        ".book-figure img",
        "els => els.filter(el => !(el.getAttribute('width') > 0 && el.getAttribute('height') > 0)).length",
    )
    assert sizes == 0, "a figure without width and height moves the text when it arrives"


@pytest.mark.parametrize("name", PAGES)
def test_mathematics_is_drawn(visit, name):
    page = visit(name, 360, "light").page
    formulas = page.locator(".math").count()
    if formulas:
        page.wait_for_function(
            "document.querySelectorAll('.math').length <= document.querySelectorAll('mjx-container').length"
        )
        errors = page.eval_on_selector_all(
            "mjx-merror, [data-mjx-error]", "els => els.map(el => el.title || el.textContent)"
        )
        assert errors == []
        lost = page.eval_on_selector_all(
            "div.math",
            """els => els.filter(el => el.getBoundingClientRect().left
                - el.querySelector('mjx-container').getBoundingClientRect().left > 1).map(el => el.id)""",
        )
        assert lost == [], "a formula begins left of where one can scroll"
    left = page.eval_on_selector_all(
        "article p", r"els => els.map(e => e.innerText).filter(t => /\$[^$]*\\|\\tag|\\\(/.test(t))"
    )
    assert left == [], "TeX that nothing has drawn"


@pytest.mark.parametrize(
    ("name", "width", "theme"),
    [(name, 1280, theme) for name in SAMPLE for theme in ("light", "dark")] + [(CHAPTERS[0], 360, "light")]
    if CHAPTERS
    else [],
)
def test_accessible(visit, name, width, theme):
    script = ROOT / "node_modules" / "axe-core" / "axe.min.js"
    assert script.exists(), "axe-core is missing: run `npm ci` in the project's folder"
    page = visit(name, width, theme).page
    page.add_script_tag(path=str(script))
    result = page.evaluate("() => axe.run({resultTypes: ['violations']})")
    faults = {
        fault["id"]: [
            node["html"][:120] + " | " + (node.get("failureSummary") or "")[:200] for node in fault["nodes"][:3]
        ]
        for fault in result["violations"]
        if fault["impact"] in ("serious", "critical")
    }
    assert not faults, json.dumps(faults, indent=1)


def test_a_dark_page_is_dark_from_the_first_stroke(visit):
    """The theme's own script asks the system after the page is drawn, and then fades all colours."""
    page = visit("book/index.html", theme="dark").page
    page.evaluate("localStorage.clear()")  # as on a first visit
    page.add_init_script(
        """document.addEventListener('readystatechange', () => {
               window.first ??= document.documentElement.dataset.theme;
           });
           document.addEventListener('transitionrun', (event) => { window.fades = event.target.outerHTML; });"""
    )
    page.reload()
    assert page.evaluate("[window.first, window.fades]") == ["dark", None]


@pytest.mark.parametrize("name", SAMPLE)
def test_opens_from_the_file_system(visit, html, name):
    seen = visit(name, base=html.as_uri())
    seen.read_through()
    assert not seen.faults


@pytest.mark.parametrize("name", SAMPLE)
def test_readable_without_scripts(visit, name):
    page = visit(name, scripts=False).page
    assert page.locator("article h1").is_visible()
    assert len(page.locator("article").inner_text()) > 100
    for index in range(page.locator(".book-figure").count()):
        shown = [image for image in page.locator(".book-figure").nth(index).locator("img").all() if image.is_visible()]
        assert len(shown) == 1, "exactly one of a figure's renderings is shown"
    for still in page.locator(".book-playground img").all():
        assert still.is_visible()


def test_search_finds_a_word(visit):
    seen = visit("search.html?q=posterior")
    seen.page.wait_for_selector("#search-results li a")
    assert "glossary.html" in " ".join(
        seen.page.eval_on_selector_all("#search-results a", "els => els.map(el => el.href)")
    )
    assert not seen.faults


def test_keyboard_reaches_the_text_first(visit):
    page = visit("book/glossary.html").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Skip to main content"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main-content"
    page.keyboard.press("Tab")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "the focus cannot be seen"


def test_a_link_to_the_library_opens_its_source(visit):
    name = "helpers.models.base.GenerativeModel.sample"
    page = visit(f"book/reference.html#{name}").page
    assert page.evaluate("id => document.getElementById(id).querySelector('details').open", name)
    entry = page.locator(f"[id='{name}']")
    assert "def sample" in entry.locator("pre").inner_text()
    assert re.search(r"/blob/\w+/helpers/models/base\.py#L\d+", entry.locator("details a").get_attribute("href"))


def test_paper_shows_the_text_alone(visit):
    page = visit("book/glossary.html").page
    page.emulate_media(media="print")
    assert not page.locator(".bd-sidebar-primary").is_visible()
    assert page.locator("article p:visible").count() > 10 and page.locator("h1:visible").count() == 1


@pytest.mark.parametrize(
    "name", [name for name in PAGES if HTML.is_dir() and "book-playground" in (HTML / name).read_text()]
)
def test_playground_answers(visit, name):
    """Each playground mounts when it is seen, and a touch changes what it shows within a second."""
    seen = visit(name)
    for playground in seen.page.locator(".book-playground").all():
        playground.scroll_into_view_if_needed()
        seen.page.wait_for_function("el => el.dataset.mounted", arg=playground.element_handle())
        playground.locator("canvas, svg").first.wait_for()
        before = playground.screenshot()
        for plane in playground.locator("canvas:visible, svg:visible").all():  # one of them is for the hand
            box = plane.bounding_box()
            seen.page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.3)
            seen.page.mouse.down()
            seen.page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.6, steps=3)
            seen.page.mouse.up()
            seen.page.wait_for_timeout(900)
            if playground.screenshot() != before:
                break
        else:
            raise AssertionError("no touch changed anything")
    assert not seen.faults


def test_links_and_fragments_resolve(html):
    """Read from the files: every local link leads to a file, every fragment to an element of it."""
    texts = {path: path.read_text(encoding="utf-8") for path in html.rglob("*.html")}
    ids = {path: set(map(html_module.unescape, re.findall(r'\bid="([^"]+)"', text))) for path, text in texts.items()}
    broken = []
    for path, text in texts.items():
        for link in re.findall(r'<a\b[^>]*\bhref="([^"]*)"', text):
            parts = urlsplit(html_module.unescape(link))
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.relative_to(html)}: {link}: no such file")
            elif parts.fragment and target in ids and unquote(parts.fragment) not in ids[target]:
                broken.append(f"{path.relative_to(html)}: {link}: no such place")
    assert broken == []


def test_nothing_of_widgets_or_other_hosts_is_in_the_files(html):
    for path in html.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "vnd.jupyter.widget" not in text, path
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(https?:[^"]*)"', text)
        assert loaded == [], path
    assert not list(html.rglob("fontawesome.js"))
