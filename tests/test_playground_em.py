"""The EM playground: its steps and its curves against the library's, by node; its keys and its pen, in a browser."""

from __future__ import annotations

import re

import pytest
import torch
from one_playground import FRAMES, with_module

from helpers.models.gaussian_mixture import Gaussians, Moments, add_ridge, log_prior
from helpers.playground import display

RIDGE, K = 0.03, 3
POINTS = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.5, 0.7])
CENTRES = [[-1.0, 0.5], [0.0, -0.5], [1.5, 1.0], [2.0, -1.0]]
SCRIPT = """
let theta = CENTRES.slice(0, 3).map((mean) => ({ weight: 1 / 3, mean, cov: [1, 0, 1] }));
const seen = [];
for (let i = 0; i < 8; i++) {
  const q = eStep(POINTS, theta);
  const touching = score(POINTS, theta, q, RIDGE);
  theta = mStep(POINTS, q, RIDGE);
  seen.push({ q, theta, touching, risen: score(POINTS, theta, q, RIDGE) });
}
console.log(JSON.stringify(seen));
"""


def run(source):
    """Eight rounds of the module in node, without a page."""
    given = f"const POINTS = {POINTS.tolist()}; const CENTRES = {CENTRES}; const RIDGE = {RIDGE};"
    return with_module(source, given + SCRIPT)


def differences(seen):
    """What the page and the library compute differently, by name."""
    moments = Moments(
        torch.ones(K).double() / K, torch.tensor(CENTRES[:K]).double(), torch.eye(2).double().expand(K, 2, 2)
    )
    wrong = set()

    def compare(name, got, wanted):
        if not torch.allclose(torch.tensor(got, dtype=torch.float64), wanted, rtol=1e-9, atol=1e-12):
            wrong.add(name)

    def scores(moments, q):
        gaussians = Gaussians(moments.mean, moments.covariance, "full")
        joint = gaussians.log_densities(gaussians.features(POINTS)).T + moments.weight.log()
        prior = log_prior(gaussians, RIDGE)
        return joint, joint.logsumexp(1).mean() + prior, (q * (joint - q.log())).sum(1).mean() + prior

    for step in seen:
        q = scores(moments, torch.ones(1))[0].softmax(1)
        compare("responsibilities", step["q"], q)
        _, likelihood, bound = scores(moments, q)
        compare("likelihood", step["touching"]["likelihood"], likelihood)
        compare("bound", step["touching"]["bound"], bound)
        gaussians = Gaussians(moments.mean, moments.covariance, "full")
        moments = add_ridge(gaussians.moments(*gaussians.sums(gaussians.features(POINTS), q.T)), RIDGE, "full")
        compare("weights", [c["weight"] for c in step["theta"]], moments.weight)
        compare("means", [c["mean"] for c in step["theta"]], moments.mean)
        compare("covariances", [[c["cov"][:2], c["cov"][1:]] for c in step["theta"]], moments.covariance)
        _, likelihood, bound = scores(moments, q)
        compare("likelihood", step["risen"]["likelihood"], likelihood)
        compare("bound", step["risen"]["bound"], bound)
    return wrong


def falls(seen):
    path = [step["touching"]["likelihood"] for step in seen] + [seen[-1]["risen"]["likelihood"]]
    return sum(b < a - 1e-12 for a, b in zip(path, path[1:], strict=False))


def test_both_steps_and_both_curves_are_the_librarys():
    seen = run(display.joined("em"))
    assert differences(seen) == set() and falls(seen) == 0
    assert all(step["risen"]["bound"] <= step["risen"]["likelihood"] for step in seen)


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ("- 2 * b * u * v", "+ 2 * b * u * v", "responsibilities"),  # the wrong sign of the covariance
        ("0.5 * (distance + Math.log(det))", "0.5 * distance", "likelihood"),  # no determinant
        ("ridge / (k * (total / n))", "ridge", "covariances"),  # a constant: EM is no longer monotone
        ("(r * (logs[j] - Math.log(r)))", "(r * logs[j])", "bound"),  # no entropy
        ("weight: total / n, mean", "weight: 1 / k, mean", "weights"),  # weights never learnt
    ],
)
def test_mutants_are_found(right, wrong, found):
    text = display.joined("em")
    assert text.count(right) == 1
    assert found in differences(run(text.replace(right, wrong)))


