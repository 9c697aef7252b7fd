"""The data that claims are judged on: a study's table by grid, tokenizer choice and seed."""

from collections.abc import Sequence

import pandas as pd

from vistok.study.config import Grid, StudyConfig
from vistok.study.findings.table import generators, tokenizers


class StudyData:
    """A study's table, with the rows of each grid."""

    def __init__(self, table: pd.DataFrame, study: StudyConfig) -> None:
        self.table, self.study = _plain(table), study
        self.tokenizers, self.generators = tokenizers(self.table), generators(self.table)

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
        return rows[chosen]

    def tokenizer_runs(self, grid: Grid) -> pd.DataFrame:
        """Return the tokenizer rows of a grid."""
        rows = self.tokenizers
        return rows[rows.choice.isin([choice.name for choice in grid.tokenizers]) & rows.seed.isin(list(grid.seeds))]

    def regularized(self, grid: Grid) -> list[str]:
        """Return a grid's tokenizer choices other than the baseline, without those known to have no causal regularizer."""
        rows = self.tokenizers
        plain = set(rows[rows.crt_variant == "none"].choice)
        return [choice.name for choice in grid.tokenizers if choice.name not in {self.study.baseline, *plain}]


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
    """Return the runs of two tokenizer choices, in the cells (seed, generator, steps) that both have."""
    rows = rows[rows.tokenizer_choice.isin([baseline, other])]
    both = rows.groupby(["seed", "choice", "steps"]).tokenizer_choice.transform("nunique") == 2
    return rows[both]


def cells(rows: pd.DataFrame, value: str, baseline: str, other: str) -> pd.DataFrame:
    """Return other - baseline as a table of (seed x (generator, steps)), with only the cells that both have."""
    keys = ["seed", "choice", "steps"]
    sides = [rows[rows.tokenizer_choice == name].set_index(keys)[value] for name in (other, baseline)]
    return (sides[0] - sides[1]).dropna().unstack("seed").T
