"""When reconstructions have become better than a constant picture, so that something may be asked of the latents."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

MEMORY = 0.9  # of the running mean over steps


class Waiting(nn.Module):
    """Waits until reconstructions explain a share of the variance of images about their batch's mean picture.

    `since` is the step from which on they do, and stays; -1 before. Both buffers are checkpointed.
    """

    explained: Tensor
    since: Tensor

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("explained", torch.zeros(()))
        self.register_buffer("since", torch.tensor(-1))
        self._recent: list[Tensor] = []

    @property
    def begins(self) -> float:
        """The step from which on the waiting is over; infinity while it is not."""
        if self.since.is_meta:  # where FLOPs are counted
            return 0.0
        since = int(self.since)
        return math.inf if since < 0 else float(since)

    @torch.no_grad()
    def see(self, reconstruction: Tensor, images: Tensor) -> None:
        """Take a part of the step's batch, (batch, channels, height, width) twice."""
        error = (reconstruction.float() - images).square().mean()
        spread = (images - images.mean(dim=0, keepdim=True)).square().mean()
        self._recent.append(torch.stack([error, spread]))

    @torch.no_grad()
    def after_step(self, step: int, average: Callable[[Tensor], Tensor]) -> None:
        """Count the step. `average` gives the mean over processes."""
        error, spread = average(torch.stack(self._recent).mean(dim=0))
        self._recent = []
        self.explained.lerp_(1 - error / spread.clamp(min=1e-8), 1 - MEMORY)
        if self.since < 0 and self.explained >= self.share:
            self.since.fill_(step + 1)
