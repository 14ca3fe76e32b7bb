"""What the tests of the playgrounds share; the fixtures are in conftest.py."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import zlib

from helpers.playground import display

FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"


def png_bytes():
    """A grey picture of one pixel, written by hand: the tests need no figure."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0\x80")) + chunk(b"IEND", b"")


def page_of(body, theme="light"):
    return (
        f'<!doctype html><html lang="en" data-theme="{theme}"><head><meta charset="utf-8"><title>Playground</title>'
        f'<link rel="icon" href="data:,"><meta name="viewport" content="width=device-width"></head><body>{body}</body>'
    )


def by_node(code: str):
    """What the code prints, as JSON."""
    node = shutil.which("node")
    assert node, "node is missing"
    done = subprocess.run([node, "-"], input=code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
    return json.loads(done.stdout)


def with_module(source: str, code: str):
    """What ``code`` prints behind a playground's files, ``display.joined(name)``, or behind a mutant of them."""
    return by_node(source.replace("export default", "const module_ =") + code)


def value_of(module: str, expression: str, source: str | None = None):
    """The value of an expression in the playground's module ``m``; ``source``: a mutant of its classic script."""
    return by_node(f"const m = {source or display.classic(module)};\nconsole.log(JSON.stringify({expression}));")


def state(page) -> dict:
    return page.evaluate("() => document.querySelector('.book-playground').playground.state()")
