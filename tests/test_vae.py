"""The VAE against quadrature, enumeration, scipy and PPCA."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import logistic
from sklearn.decomposition import PCA

from helpers import data
from helpers.models.ppca import PPCA
from helpers.models.vae import VAE, draw, kl_to_standard_normal, log_mass_logistic, log_normal

EVERY = torch.tensor(list(itertools.product(range(3), repeat=2)), dtype=torch.uint8).view(-1, 1, 2)
GRID = torch.linspace(-9, 9, 2001)  # of a 1-D latent: the trapezium rule on it is exact to float precision


def tiny(latents: int = 1, scale: float = 4.0) -> VAE:
    """A VAE of 2-pixel, 3-level images whose decoder depends strongly on z, untrained."""
    torch.manual_seed(0)
    model = VAE((1, 2), 3, latents=latents, hidden=8, width=4, components=2, dropout=0.0).eval()
    with torch.no_grad():
        for p in model.decoder.parameters():
            if p.ndim == 2:
                p.mul_(scale)
    return model


def exact_log_prob(model: VAE, x: torch.Tensor) -> torch.Tensor:
    """log ∫ p(x|z) N(z; 0, 1) dz by quadrature over a 1-D latent."""
    with torch.no_grad():
        table = model.log_probabilities(GRID[:, None]).double()  # (G, 1, 2, levels)
    each = torch.stack([table[:, 0, 0, a] + table[:, 0, 1, b] for a, b in x.flatten(1).tolist()], 1)
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(GRID.double())[:, None]
    return torch.trapezoid((each + prior).exp(), GRID.double(), dim=0).log()


def draws(function, n: int, x: torch.Tensor = EVERY) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard error of ``n`` draws of ``function(x)``, (len(x),) each; all in one batch."""
    with torch.no_grad():
        values = function(x.repeat(n, *[1] * (x.ndim - 1))).view(n, len(x)).double()
    return values.mean(0), values.std(0) / math.sqrt(n)


# The pieces


def test_kl_in_closed_form_equals_torchs_and_quadrature():
    mu, log_sigma = torch.tensor([[0.7, -1.2], [0.0, 0.0]]), torch.tensor([[-0.5, 0.3], [0.0, 0.0]])
    q = torch.distributions.Normal(mu, log_sigma.exp())
    truth = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    got = kl_to_standard_normal(mu, log_sigma)
    torch.testing.assert_close(got, truth)
    grid = torch.linspace(-15, 15, 20001).double()[:, None, None]
    q, p = (torch.distributions.Normal(m, s) for m, s in [(mu.double(), log_sigma.double().exp()), (0.0, 1.0)])
    integrand = q.log_prob(grid).exp() * (q.log_prob(grid) - p.log_prob(grid))
    torch.testing.assert_close(got.double(), torch.trapezoid(integrand, grid, dim=0).sum(1), rtol=1e-5, atol=1e-6)
    mutants = {
        "sign flipped": -got,
        "½ missing": 2 * got,
        "log σ² written as log σ": 0.5 * (mu**2 + (2 * log_sigma).exp() - 1 - log_sigma).sum(1),
        "σ for σ²": 0.5 * (mu**2 + log_sigma.exp() - 1 - 2 * log_sigma).sum(1),
    }
    for name, value in mutants.items():
        assert not torch.allclose(value, truth, rtol=1e-3), name


def test_draw_has_the_posteriors_mean_and_deviation_and_passes_gradients():
    mu, log_sigma = torch.tensor([[1.5]]).requires_grad_(), torch.tensor([[-0.9]]).requires_grad_()
    n = 100_000
    z = draw(mu.expand(n, 1), log_sigma.expand(n, 1), torch.Generator().manual_seed(0))
    sigma = math.exp(-0.9)
    assert abs(z.mean().item() - 1.5) < 4 * sigma / math.sqrt(n)
    assert abs(z.std().item() - sigma) < 4 * sigma / math.sqrt(2 * n)
    assert abs(sigma**2 - sigma) > 40 * sigma / math.sqrt(2 * n)  # mutant σ² for σ is far outside
    z.square().mean().backward()  # d E[z²]: 2μ, and by log σ 2σ²
    assert abs(mu.grad.item() - 3) < 0.05 and abs(log_sigma.grad.item() - 2 * sigma**2) < 0.02


