"""The thermometers playground: both beliefs against the library's, by node; its handles and keys, in a browser."""

import json

import pytest
import torch
from one_playground import with_module

from helpers.models.factor_analysis import FactorAnalysis
from helpers.models.ppca import PPCA
from helpers.playground import display

WEIGHT, PSI = [1.0, 0.8, 1.2, -0.5], [0.16, 0.49, 0.3, 4.0]
READINGS = [[0.3, 0.8, -0.1, 4.0], [-2.0, 0.0, 1.5, -6.0]]
PARAMS = {"weight": [1.0] * 4, "noise": [0.4, 0.7, 0.7, 2.0], "readings": [0.3, 0.8, -0.1, 4.0], "range": 6}


def run(source):
    """What the module answers in node: factor analysis and PPCA for each of the readings."""
    given = f"const [w, psi, readings] = {json.dumps([WEIGHT, PSI, READINGS])};"
    ask = "const p = ppca(w, psi); const two = (x) => [posterior(w, psi, x), posterior(p.weight, p.psi, x)];"
    return with_module(source, given + ask + "console.log(JSON.stringify(readings.map(two)));")


def agree(answers):
    x, w = torch.tensor(READINGS, dtype=torch.float64), torch.tensor(WEIGHT, dtype=torch.float64)
    factor = FactorAnalysis(4, 1)
    factor.weight, factor.noise = w[:, None], torch.tensor(PSI, dtype=torch.float64)
    covariance = torch.outer(w, w) + factor.noise.diag()
    # PPCA from points that have this covariance, and mean 0: ± √4 times the columns of a root of it
    root = 2 * torch.linalg.cholesky(covariance).T
    models = [factor, PPCA(4, 1).fit(torch.cat([root, -root]))]
    for k, model in enumerate(models):
        means, spread = model.posterior(x)
        got = torch.tensor([[row[k]["mean"], row[k]["sd"]] for row in answers], dtype=torch.float64)
        got[:, 0] *= (got[:, 0] * means[:, 0]).sum().sign()  # the sign of a factor is anybody's choice
        wanted = torch.stack([means[:, 0], spread[0].sqrt().expand(len(x))], 1)
        if not torch.allclose(got, wanted, rtol=1e-9, atol=1e-12):
            return False
    return True


def test_both_beliefs_are_the_librarys():
    source = display.joined("thermometers")
    assert agree(run(source))
    for right, mutant in {
        "sum + (w * w) / psi[d], 1)": "sum + (w * w) / psi[d], 0)",  # the prior forgotten
        "(w * x[d]) / psi[d]": "(w * x[d]) / Math.sqrt(psi[d])",  # the standard deviation for the variance
        "(trace - value) / (n - 1)": "(trace - value) / n",  # the noise shared among one direction too many
    }.items():
        assert right in source
        assert not agree(run(source.replace(right, mutant))), right


@pytest.fixture(scope="module")
def page(playing):
    return playing("thermometers", PARAMS, {"readings": PARAMS["readings"]}, "Readings", height=740)


def believed(page):
    return page.evaluate("() => document.querySelector('.book-playground').playground.believe()")


def test_handles_keys_and_the_slider(page):
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    first = believed(page)
    assert abs(first["average"] - 1.25) < 1e-9 and first["factor"]["mean"] < 0.5 < first["ppca"]["mean"]
    page.get_by_label("Reading of thermometer 4").focus()
    page.keyboard.press("ArrowRight")
    assert abs(believed(page)["average"] - 1.275) < 1e-9
    box = page.locator("canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 17)  # the first thermometer's line, to 3
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 17)
    page.mouse.up()
    assert abs(believed(page)["average"] - 1.275 - 2.7 / 4) < 0.05
    page.get_by_role("slider", name="Noise of thermometer 4").fill("0.1")
    precise = believed(page)
    assert precise["factor"]["sd"] < 0.11 and precise["factor"]["mean"] > 3 > precise["ppca"]["mean"]
    page.get_by_role("button", name="Reset").click()
    assert believed(page) == first
