"""The playground of the two boundaries: its numbers are those of the library, its points follow pointer and keys."""

from __future__ import annotations

import re

import pytest
import torch
from one_playground import FRAMES, page_of, png_bytes

from helpers.classifiers.logistic import LogisticRegression
from helpers.models.naive_bayes import Gaussian
from helpers.playground import display

AT = [[-2.0, -1.0], [-1.5, 0.5], [-2.2, 1.1], [0.4, 0.3], [1.0, -1.2], [2.0, 0.9], [1.4, 1.6], [-0.5, 2.0]]
LABELS = [0, 0, 0, 0, 1, 1, 1, 1]
POINTS = [[*at, label] for at, label in zip(AT, LABELS, strict=True)]


@pytest.fixture
def page(open_page, tmp_path):
    bundle = display.make_bundle(
        "boundaries", {}, {"names": ["cat", "dog"]}, {"points": POINTS}, png_bytes(), "Two classes of points"
    )
    file = tmp_path / "page.html"
    file.write_text(page_of(display.standalone_html(bundle)), encoding="utf-8")
    return open_page(file.as_uri())


def said(page, text):
    page.wait_for_function("(text) => document.querySelector('.readout').textContent.includes(text)", arg=text)
    return page.inner_text(".readout")


def fitted(name, grid, *options, points=POINTS):
    """Our log-odds of class 1 at ``grid``, for comparison with the page's."""
    x, y = torch.tensor([p[:2] for p in points], dtype=torch.float64), torch.tensor([int(p[2]) for p in points])
    if name == "naiveBayes":
        model = Gaussian(2, 2, options[1], tied=options[0]).fit(x, y)
    else:
        model = LogisticRegression(2, 2, options[0]).fit(x, y)
    return model.log_probs(grid).diff(dim=1)[:, 0]


ODDS = """([name, grid, points, options]) => {
  const odds = document.querySelector(".book-playground").playground[name](points, ...options);
  return grid.map(([x, y]) => odds(x, y));
}"""


def test_both_log_odds_are_the_librarys(page):
    grid = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2
    cases = [("naiveBayes", True, 1e-3), ("naiveBayes", False, 1e-3), ("naiveBayes", False, 0.1)]
    cases += [("logisticRegression", penalty) for penalty in (1e-3, 1.0, 1e3)]
    for name, *options in cases:
        got = torch.tensor(page.evaluate(ODDS, [name, grid.tolist(), POINTS, options]), dtype=torch.float64)
        torch.testing.assert_close(got, fitted(name, grid, *options), rtol=1e-6, atol=1e-8)
        mutant = fitted(
            name, grid, *[v if isinstance(v, bool) else 2 * v for v in options]
        )  # another smoothing, penalty
        assert not torch.allclose(got, mutant, rtol=1e-6, atol=1e-8), name


def numbers(text):
    return [float(v.replace("−", "-")) for v in re.findall(r"[−\d.]*\d", text)]


def test_keyboard_moves_the_point_and_the_readout_is_right(page):
    page.keyboard.press("Tab")
    assert "arrow keys" in page.evaluate("() => document.activeElement.getAttribute('aria-label')")
    for key in ("PageDown", "PageDown", "Shift+ArrowRight", "ArrowUp"):  # the third point, to (−1.7, 1.2)
        page.keyboard.press(key)
    text = said(page, "cat at (−1.7, 1.2)")
    moved = [[*p] for p in POINTS]
    moved[2][:2] = [-1.7, 1.2]
    here = torch.tensor([[-1.7, 1.2]], dtype=torch.float64)
    truth = [
        fitted("naiveBayes", here, True, 1e-3, points=moved),
        fitted("logisticRegression", here, 1.0, points=moved),
    ]
    got = numbers(text.split("p(dog)")[1])
    assert got == pytest.approx([float(t.sigmoid()) for t in truth], abs=6e-4)
    stale = fitted("naiveBayes", here, True, 1e-3)  # mutant: not fitted again after the move
    assert got[0] != pytest.approx(float(stale.sigmoid()), abs=6e-4)
    wrong = [
        int(
            (
                (fitted(n, torch.tensor(moved)[:, :2].double(), *o, points=moved) > 0) != torch.tensor(LABELS).bool()
            ).sum()
        )
        for n, o in (("naiveBayes", (True, 1e-3)), ("logisticRegression", (1.0,)))
    ]
    assert numbers(text)[1:3] == wrong
    page.keyboard.press(" ")
    assert "9 points" in said(page, "dog at (0.0, 0.0)")
    page.keyboard.press("Delete")
    said(page, "on the 8 points")


def test_pointer_places_and_drags_and_buttons_work(page):
    box = page.locator(".plane canvas").bounding_box()

    def press(x, y, to=None):
        at = lambda x, y: (box["x"] + (x / 8 + 0.5) * box["width"], box["y"] + (0.5 - y / 8) * box["height"])  # noqa: E731
        page.mouse.move(*at(x, y))
        page.mouse.down()
        if to:
            page.mouse.move(*at(*to), steps=3)
        page.mouse.up()
        page.evaluate(FRAMES)

    def points():
        return page.evaluate("() => document.querySelector('.book-playground').playground.points()")

    press(3, -3)
    assert len(points()) == 9 and points()[-1] == pytest.approx([3, -3, 1], abs=0.05)
    press(-2, -1, to=(0.5, -2))  # an old point is taken, none is added
    assert len(points()) == 9 and points()[0] == pytest.approx([0.5, -2, 0], abs=0.05)
    page.get_by_role("button", name="New points").click()
    page.evaluate(FRAMES)
    press(-3, 3)
    assert points()[-1] == pytest.approx([-3, 3, 0], abs=0.05)
    before = said(page, "10 points")
    page.get_by_role("button", name="Variances").click()
    page.wait_for_function("(before) => document.querySelector('.readout').textContent !== before", arg=before)
    page.get_by_role("button", name="Reset").click()
    page.evaluate(FRAMES)
    assert points() == POINTS


def test_a_class_without_points_is_said(page):
    page.keyboard.press("Tab")
    for _ in range(4):
        page.keyboard.press("Delete")
    said(page, "Each class needs at least one point.")
