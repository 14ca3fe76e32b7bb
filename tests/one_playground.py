"""One playground on a page of its own, on a narrow screen: for the tests of each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from test_playground_page import ARGUMENTS, CHROMIUM, page_of, png_bytes, sync_api

from helpers.playground import display


@contextmanager
def playing(name: str, params: dict, state: dict, alt: str, *, height: int = 900, **options) -> Iterator:
    """The page, once the playground has answered. At the end nothing may have failed there."""
    assert CHROMIUM, "chromium is missing: apt-get install chromium"
    bundle = display.make_bundle(name, {}, params, state, png_bytes(), alt)
    faults = []
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 360, "height": height}, **options)
        page.set_default_timeout(60_000)
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.set_content(page_of(display.standalone_html(bundle)))
        page.wait_for_selector(".readout:not(:empty)")
        yield page
        browser.close()
    assert faults == []
