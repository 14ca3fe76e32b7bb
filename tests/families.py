"""The smallest families that the training can be tried on: what a module of ``helpers.models`` names FAMILY."""

from __future__ import annotations

import math

import torch
from torch import nn

from helpers.models.base import AdamW, GenerativeModel


class Pixels(GenerativeModel):
    """Independent pixels, a categorical distribution each. With noise on the loss, so that randomness matters."""

    recipe = dict(batch_size=16, learning_rate=0.05, ema=0.9, clip=10.0, warmup=0.05)

    def __init__(self, shape, levels, noise=0.1):
        super().__init__()
        self.config = dict(shape=list(shape), levels=levels, noise=noise)
        self.noise, self.shape = noise, tuple(shape)
        self.logits = nn.Parameter(0.01 * torch.randn(*shape, levels))

    @classmethod
    def from_data(cls, x, levels, **options):
        if x.dtype != torch.uint8:
            raise ValueError(f"images are needed, not {x.dtype} {tuple(x.shape)}")
        return cls(tuple(x.shape[1:]), levels, **options)

    def log_prob(self, x, condition=None):
        table = self.logits.log_softmax(-1).expand(len(x), *self.logits.shape)
        return table.gather(-1, x.long()[..., None]).flatten(1).sum(1)

    def loss(self, x, condition=None):
        noise = self.noise * torch.randn_like(self.logits)
        return -self.log_prob(x).mean() + (noise * self.logits).sum() * self.training

    def sample(self, n, condition=None, *, generator=None):
        p = self.logits.softmax(-1).flatten(0, -2)
        return torch.multinomial(p, n, True, generator=generator).T.reshape(n, *self.shape).to(torch.uint8)


class Letters(GenerativeModel):
    """Independent characters; with ``ends``, a symbol of its own for the end of an example."""

    recipe = dict(batch_size=32, learning_rate=0.1)

    def __init__(self, levels, ends, length):
        super().__init__()
        self.config = dict(levels=levels, ends=ends, length=length)
        self.ends, self.length = ends, length
        self.logits = nn.Parameter(torch.zeros(levels + ends))

    @classmethod
    def from_data(cls, x, levels, ends):
        if x.dtype != torch.int64:
            raise ValueError("text is needed")
        return cls(levels, ends, x.shape[1])

    def log_prob(self, x, condition=None):
        table = self.logits.log_softmax(-1)
        return torch.where(x < 0, 0.0, table[x]).sum(1) + (table[-1] if self.ends else 0.0)

    def loss(self, x, condition=None):
        return -self.log_prob(x).mean()

    def sample(self, n, condition=None, *, generator=None):
        x = torch.multinomial(self.logits.softmax(-1), n * self.length, True, generator=generator).view(n, -1)
        ended = (x == len(self.logits) - 1).cummax(1).values if self.ends else torch.zeros_like(x)
        return torch.where(ended.bool(), -1, x)


class Gauss(GenerativeModel):
    """A normal distribution with a diagonal covariance, learnt without gradients."""

    def __init__(self, dimensions):
        super().__init__()
        self.config = dict(dimensions=dimensions)
        self.register_buffer("mean", torch.zeros(dimensions))
        self.register_buffer("scale", torch.ones(dimensions))

    @classmethod
    def from_data(cls, x):
        if x.ndim != 2 or not x.is_floating_point():
            raise ValueError(f"points (N, D) are needed, not {x.dtype} {tuple(x.shape)}")
        return cls(x.shape[1])

    def fit(self, x, condition=None):
        self.mean, self.scale = x.mean(0), x.std(0, correction=0)

    def log_prob(self, x, condition=None):
        z = (x - self.mean) / self.scale
        return (-0.5 * z**2 - self.scale.log() - 0.5 * math.log(2 * math.pi)).sum(1)

    def sample(self, n, condition=None, *, generator=None):
        return self.mean + self.scale * torch.randn(n, len(self.mean), generator=generator)


class Duel(GenerativeModel):
    """Two networks with an optimiser each, as in a GAN; no loss, no likelihood."""

    recipe = dict(batch_size=32, learning_rate=0.01)

    def __init__(self, dimensions=2):
        super().__init__()
        self.config = dict(dimensions=dimensions)
        self.generator, self.critic = nn.Linear(dimensions, dimensions), nn.Linear(dimensions, 1)

    @classmethod
    def from_data(cls, x):
        return cls(x.shape[1])

    def optimizers(self, learning_rate, weight_decay=0.0):
        return [
            AdamW(self.generator.parameters(), lr=learning_rate),
            AdamW(self.critic.parameters(), lr=2 * learning_rate),
        ]

    def training_step(self, batch, optimizers):
        x, _ = batch
        fake = self.generator(torch.randn_like(x))
        critic = self.critic(fake.detach()).mean() - self.critic(x).mean() + self.critic.weight.square().sum()
        optimizers[1].zero_grad()
        critic.backward()
        optimizers[1].step()
        generator = -self.critic(fake).mean()
        optimizers[0].zero_grad()
        generator.backward()
        optimizers[0].step()
        return {"generator": generator.detach(), "critic": critic.detach()}

    def sample(self, n, condition=None, *, generator=None):
        return self.generator(torch.randn(n, self.config["dimensions"], generator=generator))


class Line(GenerativeModel):
    """y = wx + b with noise on the input and dropout: as much randomness as a loss can have."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.config = dict(dropout=dropout)
        self.net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))

    def loss(self, x, condition=None):
        target = x.sum(1, keepdim=True) if condition is None else condition[:, None]
        return (self.net(x + 0.1 * torch.randn_like(x) * self.training) - target).square().mean()


class Drift(GenerativeModel):
    """Its validation loss is (w − 3)², its training pushes w up by one a step: best after the third."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))

    def optimizers(self, learning_rate, weight_decay=0.0):
        return [torch.optim.SGD([self.w], lr=learning_rate)]

    def loss(self, x, condition=None):
        return -self.w if self.training else (self.w - 3) ** 2


def line(seed=0, **options):
    torch.manual_seed(seed)
    return Line(**options), torch.randn(64, 2)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])
