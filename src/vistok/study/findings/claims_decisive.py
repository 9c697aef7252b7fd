"""E: the regularizer's gain in compute, with enough seeds, at guidance scales chosen by other seeds; its rules are sequential."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from vistok.study.config import Grid
from vistok.study.findings.by_scale import at_scales, chosen_by_others, parsed
from vistok.study.findings.claim_data import CELL, StudyData
from vistok.study.findings.curves import area_compute_ratio
from vistok.study.findings.verdict import (
    NATS,
    OPEN,
    RATIO,
    SHARE,
    SLOPE,
    Claim,
    Estimate,
    Measure,
    Verdict,
    above,
    as_ratio,
    below,
    make_claim,
    mean_of_seeds,
    missing_claim,
    within,
)

# Claims of 12 seeds are judged twice, as O'Brien and Fleming's bounds for two looks allow at 5 % in all: seeds -> confidence.
LOOKS = {6: 0.9948, 12: 0.952}
_BITS = math.log(2)


def looks(planned: int) -> dict[int, float]:
    """Return at how many complete seeds claims are judged, and with which confidence: fewer than 12 seeds once, when all are there."""
    return LOOKS if planned >= max(LOOKS) else {planned: 0.95}


def _how(planned: int) -> str:
    if planned >= max(LOOKS):
        return (
            "judged on the first 6 seeds of the grid that are complete, with the 99.48 % t-interval over tokenizer seeds, and if "
            "that settles nothing on 12, with the 95.2 % one (two looks, 5 % in all)"
        )
    return f"judged once, when all {planned} seeds are complete, with the 95 % t-interval over tokenizer seeds"


def decisive(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge each regularized choice against the baseline, on the seeds for which both have all cells."""
    rows = _with_scales(data.runs(grid))
    return [claim for name in data.regularized(grid) for claim in _claims(_Pairs(data, grid, rows, name), name)]


