"""The conditional digits playground: its conditionals against the library's, by node; brush and keys, in a browser."""

import json

import pytest
import torch
from one_playground import with_module

from helpers.models.joint_mixture import JointMixture
from helpers.playground import display

SIDE, LEVELS, DIGITS, K = 4, 3, 5, 6
G = torch.Generator().manual_seed(0)
PARAMS = {
    "weights": torch.randint(1, 9, (K,), generator=G).tolist(),
    "pixels": torch.randint(1, 50, (K, SIDE**2, LEVELS), generator=G).tolist(),
    "labels": torch.randint(1, 50, (K, DIGITS), generator=G).tolist(),
    "start": [2, 0] + [-1] * (SIDE**2 - 1),
}
EVIDENCE = torch.randint(-1, LEVELS, (12, SIDE**2), generator=G)
EVIDENCE = torch.cat([EVIDENCE, torch.randint(-1, DIGITS, (12, 1), generator=G)], 1)
EVIDENCE[0], EVIDENCE[1, :-1] = -1, -1


def library():
    model = JointMixture([LEVELS] * SIDE**2 + [DIGITS], components=K)
    weights, pixels, labels = (torch.tensor(PARAMS[name]).float() for name in ("weights", "pixels", "labels"))
    model.log_weights.copy_((weights / weights.sum()).log())
    model.log_levels[:, :-1, :LEVELS] = (pixels / pixels.sum(-1, keepdim=True)).log()
    model.log_levels[:, -1] = (labels / labels.sum(-1, keepdim=True)).log()
    return model


MODEL = library()


def run(source):
    given = f"const params = {json.dumps(PARAMS)}; const asked = {json.dumps(EVIDENCE.tolist())};"
    ask = """
let state = 1;
const random = () => ((state = (Math.imul(state, 1664525) + 1013904223) >>> 0), state / 2 ** 32);
const table = tables(params);
const answers = asked.map((x) => conditional(table, x));
const draws = Array.from({ length: 20000 }, () => drawn(table, answers[2], asked[2], random));
const mean = draws[0].map((_, d) => draws.reduce((sum, row) => sum + row[d], 0) / 20000);
console.log(JSON.stringify({ answers, draws: mean }));
"""
    return with_module(source, given + ask)


def agree(got):
    marginals, log_p = MODEL.marginals(EVIDENCE), MODEL.log_prob(EVIDENCE)
    pairs = [
        ([a["logProbability"] for a in got["answers"]], log_p, 1e-4),
        ([a["posterior"] for a in got["answers"]], MODEL.posterior(EVIDENCE), 1e-4),
        ([a["labels"] for a in got["answers"]], marginals[:, -1], 1e-4),
        ([a["pixels"] for a in got["answers"]], marginals[:, :-1, :LEVELS], 1e-4),
        (got["draws"], marginals[2, :-1, :LEVELS] @ torch.arange(LEVELS).float(), 0.03),
    ]
    return all(torch.allclose(torch.tensor(a), b, rtol=0, atol=tolerance) for a, b, tolerance in pairs)


def test_the_pages_conditionals_are_those_of_the_library():
    source = display.joined("conditional_digits")
    assert agree(run(source))
    for right, mutant in {
        "if (x[d] >= 0) sum +=": "if (x[d] > 0) sum +=",  # paper is taken for nothing
        "x[side] >= 0 ? sum + Math.log(labels[k][x[side]]) : sum": "sum",  # the digit is ignored
        "known >= 0 ? Number(v === known)": "false ? 0",  # what is given is guessed again
        "pick(posterior, random())": "pick(table.weights, random())",  # a draw that does not condition
    }.items():
        assert right in source
        assert not agree(run(source.replace(right, mutant))), mutant


@pytest.fixture(scope="module")
def page(playing):
    state = {"x": PARAMS["start"]}
    return playing("conditional_digits", PARAMS, state, "A digit")


def said(page, text):
    page.wait_for_function("(t) => document.querySelector('[role=status]').textContent.includes(t)", arg=text)


def words(x):
    count, label = sum(v >= 0 for v in x[:-1]), x[-1]
    p = MODEL.marginals(torch.tensor([x]))[0, -1]
    nats = f"{MODEL.log_prob(torch.tensor([x])).item():.1f}".replace("-", "−")
    belief = f"; most probably a {int(p.argmax())} ({100 * p.max():.0f} %)" if label < 0 else ""
    told = f" and the digit {label}" if label >= 0 else ""
    return f"Given {count} of {SIDE**2} pixels{told}: log-probability {nats} nats{belief}."


def test_brush_keys_and_lists(page):
    x = list(PARAMS["start"])
    said(page, words(x))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = page.locator(".plane canvas").bounding_box()
    cell = box["width"] / SIDE
    page.mouse.move(box["x"] + 0.5 * cell, box["y"] + 2.5 * cell)  # a stroke along the third row
    page.mouse.down()
    for column in range(3):
        page.mouse.move(box["x"] + (column + 0.5) * cell, box["y"] + 2.5 * cell)
    page.mouse.up()
    x[8:11] = [LEVELS - 1] * 3
    said(page, words(x))
    page.keyboard.press("ArrowRight")  # moves, without paint
    page.keyboard.press("ArrowUp")
    said(page, words(x))
    page.wait_for_selector('.plane input[aria-valuetext*="row 2, column 4"]', state="attached")
    page.locator("select").first.select_option("0")
    page.locator(".plane input").first.focus()
    page.keyboard.press("Enter")
    x[7] = 0
    said(page, words(x))
    page.locator("select").nth(1).select_option("3")
    x[-1] = 3
    said(page, words(x))
    page.get_by_role("button", name="Forget all").click()
    said(page, words([-1] * (SIDE**2 + 1)))
    page.get_by_role("button", name="Draw again").click()
    page.get_by_role("button", name="Reset").click()
    said(page, words(PARAMS["start"]))
    small = page.eval_on_selector_all("button, select", "els => els.filter((e) => e.offsetHeight < 24).length")
    assert small == 0
