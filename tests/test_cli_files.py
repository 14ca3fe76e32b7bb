"""The reading and splitting of the files that the command trains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from one_command import save

from helpers.training import files


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def examples(n, kind="points"):
    return files.Examples(kind, torch.arange(n))


@pytest.mark.parametrize(
    "n, fractions, sizes",
    [
        (1797, (0.5565, 0.1948), (1000, 350, 447)),
        (10, (0.9, 0.1), (9, 1, 0)),
        (15, (0.9, 0.1), (14, 1, 0)),
        (1797, (0.8, 0.1, 0.1), (1438, 180, 179)),
        (3, (0.34, 0.33, 0.33), (1, 1, 1)),
    ],
)
def test_split_sizes(n, fractions, sizes):
    parts = files.split(examples(n), "order", fractions)
    assert tuple(0 if part is None else len(part) for part in parts) == sizes
    assert torch.cat([part.x for part in parts if part]).tolist() == list(range(n))
    shuffled = torch.cat([part.x for part in files.split(examples(n), "shuffle:42", fractions) if part])
    assert sorted(shuffled.tolist()) == list(range(n))
    if n > 3:
        assert shuffled.tolist() != list(range(n))
        again = torch.cat([part.x for part in files.split(examples(n), "shuffle:42", fractions) if part])
        other = torch.cat([part.x for part in files.split(examples(n), "shuffle:43", fractions) if part])
        assert torch.equal(shuffled, again) and not torch.equal(shuffled, other)


@given(st.integers(3, 3000), st.lists(st.floats(0, 1.1), max_size=4), st.sampled_from(["order", "shuffle:1", "x"]))
def test_split_cuts_or_refuses(n, fractions, how):
    try:
        parts = files.split(examples(n), how, tuple(fractions))
    except ValueError:
        return
    assert how != "x" and len(fractions) in (2, 3)
    assert sum(len(part) for part in parts if part is not None) == n
    assert len(parts[0]) > 0 and len(parts[1]) > 0


def test_running_text_is_not_shuffled():
    with pytest.raises(ValueError, match="running text"):
        files.split(examples(100, "characters"), "shuffle:1", (0.5, 0.5))


def test_binary_sequences_are_padded():
    x = np.zeros((2, 3, 2), np.uint8)
    x[0, 1] = 1
    found = files.read(save("rolls.npz", x=x, lengths=np.array([2, 3])))
    assert found.kind == "binary sequences" and found.levels == 2
    assert found.x[0].tolist() == [[0, 0], [1, 1], [-1, -1]] and (found.x[1] == 0).all()


def test_text_is_read_as_written():
    Path("text.txt").write_bytes(b"\xef\xbb\xbf" + "zß\r\na\n\nß".encode())
    found = files.read("text.txt")
    assert found.vocabulary.decode(found.x) == "zß\na\n\nß"
    found = files.read("text.txt", "lines")
    assert [found.vocabulary.decode(row) for row in found.x] == ["zß", "a", "ß"] and len(found.vocabulary) == 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300),
    suffix=st.sampled_from(["txt", "npz"]),
    mode=st.sampled_from(["lines", "characters"]),
)
def test_no_file_breaks_the_reader(content, suffix, mode):
    path = Path(f"some.{suffix}")
    path.write_bytes(content)
    try:
        found = files.read(path, mode)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert len(found) > 0


dtypes = st.sampled_from(["uint8", "int64", "float32", "float64", "bool", "complex64", "U3", "datetime64[s]"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.lists(st.integers(0, 3), max_size=5), dtype=dtypes, lengths=st.none() | st.lists(st.integers(-1, 4)))
def test_no_array_breaks_the_reader(shape, dtype, lengths):
    arrays = dict(x=np.zeros(shape, dtype)) | ({} if lengths is None else dict(lengths=np.array(lengths)))
    try:
        found = files.read(save("some.npz", **arrays))
    except ValueError as error:
        assert "some.npz" in str(error) and "\n" not in str(error)
    else:
        assert found.kind in ("images", "points", "binary sequences") and len(found) == shape[0]
