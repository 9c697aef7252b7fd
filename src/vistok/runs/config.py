"""The config of a run: everything that decides its result, and how it is executed."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, model_validator

from vistok.classifier.config import AnyLearning, LabelsConfig
from vistok.config import Config, FileName, execution, later, with_tuples
from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.generator.families import AnyGenerator
from vistok.nn.classifier_config import ClassifierConfig
from vistok.nn.frozen_config import require_channels
from vistok.shortcut.config import AnyShortcut
from vistok.tokenizer.config import AnyTokenizer, ConvTokenizerConfig, LossConfig, Trained
from vistok.tokenizer.regularizers.config import AnyRegularizer
from vistok.units import Duration, steps

Precision = Literal["float32", "bfloat16"]


class RunConfig(Config):
    """What every run's config has. `name` and `execution` do not change the result."""

    kind: str
    name: FileName = execution("run", "first part of the run directory's name")
    recipe: str = execution("", "recipe that this config began from")
    seed: int = Field(default=0, ge=0)
    batch_size: int = Field(default=128, ge=1)
    length: Duration = steps(1000)
    optimizer: OptimizerConfig = OptimizerConfig()
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    precision: Precision = "float32"
    execution: ExecutionConfig = execution(ExecutionConfig())

    @model_validator(mode="after")
    def _lengths(self) -> "RunConfig":
        if self.length.unit == "percent" or self.length.value == 0:
            raise ValueError(f"length is the length of the whole run: above 0, not in percent; found '{self.length}'")
        return self


class TokenizerRun(RunConfig):
    """Training of a tokenizer, with any regularizers."""

    kind: Literal["tokenizer"] = "tokenizer"
    data: DataConfig = DataConfig()
    tokenizer: AnyTokenizer = ConvTokenizerConfig()
    losses: LossConfig = LossConfig()
    regularizers: tuple[AnyRegularizer, ...] = ()
    init_from: str = execution("", "tokenizer whose weights training starts from; their digest is fingerprinted")
    # "decoder": encoder and codes stay those of `init_from`, so tokens keep their meaning and generators of them fit.
    trains: Trained = later("all")
    proxy: str = execution(
        "", "grid tokenizer whose tokens are learned, for losses.target; its digest is fingerprinted"
    )

    former_paths: ClassVar[Mapping[str, str]] = {"crt": "regularizers.causal"}

    @model_validator(mode="before")
    @classmethod
    def _former_regularizer(cls, values: Any, info: ValidationInfo) -> Any:
        """Accept what earlier versions wrote: one causal regularizer, or none, as `crt`."""
        values = with_tuples(values, info)
        if not isinstance(values, dict) or "crt" not in values:
            return values
        rest = {name: value for name, value in values.items() if name != "crt"}
        if values["crt"] is None:
            return rest
        causal = {"kind": "causal", **values["crt"]} if isinstance(values["crt"], dict) else values["crt"]
        return {**rest, "regularizers": (*rest.get("regularizers", ()), causal)}

    @classmethod
    def as_named(cls, kept: dict[str, Any]) -> dict[str, Any]:
        """Return what is fingerprinted, with the causal regularizer under `crt`, where earlier versions had it."""
        parts = {part["kind"]: part for part in kept.pop("regularizers")}
        causal = parts.pop("causal", None)
        former = None if causal is None else {name: value for name, value in causal.items() if name != "kind"}
        return {**kept, "crt": former, **({"regularizers": list(parts.values())} if parts else {})}

    def regularizer(self, kind: str) -> Any:
        """Return the config of the regularizer of this kind, or None."""
        return next((part for part in self.regularizers if part.kind == kind), None)

    @model_validator(mode="after")
    def _decoder_alone(self) -> "TokenizerRun":
        if self.tokenizer.kind == "rendered" and self.losses.beside_pixels:
            raise ValueError(f"losses: a renderer learns tokens, not pixels; set {self.losses.beside_pixels} to null")
        if self.tokenizer.steady and self.regularizers:
            raise ValueError(
                f"regularizers: the latents of a {self.tokenizer.kind!r} tokenizer do not change in training, so there is nothing to "
                "regularize; leave them out"
            )
        if self.trains == "decoder" and self.regularizers:
            raise ValueError(
                "trains 'decoder' leaves the latents as they are, so there is nothing to regularize; use a recipe without "
                "regularizers, such as images64_vq"
            )
        return self

    @model_validator(mode="after")
    def _tokens(self) -> "TokenizerRun":
        if self.losses.target == "pixels":
            return self
        if self.tokenizer.kind != "proxy_line":
            raise ValueError(
                f"losses.target 'tokens' needs a decoder that predicts a grid's tokens, but tokenizer.kind is {self.tokenizer.kind!r}; "
                "take a recipe such as fashion_proxy_line, or --set tokenizer.kind=proxy_line"
            )
        if self.trains == "decoder":
            raise ValueError("trains 'decoder' goes on with pixels: leave losses.target at 'pixels'")
        return self

    @model_validator(mode="after")
    def _once(self) -> "TokenizerRun":
        kinds = [part.kind for part in self.regularizers]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"regularizers: at most one of each kind, found {', '.join(kinds)}")
        return self

    @model_validator(mode="after")
    def _sizes(self) -> "TokenizerRun":
        images = (*self.data.sides, self.data.channels)
        network = (*self.tokenizer.sides, self.tokenizer.in_channels)
        if images != network:
            raise ValueError(
                f"data gives (height, width, channels) {images} but tokenizer takes {network}; set both alike "
                "(data.image_size and tokenizer.image_size, image_width, data.channels and tokenizer.in_channels)"
            )
        perceptual = self.losses.perceptual
        sizes = {"fashion": (28, 28, 1), "openmoji": (32, 32, 3)}
        if perceptual is not None and perceptual.network in sizes and network != sizes[perceptual.network]:
            side, _, channels = sizes[perceptual.network]
            raise ValueError(
                f"losses.perceptual.network {perceptual.network!r} is for {side}x{side} images of {channels} channels, "
                f"but these are {network[0]}x{network[1]} with {network[2]}; use 'lpips', or null for none"
            )
        alignment = self.regularizer("alignment")
        if alignment is not None:
            require_channels("regularizers.alignment.features", alignment.features, network[2])
        adversarial = self.losses.adversarial
        # The discriminator's last two convolutions use up a pixel each, and at least one logit must be left.
        if adversarial is not None and min(self.tokenizer.sides) < 3 * 2**adversarial.num_layers:
            raise ValueError(
                f"losses.adversarial.num_layers {adversarial.num_layers} halves the image that many times, but "
                f"{min(self.tokenizer.sides)} pixels are too few: at least 3 * 2 ** num_layers are needed"
            )
        return self


