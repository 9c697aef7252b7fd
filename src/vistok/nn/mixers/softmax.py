"""Softmax attention."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vistok.nn.attention import attend
from vistok.nn.linear import Linear
from vistok.nn.mixers.base import Mixer
from vistok.nn.mixers.config import SoftmaxConfig
from vistok.nn.rope import apply_rotary


class Attention(Mixer):
    """Causal multi-head self-attention with one fused projection and no biases.

    With `qk_norm`, queries and keys pass through a layer norm over each head's dimensions (learned scale,
    no bias) before the rotary embedding (ViT-22B; CRT paper, A.2).
    """

    def __init__(self, config: SoftmaxConfig, width: int, num_heads: int, qk_norm: bool = True) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is not a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.head_dim = width // num_heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.query_norm = nn.LayerNorm(self.head_dim, bias=False) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(self.head_dim, bias=False) if qk_norm else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "batch positions width"],
        cos: Float[Tensor, "positions pairs"],
        sin: Float[Tensor, "positions pairs"],
    ) -> Float[Tensor, "batch positions width"]:
        """Let each position attend to itself and to earlier positions."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(2)
        query = apply_rotary(self.query_norm(query).transpose(1, 2), cos, sin)
        key = apply_rotary(self.key_norm(key).transpose(1, 2), cos, sin)
        value = value.transpose(1, 2)
        y = attend(query, key, value, causal=True)
        return self.out(y.transpose(1, 2).flatten(2))

    def new_state(self, rows: int, positions: int) -> list[Tensor]:
        """Return an empty key-value cache."""
        empty = self.qkv.weight.new_empty(rows, self.num_heads, 0, self.head_dim)
        return [empty, empty]

    def step(self, x: Tensor, state: list[Tensor], cos: Tensor, sin: Tensor) -> Tensor:
        """Attend to the cached positions and to this one."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(2)
        query = apply_rotary(self.query_norm(query).transpose(1, 2), cos, sin)
        key = apply_rotary(self.key_norm(key).transpose(1, 2), cos, sin)
        state[0], state[1] = torch.cat([state[0], key], dim=2), torch.cat([state[1], value.transpose(1, 2)], dim=2)
        y = attend(query, state[0], state[1])
        return self.out(y.transpose(1, 2).flatten(2))
