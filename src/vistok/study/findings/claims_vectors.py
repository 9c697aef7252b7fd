"""Claims on vectors: D1 to D4 on channels, alignment and LightningDiT's ladder, X on two regularizers under two families.

Rules and margins were fixed before the runs. gFMD is at the guidance chosen on held-out training images; every effect is a mean
over a grid's cells (generator, length), paired by tokenizer seed.
"""

import math

import pandas as pd

from vistok.study.config import Grid
from vistok.study.findings.claim_data import CELL, StudyData, by_seed
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
    within,
)

SEEDS = "95 % t-interval over tokenizer seeds"
# What VA-VAE's paper leads us to expect, and the most that it may cost.
GAIN, COST = math.log(0.9), math.log(1.1)
# Two effects add where their interaction is less than this in log gFMD. Runs of one setting differ by 0.07 to 0.2 between tokenizers
# (results/fashion), so five seeds know an interaction of four to 0.17 to 0.5: less cannot be told.
ADDS = 0.25


def log_ratio(
    rows: pd.DataFrame, first: str, second: str, where: str = "tokenizer_choice", column: str = "gfmd"
) -> Estimate:
    """Return the mean over tokenizer seeds of `gaps`."""
    return mean_of_seeds(list(gaps(rows, first, second, where, column)))


def gaps(
    rows: pd.DataFrame, first: str, second: str, where: str = "tokenizer_choice", column: str = "gfmd"
) -> "pd.Series[float]":
    """Return, by tokenizer seed, the mean over cells of log(column of first / of second); cells that both have.

    `where` is the column of both names; cells are told apart by the other choice and by their length.
    """
    keys = ["seed", "length", "choice" if where == "tokenizer_choice" else "tokenizer_choice"]
    sides = [rows[rows[where] == name].set_index(keys)[column].astype(float).map(math.log) for name in (first, second)]
    return (sides[0] - sides[1]).dropna().groupby("seed").mean()


def reconstruction(data: StudyData, grid: Grid, first: str, second: str) -> Estimate:
    """Return the mean of log(rFMD of first / of second) over tokenizer seeds."""
    wide = by_seed(data.tokenizer_runs(grid), "rfmd", [first, second])
    return mean_of_seeds([math.log(a / b) for a, b in zip(wide[first], wide[second], strict=True)])


def _ratio(score: str, first: str, second: str) -> Measure:
    return Measure(f"{score} of {first} / of {second}", LOG_RATIO)


