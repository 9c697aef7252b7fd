"""The contract for scores: what a study measures on every finished run, and how it becomes columns of its table."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from vistok.data.latents.cache import LatentCache
from vistok.engine.log import Progress
from vistok.generator.interface import Generator
from vistok.metrics.cost import Cost
from vistok.metrics.features import FeatureExtractor
from vistok.runs.load import load_tokenizer
from vistok.scoring.evaluate_generator import Drawing, Stage2, load_stage2
from vistok.scoring.guidance import choose_guidance
from vistok.tokenizer.interface import Tokenizer


@dataclass(frozen=True)
class Asked:
    """How a study scores: the guidance scales to choose from, samples for that choice, and samples to score.

    `every_scale`: one draw at each scale serves both, and all scales are scored. `fewer_steps`: numbers of steps to score besides.
    """

    scales: tuple[float, ...]
    search_samples: int
    samples: int
    every_scale: bool = False
    fewer_steps: tuple[int, ...] = ()


@dataclass
class Finished:
    """A finished run and what its scores need.

    `root`: where the images are. `caches`: a generator's, by split. `image_size`: of the images, if it is not the
    tokenizer's.
    """

    path: Path
    root: str
    extractor: FeatureExtractor
    asked: Asked
    progress: Progress
    caches: dict[str, LatentCache] = field(default_factory=dict)
    image_size: int | None = None

    @cached_property
    def stage2(self) -> Stage2:
        """The generator with EMA weights, and its tokenizer."""
        return load_stage2(self.path, root=self.root)

    @property
    def generator(self) -> Generator:
        """The generator with EMA weights."""
        return self.stage2.generator

    @cached_property
    def guidance(self) -> dict[str, Any]:
        """The guidance scale that is best on images held out of train, with the scores of all: see `choose_guidance`."""
        search = Drawing(self.stage2.sampling(), self.asked.search_samples)
        return choose_guidance(self.stage2, self.extractor, self.asked.scales, search, self.progress)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer: the run itself or its generator's; at `image_size` if that is set."""
        if self.caches:
            return self.stage2.tokenizer
        tokenizer = load_tokenizer(self.path)
        return tokenizer.resized(self.image_size) if self.image_size else tokenizer


@dataclass(frozen=True)
class Scored:
    """Columns of the run's row, numbers or text, and `detail`: by name, what does not fit into a row."""

    columns: dict[str, Any]
    detail: dict[str, Any] = field(default_factory=dict)


class Scorer(ABC):
    """A score for finished runs of one kind. To add one, write a new file and a line in `scorers.py`."""

    of: ClassVar[Literal["tokenizer", "generator"]]

    def applies(self, run: Finished) -> bool:
        """Whether the score is defined for this run."""
        return True

    @abstractmethod
    def score(self, run: Finished) -> Scored:
        """Return the run's score."""


def bounds(name: str, score: dict[str, Any]) -> dict[str, Any]:
    """Return a score's value and interval as columns."""
    return {name: score["value"], f"{name}_low": score["low"], f"{name}_high": score["high"]}


def costs(cost: Cost) -> dict[str, Any]:
    """Return what an image costs as columns."""
    return {"calls": cost.calls, "flops_per_image": cost.flops_per_image, "ms_per_image": cost.milliseconds}


def numbers(values: list[float]) -> str:
    """Return numbers by position as the text of a column."""
    return " ".join(f"{value:.4f}" for value in values)


def pairs(values: Mapping[float, float]) -> str:
    """Return values by scale, or by number of steps, as the text of a column: `scale:value ...`."""
    return " ".join(f"{key:g}:{value:.6g}" for key, value in values.items())
