"""The Llama block as LlamaGen uses it, with QK-norm: stage 2 and the causal regularizer share it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.linear import Linear
from vistok.nn.rope import apply_rotary

INIT_STD = 0.02
RMS_EPS = 1e-5


def feed_forward_width(width: int, multiple: int) -> int:
    """Return the SwiGLU hidden width: 8/3 of `width`, rounded up to `multiple` (Llama's rule)."""
    hidden = int(8 * width / 3)
    return multiple * ((hidden + multiple - 1) // multiple)


class Attention(nn.Module):
    """Causal multi-head self-attention, one fused projection, no biases.

    With `qk_norm`, queries and keys pass a layer norm over each head's dimensions (learned scale,
    no bias) before the rotary turn (ViT-22B; CRT paper, A.2).
    """

    def __init__(self, width: int, num_heads: int, qk_norm: bool = True) -> None:
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
        """Attend to this position and earlier ones."""
        query, key, value = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).unbind(2)
        query = apply_rotary(self.query_norm(query).transpose(1, 2), cos, sin)
        key = apply_rotary(self.key_norm(key).transpose(1, 2), cos, sin)
        value = value.transpose(1, 2)
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learned scale, in float32 also under autocast (eps 1e-5, as Llama's)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Normalise the last axis."""
        # Four kernels, where F.rms_norm takes ten on a CPU and twice the time.
        wide = x.float()
        scale = torch.rsqrt(torch.linalg.vecdot(wide, wide) / wide.shape[-1] + RMS_EPS)
        return (wide * scale[..., None] * self.weight).to(x.dtype)


class SwiGLU(nn.Module):
    """Gated feed-forward layer: down(silu(gate(x)) * up(x)), no biases."""

    def __init__(self, width: int, ffn_multiple: int) -> None:
        super().__init__()
        hidden = feed_forward_width(width, ffn_multiple)
        self.gate = Linear(width, hidden)
        self.up = Linear(width, hidden)
        self.down = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Pre-norm transformer block; dropout acts on both residual branches."""

    def __init__(
        self, width: int, num_heads: int, ffn_multiple: int = 256, qk_norm: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention = Attention(width, num_heads, qk_norm)
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, ffn_multiple)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        x = x + self.dropout(self.attention(self.attention_norm(x), cos, sin))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


def init_transformer(module: nn.Module) -> None:
    """Give every linear and embedding weight below `module` a normal(0, 0.02) start; biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=INIT_STD)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
