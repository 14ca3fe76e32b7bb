"""The Bayesian network playground: its posteriors against the library's, by node; its keys and clicks, in a browser."""

import itertools
import json
import math
import re

import pytest
import torch
from one_playground import with_module

from helpers.models.bayesian_network import BayesianNetwork
from helpers.playground import display

# The columns are not in topological order, and "alarm" has its parents against that of the columns
LEVELS = {"alarm": 2, "burglar": 2, "earthquake": 3, "call": 2}
PARENTS = {"alarm": ["earthquake", "burglar"], "call": ["alarm"]}
PLACES = [[110, 130], [10, 10], [220, 10], [110, 250]]


def network():
    g = torch.Generator().manual_seed(0)
    model = BayesianNetwork(LEVELS, PARENTS)
    for name in model.names:
        model.set_table(name, torch.randn(model.table(name).shape, dtype=torch.float64, generator=g).mul(2).softmax(-1))
    return model


MODEL = network()
VARIABLES = [
    {
        "name": name,
        "values": [f"v{v}" for v in range(levels)],
        "parents": MODEL.parents[i],
        "at": PLACES[i],
        "table": MODEL.table(name).tolist(),
    }
    for i, (name, levels) in enumerate(LEVELS.items())
]
EVIDENCE = [list(e) for e in itertools.product(*[range(-1, levels) for levels in LEVELS.values()])]


def run(source):
    given = f"const variables = {json.dumps(VARIABLES)}; const asked = {json.dumps(EVIDENCE)};"
    ask = "console.log(JSON.stringify(asked.map((e) => marginals(variables, e))));"
    return with_module(source, given + ask)


def agree(answers):
    x = torch.tensor(EVIDENCE)
    p = torch.tensor([a["evidence"] for a in answers], dtype=torch.float64)
    if not torch.allclose(p, MODEL.log_prob(x).exp(), rtol=1e-9):
        return False
    for i, name in enumerate(MODEL.names):
        got = torch.tensor([a["posterior"][i] for a in answers], dtype=torch.float64)
        if not torch.allclose(got, MODEL.posterior(x, name), rtol=1e-9, atol=1e-12):
            return False
    return True


def test_the_pages_posteriors_are_those_of_the_library():
    source = display.joined("bayes_net")
    assert agree(run(source))
    for right, mutant in {
        "evidence[i] >= 0 && evidence[i] !== v": "evidence[i] > 0 && evidence[i] !== v",  # the first value is ignored
        "variables[i].parents.reduce": "[...variables[i].parents].sort((a, b) => b - a).reduce",  # another axis order
        "row.map((s) => s / all)": "row.map((s) => s)",  # not normalised
    }.items():
        assert right in source
        try:
            assert not agree(run(source.replace(right, mutant))), mutant
        except (AssertionError, TypeError) as error:
            assert "mutant" not in str(error)


@pytest.fixture(scope="module")
def page(playing):
    params = {"variables": VARIABLES, "width": 348, "height": 330}
    state = {"evidence": [-1, -1, -1, -1]}
    return playing("bayes_net", params, state, "Posteriors", height=740)


def said(page, text):
    page.wait_for_function("(t) => document.querySelector('[role=status]').textContent.includes(t)", arg=text)


def shown(page, name, value):
    label = page.locator(f".value[aria-label^='{name} = v{value}']").get_attribute("aria-label")
    return float(re.search(r"([\d.]+) %", label)[1]) / 100


def test_clicks_and_keys(page):
    said(page, "Nothing observed")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    prior = MODEL.posterior(MODEL.evidence(), "burglar")[0, 1].item()
    assert shown(page, "burglar", 1) == pytest.approx(prior, abs=6e-4)
    page.locator(".value[aria-label^='alarm = v1']").click()
    evidence = MODEL.evidence(alarm=1)
    said(page, f"Given alarm = v1 (probability {100 * MODEL.log_prob(evidence).exp().item():.1f} %)")
    alone = MODEL.posterior(evidence, "burglar")[0, 1].item()
    assert shown(page, "burglar", 1) == pytest.approx(alone, abs=6e-4)
    page.locator(".value[aria-label^='earthquake = v2']").click()
    said(page, "alarm = v1, earthquake = v2")
    explained = MODEL.posterior(MODEL.evidence(alarm=1, earthquake=2), "burglar")[0, 1].item()
    assert shown(page, "burglar", 1) == pytest.approx(explained, abs=6e-4)
    assert not math.isclose(explained, alone, abs_tol=0.003)
    pressed = page.eval_on_selector_all(".value[aria-pressed=true]", "els => els.map((e) => e.ariaLabel.split(',')[0])")
    assert pressed == ["alarm = v1", "earthquake = v2"]
    page.locator(".value[aria-label^='earthquake = v2']").click()  # once more: forgotten
    said(page, "Given alarm = v1 (")
    page.get_by_role("button", name="Forget").click()
    said(page, "Nothing observed")
    page.locator(".value").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    said(page, "Given alarm = v1 (")
    page.evaluate("document.querySelector('.book-playground').playground.change([-1, -1, -1, -1])")
    said(page, "Nothing observed")
