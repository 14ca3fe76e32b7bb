"""The playground of prior and posterior: its numbers against scipy, with mutants; its use by hand and keys."""

import functools
import json
import math

import matplotlib
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

matplotlib.use("Agg")


from one_playground import state, value_of

from helpers.playground import display

javascript = functools.partial(value_of, "prior_posterior")
STATE = {"prior": [0.5, 4.0], "data": [0, 0], "scale": "probability"}
CASES = [
    {"prior": [0.5, 2.0], "data": [9, 1], "scale": "logodds"},
    {"prior": [0.3, 12.0], "data": [4, 7], "scale": "probability"},
    {"prior": [0.8, 0.5], "data": [2, 3], "scale": "probability"},
    {"prior": [0.5, 60.0], "data": [300, 120], "scale": "logodds"},
]


def by_scipy(case):
    (mean, strength), (ones, zeros) = case["prior"], case["data"]
    prior = scipy.stats.beta(mean * strength, (1 - mean) * strength)
    power = 0 if case["scale"] == "logodds" else 1  # p (1 − p) is the Jacobian of the log-odds
    p = np.linspace(1e-4, 1 - 1e-4, 200_001)
    log_posterior = prior.logpdf(p) + ones * np.log(p) + zeros * np.log1p(-p) + (1 - power) * np.log(p * (1 - p))
    best = (ones + mean * strength) / (ones + zeros + strength)

    def integrand(u):  # over the log-odds, where nothing is infinite; scaled by its largest value
        p = scipy.special.expit(u)
        return math.exp(prior.logpdf(p) + ones * np.log(p) + zeros * np.log1p(-p) + np.log(p * (1 - p)) - top)

    top = prior.logpdf(best) + ones * np.log(best) + zeros * np.log1p(-best) + np.log(best * (1 - best))
    total = scipy.integrate.quad(integrand, -30, 30, points=[scipy.special.logit(best)], limit=500)[0]
    after = scipy.stats.beta(mean * strength + ones, (1 - mean) * strength + zeros)
    interval = after.ppf([0.025, 0.975])
    return {
        "map": p[log_posterior.argmax()],
        "mean": after.mean(),
        "low": interval[0],
        "high": interval[1],
        "evidence": math.log(total) + top,
        "mle": ones / (ones + zeros),
    }


def agrees(source=None):
    calls = ", ".join(f"m.summary({json.dumps(case)})" for case in CASES)
    found = javascript(f"[{calls}]", source)
    wanted = [by_scipy(case) for case in CASES]
    return all(
        a[k] is not None and abs(a[k] - b[k]) < 1e-3 * max(1, abs(b[k]))
        for a, b in zip(found, wanted, strict=True)
        for k in b
    )


MUTANTS = {
    "no Jacobian": ('if (scale === "logodds") return a / (a + b);', ""),
    "mean for mode": ("(a - 1) / (a + b - 2)", "a / (a + b)"),
    "MLE with the prior": ("mle: ones / (ones + zeros)", "mle: a / (a + b)"),
    "zeros for ones": ("before[0] + ones, before[1] + zeros", "before[0] + zeros, before[1] + ones"),
    "evidence without the prior's constant": (" - logBeta(...before)", ""),
    "an interval of 90 %": (
        "sum < 0.975 && sum + mass >= 0.975) high = cross(0.975)",
        "sum < 0.95 && sum + mass >= 0.95) high = cross(0.95)",
    ),
}


def test_summaries_are_scipys_and_each_mutant_is_found():
    assert agrees()
    source = display.classic("prior_posterior")
    for name, (right, wrong) in MUTANTS.items():
        assert source.count(right) == 1, name
        assert not agrees(source.replace(right, wrong)), name


def test_densities_log_gamma_and_strength():
    x = [0.01, 0.3, 1, 4.5, 80, 900]
    assert javascript(f"{x}.map(m.logGamma)") == pytest.approx(scipy.special.gammaln(x), abs=1e-9)
    p = np.array([0.1, 0.5, 0.85])
    found = javascript(f"{p.tolist()}.map((p) => m.density(p, [2.5, 1.2], 'probability'))")
    assert found == pytest.approx(scipy.stats.beta(2.5, 1.2).pdf(p))
    found = javascript(f"{p.tolist()}.map((p) => m.density(p, [2.5, 1.2], 'logodds'))")
    assert found == pytest.approx(scipy.stats.beta(2.5, 1.2).pdf(p) * p * (1 - p))
    for scale, mean, strength in [("probability", 0.3, 9.0), ("logodds", 0.9, 2.0), ("probability", 0.98, 0.7)]:
        a, b = mean * strength, (1 - mean) * strength
        height = scipy.stats.beta(a, b).pdf(mean) * (mean * (1 - mean) if scale == "logodds" else 1)
        assert javascript(f"m.strengthFor({height}, {mean}, '{scale}')") == pytest.approx(strength, rel=1e-3)


def test_borders_without_a_single_highest_place():
    found = javascript("[[1, 1], [0.5, 0.5], [0.5, 3], [3, 1], [1, 3]].map((s) => m.highest(s, 'probability'))")
    assert found == [None, None, 0, 1, 0]  # NaN is null in JSON


@pytest.fixture(scope="module")
def page(playing):
    return playing("prior_posterior", {}, STATE, "A prior and a posterior on a line", reduced_motion="reduce")


def shown(page):
    return page.locator(".values output").all_inner_texts()


def test_tosses_scale_keys_and_reset(page):
    for name in ("Add a 1", "Add a 1", "Add a 1", "Add a 0"):
        page.get_by_role("button", name=name).click()
    assert state(page)["data"] == [3, 1]
    page.wait_for_function("() => document.querySelector('.readout').textContent.includes('MAP of p 0.667')")
    assert shown(page)[2:5] == ["0.750", "0.667", "0.625"]  # 3/4, (5 − 1)/(8 − 2), 5/8
    page.get_by_label("Horizontal axis").select_option("logodds")
    page.wait_for_function("() => document.querySelector('.readout').textContent.includes('log-odds 0.625')")
    page.get_by_label("Prior's mean").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert state(page)["prior"] == pytest.approx([0.52, 4.5])
    page.get_by_role("button", name="Reset").click()
    assert state(page) == STATE


def test_dragging_shapes_the_prior(page):
    box = page.locator(".plane canvas").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 20, steps=4)
    page.mouse.up()
    mean, strength = state(page)["prior"]
    assert mean == pytest.approx(0.3, abs=0.01) and strength > 4
    top = 1.15 * scipy.stats.beta(2, 2).pdf(0.5)  # the axis did not move under the hand
    wanted = top * (1 - (20 - 8) / (250 - 34 - 8))
    assert scipy.stats.beta(mean * strength, (1 - mean) * strength).pdf(mean) == pytest.approx(wanted, rel=0.02)
    page.get_by_role("button", name="Reset").click()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
