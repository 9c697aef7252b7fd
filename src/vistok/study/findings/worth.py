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


# Shufflings of gFMD over the tokenizers, against which a worth is held.
SHUFFLINGS = 2_000
# A figure is believed to tell something where fewer shufflings than this do as well.
BELIEVED = 0.05


@dataclass(frozen=True)
class Worth:
    """One diagnostic or two: Spearman's rank correlation of predicted and found gFMD, tokenizers left out, and their number.

    A diagnostic that says nothing comes out below 0, since a line through the others misses towards what was left out. So `chance` is
    the share of shufflings of gFMD over the tokenizers that come out as high (a permutation test), and `usual` their median.
    """

    names: tuple[str, ...]
    correlation: float
    count: int
    chance: float
    usual: float
    # Of a single one: the sign of its effect on gFMD in all tokenizers, and nothing of two.
    sign: int = 0

    @property
    def better(self) -> str:
        """Whether "more" or "less" of a single diagnostic goes with lower gFMD; nothing where chance explains its worth."""
        return {-1: "more", 1: "less"}.get(self.sign, "") if self.chance < BELIEVED else ""


def shipped_diagnostics() -> pd.DataFrame:
    """Return the diagnostics of the recorded tokenizers of the Fashion-MNIST study."""
    with as_file(files("vistok") / "study" / "findings" / "tables" / f"{SHIPPED}.csv") as path:
        return pd.read_csv(path)


def of_equal_tokens(table: pd.DataFrame) -> pd.DataFrame:
    """Return the tokenizers with 49 tokens, on which generators of one size and length spend equal compute."""
    return table[~table["choice"].astype(str).str.startswith("tokens-")]


def worth_of(table: pd.DataFrame, names: list[str], found: str) -> tuple[list[Worth], float]:
    """Return what each diagnostic, and each pair of them, is worth for a column of gFMD, the best first; and the best one's chance.

    The last is the share of shufflings in which the best of as many looks is as good.
    """
    rows = table.dropna(subset=[found, *names])
    target, choices = np.log(rows[found].to_numpy(float)), rows["choice"].to_numpy()
    shuffled, worths, highest = _shuffled(target, choices), [], np.full(SHUFFLINGS, -1.0)
    for chosen in [(name,) for name in names] + list(combinations(names, 2)):
        predict = _predictor(rows[list(chosen)].to_numpy(float), choices)
        correlation = _correlations(predict @ target[:, None], target[:, None])[0]
        by_chance = _correlations(predict @ shuffled, shuffled)
        highest = np.maximum(highest, by_chance)
        sign = int(np.sign(stats.spearmanr(rows[chosen[0]], target).statistic)) if len(chosen) == 1 else 0
        worths.append(
            Worth(
                chosen, float(correlation), len(rows), _share(by_chance, correlation), float(np.median(by_chance)), sign
            )
        )
    worths.sort(key=lambda worth: -worth.correlation)
    return worths, _share(highest, worths[0].correlation)


def _share(by_chance: np.ndarray, found: float) -> float:
    """Return the share of shufflings as high as what was found, which counts among them."""
    return float((1 + (by_chance >= found - 1e-12).sum()) / (1 + len(by_chance)))


def _shuffled(target: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Return shufflings of a target, (tokenizers, shufflings): the ways' means among the ways, and what is left among all.

    Tokenizers made in one way are alike, and stay so.
    """
    rng, (_, way) = np.random.default_rng(0), np.unique(choices, return_inverse=True)
    means = np.bincount(way, target) / np.bincount(way)
    left = target - means[way]
    return np.column_stack([rng.permutation(means)[way] + rng.permutation(left) for _ in range(SHUFFLINGS)])


def _predictor(values: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Return the matrix that predicts each tokenizer's target by least squares from those made in other ways."""
    design = np.column_stack([np.ones(len(values)), values])
    matrix = np.zeros((len(values), len(values)))
    for choice in np.unique(choices):
        out = choices == choice
        matrix[np.ix_(out, ~out)] = design[out] @ np.linalg.pinv(design[~out])
    return matrix


def _correlations(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of each column with its target; 0 where one is constant."""
    ranks = [stats.rankdata(one, axis=0) - (len(one) + 1) / 2 for one in (predicted, target)]
    spread = np.sqrt((ranks[0] ** 2).sum(axis=0) * (ranks[1] ** 2).sum(axis=0))
    return np.divide((ranks[0] * ranks[1]).sum(axis=0), spread, out=np.zeros(len(spread)), where=spread > 0)


def standing(table: pd.DataFrame, name: str, value: float) -> float:
    """Return the share of recorded tokenizers whose diagnostic is below a value."""
    return float((table[name].to_numpy(float) < value).mean())
