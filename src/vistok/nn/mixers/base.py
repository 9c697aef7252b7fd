"""The contract of every mixer."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Mixer(nn.Module, ABC):
    """Lets each position see itself and those before it: attention's place in a block.

    Built from (config, width, num_heads, qk_norm). `forward` takes all positions at once; `step` the next one alone, given
    what `new_state` began and earlier steps left, and gives what `forward` gives there.
    """

    @abstractmethod
    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape; `cos` and `sin`: rotary tables, (positions, pairs)."""

    @abstractmethod
    def new_state(self, rows: int, positions: int) -> Any:
        """Return what steps keep for so many rows and at most so many positions."""

    @abstractmethod
    def step(self, x: Tensor, state: Any, cos: Tensor, sin: Tensor) -> Tensor:
        """Map the next position (rows, 1, width) to the same shape, and take it into `state`; tables (1, pairs)."""
