"""The playgrounds five_ways and noise_to_data: their numbers are Python's, and they answer to every reader."""

import json
import math
import re

import numpy as np
import pytest
import torch
from one_playground import page_of, png_bytes
from scipy.integrate import solve_ivp

from helpers import data
from helpers.models.gaussian_mixture import GaussianMixture, Moments, add_ridge
from helpers.playground import display

TRAIN = data.toys("moons", n=60).train.x.double()
NAMES = "Copies Histogram Mixture Neural Noise heun randomFrom velocity"


def script(module, *changes):
    """The module's script as an object of its names; ``changes`` are pairs (right, wrong) that make a mutant."""
    text = display.joined(module)
    for right, wrong in changes:
        assert text.count(right) == 1, f"{text.count(right)} places say {right!r}"
        text = text.replace(right, wrong)
    there = [name for name in NAMES.split() if re.search(rf"^(class|function|const) {name}\b", text, re.M)]
    text = text.replace("export default ", "const unused = ")
    return f"const M = (() => {{ {text}; return {{ {', '.join(there)} }}; }})();"


@pytest.fixture
def compute(browser):
    """``compute(script, code, **values)``: what the code returns, the values at hand as ``v``."""
    page = browser.new_page()

    def run(definitions, code, **values):
        return page.evaluate(f"(v) => {{ {definitions} {code} }}", json.loads(json.dumps(values)))

    yield run
    page.close()


# ---- five ways ----


def em_step(compute, *changes):
    """Log-densities after one step of EM, in the page and by helpers, from one start."""
    k, ridge = 3, 0.01
    means = TRAIN[:k]
    covariances = torch.tensor([[0.5, 0.1, 0.4], [0.3, -0.1, 0.6], [0.8, 0.0, 0.2]], dtype=torch.float64)
    full = covariances[:, [0, 1, 1, 2]].reshape(k, 2, 2)
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    model = GaussianMixture(2, components=k, ridge=0.0)
    moments, objective = model._e_step(TRAIN, Moments(weights, means, full), 0.0)
    model.weights, model.means, model.covariances = add_ridge(moments, ridge, "full")
    code = """const m = new M.Mixture(v.train, 3, M.randomFrom(1));
        Object.assign(m, { means: v.means, covariances: v.covariances, weights: v.weights, ridge: v.ridge });
        m.step();
        return [m.last, v.train.map((p) => m.logDensity(...p))];"""
    start = {"means": means.tolist(), "covariances": covariances.tolist(), "weights": weights.tolist(), "ridge": ridge}
    last, got = compute(script("five_ways", *changes), code, train=TRAIN.tolist(), **start)
    return np.array([last, *got]), np.array([objective, *model.log_prob(TRAIN).tolist()])


def test_mixture_makes_the_step_of_em(compute):
    got, wanted = em_step(compute)
    assert np.allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_a_step_without_the_mean_squared_is_found(compute):
    got, wanted = em_step(compute, ("xx / r - (x / r) ** 2 + extra", "xx / r + extra"))
    assert not np.allclose(got, wanted, rtol=1e-3)


def neural(compute, *changes):
    """(log-densities, gradient) in the page and by torch, at random parameters."""
    units, k = 5, 6
    theta = torch.randn(18 + 2 * units + 18 * units + 18, generator=torch.Generator().manual_seed(0)).double() * 0.5
    code = """const m = new M.Neural(v.train, v.units, M.randomFrom(1));
        m.theta.set(v.theta);
        return [v.train.map((p) => m.logDensity(...p)), [...m.gradient()]];"""
    got = compute(script("five_ways", *changes), code, train=TRAIN.tolist(), theta=theta.tolist(), units=units)
    theta.requires_grad_()

    def mixture(p):
        logits, centre, width = p.split(k, -1)
        return torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(logits=logits), torch.distributions.Normal(centre, 0.03 + width.exp())
        )

    first, w, b, v, c = theta.split([18, units, units, 18 * units, 18])
    second = torch.tanh(TRAIN[:, :1] * w + b) @ v.view(18, units).T + c
    log_prob = mixture(first).log_prob(TRAIN[:, 0]) + mixture(second).log_prob(TRAIN[:, 1])
    (gradient,) = torch.autograd.grad(-log_prob.mean(), theta)
    return [np.array(x) for x in got], [log_prob.detach().numpy(), gradient.numpy()]


