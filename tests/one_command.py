"""The command ``python -m helpers.training`` in a folder of its own, with the smallest families: for its tests.

A test module takes the fixtures by ``folder, surroundings = one_command.folder, one_command.surroundings``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import helpers.models
from helpers.training.cli import main

WORDS = ["anna", "bob", "cora", "dan", "emma"] * 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Modules with the families of tests/families.py, and a file of each kind."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "models").mkdir()
    for name in ("Pixels", "Letters", "Gauss", "Duel"):
        (folder / "models" / f"tiny_{name.lower()}.py").write_text(f"from families import {name} as FAMILY\n")
    (folder / "models" / "needy.py").write_text("import a_package_that_is_not_there\n")
    (folder / "models" / "no_family.py").write_text("")
    generator = np.random.default_rng(0)
    images = generator.integers(0, 5, (100, 4, 4), dtype=np.uint8)
    images[0, 0, 0] = 4
    np.savez(folder / "images.npz", x=images)
    np.savez(folder / "colour.npz", x=generator.integers(0, 256, (40, 4, 4, 3), dtype=np.uint8))
    np.savez(folder / "points.npz", x=generator.normal(size=(100, 2)).astype(np.float32))
    (folder / "words.txt").write_text("\n".join(WORDS) + "\n")
    return folder


@pytest.fixture(autouse=True)
def surroundings(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("MAX_STEPS", raising=False)
    monkeypatch.setattr(helpers.models, "__path__", [*helpers.models.__path__, str(folder / "models")])
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_num_threads(threads)


def train(folder, name="tiny_pixels", data="images.npz", *options, out="run"):
    return main([name, "--data", str(folder / data), "--out", str(out), *options])


def metrics(out="run"):
    return json.loads((Path(out) / "metrics.json").read_text())


def assert_refused(arguments, message, capsys, code=2):
    """Exit code 2, one line that says what is wrong, and nothing new in the folder."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    folders = {path for path in Path().rglob("*") if path.is_dir()}
    capsys.readouterr()
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err, err
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()} == before
    assert {path for path in Path().rglob("*") if path.is_dir()} == folders


def save(name, **arrays):
    np.savez(name, **arrays)
    return name