def test_log_normal_is_torchs():
    z, mu, log_sigma = torch.randn(3, 4, 2).unbind(0)
    torch.testing.assert_close(
        log_normal(z, mu, log_sigma), torch.distributions.Normal(mu, log_sigma.exp()).log_prob(z).sum(1)
    )
    torch.testing.assert_close(log_normal(z), torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1))


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_logistic_cells_have_the_mass_that_scipy_gives_and_sum_to_one(levels):
    half, x = 1 / (levels - 1), torch.linspace(-1, 1, levels, dtype=torch.float64)
    for mean, scale in [(0.1, 0.3), (-1.2, 0.05), (3.0, 1.0)]:
        got = log_mass_logistic(x, torch.tensor(mean).double(), torch.tensor(scale).double().log(), half)
        cdf = logistic(mean, scale).cdf
        edges = np.r_[-np.inf, (x[:-1] + half).numpy(), np.inf]
        np.testing.assert_allclose(got.exp(), np.diff(cdf(edges)), rtol=1e-6, atol=1e-13)
        assert abs(got.exp().sum() - 1) < 1e-9
        mutant = cdf((x + half).numpy()) - cdf((x - half).numpy())  # edge cells that end where they should not
        assert levels == 2 or abs(mutant.sum() - 1) > 1e-3


def test_tiny_masses_keep_their_logarithm_and_gradient():
    mean = torch.tensor([-40.0, 40.0], requires_grad=True)
    got = log_mass_logistic(torch.zeros(2), mean, torch.log(torch.tensor(0.05)), 1 / 16)
    assert torch.isfinite(got).all() and (got < -700).all()  # cdf differences would say log 0
    got.sum().backward()
    torch.testing.assert_close(mean.grad, torch.tensor([20.0, -20.0]))


# The model


@pytest.mark.parametrize(("shape", "levels"), [((8, 8), 17), ((5, 3), 2), ((9, 6, 3), 256)])
def test_pixels_sum_to_one_and_agree_with_likelihood_and_mean(shape, levels):
    torch.manual_seed(0)
    model = VAE(shape, levels, latents=3, hidden=16, width=4).eval()
    z, x = torch.randn(4, 3) * 3, torch.randint(levels, (4, *shape)).byte()
    with torch.no_grad():
        table = model.log_probabilities(z)
        assert table.shape == (4, *shape, levels)
        torch.testing.assert_close(table.exp().sum(-1), torch.ones(4, *shape), rtol=0, atol=1e-5)
        picked = table.gather(-1, x.long().unsqueeze(-1)).flatten(1).sum(1)
        torch.testing.assert_close(model.log_likelihood(x, z), picked, rtol=1e-5, atol=1e-3)
        mean = (table.exp() * torch.arange(float(levels))).sum(-1)
        torch.testing.assert_close(model.decode_mean(z), mean, rtol=1e-4, atol=1e-2 if levels == 256 else 1e-4)


def test_mass_sums_to_one_over_all_images():
    model = tiny()
    assert abs(exact_log_prob(model, EVERY).exp().sum() - 1) < 1e-5


def test_bounds_are_ordered_below_the_exact_log_probability():
    model, truth = tiny(), exact_log_prob(tiny(), EVERY)
    torch.manual_seed(0)
    bounds = [draws(lambda x, k=k: model.log_prob_bound(x, samples=k), 2000) for k in (1, 5, 50)]
    for (low, se_low), (high, se_high) in itertools.pairwise([*bounds, (truth, torch.zeros(()))]):
        assert ((high - low) > -4 * (se_low**2 + se_high**2).sqrt()).all()
    elbo, best = bounds[0][0], bounds[-1][0]
    assert (truth - elbo).mean() > 0.05  # the gap that more samples close
    assert (truth - best).mean() < 0.3 * (truth - elbo).mean()
    without_log_k = best + math.log(50)  # mutant: log Σ for log mean
    assert (without_log_k > truth + 1).all()


def test_elbo_is_unbiased():
    model = tiny()
    with torch.no_grad():
        mu, log_sigma = model.encode(EVERY)
    steps = torch.linspace(-9, 9, 2001)
    truth = torch.zeros(9).double()
    for i, (a, b) in enumerate(EVERY.flatten(1).tolist()):
        grid = mu[i] + log_sigma[i].exp() * steps  # wherever q lies
        with torch.no_grad():
            table = model.log_probabilities(grid[:, None])[:, 0].double()  # (G, 2, levels)
        grid = grid.double()
        q = torch.distributions.Normal(mu[i].double(), log_sigma[i].double().exp()).log_prob(grid)
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(grid)
        truth[i] = torch.trapezoid(q.exp() * (table[:, 0, a] + table[:, 1, b] + prior - q), grid)
    torch.manual_seed(0)
    mean, se = draws(model.elbo, 4000)
    assert ((mean - truth).abs() < 4 * se + 1e-5).all()
    rate = kl_to_standard_normal(mu, log_sigma)
    for name, mutant in {"KL sign": mean + 2 * rate, "KL without ½": mean - rate}.items():
        assert ((mutant - truth).abs() > 4 * se).any(), name
    several, se_several = draws(lambda x: model.elbo(x, samples=16), 250)
    assert ((several - truth).abs() < 4 * se_several + 1e-5).all()


