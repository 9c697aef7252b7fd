"""Claims on vectors: D1 to D4 on channels, alignment and LightningDiT's ladder, X on two regularizers under two families.

Rules and margins were fixed before the runs. gFMD is at the guidance chosen on held-out training images; every effect is a mean
over a grid's cells (generator, length), paired by tokenizer seed.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from itertools import pairwise

import numpy as np
import pandas as pd

from vistok.errors import are
from vistok.study.config import Grid
from vistok.study.findings.claim_data import CELL, StudyData, by_seed
from vistok.study.findings.verdict import (
    HOLDS,
    LOG_RATIO,
    OPEN,
    Claim,
    Estimate,
    Measure,
    Verdict,
    above,
    below,
    make_claim,
    mean_of_seeds,
    missing_claim,
    within,
)

# The questions that the study is there to answer: their intervals are wider, so that all four are right in 95 % (Bonferroni).
PRIMARY = ("X.vectors kl-16-causal", "X.vectors kl-16-aligned", "X.tokens vq-aligned", "F.training")
Judge = Callable[[StudyData, Grid], list[Claim]]
# What VA-VAE's paper leads us to expect, and the most that it may cost.
GAIN, COST = math.log(0.9), math.log(1.1)
# Two effects add where their interaction is less than this in log gFMD. Runs of one setting differ by 0.07 to 0.2 between tokenizers
# (results/fashion), so five seeds know an interaction of four to 0.17 to 0.5: less cannot be told.
ADDS = 0.25


def confidence_of(claim: str) -> float:
    """Return the confidence of a claim's interval: more for the primary ones."""
    return 1 - 0.05 / len(PRIMARY) if claim in PRIMARY else 0.95


def interval_of(claim: str = "") -> str:
    """Return a claim's interval in words."""
    return f"{100 * confidence_of(claim):g} % t-interval over tokenizer seeds"


def when_complete(*others: str) -> Callable[[Judge], Judge]:
    """Return what leaves a judge's claims open until all planned seeds have all runs of its grid, and of `others`.

    To look whenever there is one more seed would settle too many: 9 to 13 % of claims on nothing, for three and five seeds.
    """

    def decorated(judge: Judge) -> Judge:
        @wraps(judge)
        def judged(data: StudyData, grid: Grid) -> list[Claim]:
            grids = [grid, *(one for name in others if (one := data.grid(name)))]
            done, planned = min(_complete(data, one) for one in grids), len(grid.seeds)
            if done >= planned:
                return judge(data, grid)
            why = f"judged when all {planned} seeds are complete; {done} {are(done)}"
            return [
                replace(claim, verdict=OPEN, note="; ".join(filter(None, (claim.note, why))))
                for claim in judge(data, grid)
            ]

        return judged

    return decorated


def _complete(data: StudyData, grid: Grid) -> int:
    """Return how many of a grid's seeds have all of its runs."""
    planned = len(grid.tokenizers) * len(grid.generators) * len(grid.lengths)
    cells = data.runs(grid).drop_duplicates(["seed", "tokenizer_choice", *CELL])
    return int((cells.groupby("seed").size() == planned).sum())


def log_ratio(
    rows: pd.DataFrame, first: str, second: str, where: str = "tokenizer_choice", column: str = "gfmd", claim: str = ""
) -> Estimate:
    """Return the mean over tokenizer seeds of `gaps`, with the interval of a claim."""
    return mean_of_seeds(list(gaps(rows, first, second, where, column)), confidence_of(claim))


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


