"""The EP playground: its visits, its evidence and its truth against Python, by node; its keys and pen in a browser."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from one_playground import FRAMES, with_module
from scipy import stats

from helpers.inference import expectation_propagation as ep
from helpers.playground import display

SOURCE = display.joined("ep_clutter")
POINTS = [1.4, 2.6, 2.1, -3.5, 5.2, 1.0, -0.6]
PRIOR = 16.0
SCRIPT = """
const points = %s;
let sites = points.map(() => ({ precision: 0, shift: 0 }));
const sweeps = [];
for (let s = 0; s < %d; s++) {
  for (let n = 0; n < points.length; n++) sites = visit(points, sites, n, %s, %s).sites;
  sweeps.push({ sites, ...summary(points, sites, %s) });
}
const { density, ...exact } = truth(points, %s);
console.log(JSON.stringify({ sweeps, exact, area: density.reduce((a, b) => a + b, 0) * WIDTH }));
"""


def run(source=SOURCE, sweeps=3, step=1.0):
    return with_module(source, SCRIPT % (json.dumps(POINTS), sweeps, step, PRIOR, PRIOR, PRIOR))


def library(sweeps, step):
    x = torch.tensor(POINTS, dtype=torch.float64)[:, None]
    return ep.expectation_propagation(
        ep.clutter(x), torch.ones_like(x), torch.zeros(1), PRIOR * torch.eye(1), sweeps=sweeps, step=step, tolerance=0.0
    )


def far(answer, step):
    """The largest difference between the page and the library after as many sweeps."""
    wanted = library(len(answer["sweeps"]), step)
    last = answer["sweeps"][-1]
    pairs = [
        (last["mean"], wanted.mean.item()),
        (last["variance"], wanted.covariance.item()),
        (last["logZ"], wanted.log_evidence),
        *zip([s["precision"] for s in last["sites"]], wanted.precision[:, 0, 0].tolist(), strict=True),
        *zip([s["shift"] for s in last["sites"]], wanted.shift[:, 0].tolist(), strict=True),
    ]
    return max(math.inf if a is None or b is None else abs(a - b) for a, b in pairs)


@pytest.mark.parametrize("step", [1.0, 0.4])
def test_visits_and_evidence_are_the_librarys(step):
    assert far(run(step=step), step) < 1e-9


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("precision: q.precision - site.precision", "precision: q.precision"),  # cavity not removed
        ("1 / t.variance - precision, shift", "1 / (t.variance + 0.1) - precision, shift"),  # variance not matched
        ("sites[n][key] + step * (", "sites[n][key] + (1 - step) * ("),  # damping the wrong way
        ("0.5 * (Math.log((2 * Math.PI) / precision)", "0.25 * (Math.log((2 * Math.PI) / precision)"),
        ("const bend = rho * (1 - rho) * moved ** 2", "const bend = 0"),
    ],
)
def test_mutants_are_found(old, new):
    assert SOURCE.count(old) == 1
    assert far(run(SOURCE.replace(old, new), step=0.4), 0.4) > 1e-3


def test_the_truth_is_that_of_another_quadrature():
    answer = run()
    grid = np.linspace(-40, 40, 20001)
    log_p = stats.norm.logpdf(grid, 0, PRIOR**0.5)
    for x in POINTS:
        log_p += np.log(0.5 * stats.norm.pdf(x, grid) + 0.5 * stats.norm.pdf(x, 0, 10**0.5))
    z = np.trapezoid(np.exp(log_p), grid)
    p = np.exp(log_p) / z
    mean = np.trapezoid(p * grid, grid)
    assert answer["area"] == pytest.approx(1, abs=1e-9)
    assert answer["exact"]["logZ"] == pytest.approx(math.log(z), abs=1e-4)
    assert answer["exact"]["mean"] == pytest.approx(mean, abs=1e-3)
    assert answer["exact"]["variance"] == pytest.approx(np.trapezoid(p * (grid - mean) ** 2, grid), rel=1e-3)


@pytest.fixture(scope="module")
def page(playing):
    state = {"points": POINTS, "step": 1.0}
    return playing("ep_clutter", {"prior": PRIOR}, state, "Seven points and a curve.")


def said(page, pattern):
    page.wait_for_function("(p) => new RegExp(p).test(document.querySelector('.readout').textContent)", arg=pattern)
    return page.inner_text(".readout")


NOW = "() => document.querySelector('.book-playground').playground.now()"


def test_buttons_visit_sites_and_say_what_the_library_computes(page):
    page.get_by_role("button", name="Reset").click()
    said(page, "^Visit 1, sweep 1: point 1 at 1.4")
    for _ in range(6):
        page.get_by_role("button", name="Next site").click()
    text = said(page, "^Visit 7, sweep 1: point 7")
    assert f"EP: mean {library(1, 1.0).mean.item():.3f}" in text
    page.get_by_role("button", name="Sweep").click()
    page.get_by_role("button", name="Sweep").click()
    text = said(page, "^Visit 21, sweep 3")
    wanted = library(3, 1.0)
    assert f"EP: mean {wanted.mean.item():.3f}, sd {wanted.covariance.item() ** 0.5:.3f}" in text
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_keys_move_a_point_and_the_sites_begin_anew(page):
    page.get_by_role("button", name="Reset").click()
    page.get_by_role("button", name="Sweep").click()
    said(page, "^Visit 8")
    page.get_by_role("slider", name="Point 1").focus()
    page.keyboard.press("ArrowRight")
    said(page, "^Visit 1, sweep 1: point 1 at 1.5")
    assert page.evaluate(NOW)["points"] == pytest.approx([1.5, *POINTS[1:]])
    value = page.get_by_role("slider", name="Point 1").get_attribute("aria-valuetext")
    assert value == "point 1 at 1.5"


def test_a_drag_moves_the_nearest_point_and_a_step_keeps_the_sites(page):
    page.get_by_role("button", name="Reset").click()
    page.evaluate(FRAMES)
    box = page.locator(".plane canvas").bounding_box()

    def at(x):
        return box["x"] + (x / 8 + 1) / 2 * box["width"], box["y"] + box["height"] / 2

    page.mouse.move(*at(5.2))
    page.mouse.down()
    page.mouse.move(*at(7.0), steps=3)
    page.mouse.up()
    page.evaluate(FRAMES)
    assert page.evaluate(NOW)["points"][4] == pytest.approx(7.0, abs=0.1)
    page.get_by_role("button", name="Sweep").click()
    before = page.evaluate(NOW)["sites"]
    page.get_by_role("slider", name="Step").fill("0.5")
    page.evaluate(FRAMES)
    assert page.evaluate(NOW)["sites"] == before
    page.get_by_role("button", name="Reset").click()
    said(page, "^Visit 1, sweep 1: point 1 at 1.4")
    assert page.get_by_role("slider", name="Step").input_value() == "1"