def test_network_has_the_density_and_gradient_of_autograd(compute):
    for got, wanted in zip(*neural(compute), strict=True):
        assert np.allclose(got, wanted, rtol=1e-8, atol=1e-8)


def test_a_gradient_that_forgets_the_slope_of_tanh_is_found(compute):
    got, wanted = neural(compute, ("back *= 1 - hidden[j] ** 2;", ""))
    assert np.allclose(got[0], wanted[0]) and not np.allclose(got[1], wanted[1], rtol=1e-3)


def test_histogram_has_the_masses_of_numpy(compute):
    got = compute(script("five_ways"), "return new M.Histogram(v.train, 7).mass;", train=TRAIN.tolist())
    count = np.histogram2d(*TRAIN.T.numpy(), bins=7, range=[[-3, 3]] * 2)[0]
    assert np.allclose(np.reshape(got, (7, 7)), (count + 0.1) / (count + 0.1).sum())


@pytest.mark.parametrize("name, size", [("Noise", 0), ("Histogram", 9), ("Mixture", 4), ("Neural", 8)])
def test_density_integrates_to_one_and_samples_follow_it(compute, name, size):
    code = """const m = new M[v.name](v.train, v.size, M.randomFrom(1));
        for (let k = 0; k < 60 && m.step(); k++);
        const [random, cells, out] = [M.randomFrom(2), 400, []];
        let [mass, mean, drawn] = [0, 0, 0];
        const place = (i) => (v.edge * (2 * i + 1)) / cells - v.edge;
        for (let i = 0; i < cells; i++) for (let j = 0; j < cells; j++) {
          const p = Math.exp(m.logDensity(place(i), place(j))) * ((2 * v.edge) / cells) ** 2;
          [mass, mean] = [mass + p, mean + p * place(i) * place(j)];
        }
        for (let n = 0; n < 20000; n++) { const [x, y] = m.sample(random); drawn += (x * y) / 20000; }
        return [mass, mean, drawn];"""
    edge = 3 if name in ("Noise", "Histogram") else 6
    mass, mean, drawn = compute(script("five_ways"), code, name=name, size=size, train=TRAIN.tolist(), edge=edge)
    assert mass == pytest.approx(1, abs=0.01)
    assert drawn == pytest.approx(mean, abs=0.12)  # 20,000 draws of a number whose deviation is at most 3: 5 sd


# ---- noise to data ----


def flow(compute, *changes):
    """Velocities and log-densities in the page, and by automatic differentiation of the density's flow."""
    points = TRAIN[:20]
    places = torch.randn(8, 2, generator=torch.Generator().manual_seed(1)).double()
    times, width = torch.linspace(0, 0.95, 8).double(), 0.1
    code = "return v.places.map((p, i) => M.velocity(v.points, v.width, ...p, v.times[i]));"
    values = {"points": points.tolist(), "places": places.tolist(), "times": times.tolist(), "width": width}
    got = compute(script("noise_to_data", *changes), code, **values)
    wanted = []
    for (x, y), t in zip(places, times, strict=True):
        # E[data + width·η − noise | x_t], each component's joint normal distribution of difference and place
        variance = (1 - t) ** 2 + (t * width) ** 2
        away = torch.stack([x, y]) - t * points
        log = -(away**2).sum(1) / (2 * variance)
        covariance = t * width**2 - (1 - t)
        each = points + covariance / variance * away
        density = log.logsumexp(0) - math.log(len(points)) - torch.log(2 * math.pi * variance)
        wanted.append([*(log.softmax(0)[:, None] * each).sum(0).tolist(), density.item()])
    return np.array(got), np.array(wanted)


