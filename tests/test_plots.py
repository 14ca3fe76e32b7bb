"""The figure style: colours that everyone can tell apart, on both grounds, and plots that show what they are given."""

from __future__ import annotations

import inspect
import itertools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from helpers import plots

matplotlib.use("agg")
GROUNDS = {"light": plots.GROUND, "dark": plots.DARK_GROUND}
PALETTES = {"light": plots.COLOURS, "dark": plots.DARK_COLOURS}

# How a colour in linear sRGB looks to a reader who lacks one kind of cone (Machado, Oliveira & Fernandes 2009,
# severity 1).
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.fixture(autouse=True)
def clean_figures():
    with matplotlib.rc_context():
        plots.use_style()
        yield
        plt.close("all")


def linear(colour: str) -> np.ndarray:
    srgb = np.array(matplotlib.colors.to_rgb(colour))
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2."""
    low, high = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    f = np.cbrt(xyz / [0.9505, 1, 1.089])  # none of our colours is so dark that CIE's linear part matters
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distances(palette: dict[str, str], blindness: str) -> dict[tuple[str, str], float]:
    """CIE 1976 colour differences of all pairs; about 2 is just seen side by side, 10 at a glance."""
    seen = {name: lab(np.array(BLINDNESS[blindness]) @ linear(colour)) for name, colour in palette.items()}
    return {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(palette, 2)}


@pytest.mark.parametrize("theme", GROUNDS)
def test_contrast(theme):
    """Marks 3 : 1, text 4.5 : 1 (WCAG 2.1, 1.4.11 and 1.4.3)."""
    text = plots.TEXT if theme == "light" else plots.DARK_COLOURS
    ink = {"light": plots.INK, "dark": plots.DARK_INK}[theme]
    assert min(contrast(colour, GROUNDS[theme]) for colour in PALETTES[theme].values()) >= 3
    assert min(contrast(colour, GROUNDS[theme]) for colour in [*text.values(), ink]) >= 4.5
    # The mutants: black ink left as it is on the dark page, and marks' colours used for text.
    assert contrast(plots.INK, plots.DARK_GROUND) < 3
    assert min(contrast(colour, plots.GROUND) for colour in plots.COLOURS.values()) < 4.5


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colours_on_the_dark_page_differ_for_everyone(blindness):
    assert min(distances(plots.DARK_COLOURS, blindness).values()) > 20


def test_colours_that_some_readers_confuse_differ_in_more_than_colour():
    confused = {pair for kind in BLINDNESS for pair, far in distances(plots.COLOURS, kind).items() if far < 20}
    assert confused == {
        ("data", "noise"),
        ("data", "latent"),
        ("model", "condition"),
        ("truth", "noise"),
        ("truth", "latent"),
    }
    for one, other in confused:
        assert plots.MARKERS[one] != plots.MARKERS[other] and plots.DASHES[one] != plots.DASHES[other]
    assert min(distances(plots.COLOURS, "none").values()) > 30
    # The simulation sees what it should: red and green of one lightness are one colour to a deutan.
    assert distances({"red": "#B05A00", "green": "#748000"}, "deutan")[("red", "green")] < 10
    assert distances({"red": "#B05A00", "green": "#748000"}, "none")[("red", "green")] > 30


def test_every_meaning_has_its_own_marker_dashes_and_variants():
    names = plots.COLOURS.keys()
    for table in (plots.TEXT, plots.DARK_COLOURS, plots.MARKERS, plots.DASHES):
        assert table.keys() == names and len(set(table.values())) == len(names)
    assert {plots.DARK[colour] for colour in plots.COLOURS.values()} == set(plots.DARK_COLOURS.values())


@pytest.mark.parametrize("name", [plots.DENSITY_MAP, plots.DIFFERENCE_MAP])
def test_colour_maps_are_even(name):
    """The density map rises in lightness throughout; the difference map falls to both sides of 0."""

    def lightness(name) -> np.ndarray:
        colours = plt.get_cmap(name)(np.linspace(0, 1, 33))
        return np.array([lab(linear(tuple(colour[:3])))[0] for colour in colours])

    light = lightness(name)
    if name == plots.DENSITY_MAP:
        assert (np.diff(light) > 0).all()
    else:
        assert (np.diff(light[:17]) > 0).all() and (np.diff(light[16:]) < 0).all() and light[16] > 95
    assert not (np.diff(lightness("jet")) > 0).all()  # the mutant: the rainbow


def draw_all() -> dict[str, plt.Axes]:
    cloud = torch.arange(20.0).reshape(10, 2) / 10
    steps = torch.arange(5.0)
    return {
        "images": plots.images(torch.zeros(6, 8, 8, dtype=torch.uint8), 17, 3, rows=["a", "b"], heads=list("xyz")),
        "points": plots.points(cloud, label="data", title="Points"),
        "density": plots.density(lambda z: -z.pow(2).sum(1) / 2, title="Hill"),
        "difference": plots.difference(torch.randn(4, 4, generator=torch.Generator().manual_seed(0))),
        "curve": plots.curve(steps, label="model", xlabel="step", ylabel="loss (nats)"),
        "curves": plots.curves({"data": steps, "model": steps + 0.01, "β = 4": torch.stack([steps, steps + 1])}),
        "bars": plots.bars({"VAE": 89.1, "mixture": 102.3}, {"VAE": 0.4}, unit="nats per image"),
        "truth": plots.truth(98.8),
    }


def test_every_function_returns_the_axes_and_can_be_read_on_a_phone():
    """On a page of 360 px, 16 px of them margins, no text is smaller than 9 px."""
    drawn = draw_all()
    public = {n for n, f in inspect.getmembers(plots, inspect.isfunction) if f.__module__ == plots.__name__}
    assert drawn.keys() == {name for name in public if not name.startswith("_")} - {"use_style"}
    for name, ax in drawn.items():
        assert isinstance(ax, plt.Axes), name
        ax.figure.draw_without_rendering()
        page = min(1.0, 328 / (ax.figure.get_figwidth() * 100))
        sizes = [t.get_fontsize() for t in ax.figure.findobj(matplotlib.text.Text) if t.get_text() and t.get_visible()]
        assert min(sizes, default=11) * 100 / 72 * page >= 9, name
    # The mutant: the same figure, twice as wide.
    assert 11 * 100 / 72 * 328 / 1000 < 9


def test_nothing_is_cut_off():
    for name, ax in draw_all().items():
        figure = ax.figure
        figure.draw_without_rendering()
        named = [t for axes in figure.axes for t in (axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts)]
        for text in named:
            box = text.get_window_extent()
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
            assert inside or not text.get_text(), (name, text)


def test_images_are_laid_out_row_by_row():
    x = torch.zeros(5, 2, 2, dtype=torch.uint8)
    x[3, 1, 0] = 16
    sheet = plots.images(x, 17, columns=3).images[0].get_array()
    assert sheet.shape == (5, 8, 4)  # 2 rows, 3 columns, gaps of one pixel
    assert sheet[3 + 1, 0, :3].tolist() == [1, 1, 1] and sheet[..., :3].sum() == 3
    assert sheet[2, :, 3].max() == 0 and sheet[3:, 6:, 3].max() == 0  # gaps and the empty place are transparent


def test_density_shows_the_function_at_the_centres_of_its_cells():
    ax = plots.density(lambda z: z[:, 0] + 10 * z[:, 1], (0, 2, 0, 4), resolution=2)
    truth = np.exp([[0.5 + 10, 1.5 + 10], [0.5 + 30, 1.5 + 30]])
    assert np.allclose(ax.images[0].get_array(), truth)
    assert not np.allclose(ax.images[0].get_array().T, truth)  # the mutant: x and y exchanged


def test_the_band_reaches_from_the_lowest_run_to_the_highest():
    runs = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 7.0]])
    ax = plots.curve(runs)
    assert ax.lines[0].get_ydata().tolist() == [2, 2, 5]
    corners = ax.collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == 1 and corners[:, 1].max() == 7


def test_names_beside_lines_do_not_overlap():
    ax = plots.curves({"one": torch.ones(5), "two": torch.ones(5) + 1e-3, "three": torch.ones(5) - 1e-3})
    plots.truth(1.0, ax=ax)
    ax.figure.draw_without_rendering()
    boxes = sorted((t.get_window_extent() for t in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 4
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))
    for text in ax.texts:  # the mutant: each name at its line's own height
        text.set_position((5, 0))
    boxes = sorted((t.get_window_extent() for t in ax.texts), key=lambda box: box.y0)
    assert not all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: plots.images(torch.zeros(2, 3)), r"got shape \(2, 3\), wanted \(N, H, W\)"),
        (lambda: plots.images(torch.full((1, 2, 2), 17), 17), r"got values 17..17, wanted 0..16"),
        (lambda: plots.images(torch.full((1, 2, 2), 1.5)), "wanted 0..1"),
        (lambda: plots.images(torch.zeros(4, 2, 2), columns=0), "columns=0"),
        (lambda: plots.images(torch.zeros(4, 2, 2), columns=2, rows=["a"]), "got 1 labels in rows, wanted 2"),
        (lambda: plots.points(torch.zeros(3, 3)), r"wanted \(N, 2\)"),
        (lambda: plots.points(torch.zeros(3, 2), "red"), "got colour 'red', wanted one of data"),
        (lambda: plots.density(lambda z: z), "got log_prob of shape"),
        (lambda: plots.density(lambda z: z[:, 0] * float("nan")), "without NaN"),
        (lambda: plots.density(lambda z: z[:, 0], (1, 1, 0, 1)), "left < right"),
        (lambda: plots.difference(torch.zeros(3)), r"wanted a finite \(H, W\)"),
        (lambda: plots.difference(torch.zeros(3, 3), limit=-1.0), "limit=-1.0"),
        (lambda: plots.curve(torch.zeros(2, 2, 2)), r"wanted \(T,\) or \(runs, T\)"),
        (lambda: plots.curve(torch.zeros(3), torch.zeros(4)), "got x of shape"),
        (lambda: plots.curve(torch.zeros(3), spread=torch.zeros(4)), "got spread of shape"),
        (lambda: plots.curves({}), "got no line"),
        (lambda: plots.curves({str(i): torch.zeros(2) for i in range(6)}), "small multiples"),
        (lambda: plots.bars({}), "at least one finite number"),
        (lambda: plots.bars({"a": float("nan")}), "finite"),
        (lambda: plots.bars({"a": 1.0}, {"b": 1.0}), "got errors for"),
        (lambda: plots.truth(float("inf")), "finite"),
    ],
)
def test_bad_input_is_told(call, said):
    with pytest.raises(ValueError, match=said):
        call()


@settings(max_examples=25, deadline=None)
@given(
    arrays.arrays(
        dtype=st.sampled_from([np.float32, np.int64, np.uint8]),
        shape=arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
        elements=st.integers(0, 20),
    )
)
def test_any_array_is_drawn_or_refused_with_a_reason(array):
    x = torch.from_numpy(array)
    for draw in (plots.images, plots.points, plots.difference, plots.curve, plots.truth):
        try:
            assert isinstance(draw(x), plt.Axes)
        except ValueError as error:
            assert str(error).startswith(draw.__name__ + ": got")
    plt.close("all")
