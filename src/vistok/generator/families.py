"""The families of generators: the one place that lists them."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from vistok.config import Kinds, Part, load_named, make
from vistok.errors import UserError
from vistok.generator.autoregressive.config import AutoregressiveConfig, AutoregressiveSampling
from vistok.generator.config import GeneratorConfig, SamplingConfig
from vistok.generator.flow.config import FlowConfig, FlowSampling
from vistok.generator.masked.config import MaskedConfig, MaskedSampling
from vistok.space import Space


@dataclass(frozen=True)
class Family(Part):
    """A network's config and class, the objective that trains it, the config of its sampling, and the latents it writes."""

    objective: str
    sampling: type[SamplingConfig]
    writes: Literal["tokens", "vectors"] = "tokens"

    def load_objective(self) -> Any:
        """Return the objective's class."""
        return load_named(self.objective)


FAMILIES: dict[str, Family] = {
    "autoregressive": Family(
        AutoregressiveConfig,
        "vistok.generator.autoregressive.generator:AutoregressiveGenerator",
        objective="vistok.generator.autoregressive.objective:NextToken",
        sampling=AutoregressiveSampling,
    ),
    "flow": Family(
        FlowConfig,
        "vistok.generator.flow.generator:FlowGenerator",
        objective="vistok.generator.flow.objective:Matching",
        sampling=FlowSampling,
        writes="vectors",
    ),
    "masked": Family(
        MaskedConfig,
        "vistok.generator.masked.generator:MaskedGenerator",
        objective="vistok.generator.masked.objective:Unmasking",
        sampling=MaskedSampling,
    ),
}


AnyGenerator = Annotated[GeneratorConfig, Kinds(GeneratorConfig, FAMILIES, "autoregressive")]


def build_generator(config: GeneratorConfig, space: Space, num_classes: int) -> Any:
    """Return a new generator for a space. Raises UserError if its family writes another kind of latents."""
    return make(FAMILIES, config, space, num_classes)


def read_sampling(values: dict[str, Any]) -> SamplingConfig:
    """Return the sampling config that values from a file or command describe. Raises UserError for invalid ones."""
    kind = str(values.get("kind", "autoregressive"))
    if kind not in FAMILIES:
        raise UserError(f"sampling of kind {kind!r:.60}: allowed are {', '.join(FAMILIES)}")
    return FAMILIES[kind].sampling.from_json(json.dumps(values))


def default_sampling(config: GeneratorConfig) -> SamplingConfig:
    """Return the default sampling of a generator: its family's, with what suits this network better."""
    return FAMILIES[config.kind].sampling(**config.usual_sampling())  # type: ignore[call-arg]


def sampling_for(config: GeneratorConfig, values: dict[str, Any]) -> SamplingConfig:
    """Return the default sampling of a generator with these values. Raises UserError for invalid ones."""
    return read_sampling(default_sampling(config).model_dump(mode="json") | values)
