"""The Llama block as used by LlamaGen, plus QK-norm; shared by stage 2 and the causal regularizer."""

from typing import Any

from torch import Tensor, nn

from vistok.config import make
from vistok.nn.gated import gated
from vistok.nn.linear import Linear
from vistok.nn.mixers.base import Mixer
from vistok.nn.mixers.config import MIXERS, MixerConfig, SoftmaxConfig
from vistok.nn.rms_norm import RMSNorm

INIT_STD = 0.02
SOFTMAX = SoftmaxConfig()


def feed_forward_width(width: int, multiple: int) -> int:
    """Return the SwiGLU hidden width: 8/3 of `width`, rounded up to `multiple` (Llama's rule)."""
    hidden = int(8 * width / 3)
    return multiple * ((hidden + multiple - 1) // multiple)


class SwiGLU(nn.Module):
    """Gated feed-forward layer: down(silu(gate(x)) * up(x)), without biases."""

    def __init__(self, width: int, ffn_multiple: int) -> None:
        super().__init__()
        hidden = feed_forward_width(width, ffn_multiple)
        self.gate = Linear(width, hidden)
        self.up = Linear(width, hidden)
        self.down = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        return self.down(gated(self.gate(x), self.up(x)))


class Block(nn.Module):
    """Pre-norm transformer block; dropout acts on both residual branches."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        ffn_multiple: int = 256,
        qk_norm: bool = True,
        dropout: float = 0.0,
        mixer: MixerConfig = SOFTMAX,
    ) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width)
        self.attention: Mixer = make(MIXERS, mixer, width, num_heads, qk_norm)
        self.feed_forward_norm = RMSNorm(width)
        self.feed_forward = SwiGLU(width, ffn_multiple)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Map (batch, positions, width) to the same shape."""
        x = x + self.dropout(self.attention(self.attention_norm(x), cos, sin))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def step(self, x: Tensor, state: Any, cos: Tensor, sin: Tensor) -> Tensor:
        """Map the next position (rows, 1, width) without dropout; `state` belongs to the mixer."""
        x = x + self.attention.step(self.attention_norm(x), state, cos, sin)
        return x + self.feed_forward(self.feed_forward_norm(x))


def init_transformer(module: nn.Module) -> None:
    """Draw every linear and embedding weight in `module` from normal(0, 0.02), and set biases to zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.normal_(layer.weight, std=INIT_STD)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
