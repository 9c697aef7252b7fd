"""What the rest of vistok may ask of a generator."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.generator.autoregressive.config import SamplingConfig

# (labels, image ids) -> tokens
Sampler = Callable[[Tensor, Tensor], Tensor]


class Generator(nn.Module, ABC):
    """A model of token grids given a class."""

    num_tokens: int
    codebook_size: int
    # What the file says of itself: class names, training, digest (empty for a new model).
    info: dict[str, Any] = {}
    num_classes: int

    @abstractmethod
    def loss(
        self, tokens: Int[Tensor, "batch positions"], labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch positions"]:
        """Return nats per image and position; in training mode some labels are dropped."""

    @abstractmethod
    def sampler(self, sampling: SamplingConfig) -> Sampler:
        """Return a function of labels and ids that draws tokens by these weights; make a new one where they change."""

    def sample(
        self,
        labels: Int[Tensor, "batch"],
        image_ids: Int[Tensor, "batch"] | None = None,
        sampling: SamplingConfig | None = None,
    ) -> Int[Tensor, "batch positions"]:
        """Draw one grid per label; a grid depends on its label, its id (0, 1, ... by default) and the seed alone.

        For many batches make a `sampler` once: it holds the weights in a layout that is fast to read.
        """
        device = next(self.parameters()).device
        ids = torch.arange(len(labels)) if image_ids is None else image_ids
        return self.sampler(sampling or SamplingConfig())(labels.to(device), ids.to(device))
