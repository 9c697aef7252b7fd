"""Claims on two families: which regularizer helps which (X), and what tokens and vectors reach for both purses (F).

Rules were fixed before the runs. The tokens' grid and the vectors' have the same seeds and the same training FLOPs; a seed's tokenizers
of the two are different networks, and seeds are paired by number only to count them once.
"""

import math

import numpy as np
import pandas as pd

from vistok.errors import counted
from vistok.study.config import Grid
from vistok.study.findings.by_scale import in_fewer_steps, parsed
from vistok.study.findings.claim_data import StudyData
from vistok.study.findings.claims_vectors import confidence_of, gaps, interval_of, when_complete
from vistok.study.findings.image_cost import COLUMNS, IN_FULL, Unit
from vistok.study.findings.verdict import (
    HOLDS,
    LOG_RATIO,
    OPEN,
    Claim,
    Measure,
    Verdict,
    above,
    below,
    make_claim,
    mean_of_seeds,
)

VECTORS = "cross-vectors"
# The claims' order.
PURSES: tuple[Unit, ...] = ("flops", "ms")


@when_complete(VECTORS)
def regularizers(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge whether causal regularization does more for tokens, and alignment more for vectors. `grid`: the tokens'."""
    other = data.grid(VECTORS)
    if other is None or len(grid.tokenizers) != 4:
        return []
    sides = [(data.runs(one), [choice.name for choice in one.tokenizers]) for one in (grid, other)]
    claims = []
    for place, name, what in ((1, "causal", "tokens"), (2, "aligned", "vectors")):
        by_seed = [gaps(rows, names[place], names[0]) for rows, names in sides]
        found = mean_of_seeds(list((by_seed[1] - by_seed[0]).dropna()))
        verdict = above(found) if what == "tokens" else below(found)
        tokens, vectors = (f"log(gFMD of {names[place]} / of {names[0]})" for _, names in sides)
        claims.append(make_claim(
            f"X.families {name}", f"{'The causal regularizer' if place == 1 else 'Alignment'} does more for {what}.",
            f"effect: {vectors} - {tokens}, {interval_of()}; holds {'above' if what == 'tokens' else 'below'} 0, fails on the other side",
            found, verdict, measure=Measure("vectors' effect less that of tokens", LOG_RATIO),
        ))  # fmt: skip
    return claims


@when_complete(VECTORS)
def frontier(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge vectors against tokens, both without a regularizer: at equal training, and at equal cost of an image."""
    other = data.grid(VECTORS)
    if other is None:
        return []
    tokens, vectors = (_of_first(data.runs(one), one) for one in (grid, other))
    names = f"{other.tokenizers[0].name} / of {grid.tokenizers[0].name}"
    gap = (vectors.gfmd.map(math.log) - tokens.gfmd.map(math.log)).dropna()
    found = mean_of_seeds(list(gap), confidence_of("F.training"))
    claims = [make_claim(
        "F.training", "Vectors generate better for equal training compute.",
        f"effect: log(gFMD of {names}), each family at its usual steps, {interval_of('F.training')}; holds below 0, fails above",
        found, below(found), measure=Measure(f"gFMD of {names}", LOG_RATIO),
    )]  # fmt: skip
    for unit in PURSES:
        column = COLUMNS[unit]
        if column not in tokens or "gfmd_by_steps" not in vectors:
            continue
        at = pd.Series(
            {seed: _at_cost(run, column, float(tokens[column].get(seed, math.nan))) for seed, run in vectors.iterrows()}
        )
        equal = mean_of_seeds(list((at - tokens.gfmd.map(math.log)).dropna()))
        verdict, note = below(equal), ""
        dearer = sum(_least(run, column) > tokens[column].get(seed, math.inf) for seed, run in vectors.iterrows())
        if dearer and verdict == HOLDS:
            verdict = Verdict(OPEN, *verdict.margins)
            note = f"with {counted(dearer, 'seed')} vectors cost more in their fewest steps, too"
        claims.append(make_claim(
            f"F.{unit}", f"Vectors generate better for as many {IN_FULL[unit]} an image.",
            f"effect: log(gFMD of {names}), vectors in as many steps as cost what the tokens' image does (between two numbers of steps on "
            f"a line in the logarithms; in the fewest where even these cost more, which cannot hold), {interval_of()}; holds below 0, fails above",
            equal, verdict, note, measure=Measure(f"gFMD of {names}", LOG_RATIO),
        ))  # fmt: skip
    return claims


def _of_first(rows: pd.DataFrame, grid: Grid) -> pd.DataFrame:
    """Return the longest runs on a grid's first tokenizer, by seed."""
    rows = rows[rows.tokenizer_choice == grid.tokenizers[0].name]
    rows = rows[rows.length == rows.length.max()] if len(rows) else rows
    return rows.set_index("seed")


def _least(run: "pd.Series[float]", column: str) -> float:
    """Return the least that an image of a run costs, in its fewest steps; NaN where it was not drawn in fewer."""
    return min(in_fewer_steps(run)[column].values()) if isinstance(run.get("gfmd_by_steps"), str) else math.nan


def _at_cost(run: "pd.Series[float]", column: str, cost: float) -> float:
    """Return a run's log gFMD where an image has a cost."""
    if not isinstance(run.get("gfmd_by_steps"), str) or math.isnan(cost):
        return math.nan
    costs, scores = in_fewer_steps(run)[column], parsed(str(run["gfmd_by_steps"]))
    points = sorted([*((costs[steps], scores[steps]) for steps in costs), (float(run[column]), float(run.gfmd))])
    xs, ys = np.log(np.asarray(points)).T
    return float(np.interp(math.log(cost), xs, ys))
