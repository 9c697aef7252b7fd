"""Configs of the flow family: the transformer, what it is trained on, and how it is sampled."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vistok.config import Config, later
from vistok.generator.config import GeneratorConfig, SamplingConfig
from vistok.generator.flow.patches import coarse_layout
from vistok.nn.frozen_config import FrozenNetwork, require_file
from vistok.nn.mixers.config import require_heads
from vistok.nn.solver_names import SolverName
from vistok.space import Layout


class RepresentationConfig(Config):
    """Pull an inner layer towards a frozen vision network's features (REPA, Yu et al. 2024, arXiv 2410.06940), in training.

    After block `layer`, counted from 1, a projection of three layers, `projector` wide, should point where the features of the
    clean image point. They are cached once beside the latents. `features` are those of the alignment regularizer.
    """

    layer: int = Field(default=8, ge=1)
    weight: float = Field(default=0.5, ge=0)
    projector: int = Field(default=2048, ge=1)
    features: FrozenNetwork = "imagenet"
    # DINOv2's weights, as Meta releases them; its contents count for a run's name, not its path.
    features_file: str | None = None

    @model_validator(mode="after")
    def _file(self) -> "RepresentationConfig":
        require_file(self.features, self.features_file)
        return self


class ShortenedConfig(Config):
    """What a shortcut made a network for: so many steps of a solver, at guidance scales that are in the network itself.

    `scales`: the scales that the network is told (input "scale"), or the one that it has learned for good, twice. `informative`:
    sampling starts from noise with the mean and the deviation that data have at each place, mixed as at the beginning of the
    path (YOSO, arXiv 2403.12931, section 4.3); where that is noise alone, nothing changes.
    """

    steps: int = Field(ge=1, le=10_000)
    solver: SolverName = "ddim"
    scales: tuple[float, float] = (1.0, 1.0)
    informative: bool = later(False)

    @model_validator(mode="after")
    def _in_order(self) -> "ShortenedConfig":
        if not 0 <= self.scales[0] <= self.scales[1]:
            raise ValueError(f"scales must be two numbers in order, from 0 on, found {self.scales}")
        return self


class FlowConfig(GeneratorConfig):
    """LightningDiT (Yao et al. 2025, arXiv 2501.01423) over vectors on a grid or a line. Each rung of its ladder is a switch.

    DiT (Peebles and Xie 2022, arXiv 2212.09748) is norm "layer", feed_forward "gelu", rotary false, path "ddpm", predicts
    "noise", times "uniform", direction_weight 0, and patch 2; its learned variance, which other solvers use, is left out.
    """

    kind: Literal["flow"] = "flow"
    width: int = Field(default=384, ge=4)
    depth: int = Field(default=12, ge=1, le=1000)
    num_heads: int = Field(default=6, ge=1)
    # Side of the squares of latents that are one position to the transformer (on a line: their number).
    patch: Literal[1, 2, 4, 8] = 1
    norm: Literal["rms", "layer"] = "rms"
    feed_forward: Literal["swiglu", "gelu"] = "swiglu"
    rotary: bool = True
    qk_norm: bool = False
    label_dropout: float = Field(default=0.1, ge=0, lt=1)
    # Times lie in [0, 1] and are multiplied by this before they are embedded; DDPM's are counted from the data's side.
    time_scale: float = Field(default=1000.0, gt=0)
    path: Literal["linear", "cosine", "ddpm"] = "linear"
    predicts: Literal["velocity", "noise", "clean"] = "velocity"
    # Where times are drawn in training: evenly, or as the logistic function of a normal number, mostly in the middle.
    times: Literal["logit_normal", "uniform"] = "logit_normal"
    # Weight of one minus the cosine between the predicted and the true vector at each position.
    direction_weight: float = Field(default=1.0, ge=0)
    representation: RepresentationConfig | None = later(None)
    # What the network is told besides the time and the class: the guidance scale, and the time at which a step will end, over
    # which it then predicts the average velocity.
    inputs: tuple[Literal["scale", "until"], ...] = later(())
    # Set by the shortcut that made this network out of another one.
    shortened: ShortenedConfig | None = later(None)

    def usual_sampling(self) -> dict[str, Any]:
        """Return the steps and the solver that a shortcut made the network for."""
        made = self.shortened
        if made is None:
            return {}
        low, high = made.scales
        return {"steps": made.steps, "solver": made.solver, "guidance_scale": min(max(1.0, low), high)}

    @property
    def aligned(self) -> RepresentationConfig | None:
        """How an inner layer is pulled towards a frozen network's features."""
        return self.representation

    def by_contents(self) -> "FlowConfig":
        """Return this config without the path of the frozen network's file."""
        if self.representation is None:
            return self
        return self.replace(representation=self.representation.replace(features_file=None))

    def positions(self, layout: Layout) -> Layout:
        """Return the layout of the transformer's positions: patches of latents."""
        return coarse_layout(layout, self.patch)

    @model_validator(mode="after")
    def _told(self) -> "FlowConfig":
        if self.inputs and self.shortened is None:
            raise ValueError(f"inputs {self.inputs}: only shortcuts train them (vistok shorten); leave inputs empty")
        return self

    @model_validator(mode="after")
    def _heads(self) -> "FlowConfig":
        require_heads(self.width, self.num_heads)
        if self.representation is not None and self.representation.layer > self.depth:
            raise ValueError(
                f"representation.layer {self.representation.layer}: this network has {self.depth} layers; REPA takes one in the first "
                "third"
            )
        return self


# Width, layers and heads of DiT's and LightningDiT's sizes.
SIZES: dict[str, tuple[int, int, int]] = {
    "s": (384, 12, 6),
    "b": (768, 12, 12),
    "l": (1024, 24, 16),
    "xl": (1152, 28, 16),
}


def flow_size(name: str, patch: Literal[1, 2, 4, 8] = 1) -> FlowConfig:
    """Return one of the published sizes ("s", "b", "l", "xl"), with times embedded as LightningDiT does."""
    width, depth, heads = SIZES[name]
    return FlowConfig(width=width, depth=depth, num_heads=heads, patch=patch, time_scale=1.0)


class FlowSampling(SamplingConfig):
    """From noise to data in `steps` steps of a solver, with guidance while `guidance_from` <= time < `guidance_until`.

    `warp` below 1 spends more steps near noise (LightningDiT: 0.3). `guidance_channels` guides only the first channels,
    as the code of DiT and LightningDiT does with three, for parity with published samples; None: all of them.

    Solver "renoise" predicts the data in each step and mixes them with fresh noise for the next (consistency models, Song et al.
    2023, arXiv 2303.01469, algorithm 1); "double_step" goes two steps ahead and one back by fresh noise (Meng et al. 2022, arXiv
    2210.03142, algorithm 4). The others use no noise but that of the start. A network that is told the guidance scale
    (`inputs`) needs no second call for it.
    """

    kind: Literal["flow"] = "flow"
    steps: int = Field(default=20, ge=1, le=10_000)
    solver: SolverName = "multistep"
    warp: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    guidance_from: float = Field(default=0.0, ge=0, le=1)
    guidance_until: float = Field(default=1.0, ge=0, le=1)
    guidance_channels: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _interval(self) -> "FlowSampling":
        if self.guidance_from >= self.guidance_until:
            raise ValueError(
                f"guidance_from must be less than guidance_until, found {self.guidance_from} and {self.guidance_until}"
            )
        return self