def test_velocity_is_the_conditional_mean(compute):
    got, wanted = flow(compute)
    assert np.allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_a_velocity_with_the_root_of_the_variance_is_found(compute):
    got, wanted = flow(
        compute, ("t * width * width - (1 - t)) / variance", "t * width * width - (1 - t)) / Math.sqrt(variance)")
    )
    assert not np.allclose(got, wanted, rtol=1e-2)


def test_grains_end_where_a_better_solver_takes_them(compute):
    points, width = TRAIN[:20].numpy(), 0.1
    starts = np.random.default_rng(0).standard_normal((6, 2))
    code = """const times = Array.from({ length: 65 }, (_, k) => 1 - (1 - k / 64) ** 1.6);
        const step = (p, k) => M.heun(v.points, v.width, p, times[k], times[k + 1]);
        return v.starts.map((start) => times.slice(0, 64).reduce((p, _, k) => step(p, k), start));"""
    got = compute(script("noise_to_data"), code, points=points.tolist(), starts=starts.tolist(), width=width)

    def velocity(t, x):
        variance = (1 - t) ** 2 + (t * width) ** 2
        log = -((x - t * points) ** 2).sum(1) / (2 * variance)
        r = np.exp(log - log.max())
        return (r[:, None] * (points + (t * width**2 - (1 - t)) / variance * (x - t * points))).sum(0) / r.sum()

    for start, end in zip(starts, got, strict=True):
        assert np.allclose(solve_ivp(velocity, (0, 1), start, rtol=1e-9, atol=1e-9).y[:, -1], end, atol=0.02)


# ---- in the page ----

SETS = {"moons": {"train": TRAIN.tolist(), "held": TRAIN.tolist(), "entropy": 1.3}}
STATES = {
    "five_ways": ({"sets": SETS}, {"data": "moons", "way": "mixture", "size": 3, "points": []}),
    "noise_to_data": (
        {"shapes": {"moons": TRAIN.tolist()}, "width": 0.1, "grains": [[0.5, -1.0], [1.0, 0.2]]},
        {"shape": "moons", "t": 0.5, "place": [0.5, 0.5]},
    ),
}


@pytest.fixture
def opened(browser, tmp_path):
    pages, faults = [], []

    def open_(module, width=800):
        params, state = STATES[module]
        bundle = display.make_bundle(module, {}, params, state, png_bytes(), "A cloud of points")
        (tmp_path / "page.html").write_text(page_of(display.standalone_html(bundle)), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, reduced_motion="reduce")
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.goto((tmp_path / "page.html").as_uri())
        page.wait_for_selector(".readout:not(:empty)", timeout=60_000)
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.close()
    assert faults == []


@pytest.mark.parametrize("module", STATES)
def test_arrow_keys_move_and_the_page_fits_a_telephone(opened, module):
    page = opened(module, width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    across = page.locator(".plane input").first
    across.focus()
    before = across.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowUp")
    page.wait_for_function(
        "([el, old]) => el.getAttribute('aria-valuetext') !== old", arg=[across.element_handle(), before]
    )


def test_a_drawing_is_learnt_and_reset_forgets_it(opened):
    page = opened("five_ways")
    now = "document.querySelector('.book-playground').playground.now()"
    page.get_by_role("button", name="Clear, to draw").click()
    page.wait_for_function(f"{now}.train.length === 0")
    page.locator(".plane input").first.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
    page.wait_for_function(f"{now}.train.length === 12 && {now}.held.length === 4 && {now}.fitted")
    page.get_by_role("button", name="Reset").click()
    page.wait_for_function(f"{now}.train.length === {len(TRAIN)}")


def test_the_grain_keeps_its_path_when_time_moves(opened):
    page = opened("noise_to_data")
    ends = "[0, -1].flatMap((k) => document.querySelector('.book-playground').playground.own().at(k))"
    before = page.evaluate(ends)
    time = page.locator("label input[type=range]")
    time.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('output').textContent.startsWith('0.53')")
    assert np.allclose(page.evaluate(ends), before)
