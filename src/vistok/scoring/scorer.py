"""The contract of a score: what a study asks of every finished run, and what becomes a column of its table."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from vistok.data.latents.cache import LatentCache
from vistok.engine.log import Progress
from vistok.generator.interface import Generator
from vistok.metrics.features import FeatureExtractor
from vistok.runs.load import load_tokenizer
from vistok.scoring.evaluate_generator import Stage2, load_stage2
from vistok.tokenizer.interface import Tokenizer


@dataclass(frozen=True)
class Asked:
    """How a study scores: guidance scales to choose among, samples for that choice, samples that are scored."""

    scales: tuple[float, ...]
    search_samples: int
    samples: int


@dataclass
class Finished:
    """A finished run and what its scores need.

    `root`: where the images lie. `caches`: of a generator, by split. `image_size`: of a tokenizer's images where it is
    not its own.
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
        """The generator with averaged weights, and its tokenizer."""
        return load_stage2(self.path, root=self.root)

    @property
    def generator(self) -> Generator:
        """The generator with averaged weights."""
        return self.stage2.generator

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer: the run's own, or its generator's; at `image_size` where one is given."""
        if self.caches:
            return self.stage2.tokenizer
        own = load_tokenizer(self.path)
        return own.resized(self.image_size) if self.image_size else own


@dataclass(frozen=True)
class Scored:
    """Columns of the run's row, numbers or text, and what the row is too small for, by name."""

    columns: dict[str, Any]
    detail: dict[str, Any] = field(default_factory=dict)


class Scorer(ABC):
    """A score of finished runs of one kind. A new one is a new file and a line in `scorers.py`."""

    of: ClassVar[Literal["tokenizer", "generator"]]

    def applies(self, run: Finished) -> bool:
        """Whether it can be asked of this run."""
        return True

    @abstractmethod
    def score(self, run: Finished) -> Scored:
        """Return what it finds."""


def bounds(name: str, score: dict[str, Any]) -> dict[str, Any]:
    """Return value and interval of a score as columns."""
    return {name: score["value"], f"{name}_low": score["low"], f"{name}_high": score["high"]}


def numbers(values: list[float]) -> str:
    """Return numbers by position as a column's text."""
    return " ".join(f"{value:.4f}" for value in values)