class GeneratorRun(RunConfig):
    """Training of a generator of any family on a latent cache."""

    kind: Literal["generator"] = "generator"
    generator: AnyGenerator = AutoregressiveConfig()
    init_from: str = execution("", "generator whose weights training starts from; their digest is fingerprinted")
    # Make another generator need fewer calls, in place of the family's own objective.
    shortcut: AnyShortcut | None = later(None)
    teacher: str = execution("", "generator that a shortcut makes cheaper to draw from; its digest is fingerprinted")

    former_paths: ClassVar[Mapping[str, str]] = {"z_loss": "generator.z_loss"}

    @model_validator(mode="before")
    @classmethod
    def _former_z_loss(cls, values: Any, info: ValidationInfo) -> Any:
        """Accept what earlier versions wrote: the z-loss next to the network instead of inside it."""
        values = with_tuples(values, info)
        if not isinstance(values, dict) or "z_loss" not in values:
            return values
        rest = {name: value for name, value in values.items() if name != "z_loss"}
        network = rest.get("generator", {})
        network = network if isinstance(network, dict) else network.model_dump()
        return {**rest, "generator": {**network, "z_loss": values["z_loss"]}}

    @classmethod
    def as_named(cls, kept: dict[str, Any]) -> dict[str, Any]:
        """Return what is fingerprinted, with the z-loss where earlier versions had it."""
        network = dict(kept["generator"])
        moved = {"z_loss": network.pop("z_loss")} if "z_loss" in network else {}
        return {**kept, "generator": network, **moved}


# A generator's run that starts from a trained one: the name by which recipes say so.
ShortcutRun = GeneratorRun


class ClassifierRun(RunConfig):
    """Training of a classifier network, from labels or without, whose features others use: in scores, losses or for clusters."""

    kind: Literal["classifier"] = "classifier"
    data: DataConfig = DataConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    learns: AnyLearning = later(LabelsConfig())
    batch_size: int = Field(default=128, ge=2)  # batch norm needs two

    @model_validator(mode="after")
    def _sizes(self) -> "ClassifierRun":
        if self.data.image_width not in (None, self.data.image_size):
            raise ValueError(
                f"a classifier takes square images: leave data.image_width null, found {self.data.image_width}"
            )
        images = (self.data.image_size, self.data.channels)
        network = (self.classifier.image_size, self.classifier.in_channels)
        if images != network:
            raise ValueError(
                f"data gives (image_size, channels) {images} but classifier takes {network}; set both alike "
                "(data.image_size and classifier.image_size, data.channels and classifier.in_channels)"
            )
        return self


AnyRun = TokenizerRun | GeneratorRun | ClassifierRun