@pytest.fixture(scope="module")
def page(playing):
    params = {"points": POINTS.tolist(), "centres": CENTRES, "components": 3, "range": 4, "ridge": RIDGE}
    return playing("em", params, {"components": 3}, "Points in the plane.")


def said(page, pattern):
    page.wait_for_function("(p) => new RegExp(p).test(document.querySelector('.readout').textContent)", arg=pattern)
    return page.inner_text(".readout")


def test_buttons_step_and_say_what_the_library_computes(page):
    page.get_by_role("button", name="Reset").click()
    first = run(display.joined("em"))[0]
    minus = {k: f"{first['risen'][k]:.3f}".replace("-", "−") for k in ("likelihood", "bound")}
    said(page, "40 points. After the E step: .*gap 0.000 *. Next: M".replace(" *", ""))
    page.get_by_role("button", name="M step").click()
    text = said(page, "After the M step")
    assert f"L = {minus['likelihood']}, F = {minus['bound']}" in text
    page.get_by_role("button", name="M step").click()  # again: nothing moves
    page.evaluate(FRAMES)
    assert len(page.evaluate("() => document.querySelector('.book-playground').playground.now().history")) == 2
    page.get_by_role("button", name="E step").click()
    said(page, "After the E step: .*gap 0.000")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


def test_keys_move_the_cursor_and_place_a_point(page):
    page.get_by_role("button", name="Reset").click()
    page.focus(".plane input")
    for key in ["ArrowRight", "ArrowRight", "Shift+ArrowUp", "Enter"]:
        page.keyboard.press(key)
    said(page, "^41 points")
    start = page.evaluate("() => document.querySelector('.book-playground').playground.now().points.at(-1)")
    values = page.eval_on_selector_all(".plane input", "els => els.map((e) => e.getAttribute('aria-valuetext'))")
    assert values == [f"cursor at {start[0]:.1f}, {start[1]:.1f}".replace("-", "−")] * 2
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    said(page, "^42 points")
    end = page.evaluate("() => document.querySelector('.book-playground').playground.now().points.at(-1)")
    assert end == pytest.approx([start[0] - 0.2, start[1]])


def test_a_click_adds_and_a_drag_moves_a_component(page):
    page.get_by_role("button", name="Reset").click()
    page.evaluate(FRAMES)
    box = page.locator(".plane canvas").bounding_box()

    def at(x, y):
        return box["x"] + (x / 4 + 1) / 2 * box["width"], box["y"] + (1 - y / 4) / 2 * box["height"]

    page.mouse.click(*at(-3, -3))
    said(page, "^41 points")
    page.mouse.move(*at(*CENTRES[0]))
    page.mouse.down()
    page.mouse.move(*at(-3, 3), steps=3)
    page.mouse.up()
    text = said(page, "^41 points. A component moved")
    gap = float(re.search(r"gap ([\d.]+)\.", text)[1])
    assert gap > 0.01  # the responsibilities are stale, so the bound lies below
    moved = page.evaluate("() => document.querySelector('.book-playground').playground.now().theta[0].mean")
    assert moved == pytest.approx([-3, 3], abs=0.1)
    page.get_by_role("button", name="Clear").click()
    assert "No points" in said(page, "No points")
    page.get_by_role("button", name="M step").click()  # nothing to average: nothing happens
    page.get_by_role("button", name="Reset").click()
    said(page, "^40 points")


def test_the_slider_sets_the_components(page):
    page.get_by_role("slider", name="Components").fill("2")
    page.evaluate(FRAMES)
    assert page.evaluate("() => document.querySelector('.book-playground').playground.now().theta.length") == 2
    assert page.get_by_role("slider", name="Components").get_attribute("aria-valuetext") == "2 components"
    page.get_by_role("slider", name="Components").fill("3")
