"""The natural-frequency playground: its table against a Bayesian network, its crowd, and its use in a browser."""

import functools

import matplotlib
import pytest
import torch

matplotlib.use("Agg")


from one_playground import state, value_of

from helpers.models.bayesian_network import BayesianNetwork
from helpers.playground import display

javascript = functools.partial(value_of, "natural_frequencies")
STATE = {"story": 0, "prior": 0.1, "hit": 0.9, "alarm": 0.2, "seed": 1}
STORIES = [
    {"name": "A test", "a": "ill", "other": "well", "sign": "positive", "prior": 0.1, "hit": 0.9, "alarm": 0.2},
    {"name": "Another", "a": "spam", "other": "mail", "sign": "“prize”", "prior": 0.5, "hit": 0.4, "alarm": 0.0},
]
CASES = [(0.1, 0.9, 0.2), (0.01, 0.99, 0.05), (0.5, 0.2, 0.7), (0.95, 1.0, 0.0), (0.3, 0.0, 0.4)]


def by_network(prior, hit, alarm):
    """The posterior by variable elimination, from tables and not from the formula."""
    net = BayesianNetwork({"kind": 2, "sign": 2}, {"sign": ["kind"]})
    net.set_table("kind", [1 - prior, prior]).set_table("sign", [[1 - alarm, alarm], [1 - hit, hit]])
    return net.posterior(net.evidence(sign=1), "kind")[0, 1].item()


def agrees(source=None):
    calls = ", ".join(f"m.table({{prior: {p}, hit: {h}, alarm: {a}}})" for p, h, a in CASES)
    found = javascript(f"[{calls}]", source)
    whole = all(abs(t["both"] + t["missed"] + t["alarmed"] + t["clear"] - 1) < 1e-12 for t in found)
    return whole and all(
        abs((t["posterior"] or 0) - by_network(*case)) < 1e-12 for t, case in zip(found, CASES, strict=True)
    )


MUTANTS = {
    "the hit rate as posterior": ("cells.both / sign :", "hit :"),
    "the prior left out": ("both: prior * hit", "both: hit"),
    "alarms of everybody": ("alarmed: (1 - prior) * alarm", "alarmed: alarm"),
    "a sign of A alone": ("cells.both + cells.alarmed", "cells.both"),
}


def test_posterior_is_that_of_variable_elimination_and_each_mutant_is_found():
    assert agrees()
    source = display.classic("natural_frequencies")
    for name, (right, wrong) in MUTANTS.items():
        assert right in source, name
        assert not agrees(source.replace(right, wrong)), name


def test_nobody_with_the_sign_leaves_nothing_to_condition_on():
    assert javascript("m.table({prior: 0.5, hit: 0, alarm: 0}).posterior") is None


def crowd_agrees(source=None):
    n = 40_000
    for prior, hit, alarm in CASES:
        found = javascript(f"m.count(m.crowd(7, {n}), {{prior: {prior}, hit: {hit}, alarm: {alarm}}})", source)
        table = torch.tensor([prior * hit, prior * (1 - hit), (1 - prior) * alarm, (1 - prior) * (1 - alarm)])
        seen = torch.tensor([found[k] for k in ("both", "missed", "alarmed", "clear")]) / n
        if ((seen - table).abs() > 4.5 * (table * (1 - table) / n).sqrt() + 1e-6).any():  # float32
            return False
    return True


def test_the_crowd_has_the_shares_of_the_table_and_the_mutants_have_not():
    assert crowd_agrees()
    source = display.classic("natural_frequencies")
    for right, wrong in [("[next(), next()]", "[next(), 0.5]"), ("u < prior ?", "u > prior ?")]:
        assert right in source
        assert not crowd_agrees(source.replace(right, wrong)), wrong
    assert javascript("m.crowd(3)") == javascript("m.crowd(3)") != javascript("m.crowd(4)")


@pytest.fixture(scope="module")
def page(playing):
    return playing(
        "natural_frequencies", {"stories": STORIES}, STATE, "A square of dots", height=1100, reduced_motion="reduce"
    )


def test_keyboard_story_draw_and_reset(page):
    page.get_by_role("slider", name="p(ill)", exact=True).focus()
    page.keyboard.press("ArrowRight")
    assert state(page)["prior"] == pytest.approx(0.105)
    wanted = f"{100 * by_network(0.105, 0.9, 0.2):.1f} % are ill"
    page.wait_for_function("(text) => document.querySelector('.readout').textContent.includes(text)", arg=wanted)
    page.get_by_role("button", name="Draw 400 others").click()
    assert state(page)["seed"] == 2
    page.locator("select").select_option("1")
    assert state(page) == {"story": 1, "prior": 0.5, "hit": 0.4, "alarm": 0.0, "seed": 2}
    page.get_by_role("slider", name="p(“prize” | spam)").focus()
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('.readout').textContent.includes('nothing to condition on')")
    page.get_by_role("button", name="Reset").click()
    assert state(page) == STATE


def test_dragging_a_line_changes_what_it_stands_for(page):
    box = page.locator(".plane canvas").bounding_box()

    def place(u, v):
        return box["x"] + u * box["width"], box["y"] + (1 - v) * box["height"]

    for start, end in [((0.1, 0.98), (0.4, 0.7)), ((0.2, 0.9), (0.2, 0.5)), ((0.7, 0.2), (0.7, 0.1))]:
        page.mouse.move(*place(*start))
        page.mouse.down()
        page.mouse.move(*place(*end), steps=4)
        page.mouse.up()
    now = state(page)
    assert [now[k] for k in ("prior", "hit", "alarm")] == pytest.approx([0.4, 0.5, 0.1], abs=0.006)
    page.get_by_role("button", name="Reset").click()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
