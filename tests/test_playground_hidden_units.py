"""The hidden units' playground: its gradient, its steps and its regions against torch and scipy; keys and pointer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from one_playground import FRAMES, with_module
from scipy.optimize import linprog

from helpers.playground import display

G = torch.Generator().manual_seed(3)
UNITS, RANGE = 5, 2.0
POINTS = torch.randn(30, 2, dtype=torch.float64, generator=G)
LABELS = (POINTS[:, 0] * POINTS[:, 1] < 0).long()
START = [[*p, int(c)] for p, c in zip(POINTS.tolist(), LABELS, strict=True)]
SCRIPT = """
const net = begin(START, UNITS, 5);
const copy = (x) => JSON.parse(JSON.stringify(x));
const seen = { first: copy(net), gradient: gradients(net, START), score: score(net, START) };
seen.regions = regions(net, RANGE);
const memory = {};
for (let i = 0; i < 30; i++) adam(net, START, memory, 0.03);
seen.last = copy(net);
const moved = copy(net);
moveLine(moved, 2, [-0.7, 0.4]);
seen.moved = { net: moved, foot: foot(moved, 2) };
console.log(JSON.stringify(seen));
"""


def run(source):
    given = f"const START = {START}; const UNITS = {UNITS}; const RANGE = {RANGE};"
    return with_module(source, given + SCRIPT)


def tensors(net):
    return [torch.tensor(net[name], dtype=torch.float64, requires_grad=True) for name in "wbvc"]


def loss_of(w, b, v, c):
    logits = torch.relu(POINTS @ w.T + b) @ v + c
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, LABELS.double()), logits


def patterns(net):
    """How many patterns of on and off occur in the open square: a linear programme for each."""
    w, b = np.array(net["w"]), np.array(net["b"])
    count = 0
    for signs in itertools.product([-1, 1], repeat=len(b)):
        s = np.array(signs)
        left = np.column_stack([-s[:, None] * w, np.ones(len(b))])  # s (w x + b) ≥ t
        box = [(-RANGE, RANGE)] * 2 + [(None, 1)]
        count += linprog([0, 0, -1], left, s * b, bounds=box).x[2] > 1e-9
    return count


def differences(seen):
    """What the page and the references compute differently, by name."""
    wrong = set()

    def compare(name, got, wanted):
        if not np.allclose(got, wanted, rtol=1e-9, atol=1e-11):
            wrong.add(name)

    parameters = tensors(seen["first"])
    loss, logits = loss_of(*parameters)
    compare("loss", seen["score"]["loss"], loss.item())
    compare("errors", seen["score"]["wrong"], int(((logits > 0) != (LABELS > 0)).sum()))
    w, b, v, c = torch.autograd.grad(loss, parameters)
    compare("gradient", seen["gradient"], [*torch.column_stack([w, b, v]).flatten().tolist(), c.item()])
    compare("regions", seen["regions"], patterns(seen["first"]))
    optimizer = torch.optim.Adam(parameters, lr=0.03)
    for _ in range(30):
        optimizer.zero_grad()
        loss_of(*parameters)[0].backward()
        optimizer.step()
    for name, parameter in zip("wbvc", parameters, strict=True):
        compare("steps", seen["last"][name], parameter.detach().numpy())
    moved = seen["moved"]["net"]
    compare("moved", np.dot(moved["w"][2], [-0.7, 0.4]) + moved["b"][2], 0)
    compare("foot", seen["moved"]["foot"], [-0.7, 0.4])
    compare("steepness", np.hypot(*moved["w"][2]), np.hypot(*seen["last"]["w"][2]))
    return wrong


def test_gradient_steps_and_regions_are_the_references():
    seen = run(display.joined("hidden_units"))
    assert differences(seen) == set()
    assert 6 < seen["regions"] < 2**UNITS  # neither all nor nothing


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ("if (a <= 0) continue;", "", "gradient"),  # the derivative of the activation left out
        ("const delta1 = delta2 * net.v[j];", "const delta1 = delta2;", "gradient"),  # not sent back through W2
        ("/ (1 - 0.9 ** memory.t)", "", "steps"),  # Adam without its correction of the start
        ("count += Math.abs(x) < range && Math.abs(y) < range;", "count += 1;", "regions"),  # crossings outside
        ("softplus(t ? -a : a)", "softplus(t ? a : -a)", "loss"),  # classes exchanged
        ("(sign * steep * x) / far", "(sign * x) / far", "steepness"),  # the line's steepness lost
    ],
)
def test_mutants_are_found(right, wrong, found):
    text = display.joined("hidden_units")
    assert text.count(right) == 1
    assert found in differences(run(text.replace(right, wrong)))


@pytest.fixture(scope="module")
def page(playing):
    other = [[-x, y, c] for x, y, c in START]
    params = {"sets": {"xor": START, "other": other}, "names": {"xor": "Corners"}, "range": RANGE}
    state = {"units": 4, "data": "xor"}
    return playing("hidden_units", params, state, "Points and lines.")


def said(page, pattern):
    page.wait_for_function("(p) => new RegExp(p).test(document.querySelector('.readout').textContent)", arg=pattern)
    return page.inner_text(".readout")


def now(page):
    return page.evaluate("() => document.querySelector('.book-playground').playground.now()")


def press(page, name):
    page.get_by_role("button", name=name).click()


def test_training_lowers_the_loss_and_pauses(page):
    press(page, "Reset")
    before = now(page)
    text = said(page, "^0 steps")
    loss = loss_of(*tensors(before["net"]))[0].item()
    assert f"{loss:.3f} nats" in text and f"{patterns(before['net'])} regions" in text
    press(page, "Train")
    page.wait_for_function("() => document.querySelector('.book-playground').playground.now().steps >= 60")
    press(page, "Pause")
    said(page, r"^[1-9]\d+ steps")
    after = now(page)
    assert not after["running"] and loss_of(*tensors(after["net"]))[0].item() < 0.9 * loss
    page.evaluate(FRAMES)
    assert now(page)["steps"] == after["steps"]
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


def test_keys_choose_and_move_a_line(page):
    press(page, "Reset")
    page.focus(".plane input")
    page.keyboard.press("PageDown")
    said(page, "Line 2 is")
    net = now(page)["net"]
    w, b = np.array(net["w"][1]), net["b"][1]
    at = np.clip(-b * w / (w @ w), -RANGE, RANGE) + [0.0, 0.5]
    page.keyboard.press("Shift+ArrowUp")
    page.evaluate(FRAMES)
    moved = now(page)["net"]
    assert np.dot(moved["w"][1], np.clip(at, -RANGE, RANGE)) + moved["b"][1] == pytest.approx(0, abs=1e-9)
    assert moved["w"][0] == net["w"][0] and moved["w"][1] != net["w"][1]  # that line alone


def test_a_drag_carries_the_line(page):
    press(page, "Reset")
    page.evaluate(FRAMES)
    box = page.locator(".plane canvas").bounding_box()

    def at(x, y):
        return box["x"] + (x / RANGE + 1) / 2 * box["width"], box["y"] + (1 - y / RANGE) / 2 * box["height"]

    net = now(page)["net"]
    page.mouse.move(*at(*(-net["b"][0] * np.array(net["w"][0]) / np.dot(net["w"][0], net["w"][0]))))
    page.mouse.down()
    chosen = now(page)["chosen"]
    page.mouse.move(*at(-1.5, 1.0), steps=4)
    page.mouse.up()
    moved = now(page)["net"]
    w, b = np.array(moved["w"][chosen]), moved["b"][chosen]
    assert -b * w / (w @ w) == pytest.approx([-1.5, 1.0], abs=0.05)
    assert f"Line {chosen + 1} is nearest to the middle at (−1.5, 1.0)" in said(page, f"Line {chosen + 1}")


def test_units_data_and_new_starts(page):
    press(page, "Reset")
    first = now(page)["net"]
    page.get_by_role("slider", name="Hidden units", exact=True).fill("7")
    page.evaluate(FRAMES)
    assert len(now(page)["net"]["v"]) == 7
    page.get_by_role("combobox", name="Data").select_option("other")
    page.evaluate(FRAMES)
    assert now(page)["points"][0][0] == -START[0][0]
    press(page, "Reset")
    assert now(page)["net"] == first
    press(page, "New start")
    assert now(page)["net"] != first
    press(page, "Reset")
