"""The objectives playground: its numbers against Gauss-Legendre quadrature, its descents against scipy, its page."""

import functools

import matplotlib
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

matplotlib.use("Agg")


from one_playground import state, value_of

from helpers.playground import display

javascript = functools.partial(value_of, "objectives")
STATE = {"gap": 2.5, "model": [0.5, 1.0], "objective": "kl"}
NAMES = ["kl", "reverse", "game", "nonsaturating", "w1", "fisher"]
CASES = [(2.5, [0.5, 1.0]), (0.0, [-1.0, 0.5]), (4.0, [-3.0, 0.3]), (6.0, [1.0, 2.0])]


def by_quadrature(gap, model):
    centres, widths, shares = (-0.25 - gap / 2, -0.25 + gap / 2), (0.5, 0.4), (0.4, 0.6)
    bumps = [scipy.stats.norm(c, w) for c, w in zip(centres, widths, strict=True)]
    q = scipy.stats.norm(*model)
    edges, (nodes, weights) = np.linspace(-9, 9, 361), np.polynomial.legendre.leggauss(12)
    x = edges[:-1, None] + 0.025 * (nodes + 1)

    def log_p(x):
        return np.logaddexp(np.log(0.4) + bumps[0].logpdf(x), np.log(0.6) + bumps[1].logpdf(x))

    p, log_q, h = np.exp(log_p(x)), q.logpdf(x), 1e-5
    score = (log_p(x + h) - log_p(x - h)) / (2 * h)
    m = (p + np.exp(log_q)) / 2
    cdf = sum(s * b.cdf(x) for s, b in zip(shares, bumps, strict=True))
    integrands = {
        "kl": p * (log_p(x) - log_q),
        "reverse": np.exp(log_q) * (log_q - log_p(x)),
        "game": p * np.log(p / (2 * m) + 1e-300) + np.exp(log_q) * np.log(np.exp(log_q) / (2 * m) + 1e-300),
        "nonsaturating": 2 * m * (np.log(m) - log_p(x)),
        "w1": abs(cdf - q.cdf(x)),
        "fisher": 0.5 * p * (score + (x - model[0]) / model[1] ** 2) ** 2,
    }
    return {name: (f @ weights).sum() * 0.025 for name, f in integrands.items()}


def values(source=None):
    calls = ", ".join(f"m.value('{name}', {gap}, {model})" for gap, model in CASES for name in NAMES)
    found = iter(javascript(f"[{calls}]", source))
    return [{name: next(found) for name in NAMES} for _ in CASES]


def agrees(found):
    wanted = [by_quadrature(*case) for case in CASES]
    return all(abs(a[k] - b[k]) < 5e-4 * max(1, abs(b[k])) for a, b in zip(found, wanted, strict=True) for k in b)


MUTANTS = {
    "KL the other way round": ("p[i] * (logP[i] - logQ);\n", "Math.exp(logQ) * (logQ - logP[i]);\n"),
    "no log 4": ('- (objective === "game" ? Math.log(4) : 0)', ""),
    "half of KL(half ‖ data)": ("total += 2 * Math.exp(logM)", "total += Math.exp(logM)"),
    "no absolute value": ("Math.abs(below)", "below"),
    "σ for σ² in the score": ("(XS[i] - mean) / sd ** 2", "(XS[i] - mean) / sd"),
    "no ½": ("0.5 * p[i]", "p[i]"),
    "shares exchanged": ("Math.log(0.4) + logNormal(x, left", "Math.log(0.6) + logNormal(x, left"),
}


def test_values_are_those_of_quadrature_and_each_mutant_is_found():
    assert agrees(values())
    source = display.classic("objectives")
    for name, (right, wrong) in MUTANTS.items():
        assert right in source, name
        assert not agrees(values(source.replace(right, wrong))), name


