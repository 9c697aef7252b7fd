"""What an objective of a generator reads of its run's config."""

from typing import Protocol, runtime_checkable

from vistok.engine.config import OptimizerConfig
from vistok.generator.config import GeneratorConfig


@runtime_checkable
class GeneratorTraining(Protocol):
    """A run's config, as far as a family's objective reads it."""

    @property
    def seed(self) -> int: ...  # noqa: D102

    @property
    def generator(self) -> GeneratorConfig: ...  # noqa: D102

    @property
    def optimizer(self) -> OptimizerConfig: ...  # noqa: D102
