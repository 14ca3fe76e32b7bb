"""A real JupyterLab: a live playground is dragged in the browser, and Python sees it; and the other way round."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
import torch
from torch import nn

from helpers import playground

LIVE = """
import json
from pathlib import Path
from helpers import playground
given = json.loads(Path("graph.json").read_text())
widget = playground.live("latent_plane", graphs={"decode": given}, params={"levels": 17})
widget.observe(lambda change: Path("seen.json").write_text(json.dumps(change.new)), "z")
widget
"""
SET = "widget.z = [1.0, 2.0]"
SHOW = """
import base64
png = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")
playground.show("latent_plane", graphs={"decode": given}, params={"levels": 17}, still=png, alt="A plane")
"""


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab that serves one notebook, with settings and history of its own."""
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(2, 64), nn.Sigmoid(), nn.Unflatten(1, (8, 8)))
    (tmp_path / "graph.json").write_text(json.dumps(playground.export(decoder, torch.zeros(1, 2), names=["z"])))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code.strip()) for code in (LIVE, SET, SHOW)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "play.ipynb")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = [
        "JUPYTER_CONFIG_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "JUPYTER_RUNTIME_DIR",
        "IPYTHONDIR",
    ]
    environment = os.environ | {name: str(tmp_path / "own" / name.lower()) for name in own}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password="]
    command += [f"--ServerApp.root_dir={tmp_path}", "--ServerApp.use_redirect_file=False"]
    log = (tmp_path / "lab.log").open("w")
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(f"{address}/api/status"), 60, lambda: (tmp_path / "lab.log").read_text()[-2000:])
        yield address
    finally:
        server.terminate()  # shuts its kernels down
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def wait_for(condition, seconds, message):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, message()
        time.sleep(0.2)
    return found


def drag(page, plane, to):
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + to[0] * box["width"], box["y"] + to[1] * box["height"], steps=4)
    page.mouse.up()


def test_python_sees_the_drag_and_the_page_sees_python(browser, lab, tmp_path):
    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    page.set_default_timeout(120_000)  # a busy machine starts Lab and a kernel slowly
    page.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
    page.goto(f"{lab}/lab/tree/play.ipynb?reset")
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    cells.first.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")

    plane = cells.first.locator(".plane canvas").first
    plane.wait_for()
    drag(page, plane, (0.75, 0.25))
    # In the middle between 0 and 3 standard deviations, up to a pixel.
    seen = wait_for(lambda: read(tmp_path / "seen.json", [1.5, 1.5]), 30, lambda: "Python never saw the drag")
    assert seen == pytest.approx([1.5, 1.5], abs=0.05)

    cells.nth(1).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    cells.first.locator(".readout", has_text="z₁ = 1.0 sd, z₂ = 2.0 sd").wait_for()

    # The output without a widget works in the same page.
    cells.nth(2).locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    alone = cells.nth(2).locator(".plane canvas").first
    alone.wait_for()
    drag(page, alone, (0.25, 0.75))
    cells.nth(2).locator(".readout", has_text="z₁ = −1.5 sd, z₂ = −1.5 sd").wait_for()
    page.close()


def read(path, wanted):
    """The last z that Python wrote, once the drag has come to its end."""
    try:
        z = json.loads(path.read_text())
    except (OSError, ValueError):
        return None  # not there yet, or half written
    return z if max(abs(a - b) for a, b in zip(z, wanted, strict=True)) < 0.05 else None
