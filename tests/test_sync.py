"""Numbers bound to outputs, the first cell, and the one address."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import chapters  # noqa: E402
import sync  # noqa: E402

VALUES = {"elbo": 93.74, "part": 0.8261, "images": 1797, "best": "PixelCNN", "slope": -0.5, "gap": -1.2e-5}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("is 93.7<!--=elbo:.1f-->.", "is 93.7<!--=elbo:.1f-->."),
        ("is 95.0<!--=elbo:.1f±1.5-->.", "is 95.0<!--=elbo:.1f±1.5-->."),  # within tolerance: the text stays
        ("is 95.3<!--=elbo:.1f±1.5-->.", "is 93.7<!--=elbo:.1f±1.5-->."),
        ("is 95.04<!--=elbo:.1f±1.5-->.", "is 93.7<!--=elbo:.1f±1.5-->."),  # not written as the format says
        ("is ?<!--=elbo:.1f±1.5-->.", "is 93.7<!--=elbo:.1f±1.5-->."),
        ("(12%<!--=part:.0%-->)", "(83%<!--=part:.0%-->)"),
        ("(82%<!--=part:.0%±2%-->)", "(82%<!--=part:.0%±2%-->)"),
        ("(80%<!--=part:.0%±2%-->)", "(83%<!--=part:.0%±2%-->)"),
        ("1<!--=images:,--> digits", "1,797<!--=images:,--> digits"),
        ("1797<!--=images--> digits", "1797<!--=images--> digits"),
        ("the VAE<!--=best--> wins", "the PixelCNN<!--=best--> wins"),
        ("falls by 1<!--=slope:.2f-->", "falls by −0.50<!--=slope:.2f-->"),
        ("−0.52<!--=slope:.2f±0.05-->", "−0.52<!--=slope:.2f±0.05-->"),
        ("about −3e-05<!--=gap:.0e-->", "about −1e-05<!--=gap:.0e-->"),
        ("90.0<!--=elbo:.1f-->–99.1<!--=elbo:.1f-->", "93.7<!--=elbo:.1f-->–93.7<!--=elbo:.1f-->"),
        ("**90**<!-- a plain comment -->", "**90**<!-- a plain comment -->"),
    ],
)
def test_a_number_is_written_where_it_drifted(before, after):
    text, drifted = sync.bind(before, VALUES)
    assert text == after
    assert bool(drifted) == (before != after)
    assert sync.bind(after, VALUES) == (after, [])


def test_what_one_run_computed_is_written_even_within_the_tolerance():
    close = "92.4<!--=elbo:.1f±1.5-->"
    assert sync.bind(close, VALUES) == (close, [])
    assert sync.bind(close, VALUES, exact=True)[0] == "93.7<!--=elbo:.1f±1.5-->"


def test_a_check_without_tolerance_or_by_equal_text_alone_would_be_wrong():
    """Two mutants of ``near``: one that accepts all, one that accepts nothing."""
    far, close = "97.0<!--=elbo:.1f±1.5-->", "94.0<!--=elbo:.1f±1.5-->"

    def judged(near) -> tuple[bool, bool]:
        with pytest.MonkeyPatch.context() as patch:
            if near:
                patch.setattr(sync, "near", near)
            return bool(sync.bind(far, VALUES)[1]), bool(sync.bind(close, VALUES)[1])

    assert judged(None) == (True, False)
    assert judged(lambda *_: True) != (True, False)
    assert judged(lambda *_: False) != (True, False)


@pytest.mark.parametrize(
    ("prose", "said"),
    [
        ("93.7<!--=elbow:.1f-->", "nothing recorded elbow"),
        ("**93.7**<!--=elbo:.1f-->", "cannot be bound"),
        ("93.7 <!--=elbo:.1f-->", "cannot be bound"),
        ("93.7<!--=elbo-->", "needs a format"),
        ("PixelCNN<!--=best:.1f-->", "Unknown format code"),
    ],
)
def test_what_cannot_be_bound_is_an_error(prose, said):
    with pytest.raises(ValueError, match=said):
        sync.bind(prose, VALUES)


@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_what_is_written_is_found_in_step(value, digits):
    comment = f"<!--=x:,.{digits}f-->"
    text, drifted = sync.bind(f"about ?{comment}, or so", {"x": value})
    assert len(drifted) == 1
    assert sync.bind(text, {"x": value}) == (text, [])
    shown = sync.number(text.removeprefix("about ").split("<!--")[0])
    assert abs(shown - value) <= 0.5 * 10**-digits + 1e-9


@given(st.text(max_size=60))
def test_prose_without_bindings_stays_as_it_is(prose):
    if "<!--=" not in prose:
        assert sync.bind(prose, {}) == (prose, [])


@pytest.fixture
def project(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").write_text("repository: {url: https://github.com/OWNER/a-book}\n")
    (tmp_path / "_toc.yml").write_text("root: book/one\n")
    (tmp_path / "README.md").write_text("See https://colab.research.google.com/github/OWNER/a-book and OWNER/a-book.")
    cells = [
        nbformat.v4.new_markdown_cell("# One\n\nIt is 95.3<!--=elbo:.1f±1.5--> nats.", id="prose"),
        nbformat.v4.new_code_cell("1 + 1", id="code"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"book": {"needs": ["mlxtend"]}})
    sync.write_notebook(
        tmp_path / "book" / "one.ipynb", sync.with_first_cell(notebook, "https://github.com/OWNER/a-book")
    )
    return tmp_path


def execute(root: Path, **values) -> None:
    """Store outputs as the executor does."""
    source = nbformat.read(root / "book" / "one.ipynb", as_version=4)
    ran = nbformat.from_dict(source)
    ran.cells[-1].outputs = [nbformat.v4.new_output("display_data", {sync.VALUES_TYPE: values})]
    chapter = chapters.open_chapter(root, "book/one.ipynb", root / "nowhere")
    merged = chapters.merge(source, ran, {"key": chapter.key, "seconds": 1})
    chapters.write_notebook(root / "_build" / "executed" / "book" / "one.ipynb", merged)


def prose(root: Path) -> str:
    return nbformat.read(root / "book" / "one.ipynb", as_version=4).cells[1].source


def test_check_fails_on_drift_and_sync_mends_it(project, capsys):
    arguments = ["--root", str(project)]
    assert sync.main([*arguments, "--check"]) == 1 and "run make execute" in capsys.readouterr().out
    execute(project, elbo=95.0)
    assert sync.main([*arguments, "--check"]) == 0
    execute(project, elbo=93.74)
    assert sync.main([*arguments, "--check"]) == 1 and "the text says 95.3" in capsys.readouterr().out
    assert "95.3" in prose(project)
    assert sync.main(arguments) == 0 and "93.7<!--" in prose(project)
    assert sync.main([*arguments, "--check"]) == 0
    execute(project, other=1.0)
    assert sync.main([*arguments, "--check"]) == 1 and "nothing recorded elbo" in capsys.readouterr().out


def test_a_name_recorded_twice_is_an_error(project):
    execute(project, elbo=95.0)
    executed = nbformat.read(project / "_build" / "executed" / "book" / "one.ipynb", as_version=4)
    executed.cells[-1].outputs.append(nbformat.v4.new_output("display_data", {sync.VALUES_TYPE: {"elbo": 1.0}}))
    with pytest.raises(ValueError, match="recorded twice"):
        sync.recorded(executed)


def test_one_command_moves_the_book(project):
    sync.main(["--root", str(project), "--address", "https://github.com/ada/the-book/"])
    assert sync.address_of(project) == "https://github.com/ada/the-book"
    everything = "".join(path.read_text() for path in sync.texts(project))
    assert "OWNER" not in everything and "colab.research.google.com/github/ada/the-book" in everything
    first = nbformat.read(project / "book" / "one.ipynb", as_version=4).cells[0].source
    assert first == sync.first_cell("https://github.com/ada/the-book", ["mlxtend"])
    assert sync.main(["--root", str(project), "--address", "ftp://example.org"]) == 1


def test_the_first_cell_is_mended(project):
    path = project / "book" / "one.ipynb"
    notebook = nbformat.read(path, as_version=4)
    right = notebook.cells[0].source
    notebook.cells[0].source = "!pip install everything"
    sync.write_notebook(path, notebook)
    assert sync.main(["--root", str(project), "--check"]) == 1
    sync.main(["--root", str(project)])
    assert nbformat.read(path, as_version=4).cells[0].source == right
    assert "--no-deps" in right and 'needs = "mlxtend"' in right and right.endswith('a-book" {needs}')
    with pytest.raises(ValueError, match="name of a package"):
        sync.first_cell("https://x", ["numpy; rm -rf /"])


def test_the_numbers_of_the_book_are_those_that_it_computed():
    if not (ROOT / "_build" / "executed").exists():
        pytest.skip("no chapter is executed yet: make execute")
    assert sync.sync(ROOT, write=False) == []


def test_what_the_chapters_need_is_spelt_as_the_packages_spell_it():
    """Else the first cell would install it wherever the book is set up, and not only where it is missing."""
    here = {package.name for package in importlib.metadata.distributions()}
    for path in sync.notebooks(sync.ROOT):
        needs = nbformat.read(path, as_version=4).metadata.get("book", {}).get("needs", [])
        assert set(needs) <= here, f"{path.name} needs {set(needs) - here}"
