"""What diagnostics of a tokenizer are worth: how well they order the gFMD of generators that were trained on recorded tokenizers.

Each way of making tokenizers, with all its seeds, is left out in turn: a line through the others' diagnostics predicts the logarithm of
its gFMD at equal generator compute. What counts is whether the predictions have the order of what was found, not their values.
"""

from dataclasses import dataclass
from importlib.resources import as_file, files
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

# The table that comes with vistok: a row for each recorded tokenizer, its choice, diagnostics and gFMD.
SHIPPED = "fashion_diagnostics"


@dataclass(frozen=True)
class Worth:
    """One diagnostic or two: Spearman's rank correlation of predicted and found gFMD, tokenizers left out, and their number."""

    names: tuple[str, ...]
    correlation: float
    count: int
    # Of a single one: the sign of its effect on gFMD in all tokenizers, and nothing of two.
    sign: int = 0


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
    target = np.log(rows[found].to_numpy(float))
    values = rows[list(names)].to_numpy(float)
    predicted = np.empty_like(target)
    for choice in rows["choice"].unique():
        out = (rows["choice"] == choice).to_numpy()
        predicted[out] = _line(values[~out], target[~out], values[out])
    correlation = float(stats.spearmanr(predicted, target).statistic)
    sign = int(np.sign(stats.spearmanr(values[:, 0], target).statistic)) if len(names) == 1 else 0
    return Worth(names, correlation, len(rows), sign)


def _line(known: np.ndarray, target: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return predictions of least squares."""
    design = np.column_stack([np.ones(len(known)), known])
    weights = np.linalg.lstsq(design, target, rcond=None)[0]
    return np.column_stack([np.ones(len(asked)), asked]) @ weights


def standing(table: pd.DataFrame, name: str, value: float) -> float:
    """Return the share of recorded tokenizers whose diagnostic is below a value."""
    return float((table[name].to_numpy(float) < value).mean())