def _with_scales(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that have distances at all scales, with those at the scale that the other seeds chose."""
    if "gfmd_by_scale" not in rows:
        return rows.iloc[:0]
    rows = rows[rows.gfmd_by_scale.notna()].reset_index(drop=True)
    scales = chosen_by_others(rows) if len(rows) else pd.Series(dtype=float)
    columns = {"pooled": at_scales(rows.gfmd_by_scale, scales), "unguided": at_scales(rows.gfmd_by_scale, 1.0)}
    if "gfmd_second_by_scale" in rows:
        columns["second"] = at_scales(rows.gfmd_second_by_scale, scales)
    return rows.assign(pooled_scale=scales, **columns)


class _Pairs:
    """The runs of the baseline and of one other choice, of the seeds for which both are complete, in the grid's order."""

    def __init__(self, data: StudyData, grid: Grid, rows: pd.DataFrame, name: str) -> None:
        self.sides = tuple(rows[rows.tokenizer_choice == choice] for choice in (data.study.baseline, name))
        wanted = len(grid.generators) * len(grid.lengths)
        complete = [seed for seed in grid.seeds if all((side.seed == seed).sum() == wanted for side in self.sides)]
        self.seeds, self.planned = complete, len(grid.seeds)
        tokenizers = data.tokenizer_runs(grid)
        self.tokenizers = tuple(
            tokenizers[tokenizers.choice == choice].set_index("seed") for choice in (data.study.baseline, name)
        )

    def of(self, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return both sides' runs of a seed, in the same order of cells."""
        base, other = (side[side.seed == seed].sort_values(CELL).reset_index(drop=True) for side in self.sides)
        return base, other

    def each(self, value: Callable[[pd.DataFrame, pd.DataFrame], float]) -> list[float]:
        """Return a value of each complete seed's runs."""
        return [value(*self.of(seed)) for seed in self.seeds]


def _curves(rows: pd.DataFrame, compute: str, loss: str) -> list[list[tuple[float, float]]]:
    """Return (compute, loss) by length, a list for each generator."""
    return [
        list(zip(runs[compute].astype(float), runs[loss].astype(float), strict=True))
        for _, runs in rows.groupby("choice")
    ]


def _claims(pairs: _Pairs, name: str) -> list[Claim]:
    return [
        _compute(pairs, f"E1.chosen {name}", "train_flops", "pooled", "at the chosen guidance"),
        _compute(pairs, f"E2.unguided {name}", "train_flops", "unguided", "without guidance"),
        _compute(pairs, f"E3.total {name}", "total_flops", "pooled", "at the chosen guidance, both stages counted"),
        _compute(
            pairs, f"E4.second {name}", "train_flops", "second", "at the chosen guidance, by the second evaluator"
        ),
        _shrinks(pairs, name),
        _conditional(pairs, name),
        _usage(pairs, name),
        _exponent(pairs, name),
    ]


def _judged(
    pairs: _Pairs, values: list[float], judge: Callable[[Estimate], Verdict], ratio: bool = False
) -> tuple[Estimate, Verdict, str]:
    """Return the estimate at the look that settles a claim, or at the latest; its verdict; and how many seeds there are."""
    known = [value for value in values if math.isfinite(value)]
    note = f"{len(known)} of {pairs.planned} seeds are complete"
    shown = _estimate(known, 0.95, ratio)
    verdict = Verdict(OPEN, *judge(shown).margins)
    for seeds, confidence in looks(pairs.planned).items():
        if len(known) < seeds or verdict != OPEN:
            break
        shown = _estimate(known[:seeds], confidence, ratio)
        verdict = judge(shown)
        note = f"judged on {seeds} seeds; {len(known)} of {pairs.planned} are complete"
    return shown, verdict, note


def _estimate(values: list[float], confidence: float, ratio: bool) -> Estimate:
    found = mean_of_seeds(values, confidence)
    return as_ratio(found) if ratio and found.n else found


def _compute(pairs: _Pairs, label: str, compute: str, loss: str, where: str) -> Claim:
    statement = f"Less compute gives equal gFMD {where}."
    rule = (
        "effect: for each seed, the mean of log(baseline's gFMD / its gFMD) over all cells (generator, length), divided by the "
        "mean slope of -log gFMD on log compute over both tokenizers' generators (least squares over lengths): the log of a "
        "ratio of compute; geometric mean over seeds. gFMD with its bias removed by the jackknife"
        + ("" if loss == "unguided" else "; guidance for each run by the other seeds' distances to held-out images")
        + f"; {_how(pairs.planned)}; holds above 1, fails below"
    )
    if not pairs.seeds or loss not in pairs.sides[0]:
        return missing_claim(label, statement, rule, "no seed is complete")

    def log_ratio(base: pd.DataFrame, other: pd.DataFrame) -> float:
        return area_compute_ratio(_curves(base, compute, loss), _curves(other, compute, loss))

    found, verdict, note = _judged(pairs, pairs.each(log_ratio), lambda estimate: above(estimate, 1.0), ratio=True)
    stages = "both stages" if compute == "total_flops" else "stage 2"
    return make_claim(
        label, statement, rule, found, verdict, note, Measure(f"the baseline's FLOPs ({stages}) / its own", RATIO)
    )


def _shrinks(pairs: _Pairs, name: str) -> Claim:
    statement = "Guidance does part of the same work: the larger the scale, the smaller the gain."
    rule = (
        "effect: for each seed, slope on log scale of the mean log(baseline's gFMD / its gFMD) over all cells at that scale, at "
        f"all scales; {_how(pairs.planned)}; holds below 0, fails above"
    )
    label = f"E5.scales {name}"
    if not pairs.seeds:
        return missing_claim(label, statement, rule, "no seed is complete")
    gains = [gains_by_scale(*pairs.of(seed)) for seed in pairs.seeds]
    slopes = [float(np.polyfit(np.log(list(of_seed)), list(of_seed.values()), 1)[0]) for of_seed in gains]
    found, verdict, note = _judged(pairs, slopes, below)
    means = {scale: float(np.mean([of_seed[scale] for of_seed in gains])) for scale in gains[0]}
    spelled = ", ".join(f"{scale:g}: {gain:+.3f}" for scale, gain in means.items())
    note += f"; mean log ratio by scale {spelled}"
    return make_claim(
        label, statement, rule, found, verdict, note, Measure("gain in log gFMD on log guidance scale", SLOPE)
    )


def gains_by_scale(base: pd.DataFrame, other: pd.DataFrame) -> dict[float, float]:
    """Return the mean log(baseline's gFMD / other's) over cells in the same order, at each scale that all of them have."""
    sides = [[parsed(text) for text in side.gfmd_by_scale] for side in (base, other)]
    scales = sorted(set.intersection(*(set(run) for side in sides for run in side)))
    return {
        scale: float(np.mean([math.log(before[scale] / after[scale]) for before, after in zip(*sides, strict=True)]))
        for scale in scales
    }


def _conditional(pairs: _Pairs, name: str) -> Claim:
    statement = (
        "Tokens are easier to predict even beyond their unigram entropy: fewer codes are not taken for easier tokens."
    )
    rule = (
        "effect: for each seed, mean over all cells of the difference to the baseline in held-out nats per token less the "
        f"entropy by position of the test images' tokens (unigram, in nats); {_how(pairs.planned)}; holds below 0, fails above"
    )
    label = f"E6.conditional {name}"
    if not pairs.seeds:
        return missing_claim(label, statement, rule, "no seed is complete")
    totals, unigrams = [], []
    for seed in pairs.seeds:
        base, other = pairs.of(seed)
        totals.append(float((other.val_nats_per_token - base.val_nats_per_token).mean()))
        of_base, of_other = (side.position_entropy[seed] for side in pairs.tokenizers)
        unigrams.append(_BITS * float(of_other - of_base))
    values = [total - unigram for total, unigram in zip(totals, unigrams, strict=True)]
    found, verdict, note = _judged(pairs, values, below)
    note += f"; of {np.mean(totals):+.3f} nats in all, {np.mean(unigrams):+.3f} are unigram"
    return make_claim(
        label, statement, rule, found, verdict, note, Measure("conditional nats beyond the unigram entropy", NATS)
    )


def _usage(pairs: _Pairs, name: str) -> Claim:
    statement = "The share of codes in use stays the same."
    rule = (
        "effect: difference to the baseline in the share of codes that occur in the test images; "
        f"{_how(pairs.planned)}; holds inside (-0.05, 0.05), fails outside"
    )
    label = f"E7.codes {name}"
    if not pairs.seeds:
        return missing_claim(label, statement, rule, "no seed is complete")
    base, other = pairs.tokenizers
    values = [float(other.codebook_usage[seed] - base.codebook_usage[seed]) for seed in pairs.seeds]
    found, verdict, note = _judged(pairs, values, lambda estimate: within(estimate, -0.05, 0.05))
    return make_claim(label, statement, rule, found, verdict, note, Measure("change of the share of codes used", SHARE))


def _exponent(pairs: _Pairs, name: str) -> Claim:
    statement = "gFMD falls faster with compute (the paper: exponent -0.65 to -0.73)."
    rule = (
        "effect: for each seed, difference to the baseline in the slope of log(gFMD - rFMD) on log stage-2 FLOPs over all cells "
        "at the chosen guidance: the floor is fixed at the tokenizer's rFMD, since a fitted floor says nothing at three "
        f"lengths; seeds with a gFMD at or below rFMD are left out; {_how(pairs.planned)}; holds below 0, fails above"
    )
    label = f"E8.exponent {name}"
    if not pairs.seeds:
        return missing_claim(label, statement, rule, "no seed is complete")
    slopes = [[_slope(side) for side in pairs.of(seed)] for seed in pairs.seeds]
    values = [after - before for before, after in slopes]
    found, verdict, note = _judged(pairs, values, below)
    before, after = np.nanmean(slopes, axis=0)
    note += f"; exponents {before:.2f} and {after:.2f}"
    return make_claim(label, statement, rule, found, verdict, note, Measure("difference of exponents", SLOPE))


def _slope(rows: pd.DataFrame) -> float:
    """Return the slope of log(gFMD - rFMD) on log FLOPs; NaN where a distance does not exceed the floor."""
    above_floor = (rows.pooled - rows.rfmd).to_numpy(float)
    if (above_floor <= 0).any():
        return math.nan
    return float(np.polyfit(np.log(rows.train_flops.to_numpy(float)), np.log(above_floor), 1)[0])
