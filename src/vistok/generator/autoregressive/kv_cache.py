"""Static keys and values of earlier positions: allocated once, written in place, never copied."""

import torch
from torch import Tensor


class KVCache:
    """Key and value buffers for every layer, (rows, heads, positions, head_dim) each, and how far each row is.

    Either all rows are equally far (`length`; views of the filled part are used), or each row has a length of its own
    (`lengths`), as speculative decoding needs.
    """

    def __init__(self, depth: int, rows: int, num_heads: int, positions: int, head_dim: int, like: Tensor) -> None:
        shape = (depth, 2, rows, num_heads, positions, head_dim)
        self.buffers = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.length = 0
        self.lengths: Tensor | None = None

    def move(self, lengths: Tensor) -> None:
        """Set the rows' lengths; whatever lies beyond them will be overwritten."""
        first = int(lengths[0])
        self.length, self.lengths = (first, None) if bool((lengths == first).all()) else (0, lengths)

    def places(self, new: int) -> Tensor | slice:
        """Return where the next `new` positions go: a slice, or (rows new) if rows differ in length."""
        if self.lengths is None:
            return slice(self.length, self.length + new)
        return self.lengths[:, None] + torch.arange(new, device=self.lengths.device)

    def write(self, layer: int, places: Tensor | slice, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values, (rows new heads head_dim) each; return all that may be attended to."""
        k, v = self.buffers[layer]
        if isinstance(places, slice):
            k[:, :, places], v[:, :, places] = keys.transpose(1, 2), values.transpose(1, 2)
            return k[:, :, : places.stop], v[:, :, : places.stop]
        row = torch.arange(len(places), device=places.device)[:, None]
        k[row, :, places], v[row, :, places] = keys, values
        end = int(places.max()) + 1
        return k[:, :, :end], v[:, :, :end]
