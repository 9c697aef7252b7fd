"""Configs of shortcuts, and the table of their kinds. Each says what network it makes out of a teacher's."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vistok.config import Config, Kinds, Part
from vistok.generator.flow.config import FlowConfig, ShortenedConfig
from vistok.shortcut.rewards_config import RewardConfig

Scales = Annotated[tuple[float, float], "least and greatest guidance scale"]
# The solvers that draw with what progressive distillation made for its two samplers.
SAMPLERS: dict[str, Literal["ddim", "double_step"]] = {"deterministic": "ddim", "stochastic": "double_step"}


class ShortcutConfig(Config):
    """What all shortcuts say: their kind, and the network that they make."""

    kind: str

    def network(self, teacher: FlowConfig) -> FlowConfig:
        """Return the config of the network that this shortcut makes, given the teacher's (or, without one, its own)."""
        raise NotImplementedError

    def asked_at(self, teacher: FlowConfig) -> tuple[float, ...]:
        """Return the guidance scales at which a teacher is asked for its predictions."""
        return ()

    def continues(self, kind: str, made: ShortenedConfig) -> bool:
        """Whether it takes over from a generator that a shortcut of this kind made, and which follows no flow."""
        return False


def _shortened(teacher: FlowConfig, made: ShortenedConfig, *inputs: Literal["scale", "until"]) -> FlowConfig:
    """Return a teacher's config with further inputs; labels are never dropped, as guidance needs no second call."""
    told = (*teacher.inputs, *(name for name in inputs if name not in teacher.inputs))
    return teacher.replace(inputs=told, shortened=made, label_dropout=0.0, representation=None)


class GuidedConfig(ShortcutConfig):
    """One call in place of guidance's two, for a whole range of scales (Meng et al. 2022, arXiv 2210.03142, section 3.1).

    `scales`: the network is told a scale and trained evenly between these two; the paper's w is the scale minus 1. `steps`: how
    many the result takes where no number is given.
    """

    kind: Literal["guided"] = "guided"
    scales: Scales = (1.0, 5.0)
    steps: int = Field(default=32, ge=1, le=10_000)

    @model_validator(mode="after")
    def _in_order(self) -> "GuidedConfig":
        if not 0 <= self.scales[0] < self.scales[1]:
            raise ValueError(f"scales must be two numbers in order, from 0 on, found {self.scales}")
        return self

    def network(self, teacher: FlowConfig) -> FlowConfig:
        """Return the teacher's network, which is told the guidance scale."""
        made = ShortenedConfig(steps=self.steps, solver="multistep", scales=self.scales)
        return _shortened(teacher, made, "scale")

    def asked_at(self, teacher: FlowConfig) -> tuple[float, ...]:
        """Return the ends of the range."""
        return self.scales


