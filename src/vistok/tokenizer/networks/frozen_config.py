"""Configs of tokenizers whose latents are clusters of a frozen network's features."""

from typing import Literal, TypeVar

from pydantic import Field, model_validator

from vistok.config import execution
from vistok.nn.frozen_config import DINOv2Config, FrozenNetwork, require_channels, require_file
from vistok.space import Grid, grid
from vistok.tokenizer.bottlenecks.config import AnyBottleneck, KMeansConfig
from vistok.tokenizer.network_config import ConvNetConfig, Source, TokenizerConfig

T = TypeVar("T", bound="AnyFrozenConfig")


class AnyFrozenConfig(TokenizerConfig):
    """Features of a frozen network, clustered (DiGIT, arXiv 2410.12490). The network's weights become part of the file."""

    features: FrozenNetwork = "dinov2"
    # DINOv2's weights, as Meta releases them; their contents count for a run's name.
    features_file: str | None = execution(None, "file of DINOv2's weights")
    # Sizes of the network in that file, and which block's features are taken; for other networks it has no meaning.
    dinov2: DINOv2Config = DINOv2Config()
    quantizer: AnyBottleneck = KMeansConfig()

    @model_validator(mode="after")
    def _fits_images(self: T) -> T:
        require_file(self.features, self.features_file)
        require_channels("tokenizer.features", self.features, self.in_channels)
        if not self.quantizer.fitted:
            raise ValueError(
                f"quantizer {self.quantizer.kind!r} learns in training, but a frozen network's features do not move; use 'kmeans'"
            )
        if any(side % self.downsample for side in self.sides):
            height, width = self.sides
            raise ValueError(
                f"a token stands for {self.downsample} pixels of a side, which do not divide images of {height}x{width}"
            )
        return self

    @property
    def downsample(self) -> int:
        """Pixels of a side for each token."""
        raise NotImplementedError

    @property
    def steady(self) -> bool:
        """Neither the network nor the clusters are trained."""
        return True

    @property
    def sources(self) -> dict[str, Source]:
        """The frozen network."""
        return {"features": Source(self.features, self.features_file, "tokenizer.features_file")}

    @property
    def layout(self) -> Grid:
        """The grid of clusters at `image_size`."""
        return grid(*(side // self.downsample for side in self.sides))


class FrozenTokenizerConfig(AnyFrozenConfig):
    """Clusters of features, and a convolutional decoder that learns to draw images from their centres.

    Images have a token for each square of `decoder.downsample` pixels.
    """

    kind: Literal["frozen"] = "frozen"
    # The decoder's input.
    latent_channels: int = Field(default=256, ge=1)
    decoder: ConvNetConfig = ConvNetConfig()

    @property
    def downsample(self) -> int:
        """What the decoder makes of each token."""
        return self.decoder.downsample
