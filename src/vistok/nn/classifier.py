"""A small convolutional classifier: the source of the evaluator's features and of the perceptual loss."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.classifier_config import ClassifierConfig


class Classifier(nn.Module):
    """Maps images (batch channels height width, in [-1, 1]) to class logits.

    `features` are taken before the last ReLU, so they are smooth and none is dead, as a Fréchet distance
    requires. A perceptual loss compares `stage_activations`.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        channels = (config.in_channels, *config.stage_channels)
        self.stages = nn.ModuleList(
            _stage(channels[i], channels[i + 1], config.convs_per_stage, stride=1 if i == 0 else 2)
            for i in range(len(config.stage_channels))
        )
        self.dropout = nn.Dropout(config.dropout)
        # Normalised over the data, so that every feature varies and none outweighs the others.
        self.feature = nn.Sequential(
            nn.Linear(config.stage_channels[-1], config.feature_dim, bias=False),
            nn.BatchNorm1d(config.feature_dim, affine=False),
        )
        self.head = nn.Linear(config.feature_dim, config.num_classes)

    def stage_activations(self, images: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
        """Return the output of every stage, from fine to coarse."""
        activations = []
        x = images
        for stage in self.stages:
            x = stage(x)
            activations.append(x)
        return activations

    def features(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        """Return the features before the last ReLU."""
        pooled = self.stage_activations(images)[-1].mean(dim=(2, 3))
        return self.feature(self.dropout(pooled))

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Return class logits."""
        return self.head(F.relu(self.features(images)))


def _stage(in_channels: int, out_channels: int, num_convs: int, stride: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(num_convs):
        first = i == 0
        layers += [
            nn.Conv2d(in_channels if first else out_channels, out_channels, 3, stride if first else 1, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def share_of_dead_features(features: Float[Tensor, "batch features"]) -> float:
    """Return the share of features that never exceed zero or never vary over these images."""
    dead = (features.amax(dim=0) <= 0) | (features.std(dim=0) < 1e-6)
    return float(dead.to(torch.float32).mean())
