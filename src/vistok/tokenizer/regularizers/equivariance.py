"""Latents that turn and shrink with the image: EQ-VAE's loss (Kouzelis et al. 2025, arXiv 2502.09509)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vistok.engine.phase import PhaseLoss
from vistok.errors import UserError
from vistok.space import Grid, Vectors, grid
from vistok.tokenizer.regularizers.base import Regularizer, Seen, Setting
from vistok.tokenizer.regularizers.config import EquivarianceConfig


class EquivarianceRegularizer(Regularizer):
    """Adds the error of turned (and shrunk) latents, decoded, against equally turned images.

    A step's transformation is drawn on the host from the step's number, so that it does not wait for the device.
    """

    name = "equivariance"
    config: EquivarianceConfig

    def __init__(self, config: EquivarianceConfig, facts: Setting) -> None:
        super().__init__()
        if not isinstance(facts.space, Vectors) or not isinstance(facts.layout, Grid):
            raise UserError(f"equivariance is for vectors on a grid, but these latents are {facts.space}; leave it out")
        if facts.padded:
            raise UserError(
                "equivariance turns latents with the image, but these images are padded to a whole number of latents; take a size "
                "that is a multiple of the downsampling, or leave it out"
            )
        self.config, self.decode = config, facts.decode
        self.sides = facts.layout.sides

    def forward(self, seen: Seen, step: int) -> PhaseLoss:
        """Return the weighted squared error under the step's transformation."""
        turns, size = self.drawn(step)
        rows, columns = self.sides
        latents = seen.bottleneck.decoded.transpose(1, 2).unflatten(2, (rows, columns))
        moved = _moved(latents, turns, size)
        layout = grid(*moved.shape[2:])
        decoded = self.decode(moved.flatten(2).transpose(1, 2), layout).float()
        images = torch.rot90(seen.images, turns, (2, 3))
        if images.shape != decoded.shape:
            images = F.interpolate(images, decoded.shape[2:], mode="bilinear", antialias=True)
        error = F.mse_loss(decoded, images)
        return PhaseLoss({"equivariance_loss": self.config.weight * error}, {"equivariance_error": error.detach()})

    def drawn(self, step: int) -> tuple[int, tuple[int, int]]:
        """Return a step's quarter turns, and the grid that latents are shrunk to (before they are turned)."""
        generator = torch.Generator().manual_seed(step)
        turns = int(torch.randint(4, (), generator=generator))
        if self.sides[0] != self.sides[1]:
            turns = 2 * (turns % 2)  # a rectangle fits only upside down
        share = 1.0
        if float(torch.rand((), generator=generator)) < self.config.shrinking:
            share = 0.25 + 0.75 * float(torch.rand((), generator=generator))
        rows, columns = (max(1, round(share * side)) for side in self.sides)
        return turns, (rows, columns)


def _moved(latents: Tensor, turns: int, size: tuple[int, int]) -> Tensor:
    if tuple(latents.shape[2:]) != size:
        latents = F.interpolate(latents, size, mode="bilinear", antialias=True)
    return torch.rot90(latents, turns, (2, 3))
