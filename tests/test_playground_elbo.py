"""The ELBO playground: its ledger against scipy's quadrature, its climb against scipy's optimiser, and a browser."""

from __future__ import annotations

import functools
import math

import matplotlib
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

matplotlib.use("Agg")


from one_playground import state, value_of

from helpers.playground import display

javascript = functools.partial(value_of, "elbo")
STATE = {"target": "two", "q": [0.5, 1.0]}
CASES = [("two", [0.5, 1.0]), ("two", [-2.0, 0.4]), ("slope", [2.0, 1.5]), ("bell", [1.0, 0.8]), ("bell", [-2.0, 3.0])]


def log_joint(target, z):
    norm = scipy.stats.norm
    if target == "two":
        return np.logaddexp(np.log(0.7) + norm(-2, 0.7).logpdf(z), np.log(0.3) + norm(2.2, 0.9).logpdf(z)) - 1
    if target == "slope":
        return norm(0, 2).logpdf(z) - 6 * np.logaddexp(0, -z) - np.logaddexp(0, z)
    return norm(1, 0.8).logpdf(z) - 0.5


EDGES, (NODES, WEIGHTS) = np.linspace(-30, 30, 601), np.polynomial.legendre.leggauss(10)
PLACES = EDGES[:-1, None] + 0.05 * (NODES + 1)  # Gauss-Legendre on 600 pieces


def integral(f):
    return (f(PLACES) @ WEIGHTS).sum() * 0.05


def by_quadrature(target, q):
    q = scipy.stats.norm(*q)
    evidence = math.log(integral(lambda z: np.exp(log_joint(target, z))))
    energy = integral(lambda z: q.pdf(z) * log_joint(target, z))
    kl = integral(lambda z: q.pdf(z) * (q.logpdf(z) - log_joint(target, z) + evidence))
    return {"evidence": evidence, "energy": energy, "entropy": q.entropy(), "elbo": energy + q.entropy(), "kl": kl}


WANTED = [by_quadrature(*case) for case in CASES]


def agrees(source=None):
    calls = ", ".join(f'm.ledger("{target}", {q})' for target, q in CASES)
    found = javascript(f"[{calls}].map(({{ p, q, ...rest }}) => rest)", source)
    return all(abs(a[k] - b[k]) < 1e-3 for a, b in zip(found, WANTED, strict=True) for k in b)


MUTANTS = {
    "KL the other way round": ("kl += STEP * q[i] *", "kl += STEP * p[i] *"),
    "no entropy": ("elbo: energy + entropy", "elbo: energy"),
    "variance for standard deviation": ("logJoint(mean + sd * u);", "logJoint(mean + sd * sd * u);"),
    "evidence without the cell's width": ("Math.log(STEP * joint", "Math.log(joint"),
    "one no too many": ("6 * logSigmoid(z) + logSigmoid(-z)", "6 * logSigmoid(z) + 2 * logSigmoid(-z)"),
}


def test_the_ledger_is_that_of_quadrature_and_each_mutant_is_found():
    assert agrees()
    source = display.classic("elbo")
    for name, (right, wrong) in MUTANTS.items():
        assert source.count(right) == 1, name
        assert not agrees(source.replace(right, wrong)), name


def test_both_sides_of_the_ledger_add_up_wherever_q_is():
    places = [[m, s] for m in (-5, -1.3, 0, 2.7, 5) for s in (0.2, 0.7, 3)]
    for target in ("two", "slope", "bell"):
        calls = ", ".join(f'm.ledger("{target}", {q})' for q in places)
        for row in javascript(f"[{calls}].map(({{ p, q, ...rest }}) => rest)"):
            assert row["elbo"] + row["kl"] == pytest.approx(row["evidence"], abs=1e-3)
            assert row["kl"] > -1e-6


def test_the_slope_is_that_of_differences():
    def differs(source=None):
        for target, q in CASES:
            got = javascript(f'm.slope("{target}", {q})', source)
            e = 1e-3
            wanted = [
                (by_quadrature(target, [q[0] + e, q[1]])["elbo"] - by_quadrature(target, [q[0] - e, q[1]])["elbo"]),
                by_quadrature(target, [q[0], q[1] * math.exp(e)])["elbo"]
                - by_quadrature(target, [q[0], q[1] * math.exp(-e)])["elbo"],
            ]
            if not np.allclose(got, np.array(wanted) / (2 * e), atol=5e-3):
                return True
        return False

    assert not differs()
    source = display.classic("elbo")
    assert differs(source.replace("[inMean, inLogSd] = [0, 1]", "[inMean, inLogSd] = [0, 0]"))  # no entropy
    assert differs(source.replace("inLogSd += share * sd * u", "inLogSd += share * u"))


@pytest.mark.parametrize(("target", "start"), [("two", [1.5, 0.5]), ("two", [-3.0, 2.0]), ("slope", [0.0, 0.5])])
def test_the_climb_ends_at_a_local_maximum(target, start):
    found = javascript(
        f"""(() => {{ let q = {start};
            for (let i = 0; i < 400; i++) q = m.climb("{target}", q); return q; }})()"""
    )

    def cost(v):
        return -by_quadrature(target, [v[0], math.exp(v[1])])["elbo"]

    best = scipy.optimize.minimize(cost, [found[0], math.log(found[1])], method="Nelder-Mead")
    assert cost([found[0], math.log(found[1])]) == pytest.approx(best.fun, abs=1e-4)
    assert found[0] == pytest.approx(best.x[0], abs=0.05)


@pytest.fixture(scope="module")
def page(playing):
    return playing("elbo", {}, STATE, "A posterior and a normal density", reduced_motion="reduce")


def test_keyboard_choice_climb_and_reset(page):
    page.get_by_label("Mean of q").focus()
    for key in ["ArrowRight", "Tab", "ArrowLeft"]:
        page.keyboard.press(key)
    assert state(page)["q"] == pytest.approx([0.6, 0.9])
    wanted = by_quadrature("two", [0.6, 0.9])
    text = f"plus KL {wanted['kl']:.3f} is the log evidence, −1.000 nats"
    page.wait_for_function("(text) => document.querySelector('.readout').textContent.includes(text)", arg=text)
    shown = [float(v.split()[0].replace("−", "-")) for v in page.locator(".values output").all_inner_texts()]
    assert shown == pytest.approx([wanted[k] for k in ("energy", "entropy", "elbo", "kl", "evidence")], abs=6e-4)
    page.get_by_role("combobox").select_option("bell")
    page.get_by_role("button", name="Climb").click()
    assert state(page)["q"] == pytest.approx([1.0, 0.8], abs=0.01) and state(page)["target"] == "bell"
    page.wait_for_function("() => document.querySelector('.readout').textContent.includes('plus KL 0.000')")
    page.get_by_role("button", name="Reset").click()
    assert state(page) == STATE


def test_dragging_moves_the_peak(page):
    box = page.locator(".plane canvas").bounding_box()

    def place(x, y):
        return box["x"] + (x + 7) / 14 * box["width"], box["y"] + 8 + (230 - 34 - 8) * (1 - y / 1.05)

    page.mouse.move(*place(0.5, 0.4))
    page.mouse.down()
    page.mouse.move(*place(-2.0, 0.5), steps=4)
    page.mouse.up()
    assert state(page)["q"] == pytest.approx([-2.0, 1 / (0.5 * math.sqrt(2 * math.pi))], abs=0.05)
    page.get_by_role("button", name="Reset").click()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