def test_the_slope_is_that_of_finite_differences_of_the_quadrature():
    def at(name, mean, u):
        return by_quadrature(2.5, [mean, np.exp(u)])[name]

    h = 1e-3
    for name in NAMES:
        truth = [
            (at(name, 0.5 + h, 0.2) - at(name, 0.5 - h, 0.2)) / (2 * h),
            (at(name, 0.5, 0.2 + h) - at(name, 0.5, 0.2 - h)) / (2 * h),
        ]
        found = javascript(f"m.slope('{name}', 2.5, [0.5, Math.exp(0.2)])")
        assert found == pytest.approx(truth, abs=5e-3), name
        assert found != pytest.approx([-truth[0], truth[1]], abs=3e-3), name  # mutant: uphill


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("start", [[2.5, 0.6], [-2.5, 0.6]])
def test_descent_ends_in_a_local_minimum(name, start):
    path = javascript(f"m.descend('{name}', 2.5, {start})")

    def cost(v):
        return by_quadrature(2.5, [v[0], np.exp(v[1])])[name]

    end = [path[-1][0], np.log(path[-1][1])]
    best = scipy.optimize.minimize(cost, end, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-8})
    assert np.hypot(*(best.x - end)) < 0.02, (end, best.x)
    assert cost(end) < cost([start[0], np.log(start[1])])
    steps = np.diff(np.stack([[m, np.log(s)] for m, s in path]), axis=0)
    assert np.hypot(*steps.T).max() < 0.31


def test_ends_of_the_mean_seeking_objectives():
    mean, second = -0.4 * 1.5 + 0.6 * 1.0, 0.4 * (0.25 + 2.25) + 0.6 * (0.16 + 1.0)
    for name in ("kl", "fisher"):  # both have the data's moments
        end = javascript(f"m.descend('{name}', 2.5, [2.5, 0.6]).at(-1)")
        assert end == pytest.approx([mean, (second - mean**2) ** 0.5], abs=0.01), name
    ends = [javascript(f"m.descend('reverse', 4, [{x}, 0.6]).at(-1)") for x in (-2.5, 2.5)]
    assert np.array(ends) == pytest.approx(np.array([[-2.25, 0.5], [1.75, 0.4]]), abs=0.01)


@pytest.fixture(scope="module")
def page(playing):
    return playing("objectives", {}, STATE, "A bell and two bumps", height=1000, reduced_motion="reduce")


def test_keyboard_choice_descend_everywhere_and_reset(page):
    page.get_by_label("Model's mean").focus()
    for key in ["ArrowRight", "ArrowRight", "Tab", "ArrowLeft"]:
        page.keyboard.press(key)
    assert state(page)["model"] == pytest.approx([0.7, 0.9])
    page.wait_for_timeout(100)
    wanted = by_quadrature(2.5, [0.7, 0.9])
    shown = page.locator(".values output").all_inner_texts()
    assert [float(v.split()[0].replace("−", "-")) for v in shown] == pytest.approx(list(wanted.values()), abs=2e-3)
    page.get_by_role("combobox").select_option("reverse")
    page.get_by_role("button", name="Descend").click()
    assert state(page)["model"] == pytest.approx([1.0, 0.4], abs=0.02)
    page.get_by_role("button", name="From everywhere").click()
    ends = page.evaluate("() => document.querySelector('.book-playground').playground.ends()")
    assert len(ends) == 16 and {round(e["at"][0]) for e in ends} >= {-1, 1}
    page.get_by_text("ended at").wait_for()
    page.get_by_role("button", name="Reset").click()
    assert state(page) == STATE
    assert page.evaluate("() => document.querySelector('.book-playground').playground.ends()") == []


def test_dragging_in_the_map_moves_the_model(page):
    box = page.locator(".plane canvas").bounding_box()
    assert box["height"] == pytest.approx(250, abs=1)

    def place(mean, sd):
        up = np.log(sd / 0.2) / np.log(15)
        return box["x"] + 34 + (mean + 4) / 8 * (box["width"] - 34), box["y"] + 218 * (1 - up)

    page.mouse.move(*place(0.5, 1.0))
    page.mouse.down()
    page.mouse.move(*place(-2.0, 0.5), steps=4)
    page.mouse.up()
    assert state(page)["model"] == pytest.approx([-2.0, 0.5], abs=0.05)
    page.get_by_role("button", name="Reset").click()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
