"""Rules for every test, and the browser of those that need one.

With ``CI=true`` a skipped test is a failure; tests marked ``gpu`` need one to be chosen.
"""

import functools
import http.server
import os
import re
import shutil
import threading

import pytest


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a GPU; left out where there is none")


def pytest_collection_modifyitems(config, items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            config.hook.pytest_deselected(items=marked)
            items[:] = [item for item in items if item not in marked]


def fail_if_skipped(report):
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which counts as a failure here: {report.longrepr[-1]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return fail_if_skipped((yield))


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, one for all: Playwright bears no second one beside it in a process."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "chromium is missing: apt-get install chromium"
    arguments = (
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    ).split()
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=chromium, args=arguments, timeout=120_000)
        yield made
        made.close()


@pytest.fixture(scope="module")
def address(site):
    """Of the module's folder ``site``, by a server and by the file system."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"http": f"http://127.0.0.1:{server.server_port}", "file": site.as_uri()}
    server.shutdown()


@pytest.fixture
def open_page(browser):
    """Opens a page, and fails the test if anything there failed or asked another host."""
    pages, faults = [], []

    def open_(url, ready=True, **options):
        page = browser.new_page(**options)
        page.set_default_timeout(60_000)
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on("requestfailed", lambda r: faults.append(f"failed: {r.url}"))
        page.on(
            "request", lambda r: None if re.match(r"http://127|file:|data:|about:", r.url) else faults.append(r.url)
        )
        page.goto(url)
        pages.append(page)
        if ready:
            page.wait_for_selector(".readout:not(:empty)")
        return page

    yield open_
    for page in pages:
        page.close()
    assert faults == []


@pytest.fixture(scope="module")
def playing(browser):
    """``playing(name, params, state, alt)``: a narrow page with that playground, once it has answered.

    In the end nothing may have failed there.
    """
    from one_playground import page_of, png_bytes

    from helpers.playground import display

    pages, faults = [], []

    def play(name, params, state, alt, *, height=900, **options):
        bundle = display.make_bundle(name, {}, params, state, png_bytes(), alt)
        page = browser.new_page(viewport={"width": 360, "height": height}, **options)
        pages.append(page)
        page.set_default_timeout(60_000)
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.set_content(page_of(display.standalone_html(bundle)))
        page.wait_for_selector(".readout:not(:empty)")
        return page

    yield play
    for page in pages:
        page.close()
    assert faults == []