def test_beta_weighs_the_kl_in_the_loss_and_never_in_the_bound():
    model = tiny()
    weighted = VAE(**{**model.config, "beta": 3.0}).eval()
    weighted.load_state_dict(model.state_dict())
    values = {}
    for name, m in {"plain": model, "weighted": weighted}.items():
        torch.manual_seed(5)
        loss = m.loss(EVERY)
        torch.manual_seed(5)
        values[name] = loss.item(), m.log_prob_bound(EVERY).mean().item()
    rate = kl_to_standard_normal(*model.encode(EVERY)).mean().item()
    assert values["plain"][1] == values["weighted"][1] == pytest.approx(-values["plain"][0])
    assert values["weighted"][0] - values["plain"][0] == pytest.approx(2 * rate, rel=1e-4)


def test_samples_follow_the_model_and_the_seed_decides():
    model, n = tiny(), 40_000
    x, again = (model.sample(n, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(x, again) and x.dtype == torch.uint8 and x.shape == (n, 1, 2)
    assert not torch.equal(x, model.sample(n, generator=torch.Generator().manual_seed(1)))
    p = exact_log_prob(model, EVERY).exp()
    counts = torch.stack([(x == e).flatten(1).all(1).double().mean() for e in EVERY])
    assert ((counts - p).abs() < 4 * (p * (1 - p) / n).sqrt() + 1e-5).all()
    z = torch.tensor([[0.8]]).expand(n, 1)  # and, given z, the decoder's own distribution
    table = model.log_probabilities(z[:1])[0, 0].exp()
    pixels = model.sample_pixels(z, generator=torch.Generator().manual_seed(2))[:, 0].long()
    counts = torch.nn.functional.one_hot(pixels, 3).double().mean(0)
    assert ((counts - table).abs() < 4 * (table * (1 - table) / n).sqrt() + 1e-5).all()


class LinearGaussian(VAE):
    """The VAE's bound with the simplest networks: x|z ~ N(W z + b, s² I), q(z|x) = N(V x + c, diag σ²)."""

    def __init__(self, dimensions: int, latents: int):
        super().__init__((1, dimensions), 2, latents=latents, hidden=1, width=1)
        self.encoder, self.decoder = torch.nn.Linear(dimensions, latents), torch.nn.Linear(latents, dimensions)
        self.log_sigma = torch.nn.Parameter(torch.zeros(latents))
        self.log_s = torch.nn.Parameter(torch.zeros(()))

    def encode(self, x):
        mu = self.encoder(x)
        return mu, self.log_sigma.expand_as(mu)

    def log_likelihood(self, x, z):
        return log_normal(x, self.decoder(z), self.log_s.expand_as(x))


def test_with_a_linear_decoder_the_bound_at_the_optimum_meets_the_exact_ppca_likelihood():
    """Lucas et al. (2019): the optimum of a linear VAE is PPCA's; its bound is tight there (with orthogonal W)."""
    x = data.digits().train.x[:300].flatten(1).double()
    generator = torch.Generator().manual_seed(0)
    x = (x @ torch.randn(64, 8, generator=generator).double() / 40).float()  # eight correlated views of real images
    reference = PCA(3, svd_solver="full").fit(x.double().numpy())
    truth = reference.score(x.double().numpy())
    torch.manual_seed(0)
    model = LinearGaussian(8, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for step in range(1500):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 1500)
        loss = -model.elbo(x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        mean = model.elbo(x, samples=200).mean().item()
    assert abs(mean - truth) < 1e-3 * abs(truth), (mean, truth)
    assert abs(PPCA(8, 3).fit(x).log_prob(x).mean() - truth) < 1e-3 * abs(truth)
    # Mutants: the gap that a wrong KL leaves is far larger than the tolerance.
    rate = kl_to_standard_normal(*model.encode(x)).mean().item()
    for name, wrong in {"no KL": mean + rate, "KL without ½": mean - rate, "sign": mean + 2 * rate}.items():
        assert abs(wrong - truth) > 1e-2 * abs(truth), name


def test_training_lowers_the_bound_on_unseen_digits_and_uses_latents():
    d = data.digits()
    torch.manual_seed(0)
    model = VAE.from_data(d.train.x, levels=d.levels, latents=2, hidden=64, width=8, jitter=0.0)
    assert model.config["levels"] == 17 and VAE.from_data(d.train.x, levels=17).config["jitter"] > 0
    before = -model.eval().log_prob_bound(d.validation.x).mean().item()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(150):
        loss = model.loss(d.train.x[torch.randint(1000, (100,))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    after = -model.log_prob_bound(d.validation.x).mean().item()
    assert after < 122 < 140 < before
    assert (model.encode(d.validation.x)[0].var(0) > 0.01).all()  # active units (Burda et al. 2016)
    rebuilt = VAE(**model.config).eval()
    rebuilt.load_state_dict(model.state_dict())
    torch.testing.assert_close(rebuilt.reconstruct(d.validation.x), model.reconstruct(d.validation.x))
    seen = d.validation.x.float()
    error = (model.reconstruct(d.validation.x) - seen).square().mean()
    assert error < 0.9 * (seen - seen.mean(0)).square().mean()  # closer than the mean image


def test_jitter_moves_half_of_the_training_images_and_no_others():
    d = data.digits()
    torch.manual_seed(0)
    model = VAE((8, 8), 17, jitter=0.5)
    x = d.train.x
    moved = model._jittered(x)
    assert moved.dtype == torch.uint8 and moved.shape == x.shape and moved.max() <= 16
    share = (moved != x).flatten(1).any(1).float().mean()
    assert 0.4 < share < 0.6
    assert abs(moved.float().mean() - x.float().mean()) < 0.3
    assert (moved.float() - x.float()).square().mean() < 0.2 * (x.float() - x.float().mean(0)).square().mean()
    model.eval()
    torch.manual_seed(1)
    plain = -model.elbo(x).mean()
    torch.manual_seed(1)
    assert torch.equal(model.loss(x), plain)  # evaluation sees the images as they are


# Bad input

BAD = [None, [[[0, 1]]], torch.zeros(2, 1, 2), torch.zeros(2, 1, 2).long(), torch.zeros(0, 1, 2).byte()]
BAD += [torch.zeros(2, 2, 1).byte(), torch.zeros(1, 2).byte(), torch.full((2, 1, 2), 3, dtype=torch.uint8)]
BAD += [torch.full((2, 1, 2), torch.nan)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(BAD), st.sampled_from(["encode", "elbo", "loss", "log_prob_bound", "reconstruct"]))
def test_bad_images_are_value_errors(bad, method):
    with pytest.raises(ValueError, match="x is"):
        getattr(tiny(), method)(bad)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([0, -1, 1.0, True, None, "2"]), st.sampled_from(["sample", "elbo", "log_prob_bound"]))
def test_bad_counts_are_value_errors(bad, method):
    with pytest.raises(ValueError, match="whole number from 1"):
        tiny().sample(bad) if method == "sample" else getattr(tiny(), method)(EVERY, samples=bad)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(shape=(8,)), dict(shape=(0, 8)), dict(levels=1), dict(levels=257), dict(latents=0), dict(hidden=0),
        dict(components=0), dict(width=0), dict(dropout=1.0), dict(jitter=-1.0), dict(beta=-0.1),
        dict(beta=float("nan")), dict(jitter=float("inf")), dict(latents=2.5), dict(hidden=True), dict(levels=17.0),
    ],
)  # fmt: skip
def test_impossible_sizes_are_value_errors(wrong):
    with pytest.raises(ValueError, match="not "):
        VAE(**{"shape": (8, 8), "levels": 17, **wrong})


def test_a_condition_or_other_data_is_refused():
    model = tiny()
    for call in (lambda: model.loss(EVERY, torch.zeros(9)), lambda: model.log_prob_bound(EVERY, torch.zeros(9))):
        with pytest.raises(ValueError, match="no condition"):
            call()
    with pytest.raises(ValueError, match="no condition"):
        model.sample(2, torch.zeros(2))
    for other in (torch.zeros(5, 2), torch.zeros(5, 4, 4), torch.full((5, 4, 4), 9, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="images|from 0 to 2"):
            VAE.from_data(other, levels=3)
    with pytest.raises(ValueError, match="from 0 to 2, but holds 9"):
        model.log_likelihood(torch.full((1, 1, 2), 9, dtype=torch.uint8), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="z is finite"):
        model.sample_pixels(torch.full((1, 1), torch.nan))
