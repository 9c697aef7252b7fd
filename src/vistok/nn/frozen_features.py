"""Features of a frozen network on a grid, which latents can be pulled towards or clustered from."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class FrozenFeatures(nn.Module):
    """The coarsest activations of a convolutional network (its last `stage_activations`), never trained.

    `downsample`: pixels of a side for each feature. Images are resized first, so that a feature falls on each latent.
    """

    def __init__(self, network: nn.Module, dim: int, downsample: int) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.dim, self.downsample = dim, downsample

    @torch.no_grad()
    def forward(
        self, images: Float[Tensor, "batch channels height width"], rows: int, columns: int
    ) -> Float[Tensor, "batch positions dim"]:
        """Return the features of images in [-1, 1] on a grid of rows and columns, in raster order."""
        sides = (rows * self.downsample, columns * self.downsample)
        if tuple(images.shape[2:]) != sides:
            images = F.interpolate(images, sides, mode="bilinear", antialias=True)
        found = self.network.stage_activations(images)[-1].float()  # type: ignore[operator]
        if tuple(found.shape[2:]) != (rows, columns):
            found = F.interpolate(found, (rows, columns), mode="bilinear")
        return found.flatten(2).transpose(1, 2)

    def train(self, mode: bool = True) -> "FrozenFeatures":
        """Stay in evaluation mode."""
        return super().train(False)
