"""The chains that run in the page: score, samplers and diagnostics against Python, with mutants; keys in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from one_playground import playing

from helpers import playground
from helpers.inference import monte_carlo

SOURCE = (Path(playground.__file__).parent / "mcmc_chains.js").read_text(encoding="utf-8")
BUMPS = [[-1.0, 0.5], [0.8, -0.6], [0.2, 1.1]]
SD = 0.6
SAMPLERS = {"walk": 1.0, "gibbs": 1.0, "mala": 0.6, "hmc": 0.35}

# 1,500 independent chains of 40 steps: only their last points are judged.
SCRIPT = """
const bumps = %s;
const out = { ends: {}, numbers: {} };
for (const [sampler, step] of Object.entries(%s)) {
  const random = randomness(7);
  out.ends[sampler] = Array.from({ length: 1500 }, () => {
    let x = [2, -2];
    for (let i = 0; i < 40; i++) x = advance(sampler, x, bumps, step, random).x;
    return x;
  });
}
const random = randomness(3);
const chains = [0, 1, 2].map(() => {
  let x = [0, 0];
  return Array.from({ length: 120 }, () => (x = advance("walk", x, bumps, 0.7, random).x)[0]);
});
out.numbers = { chains, ess: effectiveSize(chains), rHat: rHat(chains), at: mixture([0.3, -0.4], bumps) };
console.log(JSON.stringify(out));
"""


def run(source=SOURCE):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is missing")
    plain = re.sub(r"^import .*?;\n|^export default .*", "", source, flags=re.M)
    plain = re.sub(r"^export ", "", plain, flags=re.M)
    text = plain + SCRIPT % (json.dumps(BUMPS), json.dumps(SAMPLERS))
    return json.loads(subprocess.run([node, "-e", text], capture_output=True, text=True, check=True).stdout)


@pytest.fixture(scope="module")
def answers():
    return run()


def log_density(x):
    normal = torch.distributions.Normal
    each = torch.stack([normal(torch.tensor(m, dtype=x.dtype), SD).log_prob(x).sum(-1) for m in BUMPS])
    return each.logsumexp(0) - torch.log(torch.tensor(3.0, dtype=x.dtype))


def worst(ends):
    """Distance of the moments from the mixture's, in standard errors."""
    x = torch.tensor(ends, dtype=torch.float64)
    m = torch.tensor(BUMPS, dtype=torch.float64)
    wanted = torch.cat([m.mean(0), (m**2).mean(0) + SD**2, m.prod(1).mean()[None]])
    f = torch.cat([x, x**2, x.prod(1, keepdim=True)], 1)
    return ((f.mean(0) - wanted).abs() / (f.std(0) / len(f) ** 0.5)).max().item()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_reaches_the_density(answers, sampler):
    assert worst(answers["ends"][sampler]) < 4


@pytest.mark.parametrize(
    ("sampler", "old", "new"),
    [
        ("walk", "const chance = Math.exp(Math.min(0, logRatio)) || 0;", "const chance = 1;"),
        ("gibbs", "bumps[k][i] + SD * normal()", "bumps[k][i] + SD * SD * normal()"),
        ("mala", "there.log - here.log + correction", "there.log - here.log - correction"),
        ("hmc", "y = y.map((v, j) => v + step * p[j]);", "y = y.map((v, j) => v - step * p[j]);"),
    ],
)
def test_mutants_of_samplers_are_found(sampler, old, new):
    assert SOURCE.count(old) == 1
    assert worst(run(SOURCE.replace(old, new))["ends"][sampler]) > 4


def test_density_score_and_diagnostics_are_pythons(answers):
    numbers = answers["numbers"]
    x = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    assert numbers["at"]["log"] == pytest.approx(log_density(x).item(), rel=1e-9)
    assert numbers["at"]["score"] == pytest.approx(monte_carlo.score_of(log_density)(x)[0].tolist(), rel=1e-9)
    chains = torch.tensor(numbers["chains"], dtype=torch.float64).T
    assert numbers["ess"] == pytest.approx(monte_carlo.effective_sample_size(chains).item(), rel=1e-9)
    assert numbers["rHat"] == pytest.approx(monte_carlo.r_hat(chains).item(), rel=1e-9)
    once = run(SOURCE.replace("length += 2 * least", "length += least"))["numbers"]
    assert once["ess"] != pytest.approx(numbers["ess"], rel=0.01)


def test_keys_move_a_bump_and_the_sampler_is_chosen():
    state = {"bumps": BUMPS, "sampler": "walk", "step": 0.5}
    with playing("mcmc_chains", {"steps": 60}, state, "Four chains on three bumps", height=800) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Bump 1, arrow keys move it"
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Shift+ArrowUp")
        said = "() => document.querySelector('.readout').textContent"
        page.wait_for_function(
            "() => document.querySelector('.book-playground').playground.chains().every((c) => c.length === 61)"
        )
        page.wait_for_timeout(400)  # the line is said with a pause
        assert page.evaluate(said).startswith("60 steps; mean acceptance")
        before = page.evaluate(said)
        page.select_option("select", "gibbs")
        page.wait_for_function(
            "(before) => { const t = document.querySelector('.readout').textContent; "
            "return t !== before && t.startsWith('60 steps; mean acceptance 100 %'); }",
            arg=before,
        )
        assert page.get_by_role("img").first.get_attribute("aria-label").startswith("Four chains of Gibbs on 3 bumps")
        page.get_by_role("button", name="Reset").click()
        page.wait_for_function("() => document.querySelector('select').value === 'walk'")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
