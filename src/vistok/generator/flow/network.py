"""The transformer of the flow family: LightningDiT, with DiT's parts as switches."""

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.errors import UserError
from vistok.generator.conditioning import ClassEmbedding
from vistok.generator.flow.config import FlowConfig
from vistok.generator.flow.patches import coarse_layout
from vistok.nn.bidirectional import BidirectionalAttention
from vistok.nn.gated import gated_halves
from vistok.nn.linear import Linear
from vistok.nn.modulation import Modulation, TimeEmbedding
from vistok.nn.positions import fixed_positions, rotary_table
from vistok.nn.process import PROCESSES
from vistok.nn.rms_norm import RMSNorm
from vistok.space import Grid, Line, Space, Vectors

# Of the norms, as in LightningDiT and DiT.
EPS = 1e-6
# What guidance scales are multiplied by before they are embedded.
OF_SCALES = 10.0


# Values of inputs by name, each (batch,).
Further = Mapping[str, Tensor]


class PlainNorm(nn.LayerNorm):
    """Layer norm without weights of its own: the condition scales and shifts."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS, elementwise_affine=False)

    def modulated(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Return the norm times (1 + scale), plus shift."""
        return torch.addcmul(shift, self(x), 1 + scale)


class ScaledNorm(RMSNorm):
    """Root-mean-square norm with a learned scale."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=EPS)


class HeadNorm(nn.LayerNorm):
    """Layer norm of queries and keys, with weights."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-5)


