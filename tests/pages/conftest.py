"""The built book behind a local server, and pages that can reach nothing else."""

from __future__ import annotations

import functools
import gzip
import http.server
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html"
TIMEOUT = 120_000  # milliseconds: a busy machine is no fault of the page


def page_names() -> list[str]:
    """The book's pages, without the theme's own."""
    names = [path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html")] if HTML.is_dir() else []
    # Without a build there is still one test, which fails and says so.
    return sorted(name for name in names if name.startswith("book/")) or ["book/index.html"]


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture(scope="session")
def html() -> Path:
    if not (HTML / "book" / "index.html").exists():
        pytest.fail(f"there is no built book in {HTML}: run `make book` first", pytrace=False)
    return HTML


@pytest.fixture(scope="session")
def address(html):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(html)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@functools.cache
def weight(path: Path) -> int:
    done = path.suffix in (".png", ".webp", ".woff", ".woff2")  # compressed already
    return path.stat().st_size if done else len(gzip.compress(path.read_bytes()))


@dataclass
class Visit:
    """A page that is being looked at, and what went wrong on it."""

    page: object
    faults: list[str] = field(default_factory=list)
    loaded: set[str] = field(default_factory=set)  # the paths that the server sent

    def weights(self) -> dict[str, int]:
        """Bytes of each file, as a server that compresses sends it."""
        return {path: weight(HTML / path) for path in self.loaded}

    def read_through(self) -> None:
        """Scroll to the end, so that everything lazy loads."""
        self.page.evaluate(
            """async () => {
                for (let y = 0; y < document.documentElement.scrollHeight; y += innerHeight) {
                    scrollTo(0, y);
                    await new Promise((done) => setTimeout(done, 15));
                }
                const shown = [...document.images].filter((image) => image.checkVisibility());
                for (const image of shown) image.loading = "eager";  // else decode() may wait for ever
                await Promise.all(shown.map((image) => image.decode().catch(() => 0)));
                scrollTo(0, 0);
            }"""
        )


@pytest.fixture
def visit(browser, address):
    """``visit(name, width, theme)`` opens a page; contexts are closed at the end."""
    contexts = []

    def open_page(name: str, width: int = 1280, theme: str = "light", scripts: bool = True, base: str = "") -> Visit:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=theme, java_script_enabled=scripts
        )
        context.set_default_timeout(TIMEOUT)
        contexts.append(context)
        page = context.new_page()
        seen = Visit(page)

        def guard(route):
            url = route.request.url
            if url.startswith((address, "data:", "blob:", "file:")):
                return route.continue_()
            seen.faults.append(f"asked another host: {url}")
            return route.abort()

        def note(response):
            if response.status >= 400:
                seen.faults.append(f"{response.status}: {response.url}")
            elif response.url.startswith(address):
                seen.loaded.add(unquote(urlsplit(response.url).path).lstrip("/"))

        context.route("**/*", guard)
        page.on("console", lambda m: seen.faults.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: seen.faults.append(f"error: {error}"))
        page.on("requestfailed", lambda request: seen.faults.append(f"failed: {request.url}"))
        page.on("response", note)
        page.goto(f"{base or address}/{name}", wait_until="load")
        return seen

    yield open_page
    for context in contexts:
        context.close()
