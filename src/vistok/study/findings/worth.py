"""What diagnostics of a tokenizer are worth: how well they order the gFMD of generators that were trained on recorded tokenizers.

Each way of making tokenizers, with all its seeds, is left out in turn: a line through the others' diagnostics predicts the logarithm of
its gFMD at equal generator compute. What counts is whether the predictions have the order of what was found, not their values.
"""

import math
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

# The table that comes with vistok: a row for each recorded tokenizer, its choice, diagnostics and gFMD.
SHIPPED = "fashion_diagnostics"


@dataclass(frozen=True)
class Worth:
    """One diagnostic or two: Spearman's rank correlation of predicted and found gFMD, tokenizers left out, and their number.

    `low` and `high`: of 95 % of samples, drawn with replacement, of the ways of making tokenizers; not numbers where none were drawn.
    """

    names: tuple[str, ...]
    correlation: float
    count: int
    # Of a single one: the sign of its effect on gFMD in all tokenizers, and nothing of two.
    sign: int = 0
    low: float = math.nan
    high: float = math.nan

    @property
    def better(self) -> str:
        """Whether "more" or "less" of a single diagnostic goes with lower gFMD; nothing where it did not order the others."""
        return {-1: "more", 1: "less"}.get(self.sign, "") if self.correlation > 0 else ""


def shipped_diagnostics() -> pd.DataFrame:
    """Return the diagnostics of the recorded tokenizers of the Fashion-MNIST study."""
    with as_file(files("vistok") / "study" / "findings" / "tables" / f"{SHIPPED}.csv") as path:
        return pd.read_csv(path)


def of_equal_tokens(table: pd.DataFrame) -> pd.DataFrame:
    """Return the tokenizers with 49 tokens, on which generators of one size and length spend equal compute."""
    return table[~table["choice"].astype(str).str.startswith("tokens-")]


def worth_of(table: pd.DataFrame, names: list[str], found: str) -> list[Worth]:
    """Return what each diagnostic, and each pair of them, is worth for a column of gFMD; the best first."""
    rows = table.dropna(subset=[found])
    sets = [(name,) for name in names] + list(combinations(names, 2))
    return sorted((_worth(rows, chosen, found) for chosen in sets), key=lambda worth: -worth.correlation)


def _worth(rows: pd.DataFrame, names: tuple[str, ...], found: str) -> Worth:
    predicted, target = _predicted(rows, names, found)
    correlation = float(stats.spearmanr(predicted, target).statistic)
    sign = int(np.sign(stats.spearmanr(rows[names[0]], target).statistic)) if len(names) == 1 else 0
    return Worth(names, correlation, len(rows), sign)


def _predicted(rows: pd.DataFrame, names: tuple[str, ...], found: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the logarithm of each tokenizer's gFMD, as predicted from those made in other ways, and as found."""
    target = np.log(rows[found].to_numpy(float))
    values = rows[list(names)].to_numpy(float)
    predicted = np.empty_like(target)
    for choice in rows["choice"].unique():
        out = (rows["choice"] == choice).to_numpy()
        predicted[out] = _line(values[~out], target[~out], values[out])
    return predicted, target


def with_interval(worth: Worth, table: pd.DataFrame, found: str, draws: int) -> Worth:
    """Return a worth with the ends of 95 % of the correlations of samples of the ways of making tokenizers.

    Tokenizers made in one way are alike, so that they are drawn together.
    """
    rows = table.dropna(subset=[found])
    (predicted, target), choices = _predicted(rows, worth.names, found), rows["choice"].to_numpy()
    rng, members = np.random.default_rng(0), [np.flatnonzero(choices == name) for name in np.unique(choices)]
    drawn = []
    for _ in range(draws):
        of = np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))])
        ranks = stats.rankdata(predicted[of]), stats.rankdata(target[of])
        drawn.append(float(np.corrcoef(*ranks)[0, 1]) if all(np.ptp(rank) for rank in ranks) else 0.0)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return replace(worth, low=float(low), high=float(high))


def _line(known: np.ndarray, target: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return predictions of least squares."""
    design = np.column_stack([np.ones(len(known)), known])
    weights = np.linalg.lstsq(design, target, rcond=None)[0]
    return np.column_stack([np.ones(len(asked)), asked]) @ weights


def standing(table: pd.DataFrame, name: str, value: float) -> float:
    """Return the share of recorded tokenizers whose diagnostic is below a value."""
    return float((table[name].to_numpy(float) < value).mean())
