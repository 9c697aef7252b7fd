"""Config of a tokenizer whose latents are clusters of a frozen network's features."""

from typing import Literal

from pydantic import model_validator

from vistok.config import execution
from vistok.nn.frozen_config import DINOv2Config, FrozenNetwork, require_channels, require_file
from vistok.space import Grid, grid
from vistok.tokenizer.bottlenecks.config import AnyBottleneck, KMeansConfig
from vistok.tokenizer.network_config import ConvNetConfig, Source, TokenizerConfig


class FrozenTokenizerConfig(TokenizerConfig):
    """Features of a frozen network, clustered; a convolutional decoder learns to draw images from the centres (DiGIT's tokens).

    Images have a latent for each square of `decoder.downsample` pixels. The network's weights become part of the tokenizer's file.
    """

    kind: Literal["frozen"] = "frozen"
    features: FrozenNetwork = "dinov2"
    # DINOv2's weights, as Meta releases them; their contents count for a run's name.
    features_file: str | None = execution(None, "file of DINOv2's weights")
    # Sizes of the network in that file, and which block's features are taken; for other networks it has no meaning.
    dinov2: DINOv2Config = DINOv2Config()
    quantizer: AnyBottleneck = KMeansConfig()
    # The decoder's input.
    latent_channels: int = 256
    decoder: ConvNetConfig = ConvNetConfig()

    @model_validator(mode="after")
    def _fits(self) -> "FrozenTokenizerConfig":
        require_file(self.features, self.features_file)
        require_channels("tokenizer.features", self.features, self.in_channels)
        if not self.quantizer.fitted:
            raise ValueError(
                f"quantizer {self.quantizer.kind!r} learns in training, but a frozen network's features do not move; use 'kmeans'"
            )
        f = self.decoder.downsample
        if any(side % f for side in self.sides):
            height, width = self.sides
            raise ValueError(f"decoder downsamples by {f}, which does not divide images of {height}x{width} pixels")
        return self

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
        """The grid of features at `image_size`."""
        return grid(*(side // self.decoder.downsample for side in self.sides))