@when_complete()
def channels(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge D1, the dilemma: with more channels reconstruction gets better and generation worse, from one number to the next."""
    names = [choice.name for choice in grid.tokenizers]
    rows = data.runs(grid)
    better = _slope(data.tokenizer_runs(grid), "choice", "rfmd", names)
    worse = _slope(rows, "tokenizer_choice", "gfmd", names)
    steps = pairwise(names)
    against = [f"from {few} to {many}" for few, many in steps if below(log_ratio(rows, many, few)) == HOLDS]
    verdict = Verdict(OPEN, 0.0) if against and above(worse) == HOLDS else above(worse)
    note = "; ".join(filter(None, (_turn(rows), f"it gets better {', '.join(against)}" if against else "")))
    rule = f"effect: for each seed, slope of log {{}} on log2 of the number of channels, {interval_of()}; holds {{}}"
    return [
        make_claim(
            "D1.reconstruction", "More channels reconstruct better.", rule.format("rFMD", "below 0, fails above"), better, below(better),
            measure=Measure("log rFMD for twice the channels", LOG_RATIO),
        ),
        make_claim(
            "D1.generation", "More channels generate worse at equal compute.",
            rule.format("gFMD (mean over lengths)", "above 0, unless it gets better from one number of channels to the next (95 % too); fails below"),
            worse, verdict, note, Measure("log gFMD for twice the channels", LOG_RATIO),
        ),
    ]  # fmt: skip


def _slope(rows: pd.DataFrame, where: str, column: str, names: list[str]) -> Estimate:
    """Return the mean over seeds of the slope of a column's logarithm on log2 of channels; seeds that have all of them."""
    dims = {name: math.log2(int(name.rpartition("-")[2])) for name in names}
    logs = rows.assign(log=rows[column].astype(float).map(math.log)).pivot_table(
        index="seed", columns=where, values="log"
    )
    wide = logs.reindex(columns=list(dims)).dropna()
    return mean_of_seeds([float(np.polyfit(list(dims.values()), seed.to_numpy(), 1)[0]) for _, seed in wide.iterrows()])


def _turn(rows: pd.DataFrame) -> str:
    """Return which tokenizers have the lowest gFMD to held-out images, and with how many seeds: no more is known of the turn."""
    if rows.empty:
        return ""
    means = rows.pivot_table(index="seed", columns="tokenizer_choice", values="gfmd_val")
    lowest = means.idxmin(axis=1).value_counts()
    return "lowest gFMD to held-out training images: " + ", ".join(
        f"{name} ({count} of {len(means)} seeds)" for name, count in lowest.items()
    )


@when_complete()
def alignment(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge D2: alignment generates better by a tenth and reconstructs worse by at most a tenth."""
    claims = []
    for name in [choice.name for choice in grid.tokenizers if choice.name.endswith("-aligned")]:
        plain = name.removesuffix("-aligned")
        gain, cost = log_ratio(data.runs(grid), name, plain), reconstruction(data, grid, name, plain)
        claims += [
            make_claim(
                f"D2.generation {plain}", "Alignment lowers gFMD by 10 % or more.",
                f"effect: mean over cells of log(gFMD of {name} / of {plain}), {interval_of()}; holds below log 0.9, fails above",
                gain, below(gain, GAIN), measure=_ratio("gFMD", name, plain),
            ),
            make_claim(
                f"D2.reconstruction {plain}", "Alignment raises rFMD by 10 % at most.",
                f"effect: log(rFMD of {name} / of {plain}), {interval_of()}; holds below log 1.1, fails above",
                cost, below(cost, COST), measure=_ratio("rFMD", name, plain),
            ),
        ]  # fmt: skip
    return claims


@when_complete()
def parts(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge D3: each of alignment's parts alone generates better than none, and the whole better than each."""
    base, whole, *others = (choice.name for choice in grid.tokenizers)
    claims = []
    for name in others:
        part = "Alignment without margins" if name.endswith("-no-margins") else "A part of alignment alone"
        rest = (
            "Margins lower the gFMD of alignment"
            if name.endswith("-no-margins")
            else "The whole of alignment lowers gFMD"
        )
        alone, less = log_ratio(data.runs(grid), name, base), log_ratio(data.runs(grid), whole, name)
        rule = f"effect: mean over cells of log(gFMD of {{}} / of {{}}), {interval_of()}; holds below 0, fails above"
        claims += [
            make_claim(
                f"D3.alone {name}", f"{part} lowers gFMD.", rule.format(name, base), alone, below(alone),
                measure=_ratio("gFMD", name, base),
            ),
            make_claim(
                f"D3.whole {name}", f"{rest} further.", rule.format(whole, name), less, below(less),
                measure=_ratio("gFMD", whole, name),
            ),
        ]  # fmt: skip
    return claims


@when_complete()
def ladder(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge D4: each of LightningDiT's switches, turned off alone, generates worse at equal training FLOPs."""
    whole, *others = (choice.name for choice in grid.generators)
    claims = []
    for name in others:
        found = log_ratio(data.runs(grid), name, whole, where="choice")
        rule = (
            f"effect: mean over cells of log(gFMD of {name} / of {whole}), {interval_of()}; holds above 0, fails below"
        )
        measure = _ratio("gFMD", name, whole)
        claims.append(
            make_claim(
                f"D4 {name}",
                "Without a switch of the ladder gFMD is higher.",
                rule,
                found,
                above(found),
                measure=measure,
            )
        )
    return claims


@when_complete()
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
    claims = []
    for name, lower in ((causal, "The causal regularizer lowers"), (aligned, "Alignment lowers"), (both, "Both lower")):
        label = f"X.{family} {name}"
        effect = log_ratio(rows, name, none, claim=label)
        rule = f"effect: mean over cells of log(gFMD of {name} / of {none}), {interval_of(label)}; holds below 0, fails above"
        claims.append(
            make_claim(
                label, f"{lower} the gFMD of {family}.", rule, effect, below(effect), measure=_ratio("gFMD", name, none)
            )
        )
    found = _interaction(rows, none, causal, aligned, both)
    rule = (
        f"effect: log(gFMD of {both} / of {aligned}) - log(gFMD of {causal} / of {none}), mean over cells, {interval_of()}; holds inside "
        f"(-{ADDS}, {ADDS}), fails outside"
    )
    verdict, measure = within(found, -ADDS, ADDS), Measure("effect beyond the sum of both", LOG_RATIO)
    return [
        *claims,
        make_claim(f"X.{family} adds", f"Their effects on {family} add.", rule, found, verdict, measure=measure),
    ]


def _interaction(rows: pd.DataFrame, none: str, causal: str, aligned: str, both: str) -> Estimate:
    logs = rows.set_index(["seed", *CELL, "tokenizer_choice"]).gfmd.astype(float).map(math.log)
    wide = logs.unstack("tokenizer_choice").dropna(subset=[none, causal, aligned, both])
    beyond = (wide[both] - wide[aligned]) - (wide[causal] - wide[none])
    return mean_of_seeds(list(beyond.groupby("seed").mean()))
