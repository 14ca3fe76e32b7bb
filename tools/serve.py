"""Serve the built book on this machine, and open it: ``python tools/serve.py [port]``."""

from __future__ import annotations

import sys
import webbrowser
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from environment import ROOT

HTML = ROOT / "_build" / "html"


class Handler(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript", ".wasm": "application/wasm"}

    def log_message(self, *arguments) -> None:
        pass


def main(argv: list[str]) -> None:
    if not (HTML / "index.html").exists():
        raise SystemExit("There is no book yet: make book")
    wanted = int(argv[0]) if argv else 8000
    handler = partial(Handler, directory=HTML)
    try:
        server = ThreadingHTTPServer(("127.0.0.1", wanted), handler)
    except OSError:  # taken: any free one
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    address = f"http://127.0.0.1:{server.server_port}/"
    print(f"The book is at {address} (Ctrl-C ends it)", flush=True)
    webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main(sys.argv[1:])