class ProgressiveConfig(ShortcutConfig):
    """Half the steps, again and again (Salimans and Ho 2022, arXiv 2202.00512; Meng et al. 2022, arXiv 2210.03142, section 3.2).

    The teacher takes `from_steps`, the last student `to_steps`; the rounds between get equal shares of training, but those to two
    steps and to one twice as much. `sampler`: what the student is trained for and drawn with, ddim or the paper's stochastic
    sampler (its algorithm 3). A teacher that is not told its guidance scale is halved at `guidance_scale`, which becomes part of the student.
    """

    kind: Literal["progressive"] = "progressive"
    from_steps: int = Field(default=32, ge=2, le=2**14)
    to_steps: int = Field(default=4, ge=1)
    sampler: Literal["deterministic", "stochastic"] = "deterministic"
    guidance_scale: float = Field(default=1.0, ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _halves(self) -> "ProgressiveConfig":
        ratio, rest = divmod(self.from_steps, self.to_steps)
        if rest or ratio < 2 or ratio & (ratio - 1):
            raise ValueError(
                f"from_steps {self.from_steps} must be to_steps {self.to_steps} times 2, 4, 8 or another power of two"
            )
        return self

    @property
    def rounds(self) -> tuple[int, ...]:
        """The student's steps in each round: 16, 8 and 4 from 32 to 4."""
        count = (self.from_steps // self.to_steps).bit_length() - 1
        return tuple(self.from_steps >> number for number in range(1, count + 1))

    def network(self, teacher: FlowConfig) -> FlowConfig:
        """Return the teacher's network."""
        scales = (self.guidance_scale,) * 2 if teacher.shortened is None else teacher.shortened.scales
        return _shortened(teacher, ShortenedConfig(steps=self.to_steps, solver=SAMPLERS[self.sampler], scales=scales))

    def asked_at(self, teacher: FlowConfig) -> tuple[float, ...]:
        """Return the scale that becomes part of the student; a teacher that has scales of its own keeps them."""
        return (self.guidance_scale,) if teacher.shortened is None else ()

    def continues(self, kind: str, made: ShortenedConfig) -> bool:
        """Whether it asks the teacher for the steps that the teacher has learned: as many, of the same sampler."""
        return kind == self.kind and (made.steps, made.solver) == (self.from_steps, SAMPLERS[self.sampler])


class SelfCooperativeConfig(ShortcutConfig):
    """YOSO (Luo et al. 2024, arXiv 2403.12931): a GAN whose real samples are the generator's own, made from less noise.

    Shifts are in units of the whole path (the released code has 250 and 25 of 1,000 steps). `data_share`: how many of the real
    samples are data instead. `lora_rank`: train matrices of this rank beside the weights, not the weights (the paper: 64).
    """

    kind: Literal["self_cooperative"] = "self_cooperative"
    steps: int = Field(default=1, ge=1, le=1000)
    adversarial_shift: float = Field(default=0.25, gt=0, le=1)
    consistency_shift: float = Field(default=0.025, gt=0, le=1)
    adversarial_weight: float = Field(default=1.0, ge=0)
    consistency_weight: float = Field(default=2.0, ge=0)
    reconstruction_weight: float = Field(default=0.5, ge=0)
    # Both are bounded by this: the signal-to-noise ratio before the reconstruction, and the weight of consistency.
    most_weight: float = Field(default=5.0, gt=0)
    # Compare data for consistency in the teacher's middle layer, or as they are.
    consistency: Literal["latent_perceptual", "mean_square"] = "latent_perceptual"
    data_share: float = Field(default=0.0, ge=0, le=1)
    # Share of times at the very beginning of the path, where a single call starts.
    start_share: float = Field(default=0.25, ge=0, le=1)
    lora_rank: int | None = Field(default=None, ge=1)
    # Start from what data are like at each place: for paths that begin with a little of the data.
    informative_start: bool = False

    def network(self, teacher: FlowConfig) -> FlowConfig:
        """Return the teacher's network."""
        made = ShortenedConfig(steps=self.steps, solver="renoise", informative=self.informative_start)
        return _shortened(teacher, made)

    def asked_at(self, teacher: FlowConfig) -> tuple[float, ...]:
        """Return 1: its predictions are not guided."""
        return (1.0,)


class ScoreConfig(ShortcutConfig):
    """Diff-Instruct* (Luo et al. 2024, arXiv 2410.20898): a reward, near a reference by a divergence of scores.

    `divergence`: "pseudo_huber" is the paper's, "l2" SiD's (arXiv 2404.04057, alpha 1), "integral_kl" Diff-Instruct's (2305.18455).
    `huber`: its constant; None: 0.00054 times the root of the numbers of an image's latents. The guidance scale is an implicit
    reward: in the reference's scores ("in", the paper's better one), or as a term of its own ("out").
    """

    kind: Literal["score"] = "score"
    divergence: Literal["pseudo_huber", "l2", "integral_kl"] = "pseudo_huber"
    huber: float | None = Field(default=None, gt=0)
    # Steps of the assistant for each step of the generator.
    assistant_updates: int = Field(default=1, ge=1)
    guidance_scale: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    guidance: Literal["in", "out"] = "in"
    times: tuple[float, float] = (0.02, 0.98)
    reward: RewardConfig | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "ScoreConfig":
        if not 0 <= self.times[0] < self.times[1] <= 1:
            raise ValueError(f"times must be two numbers in order between 0 and 1, found {self.times}")
        return self

    def network(self, teacher: FlowConfig) -> FlowConfig:
        """Return the teacher's network."""
        made = ShortenedConfig(steps=1, solver="ddim", scales=(self.guidance_scale, self.guidance_scale))
        return _shortened(teacher, made)

    def asked_at(self, teacher: FlowConfig) -> tuple[float, ...]:
        """Return the scale, and beside it the plain prediction where guidance is a term of its own."""
        return (self.guidance_scale, *((1.0,) if self.guidance == "out" else ()))


class AdaptationConfig(ShortcutConfig):
    """A student on another path, with another prediction, and as many calls: what YOSO needs of a teacher that predicts noise.

    The paper does it in two runs (arXiv 2403.12931, section 4.3): first velocities on the teacher's own `path`, then a path that begins
    with noise alone, such as "cosine".
    """

    kind: Literal["adaptation"] = "adaptation"
    path: Literal["linear", "cosine", "ddpm"] = "cosine"
    predicts: Literal["velocity", "clean"] = "velocity"

    def network(self, teacher: FlowConfig) -> FlowConfig:
        """Return the teacher's network for another path; labels are dropped as in the teacher's training."""
        return teacher.replace(path=self.path, predicts=self.predicts, representation=None)


class MeanFlowConfig(ShortcutConfig):
    """MeanFlow (Geng et al. 2025, arXiv 2505.13447): average velocities over whole steps, without a teacher.

    `instantaneous`: share of steps of no length, for which the loss is flow matching. `derivative`: along the path, by finite
    differences over `difference`, or by forward-mode differentiation. `power`: of the squared error that the loss is divided by.
    """

    kind: Literal["mean_flow"] = "mean_flow"
    steps: int = Field(default=1, ge=1, le=1000)
    instantaneous: float = Field(default=0.75, ge=0, le=1)
    guidance_scale: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    derivative: Literal["difference", "forward_mode"] = "difference"
    difference: float = Field(default=0.005, gt=0, lt=0.5)
    power: float = Field(default=1.0, ge=0)

    def network(self, teacher: FlowConfig) -> FlowConfig:
        """Return a network that is told where a step ends. Labels are dropped in training, for the scale that it learns."""
        made = ShortenedConfig(steps=self.steps, solver="euler", scales=(self.guidance_scale, self.guidance_scale))
        return teacher.replace(inputs=("until",), shortened=made)


@dataclass(frozen=True)
class Shortcut(Part):
    """A shortcut's config, the objective that trains it, and what it asks of a teacher.

    `teacher`: whether it has one. `plain`: that one must not have guidance inside. `follows`: what it makes still follows a flow at
    all times, so other shortcuts can begin from it. `begins_alone`: what it makes sees noise alone, where a predicted noise is no answer.
    """

    teacher: bool = True
    plain: bool = False
    follows: bool = False
    begins_alone: bool = True


SHORTCUTS: dict[str, Shortcut] = {
    "guided": Shortcut(GuidedConfig, "vistok.shortcut.guided:Guided", plain=True, follows=True, begins_alone=False),
    "progressive": Shortcut(ProgressiveConfig, "vistok.shortcut.progressive:Progressive"),
    "self_cooperative": Shortcut(SelfCooperativeConfig, "vistok.shortcut.self_cooperative:SelfCooperative"),
    "score": Shortcut(ScoreConfig, "vistok.shortcut.score:ScoreDivergence"),
    "adaptation": Shortcut(
        AdaptationConfig, "vistok.shortcut.adaptation:Adaptation", plain=True, follows=True, begins_alone=False
    ),
    "mean_flow": Shortcut(MeanFlowConfig, "vistok.shortcut.mean_flow:MeanFlow", teacher=False),
}
AnyShortcut = Annotated[ShortcutConfig, Kinds(ShortcutConfig, SHORTCUTS, "guided")]
