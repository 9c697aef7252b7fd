"""Config of a study: grids of tokenizers x generators x lengths x seeds, and how runs are scored."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vistok.config import Config, FileName, later
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.units import Duration


class Choice(Config):
    """A variant of the base run: a name, and the values to change (as in --set).

    A tokenizer choice can instead reuse another choice of its grid (`of`) at another `image_size`, without retraining
    (CRT paper, section 3.4).
    """

    name: str
    set: tuple[str, ...] = ()
    of: str | None = None
    image_size: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _file_name(self) -> "Choice":
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.name):
            raise ValueError(
                f"a choice's name becomes a file name: use lower-case letters, digits, '.', '_', '-'; found {self.name!r}"
            )
        if (self.of is None) != (self.image_size is None) or (self.of and self.set):
            raise ValueError(
                f"choice {self.name!r}: to run a tokenizer at another size, give both `of` (a choice of the same grid) and "
                "`image_size`, and no `set`"
            )
        return self


class Grid(Config):
    """Every tokenizer with every seed and, on each of them, every generator at every length.

    `purpose` says what the grid is for. Without generators, only tokenizers are trained. `lengths` are for generators; a
    tokenizer's length is part of its config. Generators that cost more than `max_flops` to train are left out, so that
    tokenizers with more tokens are compared at the same compute, not at the same number of steps.
    """

    name: FileName
    purpose: str = ""
    tokenizers: tuple[Choice, ...] = Field(min_length=1)
    generators: tuple[Choice, ...] = ()
    lengths: tuple[Duration, ...] = ()
    max_flops: float | None = Field(default=None, gt=0)
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)

    @model_validator(mode="after")
    def _resized(self) -> "Grid":
        if sized := [choice.name for choice in self.generators if choice.of]:
            raise ValueError(f"grid {self.name!r}: `of` and `image_size` are for tokenizers, not for {sized[0]!r}")
        trained = [choice.name for choice in self.tokenizers if choice.of is None]
        for choice in self.tokenizers:
            if choice.of is not None and choice.of not in trained:
                raise ValueError(
                    f"grid {self.name!r}: {choice.name!r} is {choice.of!r} at another size, but the grid trains no such "
                    f"tokenizer; choose from: {', '.join(trained)}"
                )
        return self

    @model_validator(mode="after")
    def _lengths(self) -> "Grid":
        if bool(self.generators) != bool(self.lengths):
            raise ValueError(f"grid {self.name!r}: generators and lengths go together; give both or neither")
        return self


class Scoring(Config):
    """How generators are scored: choose the guidance scale closest to held-out training images, then draw `samples`.

    With `every_scale`, one draw at each scale is compared with held-out and with test images, so that many runs can choose a
    scale together: each run by the others, whose samples are not its own. `fewer_steps`: families that draw in steps are scored in
    these numbers of steps, too, at the scale that was chosen for the usual number.
    """

    scales: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    search_samples: int = Field(default=1_000, ge=40)
    samples: int = Field(default=5_000, ge=40)
    every_scale: bool = later(False)
    fewer_steps: tuple[Annotated[int, Field(ge=1, le=10_000)], ...] = later(())

    @model_validator(mode="after")
    def _one_draw(self) -> "Scoring":
        if self.every_scale and (self.search_samples != self.samples or 1.0 not in self.scales):
            raise ValueError(
                "with every_scale, one draw serves the search and the scores: search_samples must equal samples, and scales "
                f"must hold 1; found {self.search_samples}, {self.samples} and {list(self.scales)}"
            )
        if self.every_scale and self.fewer_steps:
            raise ValueError(
                "fewer_steps are drawn at a run's chosen scale, which every_scale leaves to all runs; leave one out"
            )
        return self


class StudyConfig(Config):
    """A study. Grids run in the given order; runs that several grids share are made only once."""

    kind: Literal["study"] = "study"
    name: FileName = "study"
    tokenizer: TokenizerRun
    generator: GeneratorRun
    scoring: Scoring = Scoring()
    evaluator: str | None = None
    grids: tuple[Grid, ...] = Field(min_length=1)
    # The grid that settles the claims on signature and efficiency, and the choice that serves as the baseline.
    main_grid: str = "main"
    baseline: str = "none"

    @model_validator(mode="after")
    def _names(self) -> "StudyConfig":
        names = [grid.name for grid in self.grids]
        if len(set(names)) < len(names):
            raise ValueError(f"grid names must be unique, found {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _one_meaning(self) -> "StudyConfig":
        """Require that a choice's name always means the same settings, since tables and claims rely on it."""
        for kind in ("tokenizers", "generators"):
            known: dict[str, Choice] = {}
            for choice in (choice for grid in self.grids for choice in getattr(grid, kind)):
                if known.setdefault(choice.name, choice) != choice:
                    raise ValueError(
                        f"two {kind} are named {choice.name!r} but have different settings ({_in_words(known[choice.name])}; "
                        f"{_in_words(choice)}), and a table would average them. Rename one of them"
                    )
        return self


def _in_words(choice: Choice) -> str:
    return f"{choice.of} at {choice.image_size} pixels" if choice.of else ", ".join(choice.set) or "the base unchanged"
