"""LeCam regularization of a discriminator (Tseng et al. 2021, arXiv 2104.03310, equations 4 and 5)."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class LeCam(nn.Module):
    """Pulls logits of images and of reconstructions towards the other side's average over past steps, which is kept here.

    TiTok squares the batch's mean logit, where the paper, and so we, take the mean of squares: it does not depend on how a
    batch is split. A step's averages count from the next step on; they begin at 0.
    """

    real: Tensor
    fake: Tensor

    def __init__(self, weight: float, decay: float) -> None:
        super().__init__()
        self.weight, self.decay = weight, decay
        self.register_buffer("real", torch.zeros(()))
        self.register_buffer("fake", torch.zeros(()))
        self._seen: list[tuple[int, Tensor]] = []

    def forward(
        self, real: Float[Tensor, "images 1 rows columns"], fake: Float[Tensor, "images 1 rows columns"]
    ) -> Float[Tensor, ""]:
        """Return the weighted term for a micro-batch's logits."""
        self._seen.append((len(real), torch.stack([real.detach().mean(), fake.detach().mean()])))
        return self.weight * (F.relu(real - self.fake).square().mean() + F.relu(self.real - fake).square().mean())

    @torch.no_grad()
    def after_step(self, average: Callable[[Tensor], Tensor]) -> None:
        """Include the step's logits; `average` takes the mean over processes, each of which has an equal part of the batch."""
        count = sum(images for images, _ in self._seen)
        mean = average(torch.stack([images / count * means for images, means in self._seen]).sum(dim=0))
        self._seen = []
        for kept, new in zip((self.real, self.fake), mean, strict=True):
            kept.lerp_(new, 1 - self.decay)
