"""A trained transformer prepared for writing tokens: frozen weights in fast layouts, and a static cache."""

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vistok.generator.autoregressive.kv_cache import KVCache
from vistok.generator.autoregressive.native import MOST, native_step
from vistok.generator.autoregressive.network import AutoregressiveNetwork
from vistok.nn.linear_kernels import PlainLinear, Rounding, frozen_linear
from vistok.nn.mixers.softmax import Attention
from vistok.nn.rope import as_turns, turn_pairs
from vistok.nn.transformer import Block


class _Layer:
    """One block's weights; the results equal those of `Block.forward` without dropout."""

    def __init__(self, block: Block, rounding: Rounding) -> None:
        attention, feed_forward = block.attention, block.feed_forward
        assert isinstance(attention, Attention)
        self.attention_norm, self.feed_forward_norm = block.attention_norm, block.feed_forward_norm
        self.query_norm, self.key_norm = attention.query_norm, attention.key_norm
        self.heads = (3, attention.num_heads, attention.head_dim)
        self.qkv, self.out = (frozen_linear(layer.weight, rounding) for layer in (attention.qkv, attention.out))
        self.gate, self.up, self.down = (
            frozen_linear(layer.weight, rounding) for layer in (feed_forward.gate, feed_forward.up, feed_forward.down)
        )


class FrozenTransformer:
    """A generator whose weights must not change while in use (create a new one after that). No gradients, no dropout.

    Raises TypeError for a model with blocks other than `Block`.
    """

    def __init__(self, model: AutoregressiveNetwork, rounding: Rounding = "none") -> None:
        self.model, self.rounding, self.blocks = model, rounding, model.plain_blocks()
        self.native = native_step(model, rounding)
        # The rotations of all positions as complex numbers: one product instead of six.
        self.turns = as_turns(model.cos, model.sin)[:, None]

    @cached_property
    def layers(self) -> list[_Layer]:
        """The blocks with weights in layouts for many rows; these are copies, so they are made only when needed."""
        return [_Layer(block, self.rounding) for block in self.blocks]

    @cached_property
    def head(self) -> PlainLinear:
        """The output projection, prepared like `layers`."""
        return frozen_linear(self.model.head.weight, self.rounding)

    def new_cache(self, rows: int, spare: int = 0) -> KVCache:
        """Return an empty cache; `spare` positions past the end may be fed without harm."""
        config, positions = self.model.config, self.model.num_tokens + spare
        head_dim = config.width // config.num_heads
        return KVCache(config.depth, rows, config.num_heads, positions, head_dim, like=self.model.head.weight)

    @torch.no_grad()
    def logits(self, x: Float[Tensor, "rows new width"], cache: KVCache) -> Float[Tensor, "rows new codes"]:
        """Feed embedded inputs that follow the cached ones; return the logits for the token after each."""
        places = cache.places(x.shape[1])
        if self.native is not None and 0 < x.shape[0] * x.shape[1] <= MOST:
            logits = self.native(x, cache, _each(places, x.shape[0]))
        else:
            logits = self._logits(x, cache, places)
        if isinstance(places, slice):
            cache.length = places.stop
        return logits

    def _logits(self, x: Tensor, cache: KVCache, places: Tensor | slice) -> Tensor:
        mask = _mask(places, x.shape[1], x.device)
        turns = self._turns(places)
        for i, layer in enumerate(self.layers):
            query, key, value = layer.qkv(layer.attention_norm(x)).unflatten(-1, layer.heads).unbind(2)
            query = turn_pairs(layer.query_norm(query), turns).transpose(1, 2)
            keys, values = cache.write(i, places, turn_pairs(layer.key_norm(key), turns), value)
            y = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
            x = layer.out.plus(y.transpose(1, 2).flatten(2), x)
            h = layer.feed_forward_norm(x)
            x = layer.down.plus(layer.up.times(h, layer.gate.silu(h)), x)
        return self.head(self.model.norm(x))

    def _turns(self, places: Tensor | slice) -> Tensor:
        """Return these positions' rotations, broadcast over heads; positions past the end take the last one's."""
        last = len(self.turns) - 1
        if isinstance(places, slice):
            places = torch.arange(places.start, places.stop, device=self.turns.device)
        return self.turns[places.clamp(max=last)]


def _each(places: Tensor | slice, rows: int) -> Tensor:
    """Return each row's new positions, (rows, new)."""
    return torch.arange(places.start, places.stop).repeat(rows, 1) if isinstance(places, slice) else places


def _mask(places: Tensor | slice, new: int, device: torch.device) -> Tensor | None:
    """Return the mask of what each new position may see, (new, positions) or (rows, 1, new, positions); None: all."""
    if isinstance(places, slice):
        if new == 1:
            return None
        return torch.ones(new, places.stop, dtype=torch.bool, device=device).tril(places.start)
    seen = torch.arange(int(places.max()) + 1, device=device)
    return (seen <= places[:, :, None])[:, None]
