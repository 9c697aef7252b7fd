"""Writing tokens with any kind of block and mixer: like `FrozenTransformer`, but without its fast layouts."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vistok.generator.autoregressive.network import AutoregressiveNetwork


class Steps:
    """The state of each block's mixer, and the position that all rows have reached."""

    def __init__(self, states: list[Any]) -> None:
        self.states, self.length = states, 0


class StepwiseTransformer:
    """A generator that feeds positions through `Block.step` one at a time. No gradients, no dropout."""

    def __init__(self, model: AutoregressiveNetwork) -> None:
        self.model, self.native = model, None

    def new_cache(self, rows: int, spare: int = 0) -> Steps:
        """Return the states before the first position."""
        positions = self.model.num_tokens + spare
        return Steps([block.attention.new_state(rows, positions) for block in self.model.blocks])  # type: ignore[union-attr, operator]

    @torch.no_grad()
    def logits(self, x: Float[Tensor, "rows new width"], cache: Steps) -> Float[Tensor, "rows new codes"]:
        """Feed embedded inputs that follow the earlier ones; return the logits for the token after each."""
        logits = []
        for column in x.split(1, dim=1):
            place = slice(cache.length, cache.length + 1)
            for block, state in zip(self.model.blocks, cache.states, strict=True):
                column = block.step(column, state, self.model.cos[place], self.model.sin[place])  # type: ignore[operator]
            logits.append(self.model.head(self.model.norm(column)))
            cache.length += 1
        return torch.cat(logits, dim=1)
