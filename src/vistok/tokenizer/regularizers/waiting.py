"""Wait until reconstructions beat a constant picture, so that the latents can take a regularizer."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

MEMORY = 0.9  # decay of the running mean over steps


class Waiting(nn.Module):
    """Waits until reconstructions explain a share of the images' variance about the mean picture of their batch.

    `since` is the first step at which they do, and never changes again; it is -1 before. Both buffers are checkpointed.
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
        """The step from which the waiting is over; infinity until then."""
        if self.since.is_meta:  # when counting FLOPs
            return 0.0
        since = int(self.since)
        return math.inf if since < 0 else float(since)

    @torch.no_grad()
    def see(self, reconstruction: Tensor, images: Tensor) -> None:
        """Add a part of the step's batch; both tensors are (batch, channels, height, width)."""
        error = (reconstruction.float() - images).square().mean()
        spread = (images - images.mean(dim=0, keepdim=True)).square().mean()
        self._recent.append(torch.stack([error, spread]))

    @torch.no_grad()
    def after_step(self, step: int, average: Callable[[Tensor], Tensor]) -> None:
        """Update the running mean after a step. `average` takes the mean over processes."""
        error, spread = average(torch.stack(self._recent).mean(dim=0))
        self._recent = []
        self.explained.lerp_(1 - error / spread.clamp(min=1e-8), 1 - MEMORY)
        if self.since < 0 and self.explained >= self.share:
            self.since.fill_(step + 1)
