"""The race that runs in the page: slopes against torch.autograd, steps against torch.optim, with mutants; keys."""

from __future__ import annotations

import json

import pytest
import scipy.optimize
import torch
from one_playground import with_module

from helpers.playground import display

SOURCE = display.joined("optimisers")
START, RATE, BETA, STEPS = [-2.1, 1.3], 0.03, 0.8, 40
POINTS = [[0.3, -0.7], [-1.9, 2.2], [2.5, 0.4]]

SCRIPT = """
const out = { slopes: {}, values: {}, lowest: {}, paths: {} };
for (const surface of Object.keys(SURFACES)) {
  const { value, slope, lowest } = SURFACES[surface];
  const points = %s;
  out.values[surface] = points.map((p) => value(...p));
  out.slopes[surface] = points.map((p) => slope(...p));
  out.lowest[surface] = lowest;
  out.paths[surface] = {};
  for (const racer of Object.keys(RACERS)) out.paths[surface][racer] = race(racer, surface, %s, %s, %s, %s);
}
console.log(JSON.stringify(out));
"""

SURFACES = {
    "valley": lambda x, y: 0.5 * (x**2 + 20 * y**2),
    "banana": lambda x, y: 0.5 * (1 - x) ** 2 + 5 * (y - 0.5 * x**2) ** 2,
    "saddle": lambda x, y: x**4 / 16 - x**2 / 2 + 0.15 * x + y**2,
    "hole": lambda x, y: 1 - torch.exp(-0.5 * (x**2 + y**2) / 0.64),
}
RACERS = {
    "descent": lambda p: torch.optim.SGD(p, RATE),
    "momentum": lambda p: torch.optim.SGD(p, RATE, momentum=BETA),
    "rmsprop": lambda p: torch.optim.RMSprop(p, RATE),
    "adam": lambda p: torch.optim.Adam(p, RATE, betas=(BETA, 0.999)),
}


def run(source=SOURCE):
    return with_module(source, SCRIPT % (json.dumps(POINTS), json.dumps(START), RATE, BETA, STEPS))


@pytest.fixture(scope="module")
def answers():
    return run()


def path_of(racer, surface):
    x = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer, path = RACERS[racer]([x]), [x.tolist()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        SURFACES[surface](*x).backward()
        optimizer.step()
        path.append(x.tolist())
    return torch.tensor(path, dtype=torch.float64)


def apart(answers, racer, surface):
    return (torch.tensor(answers["paths"][surface][racer], dtype=torch.float64) - path_of(racer, surface)).abs().max()


@pytest.mark.parametrize("surface", SURFACES)
def test_values_and_slopes_are_torchs_and_the_lowest_is_lowest(answers, surface):
    x = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    value = SURFACES[surface](*x.T)
    value.sum().backward()
    assert answers["values"][surface] == pytest.approx(value.tolist(), rel=1e-12)
    assert torch.allclose(torch.tensor(answers["slopes"][surface], dtype=torch.float64), x.grad, rtol=1e-12)

    def plain(p):
        return SURFACES[surface](*torch.tensor(p, dtype=torch.float64)).item()

    found = min(scipy.optimize.minimize(plain, start, tol=1e-12).fun for start in ([-1.5, 0.3], [1.0, 0.4]))
    assert answers["lowest"][surface] == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("racer", RACERS)
def test_every_step_is_torchs(answers, racer, surface):
    assert apart(answers, racer, surface) < 1e-9


@pytest.mark.parametrize(
    ("racer", "old", "new"),
    [
        ("descent", "g.map((v) => rate * v) }", "g.map((v) => -rate * v) }"),
        ("momentum", "beta * (m.v?.[i] ?? 0) + v)", "beta * (m.v?.[i] ?? 0) + (1 - beta) * v)"),
        ("rmsprop", "(Math.sqrt(m.s[i]) + 1e-8)", "(m.s[i] + 1e-8)"),
        ("adam", "[1 - beta ** m.t, 1 - 0.999 ** m.t]", "[1, 1]"),
        ("adam", "(1 - beta) * v)", "v)"),
    ],
)
def test_mutants_are_found(racer, old, new):
    assert SOURCE.count(old) == 1
    assert apart(run(SOURCE.replace(old, new)), racer, "valley") > 1e-3


def test_keys_start_the_race_and_a_large_rate_flies_out(playing):
    state = {"surface": "valley", "rate": 0.04, "momentum": 0.8, "start": [-2.5, 1.5]}
    page = playing("optimisers", {"steps": 60}, state, "Four paths in a long valley", height=800)
    said = "document.querySelector('.readout').textContent"
    page.wait_for_function(f"() => {said}.startsWith('Step 60 from −2.50, 1.50')")
    assert "Adam is" in page.evaluate(said)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Start of the race")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    page.wait_for_function(f"() => {said}.startsWith('Step 60 from −2.60, 2.00')")
    both = "['ArrowLeft', 'ArrowUp'].forEach((key) => document.activeElement.dispatchEvent("
    page.evaluate(f"() => {both} new KeyboardEvent('keydown', {{ key, bubbles: true }})))")  # within one frame
    page.wait_for_function(f"() => {said}.startsWith('Step 60 from −2.70, 2.10')")
    rate = page.get_by_role("slider", name="Learning rate")
    rate.evaluate("(e) => { e.value = 0.15; e.dispatchEvent(new Event('input', { bubbles: true })); }")
    page.wait_for_function(f"() => {said}.startsWith('Step 60') && {said}.includes('Gradient descent has flown out')")
    page.select_option("select", "saddle")
    page.wait_for_function(f"() => {said}.startsWith('Step 60') && !{said}.includes('flown out')")
    box = page.locator(".plane canvas").bounding_box()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    page.wait_for_function(f"() => {said}.startsWith('Step 60 from 1.50, 0.00')")
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function(f"() => {said}.startsWith('Step 60 from −2.50, 1.50')")
    assert page.evaluate("document.querySelector('select').value") == "valley"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
