"""The data that claims are judged on: a study's table by grid, tokenizer choice and seed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vistok.config import override
from vistok.metrics.cost import flops_in_words
from vistok.study.config import Grid, StudyConfig
from vistok.study.findings.table import generators, tokenizers

# What runs of different tokenizers have in common where they are compared: the generator, and how long it was trained.
CELL = ["choice", "length"]
# A run that ends after a whole step differs less than this from the budget it was given.
NEAR = 0.05


class StudyData:
    """A study's table, with the rows of each grid.

    The generators' column `length` says to which of a grid's lengths a run belongs: its steps, or where a grid gives training
    FLOPs the nearest of its budgets. Tokenizers with different numbers of tokens have different steps for one budget. `family`
    is the kind of its generator.
    """

    def __init__(self, table: pd.DataFrame, study: StudyConfig) -> None:
        self.table, self.study = _plain(table), study
        rows = generators(self.table)
        families = rows.choice.map(_families(study)).fillna(study.generator.generator.kind)
        self.tokenizers = tokenizers(self.table)
        self.generators = rows.assign(length=rows.steps.astype(float), family=families)

    def grid(self, name: str) -> Grid | None:
        """Return the grid with this name, or None."""
        return next((grid for grid in self.study.grids if grid.name == name), None)

    def runs(self, grid: Grid) -> pd.DataFrame:
        """Return the generator rows of a grid."""
        rows = self.generators
        chosen = (
            rows.tokenizer_choice.isin([choice.name for choice in grid.tokenizers])
            & rows.choice.isin([choice.name for choice in grid.generators])
            & rows.seed.isin(list(grid.seeds))
        )
        if all(length.unit == "steps" for length in grid.lengths):
            chosen &= rows.steps.isin([int(length.value) for length in grid.lengths])
        if grid.max_flops is not None:
            chosen &= rows.train_flops <= grid.max_flops
        rows, budgets = rows[chosen], [length.value for length in grid.lengths if length.unit == "flops"]
        if budgets and len(budgets) == len(grid.lengths):
            rows = rows.assign(length=_nearest(rows.train_flops, budgets))
            return rows[(rows.train_flops / rows.length - 1).abs() < NEAR]
        return rows

    def all_runs(self) -> pd.DataFrame:
        """Return the generator rows of all grids; a run that several have, with its length in the first."""
        rows = [self.runs(grid) for grid in self.study.grids if grid.generators]
        return pd.concat(rows).drop_duplicates("run") if rows else self.generators

    def tokenizer_runs(self, grid: Grid) -> pd.DataFrame:
        """Return the tokenizer rows of a grid."""
        rows = self.tokenizers
        return rows[rows.choice.isin([choice.name for choice in grid.tokenizers]) & rows.seed.isin(list(grid.seeds))]

    def regularized(self, grid: Grid) -> list[str]:
        """Return a grid's tokenizer choices other than the baseline, without those known to have no causal regularizer."""
        rows = self.tokenizers
        plain = set(rows[rows.crt_variant == "none"].choice)
        return [choice.name for choice in grid.tokenizers if choice.name not in {self.study.baseline, *plain}]


def _families(study: StudyConfig) -> dict[str, str]:
    """Return the kind of each generator choice."""
    choices = {choice.name: choice for grid in study.grids for choice in grid.generators}
    return {name: override(study.generator, list(choice.set)).generator.kind for name, choice in choices.items()}


def by_family(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows of each family of generators."""
    return {str(name): rows[rows.family == name] for name in dict.fromkeys(rows.family)}


def length_in_words(rows: pd.DataFrame) -> str:
    """Return the length of the runs of a cell: steps, or what they cost where tokenizers differ in that."""
    length, count = float(rows.length.iloc[0]), int(rows.steps.iloc[0])
    return f"{count:,} steps" if length == count else flops_in_words(length)


def _nearest(flops: "pd.Series[float]", budgets: Sequence[float]) -> list[float]:
    """Return the budget nearest to each number of FLOPs."""
    known = np.asarray(sorted(budgets))
    return [float(known[np.abs(np.log(known / spent)).argmin()]) for spent in flops.astype(float)]


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table in numpy's own types, which are selected from several times as fast as pandas' own."""
    integers = [name for name, kind in table.dtypes.items() if pd.api.types.is_integer_dtype(kind)]
    texts = [name for name, kind in table.dtypes.items() if pd.api.types.is_string_dtype(kind)]
    kinds = {name: "float64" if table[name].isna().any() else "int64" for name in integers}
    return table.astype({**kinds, **dict.fromkeys(texts, "object")}).copy()


def by_seed(rows: pd.DataFrame, value: str, choices: Sequence[str], where: str = "choice") -> pd.DataFrame:
    """Return a column as a table of (seed x choice), with only the seeds that have all choices."""
    wide = rows.pivot_table(index="seed", columns=where, values=value, aggfunc="mean")
    return wide.reindex(columns=list(choices)).dropna()


def in_common(rows: pd.DataFrame, baseline: str, other: str) -> pd.DataFrame:
    """Return the runs of two tokenizer choices, in the cells (seed, generator, length) that both have."""
    rows = rows[rows.tokenizer_choice.isin([baseline, other])]
    both = rows.groupby(["seed", *CELL]).tokenizer_choice.transform("nunique") == 2
    return rows[both]


def of_complete_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the seeds that have the most cells: one with fewer, of a study under way, is not weighed like the others."""
    cells = rows.drop_duplicates(["seed", *CELL]).groupby("seed").size()
    return rows[rows.seed.isin(cells.index[cells == cells.max()])]


def longest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the longest runs of the largest generator."""
    if rows.empty:
        return rows
    largest = rows[rows.choice == rows.choice.iloc[int(rows.params.to_numpy(float).argmax())]]
    return largest[largest.length == largest.length.max()]


def cells(rows: pd.DataFrame, value: str, baseline: str, other: str) -> pd.DataFrame:
    """Return other - baseline as a table of (seed x (generator, length)) of the cells and of the complete seeds that both have."""
    keys = ["seed", *CELL]
    rows = of_complete_seeds(in_common(rows, baseline, other))
    sides = [rows[rows.tokenizer_choice == name].set_index(keys)[value] for name in (other, baseline)]
    return (sides[0] - sides[1]).dropna().unstack("seed").T
