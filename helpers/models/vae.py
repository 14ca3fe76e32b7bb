"""Variational autoencoder of images: Kingma & Welling (2014), "Auto-encoding variational Bayes".

The model: z ~ N(0, I); given z the pixels are independent, each from a mixture of discretised logistics (Salimans et
al. 2017, "PixelCNN++", section 2.1), a distribution over whole numbers that knows that 7 lies between 6 and 8.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.layers.conv import ConvDecoder
from helpers.layers.mlp import mlp
from helpers.models.base import GenerativeModel
from helpers.models.checks import finite, no_condition, whole_number


class VAE(GenerativeModel):
    """log p(x) ≥ ELBO = E_q(z|x)[log p(x|z)] − KL(q(z|x) ‖ p(z)), with q(z|x) = N(μ(x), diag σ(x)²).

    All log-probabilities are log masses of the whole image in nats. Bad input: ``ValueError``.

    Parameters:
        shape: of one image, (H, W) or (H, W, C).
        levels: pixels are 0..levels-1, 2 <= levels <= 256.
        latents: coordinates of z.
        hidden: units of each hidden layer; width: channels of the decoder's last map.
        components: logistics in the mixture of a pixel.
        dropout: share of hidden units that are dropped in training.
        jitter: how far ``loss`` turns, scales and shifts training images at random (1: by about 7°, 6 %, 3 % of the
            width); with few images the surest way to more. 0: not at all. Bounds never see it.
        beta: weight of the KL in ``loss`` (Higgins et al. 2017, β-VAE); the bounds always have β = 1.
    """

    recipe = dict(batch_size=128, learning_rate=3e-3, warmup=0.05, weight_decay=0.01, ema=0.998, clip=50.0)

    def __init__(
        self,
        shape: tuple[int, ...],
        levels: int,
        latents: int = 16,
        hidden: int = 512,
        width: int = 16,
        components: int = 3,
        dropout: float = 0.15,
        jitter: float = 0.0,
        beta: float = 1.0,
    ):
        super().__init__()
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"shape is (H, W) or (H, W, C), not {tuple(shape)}")
        if whole_number("levels", levels, 2) > 256:
            raise ValueError(f"levels is from 2 to 256, not {levels}")
        for name, value in dict(latents=latents, hidden=hidden, width=width, components=components).items():
            whole_number(name, value, 1)
        if not (0 <= dropout < 1 and 0 <= jitter < math.inf and 0 <= beta < math.inf):
            raise ValueError(f"0 <= dropout < 1, jitter >= 0 and beta >= 0, not {dropout}, {jitter}, {beta}")
        self.config = dict(
            shape=tuple(shape), levels=levels, latents=latents, hidden=hidden, width=width, components=components,
            dropout=dropout, jitter=jitter, beta=beta,
        )  # fmt: skip
        self.shape, self.levels, self.latents, self.jitter, self.beta = tuple(shape), levels, latents, jitter, beta
        height, wide, *channels = shape
        self.channels = channels[0] if channels else 1
        self.encoder = mlp(math.prod(shape), hidden, hidden, 2 * latents, dropout=dropout)
        # Three numbers a component: logit of its weight, mean, log-scale.
        self.decoder = ConvDecoder(
            latents, 3 * components * self.channels, (height, wide), width=width, hidden=hidden, dropout=dropout
        )
        # Each pixel's own start: components spread over the range [-1, 1], so that each finds something to explain.
        start = torch.stack(
            [torch.zeros(components), torch.linspace(-1, 1, components), torch.full((components,), -1.5)]
        )
        self.pixel = nn.Parameter(start[..., None, None, None].repeat(1, 1, self.channels, height, wide))

    @classmethod
    def from_data(cls, x: Tensor, levels: int = 256, **options) -> VAE:
        """For images ``x`` (N, H, W) or (N, H, W, C); fewer than 5,000 get a ``jitter`` unless told otherwise."""
        if not isinstance(x, Tensor) or x.ndim not in (3, 4):
            raise ValueError(f"a VAE learns from images (N, H, W) or (N, H, W, C), not {_describe(x)}")
        model = cls(tuple(x.shape[1:]), levels, **{"jitter": 0.7 if len(x) < 5000 else 0.0, **options})
        model._check(x)
        return model

    # The two networks

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """μ and log σ of q(z|x), both (B, latents)."""
        mu, log_sigma = self.encoder(self._scaled(self._check(x)).flatten(1)).chunk(2, 1)
        return mu, log_sigma.clamp(-6, 3)  # wide enough never to bind; guards exp() early in training

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-weights, means and log-scales of each pixel's logistics, (B, components, C, H, W) each.

        Means and scales are in units where the levels 0..L-1 lie at -1..1.
        """
        b = self.decoder(z).unflatten(1, self.pixel.shape[:3]) + self.pixel  # (B, 3, M, C, H, W)
        narrowest = math.log(2 / (self.levels - 1)) - 3  # all mass on one level already
        return b[:, 0].log_softmax(1), b[:, 1], b[:, 2].clamp(min=narrowest)

    # The bound

    def elbo(
        self, x: Tensor, *, samples: int = 1, beta: float = 1.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """E_q[log p(x|z)] − β KL(q ‖ p), (B,) nats; the expectation over ``samples`` draws of z, the KL exact."""
        whole_number("samples", samples, 1)
        mu, log_sigma = self.encode(x)
        rate = kl_to_standard_normal(mu, log_sigma)
        fit = torch.stack([self.log_likelihood(x, draw(mu, log_sigma, generator)) for _ in range(samples)])
        return fit.mean(0) - beta * rate

    def loss(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Mean −ELBO with the constructor's β, of jittered images in training; in evaluation of the images given."""
        no_condition(self, condition)
        if self.training and self.jitter:
            x = self._jittered(self._check(x))
        return -self.elbo(x, beta=self.beta).mean()

    def log_prob_bound(
        self,
        x: Tensor,
        condition: Tensor | None = None,
        *,
        samples: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Importance-weighted bound log (1/K) Σ p(x,zₖ)/q(zₖ|x) of K = ``samples`` draws, (B,) nats.

        Burda, Grosse & Salakhutdinov (2016), equation 8: in expectation it rises with K to log p(x). One sample:
        the ELBO, with its KL exact.
        """
        no_condition(self, condition)
        whole_number("samples", samples, 1)
        if samples == 1:
            return self.elbo(x, generator=generator)
        mu, log_sigma = self.encode(x)
        log_w = []
        for _ in range(samples):
            z = draw(mu, log_sigma, generator)
            log_w.append(self.log_likelihood(x, z) + log_normal(z) - log_normal(z, mu, log_sigma))
        return torch.stack(log_w).logsumexp(0) - math.log(samples)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x|z), (B,): the mass of each pixel's level, multiplied over pixels."""
        x = self._scaled(self._check(x)).movedim(-1, 1).unsqueeze(1)  # (B, 1, C, H, W)
        log_weight, mean, log_scale = self.decode(z)
        mass = log_weight + log_mass_logistic(x, mean, log_scale, 1 / (self.levels - 1))
        return mass.logsumexp(1).flatten(1).sum(1)

    def log_probabilities(self, z: Tensor) -> Tensor:
        """log p(level|z) of every level of every pixel, (B, *shape, levels)."""
        log_weight, mean, log_scale = (p.unsqueeze(-1) for p in self.decode(z))
        levels = torch.linspace(-1, 1, self.levels, device=z.device)
        mass = log_weight + log_mass_logistic(levels, mean, log_scale, 1 / (self.levels - 1))  # (B, M, C, H, W, L)
        return mass.logsumexp(1).movedim(1, 3).reshape(-1, *self.shape, self.levels)

    # Pictures

    def decode_mean(self, z: Tensor) -> Tensor:
        """The mean image E[x|z], (B, *shape), float, 0..levels-1: E[x] = Σₗ P(x > l), exactly."""
        log_weight, mean, log_scale = (p.unsqueeze(-1) for p in self.decode(z))
        edges = torch.linspace(-1, 1, self.levels, device=z.device)[:-1] + 1 / (self.levels - 1)
        above = torch.sigmoid((mean - edges) * torch.exp(-log_scale)).sum(-1, keepdim=True)
        return (log_weight.exp() * above).sum(1).squeeze(-1).movedim(1, 3).reshape(-1, *self.shape)

    @torch.no_grad()
    def sample(self, n: int, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` images (n, *shape), uint8: z from the prior, then every pixel from its distribution."""
        no_condition(self, condition)
        whole_number("n", n, 1)
        z = torch.randn(n, self.latents, generator=generator, device=self.device)
        return self.sample_pixels(z, generator=generator)

    @torch.no_grad()
    def sample_pixels(self, z: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """x ~ p(x|z), (B, *shape), uint8: a component, a logistic number, the nearest level."""
        if z.numel() and not finite(z):
            raise ValueError("z is finite, but this holds nan or infinity")
        log_weight, mean, log_scale = self.decode(z)

        def uniform(shape: torch.Size) -> Tensor:
            u = torch.rand(shape, generator=generator, device=z.device, dtype=torch.float64)
            return u.clamp(1e-12, 1 - 1e-12)

        gumbel = -(-uniform(log_weight.shape).log()).log()
        k = (log_weight + gumbel).argmax(1, keepdim=True)  # argmax of log-weight plus Gumbel noise: a draw
        mean, scale = mean.gather(1, k).squeeze(1), log_scale.gather(1, k).squeeze(1).exp()
        x = mean + scale * torch.logit(uniform(mean.shape))
        levels = ((x + 1) * (self.levels - 1) / 2).round().clamp(0, self.levels - 1)
        return levels.to(torch.uint8).movedim(1, 3).reshape(-1, *self.shape)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean image of the posterior's mean, (B, *shape), float."""
        return self.decode_mean(self.encode(x)[0])

    # Input

    def _scaled(self, x: Tensor) -> Tensor:
        """(B, *shape) levels 0..L-1 → (B, H, W, C) in [-1, 1]."""
        return x.reshape(-1, *self.shape[:2], self.channels).float() * (2 / (self.levels - 1)) - 1

    def _jittered(self, x: Tensor) -> Tensor:
        """A random half of the images turned, sheared, scaled and shifted a little.

        The other half stays, because interpolation blurs: the model must see what sharp images look like.
        """
        n, images = len(x), x.reshape(-1, *self.shape[:2], self.channels).movedim(-1, 1).float()
        a = self.jitter * torch.randn(6, n, device=x.device)
        turn, stretch, shift, shear = 0.12 * a[0], 1 + 0.06 * a[1:3], 0.06 * a[3:5], 0.1 * a[5]
        rows = [stretch[0] * turn.cos(), shear - turn.sin(), shift[0], turn.sin(), stretch[1] * turn.cos(), shift[1]]
        grid = F.affine_grid(torch.stack(rows, 1).view(n, 2, 3), list(images.shape), align_corners=False)
        images = F.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False)
        # Rounded at random, so that the mean stays what it was.
        moved = (images + torch.rand_like(images)).floor().clamp(0, self.levels - 1).movedim(1, -1).reshape(x.shape)
        keep = torch.rand(n, *[1] * (x.ndim - 1), device=x.device) < 0.5
        return torch.where(keep, x, moved.to(torch.uint8))

    def _check(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.dtype != torch.uint8 or tuple(x.shape[1:]) != self.shape or len(x) == 0:
            wanted = f"(N, {', '.join(map(str, self.shape))}) torch.uint8"
            raise ValueError(f"x is images {wanted}, not {_describe(x)}")
        if int(x.max()) >= self.levels:
            raise ValueError(f"x is from 0 to {self.levels - 1}, but holds {int(x.max())}")
        return x


def kl_to_standard_normal(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(N(μ, diag σ²) ‖ N(0, I)) = ½ Σ (μ² + σ² − 1 − log σ²), (B,) nats. Kingma & Welling (2014), appendix B."""
    return 0.5 * (mu**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(1)


def draw(mu: Tensor, log_sigma: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """z = μ + σ ε, ε ~ N(0, I): a draw through which gradients reach μ and σ (reparameterisation)."""
    noise = torch.randn(mu.shape, generator=generator, device=mu.device, dtype=mu.dtype)
    return mu + log_sigma.exp() * noise


def log_normal(z: Tensor, mu: Tensor | float = 0.0, log_sigma: Tensor | None = None) -> Tensor:
    """log N(z; μ, diag σ²), (B,); without ``log_sigma`` σ = 1."""
    log_sigma = torch.zeros_like(z) if log_sigma is None else log_sigma
    return (-0.5 * ((z - mu) * (-log_sigma).exp()) ** 2 - log_sigma - 0.5 * math.log(2 * math.pi)).sum(1)


def log_mass_logistic(x: Tensor, mean: Tensor, log_scale: Tensor, half: float) -> Tensor:
    """Log of the mass that a logistic puts on [x − half, x + half]; the cells at −1 and 1 reach to infinity.

    With S(a) = log σ(a): σ(b) − σ(a) = σ(b) σ(−a) (1 − e^(a−b)), so nothing is lost however small the mass is.
    """
    inverse = torch.exp(-log_scale)
    below = F.logsigmoid((x + half - mean) * inverse)  # log of the mass left of the cell's right edge
    above = F.logsigmoid((mean - x + half) * inverse)  # and right of its left edge
    inner = below + above + torch.log(-torch.expm1(-2 * half * inverse))
    return torch.where(x < -1 + half, below, torch.where(x > 1 - half, above, inner))


def _describe(x) -> str:
    return f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__


FAMILY = VAE
