"""The divergence playground: its numbers against Gauss-Legendre quadrature, its descent, and its use in a browser."""

import functools

import matplotlib
import numpy as np
import pytest
import scipy.stats

matplotlib.use("Agg")


from one_playground import state, value_of

from helpers.playground import display

javascript = functools.partial(value_of, "divergences")
STATE = {"data": [0.0, 3.0], "model": [0.5, 1.0], "measure": "forward"}
CASES = [([0.0, 3.0], [0.5, 1.0]), ([-1.0, 0.0], [-1.0, 0.5]), ([2.0, 6.0], [-5.0, 0.4]), ([0.3, 4.0], [1.0, 3.0])]


def by_quadrature(data, model):
    p = [scipy.stats.norm(data[0] + side * data[1] / 2, 0.5) for side in (-1, 1)]
    q = scipy.stats.norm(*model)

    def log_p(x):
        return np.logaddexp(p[0].logpdf(x), p[1].logpdf(x)) - np.log(2)

    def log_m(x):
        return np.logaddexp(log_p(x), q.logpdf(x)) - np.log(2)

    integrands = {
        "forward": lambda x: np.exp(log_p(x)) * (log_p(x) - q.logpdf(x)),
        "reverse": lambda x: q.pdf(x) * (q.logpdf(x) - log_p(x)),
        "js": lambda x: (np.exp(log_p(x)) * (log_p(x) - log_m(x)) + q.pdf(x) * (q.logpdf(x) - log_m(x))) / 2,
        "w1": lambda x: abs((p[0].cdf(x) + p[1].cdf(x)) / 2 - q.cdf(x)),
    }
    edges, (nodes, weights) = np.linspace(-22, 22, 441), np.polynomial.legendre.leggauss(12)
    x = edges[:-1, None] + 0.05 * (nodes + 1)  # Gauss-Legendre on 440 pieces
    return {name: (f(x) @ weights).sum() * 0.05 for name, f in integrands.items()}


def values(source=None):
    calls = ", ".join(f"m.divergences({data}, {model}).value" for data, model in CASES)
    return javascript(f"[{calls}]", source)


def agrees(found):
    wanted = [by_quadrature(*case) for case in CASES]
    return all(abs(a[k] - b[k]) < 2e-4 * max(1, b[k]) for a, b in zip(found, wanted, strict=True) for k in b)


MUTANTS = {
    "KL the other way round": ("p[i] * (logP - logQ)", "q[i] * (logQ - logP)"),
    "m without its half": ("logSum(logP, logQ) - Math.LN2", "logSum(logP, logQ)"),
    "no absolute value": ("Math.abs(below)", "below"),
    "bumps at the whole gap": ("centre - gap / 2", "centre - gap"),
    "cells of twice the width": ("STEP * v.reduce", "2 * STEP * v.reduce"),
}


def test_values_are_those_of_quadrature_and_each_mutant_is_found():
    assert agrees(values())
    source = display.classic("divergences")
    for name, (right, wrong) in MUTANTS.items():
        assert right in source, name
        assert not agrees(values(source.replace(right, wrong))), name


@pytest.mark.parametrize("measure, start", [("forward", [2.5, 0.6]), ("reverse", [2.5, 0.6]), ("reverse", [-2.5, 0.6])])
def test_descent_ends_in_a_local_minimum(measure, start):
    found = javascript(
        f"""(() => {{ let [model, step] = [{start}, 0.25];
            while (step > 0.002) [model, step] = m.descend([0, 4], model, "{measure}", step); return model; }})()"""
    )

    def cost(v):
        return by_quadrature([0, 4], [v[0], np.exp(v[1])])[measure]

    if measure == "forward":  # its minimum has the moments of the data
        assert found == pytest.approx([0, np.sqrt(0.25 + 4)], abs=0.01)
    else:  # it stays on its bump
        assert found == pytest.approx([np.sign(start[0]) * 2, 0.5], abs=0.02)
        assert cost([found[0], np.log(found[1])]) == pytest.approx(np.log(2), abs=2e-3)


@pytest.fixture(scope="module")
def page(playing):
    return playing("divergences", {}, STATE, "Two densities on a line", reduced_motion="reduce")


def test_keyboard_select_minimise_and_reset(page):
    page.get_by_label("Model's mean").focus()
    for key in ["ArrowRight", "ArrowRight", "Tab", "ArrowLeft"]:
        page.keyboard.press(key)
    assert state(page)["model"] == pytest.approx([0.7, 0.9])
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    assert state(page)["data"] == pytest.approx([-0.1, 3.0])
    page.get_by_label("Measure").select_option("reverse")
    wanted = by_quadrature([-0.1, 3.0], [0.7, 0.9])
    text = f"KL(model ‖ data) = {wanted['reverse']:.3f} nats"
    page.wait_for_function("(text) => document.querySelector('.readout').textContent.includes(text)", arg=text)
    shown = page.locator(".values output").all_inner_texts()
    assert [float(v.split()[0]) for v in shown] == pytest.approx(list(wanted.values()), abs=6e-4)
    page.get_by_role("button", name="Minimise").click()
    assert state(page)["model"] == pytest.approx([1.4, 0.5], abs=0.02)
    page.get_by_role("button", name="Reset").click()
    assert state(page) == STATE


def test_dragging_moves_what_is_under_the_pointer(page):
    box = page.locator(".plane canvas").bounding_box()

    def place(x, y):
        return box["x"] + (x + 7) / 14 * box["width"], box["y"] + 8 + (210 - 34 - 8) * (1 - y / 1.05)

    for start, end in [((0.5, 0.4), (-2.0, 0.5)), ((0.0, 0.0), (1.0, 0.0))]:
        page.mouse.move(*place(*start))
        page.mouse.down()
        page.mouse.move(*place(*end), steps=4)
        page.mouse.up()
    now = state(page)
    assert now["model"] == pytest.approx([-2.0, 1 / (0.5 * np.sqrt(2 * np.pi))], abs=0.05)
    assert now["data"] == pytest.approx([1.0, 3.0], abs=0.05)
    page.get_by_role("button", name="Reset").click()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
