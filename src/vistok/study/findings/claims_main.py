"""C1 signature and C2 efficiency: claims on the main grid, paired by tokenizer seed."""

import math

import numpy as np
import pandas as pd

from vistok.study.config import Grid
from vistok.study.findings.claim_data import CELL, StudyData, by_seed, cells, in_common, longest, of_complete_seeds
from vistok.study.findings.curves import log_compute_ratio
from vistok.study.findings.table import positions
from vistok.study.findings.verdict import (
    FAILS,
    HOLDS,
    LOG_RATIO,
    NATS,
    OPEN,
    RATIO,
    SHARE,
    SLOPE,
    Claim,
    Measure,
    Verdict,
    above,
    as_ratio,
    make_claim,
    mean_of_seeds,
    missing_claim,
    within,
)

SEEDS = "t-interval over tokenizer seeds, 95 %"


def signature(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge C1 for each regularized choice: reconstruction, unigram entropy, validation loss, and where the loss falls."""
    claims = []
    for name in data.regularized(grid):
        claims += [
            _reconstruction(data, grid, name),
            _unigram(data, grid, name),
            _likelihood(data, grid, name),
            *_where(data, grid, name),
        ]
    return claims


def _reconstruction(data: StudyData, grid: Grid, name: str) -> Claim:
    base = data.study.baseline
    wide = by_seed(data.tokenizer_runs(grid), "rfmd", [base, name])
    ratio = mean_of_seeds(list(np.log(wide[name] / wide[base])))
    return make_claim(
        f"C1.reconstruction {name}",
        "Reconstruction gets a little worse (the paper: rFID 2.21 to 2.36).",
        f"effect: mean of log(rFMD / rFMD of {base}), {SEEDS}; holds inside (0, log 1.5), fails outside",
        ratio,
        within(ratio, 0.0, math.log(1.5)),
        measure=Measure("rFMD / the baseline's", LOG_RATIO),
    )


def _unigram(data: StudyData, grid: Grid, name: str) -> Claim:
    base = data.study.baseline
    wide = by_seed(data.tokenizer_runs(grid), "position_entropy", [base, name])
    change = mean_of_seeds(list(wide[name] / wide[base] - 1), confidence=0.9)
    return make_claim(
        f"C1.entropy {name}",
        "The unigram entropy by position stays the same.",
        "effect: mean relative change of the mean entropy by position (bits, test images), t-interval over seeds, 90 %: two "
        "one-sided tests at 5 %; holds inside (-0.02, 0.02), fails outside",
        change,
        within(change, -0.02, 0.02),
        measure=Measure("change of the entropy by position", SHARE),
    )


def _likelihood(data: StudyData, grid: Grid, name: str) -> Claim:
    statement = "Held-out nats per token are lower at every generator size and length."
    rule = (
        "effect: difference of the cell (size, length) where it is largest, 90 % t-interval over seeds of that cell; holds "
        "where in every cell the interval's upper end is below 0, fails where in some cell its lower end is above 0"
    )
    table = cells(data.runs(grid), "val_nats_per_token", data.study.baseline, name).dropna(axis=1)
    if table.empty:
        return missing_claim(f"C1.likelihood {name}", statement, rule, "no pairs of runs")
    estimates = [mean_of_seeds(list(table[cell]), confidence=0.9) for cell in table]
    worst = max(estimates, key=lambda estimate: estimate.value)
    verdict = HOLDS if all(e.high < 0 for e in estimates) else FAILS if any(e.low > 0 for e in estimates) else OPEN
    spread = [e.value for e in estimates]
    note = f"{len(spread)} cells, mean differences {min(spread):.4f} to {max(spread):.4f} nats"
    difference = Measure("difference where it is largest", NATS)
    return make_claim(f"C1.likelihood {name}", statement, rule, worst, Verdict(verdict, 0.0), note, difference)


def _where(data: StudyData, grid: Grid, name: str) -> list[Claim]:
    """Judge the gains by position, for the largest generator's longest run."""
    rows = data.runs(grid)
    share_rule = (
        f"effect: share of positions whose nats fall, largest generator, longest run, mean over seeds, {SEEDS}; holds above "
        "0.5, fails below"
    )
    half_rule = (
        f"effect: mean gain of the later half of the positions - of the earlier half (nats), same runs, {SEEDS}; holds above 0, "
        "fails below"
    )
    statements = ("Most positions get easier.", "The gain is larger late in the sequence.")
    gains = _position_gains(rows, data.study.baseline, name)
    names = (f"C1.positions {name}", f"C1.late {name}")
    if not gains:
        rules = (share_rule, half_rule)
        return [missing_claim(*parts, "no pairs of runs") for parts in zip(names, statements, rules, strict=True)]
    share = mean_of_seeds([float((gain > 0).mean()) for gain in gains])
    late = mean_of_seeds([float(gain[len(gain) // 2 :].mean() - gain[: len(gain) // 2].mean()) for gain in gains])
    return [
        make_claim(
            names[0], statements[0], share_rule, share, above(share, 0.5), measure=Measure("easier positions", SHARE)
        ),
        make_claim(
            names[1], statements[1], half_rule, late, above(late), measure=Measure("late gain - early gain", NATS)
        ),
    ]


def _position_gains(rows: pd.DataFrame, baseline: str, other: str) -> list[np.ndarray]:
    """Return baseline - other by position, one array per seed, for the longest run of the largest generator of both."""
    rows = in_common(rows[rows.by_position != ""], baseline, other)
    if rows.empty:
        return []
    last = longest(rows)
    gains = []
    for _, pair in last.groupby("seed"):
        sides = [pair[pair.tokenizer_choice == name] for name in (baseline, other)]
        if all(len(side) == 1 for side in sides) and sides[0].num_tokens.iloc[0] == sides[1].num_tokens.iloc[0]:
            gains.append(positions(sides[0])[0] - positions(sides[1])[0])
    return gains


def efficiency(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge C2 for each regularized choice: compute for equal gFMD, and the regime in which the regularizer helps."""
    claims = []
    for name in data.regularized(grid):
        claims += [
            _compute_ratio(data, grid, name, "total_flops", "both stages"),
            _compute_ratio(data, grid, name, "train_flops", "stage 2 alone"),
            _compute_ratio(data, grid, name, "train_flops", "stage 2 alone", guided=False),
            _regime(data, grid, name),
        ]
    return claims


def _compute_ratio(data: StudyData, grid: Grid, name: str, column: str, stages: str, guided: bool = True) -> Claim:
    value_column, sampled = ("gfmd", "gFMD") if guided else ("gfmd_unguided", "gFMD without guidance")
    statement = f"Less compute ({stages}) gives equal {sampled} (the paper: 1.5 to 3 times less in stage 2)."
    rule = (
        ("" if guided else "exploratory, added after the first runs: ")
        + f"effect: ratio of the baseline's compute to this one's at equal {sampled}: frontiers of each seed joined in log-log, mean "
        "of the log ratio at nine levels between what both reach, cells (size, length) that both have; geometric mean over "
        "seeds, t-interval of the logs, 95 %; "
        "holds above 1, fails below; open where a seed's frontiers reach no level in common"
    )
    rows = of_complete_seeds(in_common(data.runs(grid), data.study.baseline, name))
    ratios: list[float | None] = []
    for _, runs in rows.groupby("seed"):
        sides = [runs[runs.tokenizer_choice == choice] for choice in (data.study.baseline, name)]
        if all(len(side) > 1 for side in sides):
            base, other = ((list(side[column]), list(side[value_column])) for side in sides)
            ratios.append(log_compute_ratio(base, other))
    known = [ratio for ratio in ratios if ratio is not None]
    label = f"C2.{'total' if column == 'total_flops' else 'stage2' if guided else 'unguided'} {name}"
    if not known:
        return missing_claim(label, statement, rule, "no seed has frontiers that reach a common gFMD")
    if not guided and (rows.guidance_scale == 1).all():
        return missing_claim(label, statement, rule, "all runs chose to draw without guidance: this is C2.stage2 again")
    logs = mean_of_seeds(known)
    ratio_of_seeds = as_ratio(logs)
    apart = len(ratios) - len(known)
    verdict = Verdict(OPEN, 1.0) if apart else above(ratio_of_seeds, 1.0)
    note = f"{apart} seeds reach nothing in common" if apart else ""
    saved = Measure(f"the baseline's FLOPs ({stages}) / its own", RATIO)
    return make_claim(label, statement, rule, ratio_of_seeds, verdict, note, saved)


def _regime(data: StudyData, grid: Grid, name: str) -> Claim:
    statement = "The regularizer gains where reconstruction is good enough: the smaller rFMD / gFMD, the more."
    rule = (
        "effect: slope of log(gFMD / baseline's gFMD) on log(baseline's rFMD / baseline's gFMD) over cells (size, length), by "
        f"seed, {SEEDS}; holds above 0, fails below"
    )
    base, slopes, gains = data.study.baseline, [], []
    for _, runs in of_complete_seeds(in_common(data.runs(grid), base, name)).groupby("seed"):
        sides = [runs[runs.tokenizer_choice == choice].set_index(CELL) for choice in (base, name)]
        both = sides[0].index.intersection(sides[1].index)
        if len(both) > 2:
            of_base, other = sides[0].loc[both], sides[1].loc[both]
            x = np.log((of_base.rfmd / of_base.gfmd).to_numpy(float))
            y = np.log((other.gfmd / of_base.gfmd).to_numpy(float))
            slopes.append(float(np.polyfit(x, y, 1)[0]))
            most, least = int(x.argmax()), int(x.argmin())
            gains.append((math.exp(x[most]), float(y[most]), math.exp(x[least]), float(y[least])))
    slope = mean_of_seeds(slopes)
    note = ""
    if gains:
        high, at_high, low, at_low = np.mean(gains, axis=0)
        note = (
            f"at rFMD/gFMD {low:.2f} gFMD is {math.exp(at_low):.2f} times the baseline's, at {high:.2f} "
            f"{math.exp(at_high):.2f} times (means over seeds)"
        )
    return make_claim(
        f"C2.regime {name}",
        statement,
        rule,
        slope,
        above(slope),
        note,
        Measure("log gFMD ratio on log rFMD / gFMD", SLOPE),
    )