class GatedLayer(nn.Module):
    """SwiGLU with biases; its hidden width is 8/3 of the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = int(2 / 3 * 4 * width)
        self.gate_and_up = Linear(width, 2 * hidden, bias=True)
        self.down = Linear(hidden, width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        return self.down(gated_halves(self.gate_and_up(x)))


class PlainLayer(nn.Module):
    """Two layers with GELU (its tanh form) between them, four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = Linear(width, 4 * width, bias=True)
        self.down = Linear(4 * width, width, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class FlowBlock(nn.Module):
    """A transformer block whose norms the condition shifts and scales, and whose branches it gates (adaLN-zero)."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        width, rms = config.width, config.norm == "rms"
        norm = ScaledNorm if rms else PlainNorm
        head_norm = (ScaledNorm if rms else HeadNorm) if config.qk_norm else None
        self.attention_norm, self.feed_forward_norm = norm(width), norm(width)
        self.attention = BidirectionalAttention(width, config.num_heads, head_norm)
        self.feed_forward = GatedLayer(width) if config.feed_forward == "swiglu" else PlainLayer(width)
        self.modulation = Modulation(width, 6)

    def forward(
        self, x: Float[Tensor, "batch positions width"], condition: Tensor, table: tuple[Tensor, Tensor] | None
    ) -> Float[Tensor, "batch positions width"]:
        """Map (batch, positions, width) to the same shape; `condition` is (batch, width)."""
        shift, scale, gate, shift_ff, scale_ff, gate_ff = self.modulation(condition)
        x = torch.addcmul(x, gate, self.attention(self.attention_norm.modulated(x, shift, scale), table))
        return torch.addcmul(x, gate_ff, self.feed_forward(self.feed_forward_norm.modulated(x, shift_ff, scale_ff)))


class FlowTrunk(nn.Module):
    """Embeddings and blocks, without the layer that predicts: what a network knows of noisy vectors, position by position."""

    cos: Tensor
    sin: Tensor
    places: Tensor

    def __init__(self, config: FlowConfig, space: Vectors, num_classes: int) -> None:
        super().__init__()
        self.config, self.patch, self.layout = config, config.patch, space.layout
        coarse = coarse_layout(space.layout, config.patch)
        self.inner = space.dim * config.patch ** (2 if isinstance(coarse, Grid) else 1)
        self.embed = nn.Linear(self.inner, config.width)
        self.time = TimeEmbedding(config.width, config.time_scale)
        self.classes = ClassEmbedding(num_classes, config.width, config.label_dropout)
        factors = {"scale": OF_SCALES, "until": config.time_scale}
        self.inputs = nn.ModuleDict({name: TimeEmbedding(config.width, factors[name]) for name in config.inputs})
        self.blocks = nn.ModuleList(FlowBlock(config) for _ in range(config.depth))
        cos, sin = rotary_table(coarse, config.width // config.num_heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.register_buffer("places", fixed_positions(coarse, config.width), persistent=False)

    def condition(self, t: Float[Tensor, "batch"], labels: Int[Tensor, "batch"], further: Further) -> Tensor:
        """Return what modulates all blocks, (batch, width): the time, the class and further inputs."""
        condition = self.time(PROCESSES[self.config.path].told(t)) + self.classes(labels)
        for name, embedding in self.inputs.items():
            condition = condition + embedding(_told(name, t, further))
        return condition

    def through_blocks(
        self, x: Float[Tensor, "batch positions dim"], condition: Tensor, layer: int
    ) -> tuple[Float[Tensor, "batch patches width"], Float[Tensor, "batch patches width"]]:
        """Return the output of the last block, and that of a block counted from 1 (0: what goes into the first)."""
        h = self.embed(self._gathered(x)) + self.places
        table = (self.cos, self.sin) if self.config.rotary else None
        inner = h
        for number, block in enumerate(self.blocks, 1):
            h = block(h, condition, table)
            inner = h if number == layer else inner
        return h, inner

    def _gathered(self, x: Tensor) -> Tensor:
        """Return patches of latents as positions, (batch, patches, numbers): a patch's rows, its columns, channels."""
        p = self.patch
        if p == 1:
            return x
        if isinstance(self.layout, Line):
            return x.unflatten(1, (-1, p)).flatten(2)
        rows, columns = self.layout.height // p, self.layout.width // p
        return x.unflatten(1, (rows, p, columns, p)).transpose(2, 3).flatten(3).flatten(1, 2).flatten(2)


class FlowNetwork(FlowTrunk):
    """Predicts velocity, noise or clean data of normalised vectors from their noisy version, the time and the class."""

    def __init__(self, config: FlowConfig, space: Vectors, num_classes: int) -> None:
        super().__init__(config, space, num_classes)
        self.norm = ScaledNorm(config.width) if config.norm == "rms" else PlainNorm(config.width)
        self.modulation = Modulation(config.width, 2)
        self.out = nn.Linear(config.width, self.inner)
        self.init_weights()

    def init_weights(self) -> None:
        """Set DiT's initial values: blocks begin as the identity, and the output and what further inputs add as zero."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        for weight in (self.classes.table.weight, self.time.first.weight, self.time.second.weight):
            nn.init.normal_(weight, std=0.02)
        for layer in self.modules():
            if isinstance(layer, Modulation):
                layer.init_weights()
        nn.init.zeros_(self.out.weight)
        for embedding in self.inputs.values():
            nn.init.zeros_(cast(TimeEmbedding, embedding).second.weight)

    def forward(
        self,
        x: Float[Tensor, "batch positions dim"],
        t: Float[Tensor, "batch"],
        labels: Int[Tensor, "batch"],
        further: Further | None = None,
    ) -> Float[Tensor, "batch positions dim"]:
        """Return the prediction at noisy vectors x and times t; in training mode some labels are dropped.

        `further`: values (batch,) of `config.inputs` by name. Left out, the scale is 1 and a step ends where it begins.
        """
        return self.with_inner(x, t, labels, 0, further)[0]

    def with_inner(
        self,
        x: Float[Tensor, "batch positions dim"],
        t: Float[Tensor, "batch"],
        labels: Int[Tensor, "batch"],
        layer: int,
        further: Further | None = None,
    ) -> tuple[Float[Tensor, "batch positions dim"], Float[Tensor, "batch patches width"]]:
        """Return the prediction, and what comes out of a block, counted from 1 (0: what goes into the first)."""
        condition = self.condition(t, labels, further or {})
        h, inner = self.through_blocks(x, condition, layer)
        shift, scale = self.modulation(condition)
        return self._spread(self.out(self.norm.modulated(h, shift, scale))), inner

    def _spread(self, x: Tensor) -> Tensor:
        """Undo `_gathered`."""
        p = self.patch
        if p == 1:
            return x
        if isinstance(self.layout, Line):
            return x.unflatten(2, (p, -1)).flatten(1, 2)
        rows, columns = self.layout.height // p, self.layout.width // p
        return x.unflatten(1, (rows, columns)).unflatten(3, (p, p, -1)).transpose(2, 3).flatten(1, 4)


def _told(name: str, t: Tensor, further: Further) -> Tensor:
    """Return what is embedded for an input: a guidance scale, or how long a step takes."""
    if name == "scale":
        return further.get("scale", torch.ones_like(t))
    return further.get("until", t) - t


def check_space(config: FlowConfig, space: Space) -> Vectors:
    """Return the space. Raises UserError if this family cannot write it."""
    if not isinstance(space, Vectors):
        raise UserError(
            f"a flow generator writes vectors, but these latents are {space}; use a tokenizer with the kl bottleneck, or an "
            "autoregressive generator"
        )
    coarse_layout(space.layout, config.patch)
    return space
