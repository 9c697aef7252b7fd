"""What the rest of vistok may ask of a generator."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.errors import UserError
from vistok.generator.config import GeneratorConfig, SamplingConfig
from vistok.generator.families import default_sampling
from vistok.origin import Origin
from vistok.space import Space

# (labels, image ids) -> latents
Sampler = Callable[[Tensor, Tensor], Tensor]


class Generator(nn.Module, ABC):
    """A model of an image's latents given a class: a network, and the ways of drawing from it."""

    config: GeneratorConfig
    space: Space
    num_classes: int
    # What the file says of itself: class names, training, digest (of a new network nothing).
    info: Origin = Origin()

    @abstractmethod
    def sampler(self, sampling: SamplingConfig) -> Sampler:
        """Return a function of labels and ids that draws latents by these weights; make a new one where they change."""

    @abstractmethod
    def calls(self, sampling: SamplingConfig) -> int:
        """Return the forward passes of the network for one image; guidance doubles each."""

    @abstractmethod
    def sampling_flops(self, sampling: SamplingConfig) -> float:
        """Return the FLOPs of drawing one image's latents, counted on the meta device from what is executed."""

    @abstractmethod
    def sampling_bytes(self, sampling: SamplingConfig) -> int:
        """Return the bytes that drawing one image more takes at its peak."""

    def way_of(self, sampling: SamplingConfig, batch: int) -> str:
        """Return by which of several ways of drawing the same a batch of this size is drawn; "" where there is one."""
        return ""

    def sped_up(self, sampling: SamplingConfig, draft: "Generator", lookahead: int) -> Sampler:
        """Return a sampler of the same latents that a smaller generator helps; raises UserError for families without one."""
        raise UserError(
            f"a draft speeds up autoregressive generators, and this one is {self.config.kind}: leave --draft out"
        )

    def check_guidance(self, scale: float) -> None:  # noqa: B027 (most can do with any)
        """Raise UserError for a guidance scale that this generator was not trained for."""

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded one by one."""
        return []

    def sample(
        self,
        labels: Int[Tensor, "batch"],
        image_ids: Int[Tensor, "batch"] | None = None,
        sampling: SamplingConfig | None = None,
    ) -> Tensor:
        """Draw latents, (batch, *space.shape): they depend on label, id (0, 1, ... by default) and the seed alone.

        For many batches make a `sampler` once: it holds the weights in a layout that is fast to read.
        """
        device = next(self.parameters()).device
        ids = torch.arange(len(labels)) if image_ids is None else image_ids
        return self.sampler(sampling or default_sampling(self.config))(labels.to(device), ids.to(device))


@runtime_checkable
class HasNats(Protocol):
    """A generator with a likelihood."""

    def nats(self, latents: Tensor, labels: Int[Tensor, "batch"]) -> Float[Tensor, "batch positions"]:
        """Return nats per image and position; in training mode some labels are dropped."""
        ...
