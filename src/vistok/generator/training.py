"""The part of a run's config that a generator's objective reads."""

from typing import Protocol, runtime_checkable

from vistok.engine.config import OptimizerConfig
from vistok.generator.config import GeneratorConfig


@runtime_checkable
class GeneratorTraining(Protocol):
    """The fields of a run's config that a family's objective reads."""

    @property
    def seed(self) -> int: ...  # noqa: D102

    @property
    def generator(self) -> GeneratorConfig: ...  # noqa: D102

    @property
    def optimizer(self) -> OptimizerConfig: ...  # noqa: D102
