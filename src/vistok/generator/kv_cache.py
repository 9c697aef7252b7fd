"""Static keys and values of earlier positions, passed to the model as an argument."""

import torch
from torch import Tensor


class LayerKVCache:
    """One layer's buffers; `update` returns views of the filled part, without copying."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.length = 0

    def update(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (batch heads new head_dim) and return all so far."""
        end = self.length + keys.shape[2]
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class KVCache:
    """Buffers for every layer: (batch, heads, positions, head_dim) twice."""

    def __init__(self, depth: int, batch: int, num_heads: int, positions: int, head_dim: int, like: Tensor) -> None:
        shape = (batch, num_heads, positions, head_dim)
        self.layers = [
            LayerKVCache(
                torch.empty(shape, dtype=like.dtype, device=like.device),
                torch.empty(shape, dtype=like.dtype, device=like.device),
            )
            for _ in range(depth)
        ]

    @property
    def length(self) -> int:
        """Positions filled so far."""
        return self.layers[0].length
