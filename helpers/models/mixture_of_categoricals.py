"""A mixture of independent categorical pixels, learnt by EM: the row that every neural model stands beside."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.models.base import GenerativeModel
from helpers.models.checks import no_condition, whole_number


class MixtureOfCategoricals(GenerativeModel):
    """p(x) = Σₖ πₖ Πₚ θₖₚ[xₚ]: first a component k, then each pixel p by itself from the component's histogram.

    ``fit`` runs EM (Dempster, Laird & Rubin 1977) for the maximum a posteriori under Dirichlet priors whose mean is
    the histogram of the pixel over all images: what a template has seen too rarely it borrows from the others.

    Parameters:
        shape: of one image, (H, W) or (H, W, C); levels: pixel values 0..levels-1; components: how many templates.
        smoothing: weight of the prior, in images that each component is imagined to have seen.
        iterations: of EM at most; it stops when likelihood and prior together no longer rise.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        levels: int = 256,
        components: int = 60,
        smoothing: float = 10.0,
        iterations: int = 40,
    ):
        super().__init__()
        if len(shape) not in (2, 3) or min(shape) < 1 or levels < 2 or components < 1 or iterations < 1:
            raise ValueError(
                "an image (H, W) or (H, W, C), at least 2 levels, 1 component and 1 iteration are needed, not "
                f"{shape}, {levels}, {components}, {iterations}"
            )
        if not 0 < smoothing < torch.inf:
            raise ValueError(f"smoothing is a positive number, not {smoothing}")
        self.config = dict(
            shape=tuple(shape), levels=levels, components=components, smoothing=smoothing, iterations=iterations
        )
        pixels = torch.Size(shape).numel()
        frozen = dict(requires_grad=False)
        self.log_weights = nn.Parameter(torch.full((components,), 1.0 / components).log(), **frozen)  # log π
        self.log_levels = nn.Parameter(torch.full((components, pixels, levels), 1.0 / levels).log(), **frozen)  # log θ

    @classmethod
    def from_data(cls, x: Tensor, levels: int = 256, **options) -> MixtureOfCategoricals:
        if not isinstance(x, Tensor) or x.ndim not in (3, 4):
            raise ValueError(f"images (N, H, W) or (N, H, W, C) are needed, not {_describe(x)}")
        return cls(tuple(x.shape[1:]), levels, **options)

    def fit(self, x: Tensor, condition: Tensor | None = None) -> MixtureOfCategoricals:
        """EM on images ``x`` (N, *shape), from responsibilities of random images; draws from torch's global seed."""
        c = self.config
        seen = self._seen(x, condition)  # (N, P)
        pixels, levels = self.log_levels.shape[1:]
        # Half an image spread over all levels: a level that no image shows is rare, not impossible.
        whole = torch.bincount(seen.flatten(), minlength=pixels * levels)
        prior = (whole.view(pixels, levels) + 0.5 / levels) / (len(x) + 0.5)
        centres = x[torch.randint(len(x), (c["components"],), device=x.device)].flatten(1).float()
        nearest = torch.cdist(x.flatten(1).float(), centres).argmin(1)
        r = F.one_hot(nearest, c["components"]).float()  # responsibilities (N, K)
        last = -torch.inf
        for _ in range(c["iterations"]):
            counts = r.new_zeros(pixels * levels, c["components"])
            for column in seen.T:  # of one pixel, all images: together they would need N · P · K numbers
                counts.index_add_(0, column, r)
            mass = r.sum(0)  # images of each component, and so the sum of its counts at each pixel
            counts = counts.T.view(-1, pixels, levels) + c["smoothing"] * prior
            self.log_levels.copy_((counts / (mass + c["smoothing"])[:, None, None]).log_())
            self.log_weights.copy_(((mass + 1) / (len(x) + c["components"])).log())
            joint = self._joint(seen)
            log_prior = self.log_weights.sum() + c["smoothing"] * (prior * self.log_levels.sum(0)).sum()
            now = float(joint.logsumexp(1).mean() + log_prior / len(x))
            r = joint.softmax(1)
            if now - last < 1e-3:
                break
            last = now
        return self

    def log_prob(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log mass of each image in nats, (batch,); exact."""
        return self._joint(self._seen(x, condition)).logsumexp(1)

    def posterior(self, x: Tensor) -> Tensor:
        """p(k given x), (batch, components)."""
        return self._joint(self._seen(x, None)).softmax(1)

    @torch.no_grad()
    def sample(self, n: int, condition: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """``n`` images (n, *shape), uint8."""
        no_condition(self, condition)
        n = whole_number("n", n, 1)
        k = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        probabilities = self.log_levels[k].exp().flatten(0, 1)
        x = torch.multinomial(probabilities, 1, generator=generator)
        return x.view(n, *self.config["shape"]).to(torch.uint8)

    def _joint(self, seen: Tensor) -> Tensor:
        """log πₖ Πₚ θₖₚ[xₚ], (batch, K): the sum of those rows of the table that an image shows."""
        return F.embedding_bag(seen, self.log_levels.flatten(1).T.contiguous(), mode="sum") + self.log_weights

    def _seen(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Which of the P·L pairs of pixel and level each image shows, (batch, P)."""
        no_condition(self, condition)
        shape, levels = self.config["shape"], self.config["levels"]
        if not isinstance(x, Tensor) or x.is_floating_point() or tuple(x.shape[1:]) != shape or len(x) == 0:
            raise ValueError(f"x is whole numbers (N, {', '.join(map(str, shape))}), not {_describe(x)}")
        if int(x.min()) < 0 or int(x.max()) >= levels:  # as numbers: 256 is 0 for bytes
            raise ValueError(f"x is from 0 to {levels - 1}, not {int(x.min())} to {int(x.max())}")
        x = x.flatten(1).long()
        return x + levels * torch.arange(x.shape[1], device=x.device)


def _describe(x) -> str:
    return f"{tuple(x.shape)} {x.dtype}" if isinstance(x, Tensor) else type(x).__name__


FAMILY = MixtureOfCategoricals
