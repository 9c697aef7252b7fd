"""What a run is: everything that decides its result, and how it is executed."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vistok.config import Config, FileName, execution, later
from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.nn.classifier_config import ClassifierConfig
from vistok.tokenizer.config import CRTConfig, LossConfig, TokenizerConfig
from vistok.units import Duration, steps

Precision = Literal["float32", "bfloat16"]


class RunConfig(Config):
    """What every run has. `name` and `execution` do not change the result."""

    name: FileName = execution("run", "first part of the run directory's name")
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
            raise ValueError(f"length is of the whole run: above 0, and not in percent; found '{self.length}'")
        return self


class TokenizerRun(RunConfig):
    """Training of a tokenizer, with or without the causal regularizer (`crt`)."""

    kind: Literal["tokenizer"] = "tokenizer"
    data: DataConfig = DataConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    losses: LossConfig = LossConfig()
    crt: CRTConfig | None = None
    init_from: str = execution("", "tokenizer whose weights training begins with; their digest is fingerprinted")

    @model_validator(mode="after")
    def _sizes(self) -> "TokenizerRun":
        images = (self.data.image_size, self.data.channels)
        network = (self.tokenizer.image_size, self.tokenizer.in_channels)
        if images != network:
            raise ValueError(
                f"data gives (image_size, channels) {images} and tokenizer takes {network}; set both alike "
                "(data.image_size and tokenizer.image_size, data.channels and tokenizer.in_channels)"
            )
        perceptual = self.losses.perceptual
        sizes = {"fashion": (28, 1), "openmoji": (32, 3)}
        if perceptual is not None and perceptual.network in sizes and network != sizes[perceptual.network]:
            side, channels = sizes[perceptual.network]
            raise ValueError(
                f"losses.perceptual.network {perceptual.network!r} is for {side}x{side} images of {channels} channels, "
                f"these have {network[0]} pixels and {network[1]}; use 'lpips', or null for none"
            )
        adversarial = self.losses.adversarial
        # The two last convolutions of the discriminator take a pixel each, and one logit must be left.
        if adversarial is not None and self.tokenizer.image_size < 3 * 2**adversarial.num_layers:
            raise ValueError(
                f"losses.adversarial.num_layers {adversarial.num_layers} halves the image as often, and "
                f"{self.tokenizer.image_size} pixels are too few for it: they must be at least 3 * 2 ** num_layers"
            )
        return self


class GeneratorRun(RunConfig):
    """Training of a generator on a token cache."""

    kind: Literal["generator"] = "generator"
    generator: AutoregressiveConfig = AutoregressiveConfig()
    # Weight of the squared log-normaliser, which keeps logits small (CRT paper A.2: 1e-4 in some runs of 576 tokens).
    z_loss: Annotated[float, Field(ge=0)] = later(0.0)


class ClassifierRun(RunConfig):
    """Training of a classifier, whose features serve as evaluator or as perceptual network."""

    kind: Literal["classifier"] = "classifier"
    data: DataConfig = DataConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    batch_size: int = Field(default=128, ge=2)  # batch norm needs two

    @model_validator(mode="after")
    def _sizes(self) -> "ClassifierRun":
        images = (self.data.image_size, self.data.channels)
        network = (self.classifier.image_size, self.classifier.in_channels)
        if images != network:
            raise ValueError(
                f"data gives (image_size, channels) {images} and classifier takes {network}; set both alike "
                "(data.image_size and classifier.image_size, data.channels and classifier.in_channels)"
            )
        return self


AnyRun = TokenizerRun | GeneratorRun | ClassifierRun
