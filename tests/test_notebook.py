"""What the notebook helpers display and keep."""

from __future__ import annotations

import base64
import io
import math
import subprocess
import sys

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import notebook, plots
from helpers.models.base import GenerativeModel
from helpers.notebook import Proof, figures

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def as_it_was():
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with matplotlib.rc_context():
        plots.use_style()
        yield
        plt.close("all")
    torch.set_num_threads(threads)
    torch.set_rng_state(state)


@pytest.fixture
def shown(monkeypatch):
    """The list of (bundle, metadata) that is displayed."""
    displays = []
    monkeypatch.setattr(notebook.output, "display", lambda bundle, metadata=None: displays.append((bundle, metadata)))
    return displays


def picture(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGBA"))


# Set-up


def test_setup_makes_draws_reproduce(monkeypatch):
    monkeypatch.delenv("SIZE", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def draws(seed):
        notebook.setup(seed)
        return torch.rand(1).item(), np.random.rand()  # noqa: NPY002

    assert draws(3) == draws(3) != draws(4)
    made = notebook.setup()
    assert made.size == "gpu" if torch.cuda.is_available() else "laptop"
    assert made.threads == torch.get_num_threads() == 1 and "seed 0" in str(made)
    for bad in (-1, 2**32, 1.0, True, "0"):
        with pytest.raises(ValueError, match="got seed="):
            notebook.setup(bad)


def test_size_is_what_the_environment_says(monkeypatch):
    monkeypatch.setenv("SIZE", "gpu")
    assert notebook.pick(laptop=1, gpu=2) == 2
    monkeypatch.setenv("SIZE", "laptop")
    assert notebook.pick(laptop=1, gpu=2) == 1
    monkeypatch.setenv("SIZE", "huge")
    with pytest.raises(ValueError, match="got SIZE='huge'"):
        notebook.pick(laptop=1, gpu=2)


# Figures


def test_a_figure_is_shown_in_two_renderings(shown):
    ax = plots.curve(torch.arange(4.0), label="model")
    notebook.show(ax, alt="A line that rises\n from 0 to 3.", name="The line")
    (bundle, metadata), content = shown[0], shown[0][0][figures.FIGURE_TYPE]
    light, dark = picture(bundle["image/png"]), picture(content["dark"])
    assert light.shape == dark.shape == (2 * content["height"], 2 * content["width"], 4)
    assert metadata["image/png"]["width"] == content["width"] == 500
    assert bundle["text/plain"] == content["alt"] == "A line that rises from 0 to 3."
    assert content["name"] == "the-line" and not plt.get_fignums()
    assert light[0, 0].tolist() == [255, 255, 255, 255] and dark[0, 0, 3] == 0
    colours = {tuple(rgba) for rgba in dark.reshape(-1, 4) if rgba[3] == 255}
    ink, data, model = (bytes.fromhex(c[1:]) for c in (plots.DARK_INK, plots.INK, plots.DARK_COLOURS["model"]))
    assert (*ink, 255) in colours and (*model, 255) in colours and (*data, 255) not in colours


def test_recolouring_reaches_every_artist_and_is_undone():
    figure, ax = plt.subplots()
    ax.plot([0, 1], [0, 1], "o-", color=plots.COLOURS["data"], label="a")
    ax.scatter([0, 1], [1, 0], color=plots.COLOURS["model"])
    ax.fill_between([0, 1], [0, 1], color=plots.COLOURS["latent"], alpha=0.5)
    ax.annotate("here", (0, 0), (1, 1), arrowprops={"color": plots.INK}, bbox={"fc": plots.GROUND, "ec": plots.RULE})
    ax.bar([0], [1], color=plots.COLOURS["noise"])
    ax.scatter([0, 1], [0.2, 0.2], c=[0, 1])  # a colour map: stays
    ax.legend(title="Legend")
    ax.grid(True)
    figures._settle(figure)
    before = figures._render(figure)[0]
    with notebook.recoloured(figure):
        dark = figures._render(figure, ground=plots.DARK_GROUND)[0]
    assert figures._render(figure)[0] == before
    colours = {tuple(rgb) for rgb in picture(base64.b64encode(dark))[..., :3].reshape(-1, 3)}
    left = [c for c in plots.DARK if tuple(bytes.fromhex(c[1:])) in colours and c not in ("#FFFFFF",)]
    assert not left
    # The mutant: only the ink is exchanged.
    with notebook.recoloured(figure, {plots.INK: plots.DARK_INK}):
        half = figures._render(figure, ground=plots.DARK_GROUND)[0]
    colours = {tuple(rgb) for rgb in picture(base64.b64encode(half))[..., :3].reshape(-1, 3)}
    assert tuple(bytes.fromhex(plots.COLOURS["data"][1:])) in colours


@pytest.mark.parametrize(
    ("figure", "alt", "said"),
    [
        (None, "", "wanted a matplotlib Figure"),
        ([1, 2], "What there is to see", "wanted a matplotlib Figure"),
        ("figure", "", "wanted a sentence"),
        ("figure", "plot", "wanted a sentence"),
        ("figure", None, "wanted a sentence"),
    ],
)
def test_show_wants_a_figure_and_its_description(shown, figure, alt, said):
    with pytest.raises(ValueError, match=said):
        notebook.show(plt.figure() if figure == "figure" else figure, alt=alt)
    assert not shown


def test_a_heavy_picture_is_slimmed(shown):
    _, ax = plt.subplots()
    cloud = np.random.default_rng(0).normal(size=(3000, 2))
    ax.scatter(*cloud.T, s=8, c=cloud[:, 0], cmap="viridis", alpha=0.5)
    figures._settle(ax.figure)
    whole = figures._render(ax.figure)[0]
    notebook.show(ax, alt="A cloud of many colours.")
    bundle = shown[0][0]
    light, dark = (base64.b64decode(x) for x in (bundle["image/png"], bundle[figures.FIGURE_TYPE]["dark"]))
    assert len(whole) > figures.SLIM_BYTES and len(light) < len(whole) / 2 and len(dark) < len(whole) / 2
    before, after = (picture(base64.b64encode(x))[..., :3].astype(int) for x in (whole, light))
    apart = np.abs(before - after)  # of 255 shades; single pixels on the edges of dots may differ by more
    assert before.shape == after.shape and apart.mean() < 1 and np.quantile(apart, 0.999) < 40
    few = np.asarray(Image.fromarray(before.astype(np.uint8)).quantize(8, dither=Image.Dither.NONE).convert("RGB"))
    assert np.quantile(np.abs(before - few), 0.999) > 40  # mutant: too few colours
    assert picture(base64.b64encode(dark))[0, 0, 3] == 0  # the ground stays transparent
    light_line = figures._render(plots.curve(torch.arange(4.0)).figure)[0]
    assert figures._slim(light_line) == light_line  # light ones stay as they are


def test_a_text_that_the_edge_would_cut_is_refused(shown):
    _, axes = plt.subplots(1, 2)
    axes[0].set(title="In place", xlabel="x", xlim=(0, 1))
    axes[1].text(0.9, 0.5, "a remark for which the layout makes room")
    notebook.show(axes, alt="Two panels whose words are in place.")
    assert len(shown) == 1
    for change in (
        lambda ax: ax.set_title("A title that says far more than five inches of picture can ever hold"),
        lambda ax: ax.set_ylabel("a label that is longer than the picture is high, and then some more"),
    ):
        figure, ax = plt.subplots()
        change(ax)
        with pytest.raises(ValueError, match="cut off by the edge"):
            notebook.show(figure, alt="A panel with a text that is too long.")
    assert len(shown) == 1


def test_axes_in_an_array_are_shown(shown):
    notebook.show(plt.subplots(1, 2)[1], alt="Two empty panels, side by side.")
    assert shown[0][0][figures.FIGURE_TYPE]["name"] == "two-empty-panels-side-by-side"


def test_an_animation_is_small_and_has_a_still(shown):
    generator = torch.Generator().manual_seed(0)
    clouds = [torch.randn(300, 2, generator=generator) for _ in range(5)]
    notebook.animate((plots.points(c, extent=(-4, 4, -4, 4)) for c in clouds), alt="Points that dance about.", still=0)
    bundle, content = shown[0][0], shown[0][0][figures.FIGURE_TYPE]
    for key in ("moving", "moving_dark"):
        data = base64.b64decode(content[key])
        assert len(data) <= figures.ANIMATION_BYTES
        moving = Image.open(io.BytesIO(data))
        assert moving.format == "WEBP" and moving.n_frames == 5
    assert 'media="(prefers-reduced-motion: reduce)"' in bundle["text/html"]
    assert 'alt="Points that dance about."' in bundle["text/html"]
    assert picture(bundle["image/png"]).shape[1] == 2 * content["width"]


def test_images_make_an_animation(shown):
    frames = [np.full((8, 8, 3), 20 * i, dtype=np.uint8) for i in range(5)]
    notebook.animate(frames, alt="A square that grows lighter.")
    still = picture(shown[0][0]["image/png"])
    assert still[0, 0].tolist() == [80, 80, 80, 255] and still.shape[:2] == (480, 480)


@pytest.mark.parametrize(
    ("frames", "options", "said"),
    [
        ([], {}, r"got 0 frame"),
        ([np.zeros((2, 2))] * 2, {}, "wanted .* of uint8"),
        ([np.zeros((2, 2, 2), np.uint8)] * 2, {}, "wanted .* of uint8"),
        ([np.zeros((2, 2), np.uint8), np.zeros((9, 3), np.uint8)], {}, "wanted one size"),
        ([np.zeros((2, 2), np.uint8)] * 2, {"still": 2}, "got still=2"),
        ([np.zeros((2, 2), np.uint8)] * 2, {"fps": 0}, "got fps=0"),
        (["frame", "frame"], {}, "wanted a matplotlib Figure"),
    ],
)
def test_what_cannot_be_animated_is_told(shown, frames, options, said):
    with pytest.raises(ValueError, match=said):
        notebook.animate(frames, alt="Something that moves here.", **options)


def test_an_animation_that_would_be_too_large_is_refused(shown, monkeypatch):
    monkeypatch.setattr(figures, "ANIMATION_BYTES", 50)
    with pytest.raises(ValueError, match="wanted fewer or smaller"):
        notebook.animate([np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)], alt="Nothing much to see.")


# Numbers


def test_record_keeps_plain_numbers(shown):
    notebook.record(elbo=torch.tensor(93.5), n=np.int64(3), best="VAE", part=0.25)
    assert shown[0][0] == {notebook.VALUES_TYPE: {"elbo": 93.5, "n": 3, "best": "VAE", "part": 0.25}}


@pytest.mark.parametrize("value", [torch.zeros(2), float("nan"), np.inf, None, [1.0], object()])
def test_record_refuses_what_is_no_number(shown, value):
    with pytest.raises(ValueError, match="record: got x"):
        notebook.record(x=value)
    assert not shown


# Proof boxes


def row(value=1.0, mutant_value=2.0, **options) -> Proof:
    return Proof("integral", value, 1.0, 0.01, "half a cell", mutant_value, **options)


def test_a_proof_shows_its_rows_and_finds_its_mutants(shown):
    notebook.proof([row(), Proof("bound < truth", 3.0, 4.0, 0.0, "g for g²", 5.0, "≤")])
    page, plain = shown[0][0]["text/html"], shown[0][0]["text/plain"]
    assert page.count("<tr>") == 3 and page.count('scope="row"') == 2 and "<caption>" in page
    assert "bound &lt; truth" in page and "✓ holds" in plain and "half a cell" in plain


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (row(value=1.02), "integral: got 1.02, wanted = 1 ± 0.01"),
        (row(value=math.nan), "integral: got nan"),
        (row(mutant_value=1.005), "the mutant “half a cell” passes with 1.005"),
        (row(value=1.02, relation="≤"), "wanted ≤ 1"),
        (row(value=0.9, mutant_value=0.5, relation="≥"), "wanted ≥ 1"),
        (row(value=0.9, mutant_value=0.5, relation="≤"), "passes with 0.5"),
    ],
)
def test_a_proof_that_fails_or_misses_its_mutant_raises_after_it_is_shown(shown, wrong, said):
    with pytest.raises(AssertionError, match=said):
        notebook.proof([row(), wrong])
    assert "FAILS" in shown[0][0]["text/plain"] or "NOT FOUND" in shown[0][0]["text/plain"]


