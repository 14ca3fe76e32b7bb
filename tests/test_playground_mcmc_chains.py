"""The chains that run in the page, on a drawn density: ink, score, samplers, diagnostics, with mutants; a browser."""

from __future__ import annotations

import json
import re

import pytest
import torch
from one_playground import with_module

from helpers.inference import monte_carlo
from helpers.playground import display

SOURCE = display.joined("mcmc_chains")
WIDTH = 0.6
SAMPLERS = {"walk": 1.0, "gibbs": 1.0, "mala": 0.6, "hmc": 0.35}

# A line and a dot. 1,500 independent chains of 40 steps: only their last points are judged.
SCRIPT = """
const strokes = [lengthened([[-1, 0.5]], [0.8, -0.6], 99), [[0.2, 1.1]]];
const density = { grains: strokes.flat(), width: %s };
const out = { strokes, short: lengthened([[0, 0]], [3, 4], 3), ends: {}, numbers: {} };
for (const [sampler, step] of Object.entries(%s)) {
  const random = randomness(7);
  out.ends[sampler] = Array.from({ length: 1500 }, () => {
    let x = [2, -2];
    for (let i = 0; i < 40; i++) x = advance(sampler, x, density, step, random).x;
    return x;
  });
}
const random = randomness(3);
const chains = [0, 1, 2].map(() => {
  let x = [0, 0];
  return Array.from({ length: 120 }, () => (x = advance("walk", x, density, 0.7, random).x)[0]);
});
out.numbers = { chains, ess: effectiveSize(chains), rHat: rHat(chains), at: mixture([0.3, -0.4], density) };
out.numbers.shares = shareOfPoints([[0.3, -0.4], [-1, 1], [2, -2]], strokes, density.width);
console.log(JSON.stringify(out));
"""


def run(source=SOURCE):
    return with_module(source, SCRIPT % (WIDTH, json.dumps(SAMPLERS)))


@pytest.fixture(scope="module")
def answers():
    return run()


def of_grains(x, grains):
    """log N(x; grain, width²) of each point and grain, (G, N)."""
    normal = torch.distributions.Normal
    return torch.stack([normal(torch.tensor(m, dtype=x.dtype), WIDTH).log_prob(x).sum(-1) for m in grains])


def worst(answers, sampler):
    """Distance of the moments of the last points from the mixture's, in standard errors."""
    x = torch.tensor(answers["ends"][sampler], dtype=torch.float64)
    m = torch.tensor(sum(answers["strokes"], []), dtype=torch.float64)
    wanted = torch.cat([m.mean(0), (m**2).mean(0) + WIDTH**2, m.prod(1).mean()[None]])
    f = torch.cat([x, x**2, x.prod(1, keepdim=True)], 1)
    return ((f.mean(0) - wanted).abs() / (f.std(0) / len(f) ** 0.5)).max().item()


def ink_is_even(answers):
    """The line's grains lie 0.4 apart on the straight line; the one that had room for three ends after three."""
    line, (dot,) = answers["strokes"]
    direction = torch.tensor([1.8, -1.1], dtype=torch.float64)
    where = torch.arange(6, dtype=torch.float64)[:, None] * 0.4 * direction / direction.norm()
    wanted = torch.tensor([-1.0, 0.5], dtype=torch.float64) + where  # 2.11 long: five steps of 0.4
    short = torch.arange(4, dtype=torch.float64)[:, None] * torch.tensor([0.24, 0.32], dtype=torch.float64)
    return all(
        len(found) == len(right) and torch.allclose(torch.tensor(found, dtype=torch.float64), right, atol=1e-12)
        for found, right in [(line, wanted), (answers["short"], short), ([dot], torch.tensor([[0.2, 1.1]]).double())]
    )


def test_ink_is_even(answers):
    assert ink_is_even(answers)
    for old, new in [("(SPACING / far)", "1"), ("stroke.length + room", "stroke.length + 99")]:
        assert SOURCE.count(old) == 1
        assert not ink_is_even(run(SOURCE.replace(old, new)))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_reaches_the_density(answers, sampler):
    assert worst(answers, sampler) < 4


@pytest.mark.parametrize(
    ("sampler", "old", "new"),
    [
        ("walk", "const chance = Math.exp(Math.min(0, logRatio)) || 0;", "const chance = 1;"),
        ("gibbs", "grains[k][i] + width * normal()", "grains[k][i] + width * width * normal()"),
        ("mala", "there.log - here.log + correction", "there.log - here.log - correction"),
        ("hmc", "y = y.map((v, j) => v + step * p[j]);", "y = y.map((v, j) => v - step * p[j]);"),
    ],
)
def test_mutants_of_samplers_are_found(sampler, old, new):
    assert SOURCE.count(old) == 1
    assert worst(run(SOURCE.replace(old, new)), sampler) > 4


