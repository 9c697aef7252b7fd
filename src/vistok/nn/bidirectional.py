"""Attention in which every position sees all others."""

from jaxtyping import Float
from torch import Tensor, nn

from vistok.nn.attention import attend
from vistok.nn.linear import Linear
from vistok.nn.rope import apply_rotary


class BidirectionalAttention(nn.Module):
    """Multi-head self-attention with one fused projection and biases; `norm` makes the norms of queries and keys."""

    def __init__(self, width: int, num_heads: int, norm: type[nn.Module] | None = None, qkv_bias: bool = True) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"width {width} is not a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.head_dim = width // num_heads
        self.qkv = Linear(width, 3 * width, bias=qkv_bias)
        self.out = Linear(width, width, bias=True)
        self.query_norm = norm(self.head_dim) if norm else nn.Identity()
        self.key_norm = norm(self.head_dim) if norm else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "batch positions width"],
        table: tuple[Float[Tensor, "positions pairs"], Float[Tensor, "positions pairs"]] | None,
    ) -> Float[Tensor, "batch positions width"]:
        """Let each position attend to all; `table`: rotary cosines and sines, or None."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(2)
        query, key = self.query_norm(query).transpose(1, 2), self.key_norm(key).transpose(1, 2)
        if table is not None:
            query, key = apply_rotary(query, *table), apply_rotary(key, *table)
        y = attend(query, key, value.transpose(1, 2))
        return self.out(y.transpose(1, 2).flatten(2))