def channels(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge D1, the dilemma: with more channels reconstruction gets better and generation worse."""
    few, many = grid.tokenizers[0].name, grid.tokenizers[-1].name
    better, worse = reconstruction(data, grid, many, few), log_ratio(data.runs(grid), many, few)
    return [
        make_claim(
            "D1.reconstruction", "More channels reconstruct better.",
            f"effect: log(rFMD of {many} / of {few}), {SEEDS}; holds below 0, fails above", better, below(better),
            measure=_ratio("rFMD", many, few),
        ),
        make_claim(
            "D1.generation", "More channels generate worse at equal compute.",
            f"effect: mean over cells of log(gFMD of {many} / of {few}), {SEEDS}; holds above 0, fails below",
            worse, above(worse), _turn(data.runs(grid)), _ratio("gFMD", many, few),
        ),
    ]  # fmt: skip


def _turn(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    means = rows.groupby("tokenizer_choice").gfmd_val.mean()
    return f"lowest gFMD to held-out training images: {means.index[int(means.to_numpy().argmin())]}"


def alignment(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge D2: alignment generates better by a tenth and reconstructs worse by at most a tenth."""
    claims = []
    for name in [choice.name for choice in grid.tokenizers if choice.name.endswith("-aligned")]:
        plain = name.removesuffix("-aligned")
        gain, cost = log_ratio(data.runs(grid), name, plain), reconstruction(data, grid, name, plain)
        claims += [
            make_claim(
                f"D2.generation {plain}", "Alignment lowers gFMD by 10 % or more.",
                f"effect: mean over cells of log(gFMD of {name} / of {plain}), {SEEDS}; holds below log 0.9, fails above",
                gain, below(gain, GAIN), measure=_ratio("gFMD", name, plain),
            ),
            make_claim(
                f"D2.reconstruction {plain}", "Alignment raises rFMD by 10 % at most.",
                f"effect: log(rFMD of {name} / of {plain}), {SEEDS}; holds below log 1.1, fails above",
                cost, below(cost, COST), measure=_ratio("rFMD", name, plain),
            ),
        ]  # fmt: skip
    return claims


def parts(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge D3: each of alignment's parts alone generates better than none, and the whole better than each."""
    base, whole, *others = (choice.name for choice in grid.tokenizers)
    claims = []
    for name in others:
        part = "Alignment without margins" if name.endswith("-no-margins") else "The part alone"
        rest = "Margins lower" if name.endswith("-no-margins") else "The whole lowers"
        alone, less = log_ratio(data.runs(grid), name, base), log_ratio(data.runs(grid), whole, name)
        rule = f"effect: mean over cells of log(gFMD of {{}} / of {{}}), {SEEDS}; holds below 0, fails above"
        claims += [
            make_claim(
                f"D3.alone {name}", f"{part} lowers gFMD.", rule.format(name, base), alone, below(alone),
                measure=_ratio("gFMD", name, base),
            ),
            make_claim(
                f"D3.whole {name}", f"{rest} it further.", rule.format(whole, name), less, below(less),
                measure=_ratio("gFMD", whole, name),
            ),
        ]  # fmt: skip
    return claims


def ladder(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge D4: each of LightningDiT's switches, turned off alone, generates worse at equal steps."""
    whole, *others = (choice.name for choice in grid.generators)
    claims = []
    for name in others:
        found = log_ratio(data.runs(grid), name, whole, where="choice")
        rule = f"effect: mean over cells of log(gFMD of {name} / of {whole}), {SEEDS}; holds above 0, fails below"
        measure = _ratio("gFMD", name, whole)
        claims.append(
            make_claim(f"D4 {name}", "Without it gFMD is higher.", rule, found, above(found), measure=measure)
        )
    return claims


def cross(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge X: under one family, whether causal and alignment regularizers help, alone and together, and whether they add.

    Only cells that all four arms have are counted.
    """
    rows, family = data.runs(grid), grid.name.removeprefix("cross-")
    names = [choice.name for choice in grid.tokenizers]
    if len(names) != 4 or any(name not in set(rows.tokenizer_choice) for name in names):
        return [
            missing_claim(f"X.{family}", "Both regularizers, alone and together.", "", "not all four arms have runs")
        ]
    rows = rows[rows.groupby(["seed", *CELL]).tokenizer_choice.transform("nunique") == 4]
    none, causal, aligned, both = names
    effects = {name: log_ratio(rows, name, none) for name in (causal, aligned, both)}
    rule = f"effect: mean over cells of log(gFMD of {{}} / of {none}), {SEEDS}; holds below 0, fails above"
    claims = [
        make_claim(
            f"X.{family} {name}",
            "It lowers gFMD.",
            rule.format(name),
            found,
            below(found),
            measure=_ratio("gFMD", name, none),
        )
        for name, found in effects.items()
    ]
    found = _interaction(rows, none, causal, aligned, both)
    rule = (
        f"effect: log(gFMD of {both} / of {aligned}) - log(gFMD of {causal} / of {none}), mean over cells, {SEEDS}; holds inside "
        f"(-{ADDS}, {ADDS}), fails outside"
    )
    verdict, measure = within(found, -ADDS, ADDS), Measure("effect beyond the sum of both", LOG_RATIO)
    return [*claims, make_claim(f"X.{family} adds", "The two effects add.", rule, found, verdict, measure=measure)]


def _interaction(rows: pd.DataFrame, none: str, causal: str, aligned: str, both: str) -> Estimate:
    logs = rows.set_index(["seed", *CELL, "tokenizer_choice"]).gfmd.astype(float).map(math.log)
    wide = logs.unstack("tokenizer_choice").dropna(subset=[none, causal, aligned, both])
    beyond = (wide[both] - wide[aligned]) - (wide[causal] - wide[none])
    return mean_of_seeds(list(beyond.groupby("seed").mean()))
