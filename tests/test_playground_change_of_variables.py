"""The change-of-variables playground: its densities against distribution functions of scipy; its use in a browser."""

import functools

import matplotlib
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

matplotlib.use("Agg")


from one_playground import state, value_of

from helpers.playground import display

javascript = functools.partial(value_of, "change_of_variables")
EDGES = np.linspace(-3, 3, 121)
X = scipy.stats.truncnorm(-3, 3)  # the playground's normal density ends at ±3
FUNCTIONS = {
    "tanh": (lambda x: 2 * np.tanh(1.2 * x), lambda x: 2.4 / np.cosh(1.2 * x) ** 2),
    "half": (lambda x: x / 2, lambda x: 0.5 + 0 * x),
    "bend": (lambda x: np.exp(x / 2) - 2, lambda x: np.exp(x / 2) / 2),
    "square": (lambda x: x**2 / 2 - 2, lambda x: x),
    "wave": (lambda x: x / 2 + np.sin(2 * x), lambda x: 0.5 + 2 * np.cos(2 * x)),
}


def below(name, y):
    """P(g(x) ≤ y), by what the inverse of g says, or for the wave by 400,000 equal shares of the mass of x."""
    root = np.sqrt(np.maximum(0, 2 * y + 4))
    if name == "tanh":
        return X.cdf(np.arctanh(np.clip(y / 2, -1 + 1e-12, 1 - 1e-12)) / 1.2)
    if name == "half":
        return X.cdf(2 * y)
    if name == "bend":
        return X.cdf(2 * np.log(np.maximum(y + 2, 1e-300)))
    if name == "square":
        return X.cdf(root) - X.cdf(-root)
    values = np.sort(FUNCTIONS[name][0](X.ppf((np.arange(400_000) + 0.5) / 400_000)))
    return np.searchsorted(values, y) / len(values)


def agrees(source=None):
    calls = ", ".join(f"['{name}', m.pushforward('normal', m.heights('{name}'))]" for name in FUNCTIONS)
    wanted_area = {
        name: scipy.integrate.quad(lambda x, d=slope: X.pdf(x) * abs(d(x)), -3, 3, limit=200)[0]
        for name, (_, slope) in FUNCTIONS.items()
    }
    for name, made in javascript(f"[{calls}]", source):
        mass = np.array(list(made["right"].values())) * 0.05
        if np.abs(mass - np.diff(below(name, EDGES))).max() > 1e-3 or abs(made["areas"][0] - 1) > 1e-9:
            return False
        if abs(made["areas"][1] - wanted_area[name]) > 3e-3:
            return False
    return True


MUTANTS = {
    "no division by the stretch": ("inside / (high - low)", "inside / 0.005"),
    "rising branches only": ("right[k] += (m *", "right[k] += ((edges[j + 1] > edges[j] ? m : 0) *"),
    "mass not normalised": ("m / total", "m"),
    "tangents of twice the slope": ("[(c - a) / 2, (d - b) / 2]", "[c - a, d - b]"),
    "the wrong one divided after all": ("(m / dx) *", "m *"),
}


def test_densities_are_those_of_the_inverse_and_each_mutant_is_found():
    assert agrees()
    source = display.classic("change_of_variables")
    for name, (right, wrong) in MUTANTS.items():
        assert right in source, name
        assert not agrees(source.replace(right, wrong)), name


def test_draws_follow_the_density():
    for name in FUNCTIONS:
        y = np.array(javascript(f"m.draws('normal', m.heights('{name}'), 5, 4000)"))[:, 1]
        at = np.linspace(-2.9, 2.9, 59)
        seen = (y[:, None] <= at).mean(0)
        assert np.abs(seen - below(name, at)).max() < 5e-3  # the draws are stratified, so nearer than at random
    for base, spread in [("uniform", 4 / np.sqrt(12)), ("two", np.sqrt(1.2**2 + 0.4**2))]:
        x = np.array(javascript(f"m.draws('{base}', m.heights('half'), 5, 4000)"))[:, 0]
        assert x.std() == pytest.approx(spread, abs=0.01)


def test_a_flat_piece_is_an_atom_in_one_bin():
    made = javascript("m.pushforward('uniform', Array(61).fill(0.51))")
    assert sum(p > 0 for p in made["right"].values()) == 1
    assert made["areas"] == pytest.approx([1, 0], abs=1e-9)


def test_smoothing_removes_tremor_and_leaves_lines_and_the_rest_alone():
    zigzag = "Array.from({length: 61}, (_, i) => i / 20 - 1.5 + 0.1 * (-1) ** i)"
    g = np.array(javascript(f"m.smoothed({zigzag}, [-1, 1])"))
    line, i = np.arange(61) / 20 - 1.5, np.arange(61)
    assert np.abs(g - line)[23:38].max() < 0.003  # the alternating part is gone three knots inside
    assert np.abs(g - line - 0.1 * (-1.0) ** i)[(i < 20) | (i > 40)].max() < 1e-12
    assert javascript(f"m.smoothed({line.tolist()}, [-3, 3])") == pytest.approx(line.tolist())


@pytest.fixture(scope="module")
def page(playing):
    start = {"name": "tanh", "g": javascript("m.heights('tanh')"), "base": "normal", "seed": 1}
    return playing(
        "change_of_variables", {}, start, "A curve between two densities", height=1000, reduced_motion="reduce"
    )


def test_choices_buttons_and_keyboard(page):
    first = state(page)
    page.locator("select").first.select_option("half")
    page.locator("select").last.select_option("uniform")
    assert state(page)["g"][0] == -1.5 and state(page)["base"] == "uniform"
    text = "without the division by |g′| it would be 0.500"  # ∫ p |g′| dx, and g′ = 1/2
    page.wait_for_function("(text) => document.querySelector('.readout').textContent.includes(text)", arg=text)
    page.get_by_role("button", name="Draw 1,000 others").click()
    assert state(page)["seed"] == 2
    page.locator(".plane input").first.focus()
    page.keyboard.press("ArrowUp")  # lifts the curve around the cursor, at 0
    assert state(page)["name"] == "drawn"
    assert state(page)["g"][30] == pytest.approx(0.1) and state(page)["g"][0] == -1.5
    page.get_by_role("button", name="Reset").click()
    assert state(page) == first


def test_drawing_with_the_pointer(page):
    box = page.locator(".plane canvas").bounding_box()

    def place(x, y):
        return box["x"] + (x / 3 + 1) / 2 * box["width"], box["y"] + (1 - y / 3) / 2 * box["height"]

    page.mouse.move(*place(-2, 1))
    page.mouse.down()
    page.mouse.move(*place(2, -1), steps=3)
    page.mouse.up()
    now = state(page)
    assert now["name"] == "drawn"
    assert [now["g"][i] for i in (12, 30, 48)] == pytest.approx([0.9, 0, -0.9], abs=0.06)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    page.get_by_role("button", name="Reset").click()
