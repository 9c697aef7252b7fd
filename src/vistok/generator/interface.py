"""The interface through which the rest of vistok uses a generator."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.errors import UserError
from vistok.generator.config import GeneratorConfig, SamplingConfig
from vistok.generator.families import default_sampling
from vistok.generator.labels import labels_given
from vistok.nn.description import in_one_line
from vistok.origin import Origin
from vistok.space import Space

# (labels, image ids) -> latents
Sampler = Callable[[Tensor, Tensor], Tensor]


class Generator(nn.Module, ABC):
    """A class-conditional model of image latents: a network, and the ways of drawing from it."""

    config: GeneratorConfig
    space: Space
    num_classes: int
    # What the file's header says: class names, training, digest. Empty for a new network.
    info: Origin = Origin()

    @abstractmethod
    def sampler(self, sampling: SamplingConfig) -> Sampler:
        """Return a function of labels and ids that draws latents with these weights; make a new one if they change."""

    @abstractmethod
    def calls(self, sampling: SamplingConfig) -> int:
        """Return the number of forward passes for one image; guidance doubles it."""

    @abstractmethod
    def sampling_flops(self, sampling: SamplingConfig) -> float:
        """Return the FLOPs of drawing one image's latents, counted on the meta device from the code that runs."""

    @abstractmethod
    def sampling_bytes(self, sampling: SamplingConfig) -> int:
        """Return the peak memory, in bytes, that each additional image in a batch takes."""

    def way_of(self, sampling: SamplingConfig, batch: int) -> str:
        """Name the implementation that draws a batch of this size, if there are several with equal results, else ""."""
        return ""

    def sped_up(self, sampling: SamplingConfig, draft: "Generator", lookahead: int) -> Sampler:
        """Return a sampler of the same latents, sped up by a draft. Raises UserError if the family cannot use one."""
        raise UserError(
            f"a draft speeds up only autoregressive generators, but this one is {self.config.kind}; leave out --draft"
        )

    def normalise_by(self, mean: Float[Tensor, "channels"], deviation: Float[Tensor, "channels"]) -> None:  # noqa: B027
        """Take the mean and standard deviation of each channel of the vectors that training will bring."""

    @property
    def needs_places(self) -> bool:
        """Whether sampling starts from the mean and deviation of latents at each place, which training must bring."""
        return False

    def learn_places(self, mean: Tensor, deviation: Tensor) -> None:  # noqa: B027
        """Take the mean and standard deviation of latents at each place, (positions, dim) each."""

    def check_guidance(self, scale: float) -> None:  # noqa: B027 (most accept any)
        """Raise UserError for a guidance scale that this generator was not trained for."""

    def __repr__(self) -> str:
        classes = "1 class" if self.num_classes == 1 else f"{self.num_classes:,} classes"
        return in_one_line(self, f"{classes} -> {self.space}", self.info)

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded one by one."""
        return []

    def sample(
        self,
        labels: Any,
        image_ids: Int[Tensor, "batch"] | None = None,
        sampling: SamplingConfig | None = None,
    ) -> Tensor:
        """Draw latents, (batch, *space.shape), which depend only on label, id (0, 1, ... by default) and seed.

        `labels`: (batch,) class numbers as a tensor, an array or a list, or a list of names. Raises UserError for others.
        For many batches, create a `sampler` once: it keeps the weights in a layout that is fast to read.
        """
        device = next(self.parameters()).device
        labels = labels_given(labels, self.info.class_names)
        ids = torch.arange(len(labels)) if image_ids is None else image_ids
        return self.sampler(sampling or default_sampling(self.config))(labels.to(device), ids.to(device))


@runtime_checkable
class HasNats(Protocol):
    """A generator with a likelihood."""

    def nats(self, latents: Tensor, labels: Int[Tensor, "batch"]) -> Float[Tensor, "batch positions"]:
        """Return nats per image and position; in training mode some labels are dropped."""
        ...


@runtime_checkable
class HasInner(Protocol):
    """A generator whose inner layers can be read, as by a linear probe."""

    @property
    def num_layers(self) -> int:
        """The number of layers."""
        ...

    @property
    def null_label(self) -> int | None:
        """The label that stands for no class; None if training has never shown it."""
        ...

    def inner(self, latents: Tensor, labels: Int[Tensor, "batch"]) -> list[Float[Tensor, "batch width"]]:
        """Return what comes out of each layer for whole images, averaged over positions."""
        ...


@runtime_checkable
class HasHeldOut(Protocol):
    """A generator whose loss on held-out latents tells how training goes, though it is no likelihood."""

    def held_out(
        self, latents: Tensor, labels: Int[Tensor, "batch"], image_ids: Int[Tensor, "batch"]
    ) -> dict[str, Tensor]:
        """Return losses by name, each of all images or of some; whatever is random depends on an image's id alone."""
        ...
