"""Features of a frozen network on a grid, which latents can be pulled towards or clustered from."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.classifier import Classifier
from vistok.nn.dinov2 import PATCH, DINOv2, planned_dinov2
from vistok.nn.efficientnet_lite import EfficientNetLite0
from vistok.nn.frozen_config import SIZES, DINOv2Config


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


def features_of(network: nn.Module) -> FrozenFeatures:
    """Return the features of one of the frozen networks."""
    if isinstance(network, DINOv2):
        return FrozenFeatures(network, dim=network.width, downsample=PATCH)
    if isinstance(network, Classifier):
        channels = network.config.stage_channels
        return FrozenFeatures(network, dim=channels[-1], downsample=2 ** (len(channels) - 1))
    return FrozenFeatures(network, dim=112, downsample=16)


def planned_features(name: str, dinov2: DINOv2Config) -> FrozenFeatures:
    """Return the features of the network with this name, without its weights: of the sizes that they have."""
    if name == "dinov2":
        return features_of(planned_dinov2(dinov2))
    return features_of(Classifier(SIZES[name]) if name in SIZES else EfficientNetLite0())
