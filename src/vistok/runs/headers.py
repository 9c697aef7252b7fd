"""What the header of a weights file must hold, by kind of network. Additional fields are allowed, and kept."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, model_validator

from vistok.config import with_tuples
from vistok.engine.weights_header import AGAIN
from vistok.errors import UserError, reason
from vistok.generator.families import AnyGenerator
from vistok.nn.classifier_config import ClassifierConfig
from vistok.origin import Amount, Known, Origin, TokenizerOf, Training
from vistok.space import Space, former_space
from vistok.tokenizer.config import AnyTokenizer

# No tensor has the layout's shape, so this limit alone keeps position tables small.
MOST_POSITIONS = 2**20


class _Perceptual(Known):
    network: str


class _Losses(Known):
    perceptual: _Perceptual | None = None


class _Regularizer(Known):
    kind: str = "causal"
    variant: str = ""
    # The frozen network that latents were aligned with.
    features: str = ""


class _Network(Known):
    # How an inner layer of a flow was aligned with a frozen network.
    representation: _Regularizer | None = None


class _Clusters(Known):
    # The frozen network whose features a tokenizer's latents are clusters of.
    features: str = ""


class RunFacts(Known):
    """The few fields of a run's config that are read by themselves; the rest is checked when a run is built from it."""

    losses: _Losses = _Losses()
    # The causal regularizer in earlier versions' files.
    crt: _Regularizer | None = None
    regularizers: tuple[_Regularizer, ...] = ()
    generator: _Network = _Network()
    tokenizer: _Clusters = _Clusters()

    @classmethod
    def of(cls, origin: Origin) -> "RunFacts":
        """Return the facts about its run that a network's origin records."""
        return cls.from_json(json.dumps(origin.run_config))

    @classmethod
    def all_of(cls, origin: Origin) -> "list[RunFacts]":
        """Return the facts about its run, and about those of the tokenizers inside."""
        return [cls.from_json(json.dumps(config)) for config in (origin.run_config, *origin.inside.values())]


class _Scores(Known):
    guidance_scale: Amount | None = None


class Header(Origin):
    """Fields that every kind must have."""

    recipe: str
    dataset: str
    class_names: tuple[str, ...]
    run_config: dict[str, Any]
    training: Training

    @model_validator(mode="after")
    def _readable(self) -> "Header":
        RunFacts.all_of(self)
        _Scores.from_json(json.dumps(self.scores))
        return self


# Fields in which an imported autoencoder says what diffusion models of its project do with its vectors: (z - shift) * scale, or, where both
# moments are given, (z - mean) / std * scale.
FACTORS = ("scaling_factor", "shift_factor")
MOMENTS = ("latents_mean", "latents_std")


class TokenizerHeader(Header):
    """Header of a tokenizer."""

    config: AnyTokenizer
    # What diffusion models of its project multiply its vectors by, where an imported file says so.
    scaling_factor: Amount | None = None
    # What they subtract before.
    shift_factor: Annotated[float, Field(allow_inf_nan=False)] | None = None
    # What they subtract from each channel, and divide it by.
    latents_mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None = None
    latents_std: tuple[Amount, ...] | None = None


class GeneratorHeader(Header):
    """Header of a generator."""

    config: AnyGenerator
    space: Space
    num_classes: int = Field(ge=1)
    tokenizer: TokenizerOf

    @model_validator(mode="before")
    @classmethod
    def _former(cls, values: Any, info: ValidationInfo) -> Any:
        values = with_tuples(values, info)
        return former_space(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _classes(self) -> "GeneratorHeader":
        _require_names(self.class_names, self.num_classes)
        if self.space.layout.positions > MOST_POSITIONS:
            raise ValueError(f"{self.space.layout.positions} latents per image, more than {MOST_POSITIONS}")
        return self


class ClassifierHeader(Header):
    """Header of a classifier."""

    config: ClassifierConfig

    @model_validator(mode="after")
    def _classes(self) -> "ClassifierHeader":
        _require_names(self.class_names, self.config.num_classes)
        return self


def _require_names(class_names: tuple[str, ...], num_classes: int) -> None:
    if len(class_names) != num_classes:
        raise ValueError(f"{len(class_names)} class_names for {num_classes} classes")


AnyHeader = TokenizerHeader | GeneratorHeader | ClassifierHeader
KINDS: dict[str, type[AnyHeader]] = {
    "tokenizer": TokenizerHeader,
    "generator": GeneratorHeader,
    "classifier": ClassifierHeader,
}


def check_header(header: dict[str, Any], file: Path) -> AnyHeader:
    """Return a header as a typed object. Raises UserError naming the first field that is missing or malformed.

    The network's config is stored twice, alone and inside the run's config, so a digit that changed in one is noticed.
    """
    kind = str(header.get("model"))
    if kind not in KINDS:
        raise UserError(f"weights {file}: damaged header (model {kind!r:.40}, not one of {', '.join(KINDS)}); {AGAIN}")
    try:
        checked = KINDS[kind].model_validate_json(json.dumps(header))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        words = f"{where}: {first['msg']}" if where else str(first["msg"])
        raise UserError(f"weights {file}: damaged header ({reason(ValueError(words))}); {AGAIN}") from None
    twin = header["run_config"].get(kind, header["config"])
    if twin != header["config"]:
        raise UserError(f"weights {file}: damaged header (config differs from the one in run_config.{kind}); {AGAIN}")
    return checked
