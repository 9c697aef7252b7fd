"""The contract that every mixer fulfils."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Mixer(nn.Module, ABC):
    """Lets each position see itself and earlier positions: it fills attention's slot in a transformer block.

    Constructed with (config, width, num_heads, qk_norm). `forward` processes all positions at once. `step` processes only
    the next one, using a state that `new_state` creates and each step updates; its output equals `forward`'s at that
    position.
    """

    @abstractmethod
    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape; `cos` and `sin` are rotary tables of (positions, pairs)."""

    @abstractmethod
    def new_state(self, rows: int, positions: int) -> Any:
        """Return an empty state for `step`, for this many rows and at most this many positions."""

    @abstractmethod
    def step(self, x: Tensor, state: Any, cos: Tensor, sin: Tensor) -> Tensor:
        """Map the next position (rows, 1, width) to the same shape and add it to `state`; the tables are (1, pairs)."""