def test_density_score_and_diagnostics_are_pythons(answers):
    numbers, strokes = answers["numbers"], answers["strokes"]
    grains = sum(strokes, [])

    def log_density(x):
        return of_grains(x, grains).logsumexp(0) - torch.tensor(float(len(grains)), dtype=x.dtype).log()

    x = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    assert numbers["at"]["log"] == pytest.approx(log_density(x).item(), rel=1e-9)
    assert numbers["at"]["score"] == pytest.approx(monte_carlo.score_of(log_density)(x)[0].tolist(), rel=1e-9)
    chains = torch.tensor(numbers["chains"], dtype=torch.float64).T
    assert numbers["ess"] == pytest.approx(monte_carlo.effective_sample_size(chains).item(), rel=1e-9)
    assert numbers["rHat"] == pytest.approx(monte_carlo.r_hat(chains).item(), rel=1e-9)
    once = run(SOURCE.replace("length += 2 * least", "length += least"))["numbers"]
    assert once["ess"] != pytest.approx(numbers["ess"], rel=0.01)


def test_strokes_get_the_share_of_their_posterior_weight(answers):
    points = torch.tensor([[0.3, -0.4], [-1, 1], [2, -2]], dtype=torch.float64)
    line, dot = answers["strokes"]
    weight = of_grains(points, line + dot).softmax(0).mean(1)
    wanted = pytest.approx([weight[: len(line)].sum().item(), weight[len(line) :].sum().item()], rel=1e-9)
    assert answers["numbers"]["shares"] == wanted
    old = "sums[owner[j]] += w"
    assert SOURCE.count(old) == 1
    assert run(SOURCE.replace(old, "sums[owner[j]] += w * w"))["numbers"]["shares"] != wanted


def test_a_density_is_drawn_by_pointer_and_by_keys(playing):
    state = {"strokes": [[[-1.0, 0.5]], [[0.8, -0.6]]], "width": 0.6, "sampler": "walk", "step": 0.5}
    page = playing("mcmc_chains", {"steps": 60}, state, "Four chains on two bumps", height=1000)

    def strokes():
        return page.evaluate("document.querySelector('.book-playground').playground.strokes()")

    def said(start):
        page.wait_for_function("(start) => document.querySelector('.readout').textContent.startsWith(start)", arg=start)

    def press(name):
        page.get_by_role("button", name=name).click()

    said("60 steps; mean acceptance")
    press("Clear")
    said("An empty plane has no density")
    page.locator(".plane").scroll_into_view_if_needed()
    box = page.locator(".plane canvas").bounding_box()

    def at(x, y):  # plane units to pixels
        return box["x"] + (x + 4) / 8 * box["width"], box["y"] + (4 - y) / 8 * box["height"]

    def drag(*places):
        page.mouse.move(*at(*places[0]))
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*at(*place), steps=8)
        page.mouse.up()

    drag((-2, 2), (0, 2), (0, 0))
    (corner,) = strokes()
    assert len(corner) in (10, 11)  # 4 long, less what the corner cuts
    steps = torch.tensor(corner).diff(dim=0).norm(dim=1)
    assert torch.allclose(steps, torch.full_like(steps, 0.4), atol=1e-4)
    said("60 steps; mean acceptance")
    drag(tuple(corner[len(corner) // 2]), (1, -1))  # its number
    assert len(strokes()) == 1 and len(strokes()[0]) == len(corner)
    assert torch.tensor(strokes()[0][len(corner) // 2]).tolist() == pytest.approx([1, -1], abs=0.05)

    page.locator(".plane input").first.focus()
    for key in ["Shift+ArrowLeft", "Shift+ArrowLeft", "Enter", "Shift+ArrowLeft", "ArrowDown", "Enter", "ArrowUp"]:
        page.keyboard.press(key)
    assert len(strokes()) == 2 and len(strokes()[1]) == 3  # from −1 to −1.8; 0.2 down is less than a step
    page.keyboard.press("Shift+ArrowRight")
    assert len(strokes()[1]) == 3  # the pen is lifted
    page.wait_for_function("() => /^60 steps.* 2: /.test(document.querySelector('.readout').textContent)")
    text = page.text_content(".readout")
    ink = [len(stroke) / sum(map(len, strokes())) for stroke in strokes()]
    assert [int(found) for found in re.findall(r"\((\d+) %\)", text)] == [round(100 * share) for share in ink]

    press("Erase last")
    assert len(strokes()) == 1
    page.select_option("select", "gibbs")
    said("60 steps; mean acceptance 100 %")
    for x in torch.linspace(-3.5, 3.5, 9).tolist():
        drag((x, -3))
    page.wait_for_function("() => /The pen is dry/.test(document.querySelector('.readout').textContent)")
    assert len(strokes()) == 9
    press("Reset")
    page.wait_for_function("() => document.querySelector('select').value === 'walk'")
    assert strokes() == state["strokes"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
