"""What the command ``python -m helpers.training`` refuses, in one line and without a trace."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import one_command
import pytest
from one_command import assert_refused, save

from helpers.training import cli, runs

folder, surroundings = one_command.folder, one_command.surroundings

ones = np.ones((3, 4, 2), np.uint8)
BAD_ARRAYS = {
    "no x": (dict(y=np.zeros(3)), "needs an array x; it holds y"),
    "rank 1": (dict(x=np.zeros(3, np.uint8)), "x in bad.npz is uint8 (3,)"),
    "rank 5": (dict(x=np.zeros((2, 2, 2, 2, 2), np.uint8)), "images are uint8 (N, H, W)"),
    "integer points": (dict(x=np.zeros((3, 2), np.int64)), "points are float (N, D)"),
    "float images": (dict(x=np.zeros((3, 2, 2))), "images are uint8"),
    "wide integers": (dict(x=np.zeros((3, 2, 2), np.int64)), "astype('uint8')"),
    "nan image": (dict(x=np.full((3, 2, 2), np.nan)), "nan or inf"),
    "nan points": (dict(x=np.array([[0, 1], [np.nan, 0]])), "nan or inf in example 1"),
    "inf points": (dict(x=np.array([[np.inf, 1]])), "nan or inf in example 0"),
    "no examples": (dict(x=np.zeros((0, 4, 4), np.uint8)), "it is empty"),
    "objects": (dict(x=np.array([None, 1])), "no .npz of plain arrays"),
    "text": (dict(x=np.array(["a", "b"])), "images are uint8"),
    "complex": (dict(x=np.zeros((3, 2), complex)), "points are float"),
    "sequence of 2": (dict(x=2 * ones, lengths=np.array([1, 1, 1])), "whole numbers 0 and 1"),
    "float lengths": (dict(x=ones, lengths=np.ones(3)), "3 whole numbers from 1 to 4"),
    "long lengths": (dict(x=ones, lengths=np.array([1, 2, 5])), "3 whole numbers from 1 to 4"),
    "few lengths": (dict(x=ones, lengths=np.array([1, 2])), "3 whole numbers from 1 to 4"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused(case, capsys):
    arrays, message = BAD_ARRAYS[case]
    save("bad.npz", **arrays)
    assert_refused(["tiny_pixels", "--data", "bad.npz", "--out", "run", "--steps", "2"], message, capsys)


BAD_FILES = {
    "empty": (b"", "is empty"),
    "blank": (b"\n\n\r\n", "empty lines"),
    "one symbol": (b"aaaa\n\n", "one symbol only"),
    "binary": (bytes(range(256)) * 4, "no text in UTF-8 (byte 128)"),
    "nul": (b"abc\0def", "NUL"),
    "latin": ("naïve".encode("latin-1"), "UTF-8"),
    "a few": (b"ab\nba\n" * 10, "fewer than --length"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_texts_are_refused(case, capsys):
    content, message = BAD_FILES[case]
    Path("bad.txt").write_bytes(content)
    mode = "characters" if case == "a few" else "lines"
    arguments = ["tiny_letters", "--data", "bad.txt", "--out", "run", "--examples", mode, "--steps", "2"]
    assert_refused(arguments, message, capsys)


@pytest.mark.parametrize(
    "change, message",
    [
        (["nope"], "there is no family nope; there are: "),
        (["no_family"], "tiny_gauss, tiny_letters, tiny_pixels"),
        (["../x"], "there is no family ../x"),
        (["needy"], "needs the package a_package_that_is_not_there"),
        (["--data", "absent.npz"], "absent.npz does not exist"),
        (["--data", "."], ". is a folder"),
        (["--steps", "0"], "0 is not a positive whole number"),
        (["--steps", "ten"], "ten"),
        (["--steps", "9" * 400], "positive whole number"),
        (["--seconds", "inf"], "positive number"),
        (["--seconds", "3", "--steps", "3"], "not allowed with"),
        (["--seed", "-1"], "-1 is not from 0"),
        (["--split", "random"], "order or shuffle:SEED"),
        (["--split", "shuffle:x"], "order or shuffle:SEED"),
        (["--fractions", ".9"], "two or three numbers"),
        (["--fractions", ".9,.2"], "sum to 1.1"),
        (["--fractions", ".5,.2,.2"], "sum to 0.9"),
        (["--fractions", ".9,nan"], "between 0 and 1"),
        (["--fractions", "a,b"], "list of numbers"),
        (["--fractions", ".999,.001"], "leave no validation part"),
        (["--levels", "3"], "holds values up to 4"),
        (["--set", "depth=3"], "tiny_pixels has no option depth; it has noise, and its training batch_size, clip"),
        (["--set", "depth"], "KEY=VALUE"),
        (["--set", "learning_rate=fast"], "learning_rate is a positive number, not 'fast'"),
        (["--set", "batch_size=0"], "batch_size"),
        (["--resume", "--overwrite"], "choose one"),
        (["--unknown"], "--unknown"),
        (["--out", "file/run"], "cannot be written"),
        (["--out", "file"], "is a file"),
        (["--out", "full"], "something else than a run"),
    ],
)
def test_bad_arguments_are_refused(folder, change, message, capsys):
    Path("file").write_text("")
    Path("full").mkdir()
    Path("full/treasure").write_text("")
    name = change.pop(0) if not change[0].startswith("--") else "tiny_pixels"
    arguments = [name, "--data", str(folder / "images.npz"), "--out", "a/b", *change]
    assert_refused(arguments + ([] if {"--steps", "--seconds"} & set(change) else ["--steps", "2"]), message, capsys)


@pytest.mark.parametrize(
    "name, data, option, message",
    [
        ("vae", "images.npz", "latent=8", "vae has no option latent; it has latents, hidden"),
        ("vae", "images.npz", "levels=5", "no option levels"),
        ("vae", "images.npz", "shape=5", "no option shape"),
        ("vae", "images.npz", "steps=5", "no option steps"),
        ("vae", "images.npz", "latents=2.5", "latents is a whole number, not 2.5"),
        ("vae", "images.npz", "latents=True", "latents is a whole number, not True"),
        ("vae", "images.npz", "hidden=wide", "hidden is a whole number, not 'wide'"),
        ("vae", "images.npz", "dropout=some", "dropout is a number, not 'some'"),
        ("vae", "images.npz", "keep_best=no", "keep_best is True or False, not 'no'"),
        ("gpt", "words.txt", "bias=maybe", "bias is True or False, not 'maybe'"),
        ("gpt", "words.txt", "norm=3", "norm is a word, not 3"),
        ("gpt", "points.npz", "layers=1", "sequences are integers"),
        ("ngram", "words.txt", "learning_rate=0.1", "ngram has no option learning_rate; it has n, discounts, length"),
        ("markov", "words.txt", "smoothing=nan", "smoothing is a number, not 'nan'"),
    ],
)
def test_a_wrong_option_is_named_with_what_is_wanted(folder, name, data, option, message, capsys):
    arguments = [name, "--data", str(folder / data), "--out", "run", "--length", "8", "--set", option]
    assert_refused(arguments, message, capsys)


def test_every_option_of_the_examples_exists():
    found = re.findall(r"helpers[.]training (\w+) ([^\n]*--set [^\n]*)", cli.EXAMPLES)
    assert found
    for name, line in found:
        runs.check_options(name, [cli._assignment(text) for text in re.findall(r"--set (\S+)", line)])


@pytest.mark.parametrize("missing", ["--data", "--out"])
def test_missing_arguments(missing, capsys):
    arguments = ["tiny_pixels", "--data", "x.npz", "--out", "y"]
    i = arguments.index(missing)
    assert_refused(arguments[:i] + arguments[i + 2 :], missing, capsys)
    assert_refused([], "NAME", capsys)


def test_data_of_another_kind_is_the_familys_to_refuse(folder, capsys):
    for name, data in (("tiny_letters", "images.npz"), ("tiny_pixels", "points.npz"), ("tiny_gauss", "images.npz")):
        arguments = [name, "--data", str(folder / data), "--out", "run", "--steps", "2"]
        assert_refused(arguments, "", capsys)


def test_unreadable_file(capsys):
    save("x.npz", x=np.zeros((9, 2)))
    os.chmod("x.npz", 0)
    if os.access("x.npz", os.R_OK):  # root reads everything
        return
    assert_refused(["tiny_gauss", "--data", "x.npz", "--out", "run"], "cannot be read", capsys)