def test_a_proof_without_substance_is_refused(shown):
    for make in (
        lambda: Proof("x", 1.0, 1.0, -1.0, "m", 2.0),
        lambda: Proof("x", 1.0, math.nan, 1.0, "m", 2.0),
        lambda: Proof("x", 1.0, 1.0, 1.0, "", 2.0),
        lambda: Proof("x", 1.0, 1.0, 1.0, "m", 2.0, "<"),
        lambda: notebook.proof([]),
        lambda: notebook.proof([1]),
    ):
        with pytest.raises(ValueError, match="wanted"):
            make()


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_relations_agree_with_their_meaning(value, truth, tolerance):
    accepted = {r: Proof("x", value, truth, tolerance, "m", 0.0, r).accepts(value) for r in "=≤≥"}
    assert accepted["≤"] or accepted["≥"]
    if abs(abs(value - truth) - tolerance) > 1e-6:  # where rounding does not decide
        assert accepted["="] == (accepted["≤"] and accepted["≥"])


# Source


def test_source_shows_the_code_and_links_to_the_reference(shown):
    notebook.source(GenerativeModel.loss)
    text = shown[0][0]["text/markdown"]
    name = "helpers.models.base.GenerativeModel.loss"
    assert text.startswith(f"[`{name}`](../reference.md#{name})\n\n```python\ndef loss(self, x")
    with pytest.raises(ValueError, match="wanted a class, function or method"):
        notebook.source(3)


