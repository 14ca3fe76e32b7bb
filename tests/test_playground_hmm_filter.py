"""The HMM playground: its inference against the library's, by node; its keys and clicks, in a browser."""

import json
import math

import pytest
import torch
from one_playground import FRAMES, with_module

from helpers.models.hmm import HMM
from helpers.playground import display

SEQUENCES = [[2, -1, 0, 0, 1, -1, -1], [0], [-1, -1, 2], [1, 1, 1, 1, 1, 1, 1, 1], [2, 0, 2, 0, 2, 0]]


def model_of(k, seed):
    g = torch.Generator().manual_seed(seed)
    model = HMM(k, levels=3)
    model.initial = torch.rand(k, dtype=torch.float64, generator=g).softmax(0)
    model.transition = (2 * torch.randn(k, k, dtype=torch.float64, generator=g)).softmax(1)
    model.table = (2 * torch.randn(k, 3, dtype=torch.float64, generator=g)).softmax(1)
    return model


def numbers(model):
    return {name: getattr(model, name).tolist() for name in ("initial", "transition", "table")}


def run(source, models):
    given = f"const models = {json.dumps([numbers(m) for m in models])}; const sequences = {json.dumps(SEQUENCES)};"
    ask = "console.log(JSON.stringify(models.map((m) => sequences.map((x) => infer(m, x)))));"
    return with_module(source, given + ask)


def agree(models, answers):
    for model, row in zip(models, answers, strict=True):
        for sequence, got in zip(SEQUENCES, row, strict=True):
            # A sequence that nobody observed has no posterior in the library; a symbol of no information has
            padded = HMM(model.k, levels=4)
            padded.initial, padded.transition = model.initial, model.transition
            padded.table = torch.cat([model.table, torch.ones(model.k, 1)], 1)  # "none" is certain in each state
            x = torch.tensor([[3 if v < 0 else v for v in sequence]])
            states, score = padded.viterbi(x)
            pairs = [
                (got["logLikelihood"], padded.log_prob(x)[0]),
                (got["filtered"], padded.posterior(x, filtered=True)[0]),
                (got["smoothed"], padded.posterior(x)[0]),
                (got["score"], score[0]),
            ]
            pairs = [(torch.tensor(a, dtype=torch.float64), b) for a, b in pairs]
            if not all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in pairs):
                return False
            if got["path"] != states[0].tolist():
                return False
    return True


def test_the_pages_inference_is_that_of_the_library():
    models, source = [model_of(2, 0), model_of(3, 1), model_of(2, 2)], display.joined("hmm_filter")
    assert agree(models, run(source, models))
    for right, mutant in {
        "filtered[t - 1][j] * transition[j][k]": "filtered[t - 1][j] * transition[k][j]",  # transposed
        "* after[j]));": "* 1));",  # no backward pass
        "path.unshift(from[path[0]])": "path.unshift(from.indexOf(Math.max(...from)))",
        "symbol < 0 ? 1": "symbol < 0 ? table[k][0]",  # what is missing read as the first symbol
    }.items():
        assert right in source
        assert not agree(models, run(source.replace(right, mutant), models)), mutant


ICE = model_of(2, 0)
START = [2, 2, 0, 1, 0, 0, 2, 1]


@pytest.fixture(scope="module")
def page(playing):
    params = {"states": ["hot", "cold"], "symbols": ["1", "2", "3"], "start": START, "read": 3, **numbers(ICE)}
    return playing("hmm_filter", params, {"x": START, "read": 3}, "Beliefs", height=740)


def said(page, text):
    page.wait_for_function("(t) => document.querySelector('[role=status]').textContent.includes(t)", arg=text)


def belief(x):
    p = ICE.posterior(torch.tensor([x]), filtered=True)[0, -1, 0].item()
    nats = f"{ICE.log_prob(torch.tensor([x])).item():.2f}".replace("-", "−")
    return f"After {len(x)} steps p(hot) is {p:.2f}; log-likelihood {nats} nats"


def test_clicks_keys_and_slider(page):
    said(page, belief(START[:3]))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Step 1: 3; press to change"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    said(page, belief([2, 1, 0]))
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    said(page, belief([2, 1, 0, 1]))
    assert page.get_attribute("input[type=range]", "aria-valuetext") == "4 of 8 observations read"
    page.locator(".back").nth(2 * 7).click()  # the last column: everything read
    said(page, belief([2, 1, *START[2:]]))
    page.locator(".cell").nth(0).click()  # 3, then none
    page.wait_for_selector('.cell[aria-label^="Step 1: not observed"]')
    said(page, belief([-1, 1, *START[2:]]))
    page.get_by_role("button", name="Observe nothing").click()
    said(page, "log-likelihood 0.00 nats")
    page.get_by_role("button", name="Reset").click()
    said(page, belief(START[:3]))
    page.evaluate(FRAMES)
    tall = page.eval_on_selector_all(".bar", "els => els.map((e) => Number(e.getAttribute('height')) / 48)")
    filtered = ICE.posterior(torch.tensor([START[:3]]), filtered=True)[0, :, 0].tolist()
    assert [tall[0], tall[2], tall[4]] == pytest.approx(filtered, abs=1e-6)
    forecast = torch.linalg.matrix_power(ICE.transition, 5)  # of the last step, five behind what was read
    at = ICE.posterior(torch.tensor([START[:3]]))[0, 2] @ forecast
    assert tall[-1] == pytest.approx(at[0].item(), abs=1e-6) and not math.isclose(tall[-1], tall[4], abs_tol=1e-3)
    small = page.eval_on_selector_all("button, label input", "els => els.filter((e) => e.offsetHeight < 24).length")
    assert small == 0
