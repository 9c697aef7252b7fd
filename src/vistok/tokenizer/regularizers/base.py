"""The contract for regularizers."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vistok.engine.phase import PhaseLoss
from vistok.nn.frozen_features import FrozenFeatures
from vistok.space import Layout, Space
from vistok.tokenizer.bottlenecks.base import BottleneckOutput
from vistok.tokenizer.latent_variance import alone
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.regularizers.config import RegularizerConfig
from vistok.units import Scale

# Takes the mean over processes, each of which holds an equal part of the batch.
Average = Callable[[Tensor], Tensor]


def _undecoded(latents: Tensor, layout: Layout) -> Tensor:
    raise NotImplementedError("a setting without a decoder")


@dataclass(frozen=True)
class Setting:
    """What a regularizer is built for: numbers per latent, as it sees them; the space; the mean over processes.

    `features`: the frozen network that its config names, if it names one. `decode` maps vectors (batch positions dim) with
    their layout to images, as the decoder does in training. `padded`: images are padded to a whole number of latents.
    """

    dim: int
    space: Space
    average: Average = alone
    features: FrozenFeatures | None = None
    decode: Callable[[Tensor, Layout], Tensor] = _undecoded
    padded: bool = False

    @property
    def layout(self) -> Layout:
        """The layout of the latents."""
        return self.space.layout


@dataclass
class Seen:
    """What a regularizer sees of a micro-batch.

    `features` are the encoder's outputs before the bottleneck, (batch positions numbers); images and reconstructions
    (batch channels height width). `reconstruction_loss` is the sum of pixel and perceptual terms; `encoding_layer` and
    `last_layer` are the weights of the encoder's and the decoder's last layers, at which gradients are compared. `noise`: draws
    of each image; None: torch's.
    """

    images: Tensor
    reconstruction: Tensor
    features: Tensor
    bottleneck: BottleneckOutput
    layout: Layout
    reconstruction_loss: Tensor
    encoding_layer: Tensor
    last_layer: Tensor
    noise: Noise | None = None


class Regularizer(nn.Module, ABC):
    """A loss in addition to reconstruction, with its own parameters. Built for each training run, never exported."""

    # Used in the log, for seeds, and for its group of gradients.
    name: ClassVar[str]
    config: RegularizerConfig

    @abstractmethod
    def forward(self, seen: Seen, step: int) -> PhaseLoss:
        """Return the terms to add to the autoencoder's loss, already weighted, and statistics for the log."""

    def begin(self, scale: Scale) -> None:  # noqa: B027 (those without a ramp need nothing)
        """Turn durations into steps, before the first forward pass."""

    def after_step(self, step: int) -> None:  # noqa: B027
        """Do what has to follow an optimizer step."""

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded individually."""
        return []
