"""Wait until reconstructions beat a constant picture, so that the latents can take a regularizer."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
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

    def ramp(self, step: int, length: int) -> Float[Tensor, ""]:
        """Return 0 while waiting, then a half cosine up to 1 over `length` steps. It stays on the device."""
        passed = (step - self.since) / max(length, 1) if length else torch.ones_like(self.explained)
        risen = 0.5 - 0.5 * torch.cos(math.pi * passed.clamp(0, 1))
        return torch.where(self.since < 0, 0.0, risen)

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
        begins = (self.since < 0) & (self.explained >= self.share)
        self.since.copy_(torch.where(begins, step + 1, self.since))
