"""Claims on tokens: T1 on how many, T3 on a line beside the grid, T4 on order in a line, T5 on families, T6 on clusters.

Rules and margins were fixed before the runs. gFMD is at the guidance chosen on held-out training images. Budgets are training
FLOPs of the generator, equal for all; every effect is a mean over a grid's cells (generator, budget), paired by tokenizer seed.
"""

import math
from collections.abc import Sequence

import pandas as pd

from vistok.study.config import Grid
from vistok.study.findings.claim_data import StudyData
from vistok.study.findings.claims_vectors import log_ratio, reconstruction
from vistok.study.findings.verdict import (
    LOG_RATIO,
    Claim,
    Estimate,
    Measure,
    above,
    below,
    make_claim,
    mean_of_seeds,
    missing_claim,
)

SEEDS = "95 % t-interval over tokenizer seeds"
# The most that a line of 16 may generate worse than the grid of 49.
COST = math.log(1.1)
# How many times fewer calls a line must need.
CALLS = 3.0


def _claim(
    claim: str, statement: str, found: Estimate, most: float, quantity: str, cells: str = "mean over cells of "
) -> Claim:
    """Judge that a ratio is below a margin, given as a logarithm."""
    margin = f"log {math.exp(most):g}" if most else "0"
    rule = f"effect: {cells}log({quantity}), {SEEDS}; holds below {margin}, fails above"
    return make_claim(claim, statement, rule, found, below(found, most), measure=Measure(quantity, LOG_RATIO))


def how_many(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge T1: from each number of tokens in a line to the next, both scores fall."""
    names, claims = [choice.name for choice in grid.tokenizers], []
    for few, many in zip(names, names[1:], strict=False):
        gained = log_ratio(data.runs(grid), many, few)
        claims += [
            _claim(
                f"T1.reconstruction {many}", "More tokens in a line reconstruct better.",
                reconstruction(data, grid, many, few), 0.0, f"rFMD of {many} / of {few}", "",
            ),
            _claim(
                f"T1.generation {many}", "More tokens in a line generate better at equal compute.",
                gained, 0.0, f"gFMD of {many} / of {few}",
            ),
        ]  # fmt: skip
    return claims


def kinds(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge T3, T5 and T6 on the main grid: the first tokenizer is the grid, the second a line, the third clusters."""
    rows = data.runs(grid)
    base, *others = (choice.name for choice in grid.tokenizers)
    families = [choice.name for choice in grid.generators]
    claims = []
    for family in families:
        of_family = rows[rows.choice == family]
        claims += [
            _beside(family, others[0], base, log_ratio(of_family, others[0], base)),
            *_cheaper(of_family, family, others[0], base),
        ]
        for name in others[1:]:
            found = log_ratio(of_family, name, base)
            statement = f"{name[0].upper()}{name[1:]} generate better than the grid's codes at equal compute."
            claims.append(_claim(f"T6.{family} {name}", statement, found, 0.0, f"gFMD of {name} / of {base}"))
    if len(families) == 2:
        written, filled = families
        for name in (base, *others):
            found = log_ratio(rows[rows.tokenizer_choice == name], filled, written, where="choice")
            statement = "A masked generator is better than an autoregressive one at equal training compute."
            claims.append(_claim(f"T5 {name}", statement, found, 0.0, f"gFMD of {filled} / of {written}"))
    return claims


def _beside(family: str, line: str, base: str, found: Estimate) -> Claim:
    statement = "A line of a third of the tokens generates at most a tenth worse than the grid, at equal compute."
    return _claim(f"T3.generation {family}", statement, found, COST, f"gFMD of {line} / of {base}")


def _cheaper(rows: pd.DataFrame, family: str, line: str, base: str) -> list[Claim]:
    """Judge what an image of a line costs beside the grid's: calls of the network, and milliseconds."""
    statement = "An image of the line takes at most a third of the calls, and less time."
    claims = []
    for column, most in (("calls", -math.log(CALLS)), ("ms_per_image", 0.0)):
        name = f"T3.{column.partition('_')[0]} {family}"
        if column not in rows:
            claims.append(missing_claim(name, statement, "", f"no column {column}"))
            continue
        found = log_ratio(rows, line, base, column=column)
        claims.append(_claim(name, statement, found, most, f"{column} of {line} / of {base}"))
    return claims


def ordered(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge T4: the causal regularizer on a line lowers gFMD under each family, more where tokens are written in order."""
    rows = data.runs(grid)
    plain, causal = (choice.name for choice in grid.tokenizers)
    families = [choice.name for choice in grid.generators]
    claims = []
    for family in families:
        found = log_ratio(rows[rows.choice == family], causal, plain)
        statement = "The causal regularizer on a line lowers gFMD."
        claims.append(_claim(f"T4 {family}", statement, found, 0.0, f"gFMD of {causal} / of {plain}"))
    if len(families) == 2:
        claims.append(_more_in_order(rows, plain, causal, families))
    return claims


def _more_in_order(rows: pd.DataFrame, plain: str, causal: str, families: Sequence[str]) -> Claim:
    """Judge whether the effect under the masked family is weaker (its logarithm greater) than under the autoregressive one."""
    by_seed = []
    for seed in sorted(set(rows.seed)):
        of_seed = rows[rows.seed == seed]
        effects = [log_ratio(of_seed[of_seed.choice == family], causal, plain) for family in families]
        if all(effect.n for effect in effects):
            by_seed.append(effects[1].value - effects[0].value)
    found = mean_of_seeds(by_seed)
    rule = (
        f"effect: log(gFMD of {causal} / of {plain}) under {families[1]} minus that under {families[0]}, mean over budgets, {SEEDS}; "
        "holds above 0, fails below"
    )
    statement = "The regularizer helps more where tokens are written in its order than where they are filled in."
    measure = Measure("effect under masked / under autoregressive", LOG_RATIO)
    return make_claim("T4 order", statement, rule, found, above(found), measure=measure)