# Where it runs


def test_outside_of_ipython_it_prints_and_needs_little():
    code = (
        "import sys; from helpers import notebook as n; n.record(x=1); n.proof([n.Proof('a', 1, 1, 0, 'm', 2)]);"
        "print(*(m for m in sys.modules if '.' not in m))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    *printed, last = said.splitlines()
    heavy = {"sklearn", "scipy", "pandas", "IPython", "ipywidgets", "anywidget", "statsmodels", "music21", "mlxtend"}
    assert len(printed) == 2 and "✓ holds" in printed[1]
    assert {"torch", "matplotlib"} <= set(last.split()) and not heavy & set(last.split())


def test_in_a_kernel_each_call_is_one_output():
    from nbclient import NotebookClient

    cells = [
        "from helpers import notebook, plots\nnotebook.setup(seed=1);",
        "notebook.show(plots.curve([1.0, 2.0]), alt='A line that rises.')",
        "notebook.record(x=0.5)",
        "notebook.proof([notebook.Proof('a', 1, 1, 0, 'm', 2)])",
        "notebook.source(plots.use_style)",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(book, timeout=60, kernel_name="python3").execute()
    outputs = [cell.outputs for cell in book.cells]
    assert [len(output) for output in outputs] == [0, 1, 1, 1, 1]
    types = [set(output[0].data) for output in outputs[1:]]
    assert types == [
        {"image/png", "text/plain", figures.FIGURE_TYPE},
        {notebook.VALUES_TYPE},
        {"text/html", "text/plain"},
        {"text/markdown", "text/plain"},
    ]
    assert outputs[1][0].metadata["image/png"]["width"] == 500
    assert outputs[2][0].data[notebook.VALUES_TYPE] == {"x": 0.5}
