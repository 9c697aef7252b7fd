"""E: the regularizer's gain in compute, with enough seeds, at guidance scales chosen by other seeds; its rules are sequential."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    return [claim for name in data.regularized(grid) for claim in _claims(_Evidence(data, grid, name), name)]


class _Pairs:
    """The runs of the baseline and of one other choice, of some seeds for which both are complete.

    Guidance is chosen among these seeds alone: seeds that come later do not change what a look has found.
    """

    def __init__(self, sides: Sequence[pd.DataFrame], seeds: Sequence[int], confidence: float) -> None:
        self.sides = [_with_scales(side[side.seed.isin(list(seeds))]) for side in sides]
        self.seeds, self.confidence = seeds, confidence

    def of(self, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return both sides' runs of a seed, in the same order of cells."""
        base, other = (side[side.seed == seed].sort_values(CELL).reset_index(drop=True) for side in self.sides)
        return base, other

    def each(self, value: Callable[[pd.DataFrame, pd.DataFrame], float]) -> list[float]:
        """Return a value of each seed's runs."""
        return [value(*self.of(seed)) for seed in self.seeds]


def _with_scales(rows: pd.DataFrame) -> pd.DataFrame:
    """Return runs with their distances at the scale that the other seeds among them chose, and without guidance."""
    rows = rows.reset_index(drop=True)
    scales = chosen_by_others(rows) if len(rows) else pd.Series(dtype=float)
    columns = {"pooled": at_scales(rows.gfmd_by_scale, scales), "unguided": at_scales(rows.gfmd_by_scale, 1.0)}
    if "gfmd_second_by_scale" in rows:
        columns["second"] = at_scales(rows.gfmd_second_by_scale, scales)
    return rows.assign(pooled_scale=scales, **columns)


class _Evidence:
    """What there is on one choice: its looks, which come at fixed numbers of complete seeds, and all complete seeds."""

    def __init__(self, data: StudyData, grid: Grid, name: str) -> None:
        rows = data.runs(grid)
        rows = rows[rows.gfmd_by_scale.notna()] if "gfmd_by_scale" in rows else rows.iloc[:0]
        choices = (data.study.baseline, name)
        sides = [rows[rows.tokenizer_choice == choice] for choice in choices]
        wanted, self.planned = len(grid.generators) * len(grid.lengths), len(grid.seeds)
        self.seeds = [seed for seed in grid.seeds if all((side.seed == seed).sum() == wanted for side in sides)]
        at = looks(self.planned)
        self.looks = [_Pairs(sides, self.seeds[:n], at[n]) for n in at if n <= len(self.seeds)]
        self.first = min(at)
        self.so_far = _Pairs(sides, self.seeds, 0.95 if self.looks else at[self.first]) if self.seeds else None
        tokenizers = data.tokenizer_runs(grid)
        self.tokenizers = [tokenizers[tokenizers.choice == choice].set_index("seed") for choice in choices]

    def judged(
        self, values: Callable[[_Pairs], list[float]], judge: Callable[[Estimate], Verdict], ratio: bool = False
    ) -> "_Judged":
        """Return the estimate of the look that settles a claim, or of the latest; before the first, of all seeds so far."""
        assert self.so_far is not None
        complete = f"{len(self.seeds)} of {self.planned} are"
        if not self.looks:
            found = _estimate(values(self.so_far), self.so_far.confidence, ratio)
            note = f"not judged before {self.first} seeds are complete; {complete}"
            return _Judged(found, Verdict(OPEN, *judge(found).margins), note, self.so_far)
        for pairs in self.looks:
            shown = _estimate(values(pairs), pairs.confidence, ratio)
            verdict = judge(shown)
            if verdict != OPEN:
                break
        note = f"judged on {len(pairs.seeds)} seeds; {complete} complete"
        if len(self.seeds) > len(pairs.seeds):
            found = _estimate(values(self.so_far), self.so_far.confidence, ratio)
            note += f": all of them give {found.value:.3g} ({found.low:.3g} to {found.high:.3g}, 95 %)"
        return _Judged(shown, verdict, note, pairs)


@dataclass(frozen=True)
class _Judged:
    estimate: Estimate
    verdict: Verdict
    note: str
    pairs: _Pairs


def _estimate(values: list[float], confidence: float, ratio: bool) -> Estimate:
    found = mean_of_seeds([value for value in values if math.isfinite(value)], confidence)
    return as_ratio(found) if ratio and found.n else found


def _curves(rows: pd.DataFrame, compute: str, loss: str) -> list[list[tuple[float, float]]]:
    """Return (compute, loss) by length, a list for each generator."""
    return [
        list(zip(runs[compute].astype(float), runs[loss].astype(float), strict=True))
        for _, runs in rows.groupby("choice")
    ]


def _claims(evidence: _Evidence, name: str) -> list[Claim]:
    return [
        _compute(evidence, f"E1.chosen {name}", "train_flops", "pooled", "at the chosen guidance"),
        _compute(evidence, f"E2.unguided {name}", "train_flops", "unguided", "without guidance"),
        _compute(evidence, f"E3.total {name}", "total_flops", "pooled", "at the chosen guidance, both stages counted"),
        _compute(
            evidence, f"E4.second {name}", "train_flops", "second", "at the chosen guidance, by the second evaluator"
        ),
        _shrinks(evidence, name),
        _conditional(evidence, name),
        _usage(evidence, name),
        _exponent(evidence, name),
    ]


def _compute(evidence: _Evidence, label: str, compute: str, loss: str, where: str) -> Claim:
    statement = f"Less compute gives equal gFMD {where}."
    rule = (
        "effect: for each seed, the mean of log(baseline's gFMD / its gFMD) over all cells (generator, length), divided by the "
        "mean slope of -log gFMD on log compute over both tokenizers' generators (least squares over lengths): the log of a "
        "ratio of compute; geometric mean over seeds. gFMD with its bias removed by the jackknife"
        + ("" if loss == "unguided" else "; guidance for each run by the other seeds' distances to held-out images")
        + f"; {_how(evidence.planned)}; holds above 1, fails below"
    )
    if not evidence.so_far or loss not in evidence.so_far.sides[0]:
        return missing_claim(label, statement, rule, "no seed is complete")

    def log_ratio(base: pd.DataFrame, other: pd.DataFrame) -> float:
        return area_compute_ratio(_curves(base, compute, loss), _curves(other, compute, loss))

    found = evidence.judged(lambda pairs: pairs.each(log_ratio), lambda estimate: above(estimate, 1.0), ratio=True)
    stages = "both stages" if compute == "total_flops" else "stage 2"
    return _claim(label, statement, rule, found, Measure(f"the baseline's FLOPs ({stages}) / its own", RATIO))


def _claim(label: str, statement: str, rule: str, found: _Judged, measure: Measure, note: str = "") -> Claim:
    notes = "; ".join(filter(None, (found.note, note)))
    return make_claim(label, statement, rule, found.estimate, found.verdict, notes, measure)


def _shrinks(evidence: _Evidence, name: str) -> Claim:
    statement = "The larger the guidance scale, the smaller the gain: at all scales, those beyond the best included."
    rule = (
        "effect: for each seed, slope on log scale of the mean log(baseline's gFMD / its gFMD) over all cells at that scale, at "
        f"all scales; {_how(evidence.planned)}; holds below 0, fails above"
    )
    label = f"E5.scales {name}"
    if not evidence.so_far:
        return missing_claim(label, statement, rule, "no seed is complete")

    def slope(base: pd.DataFrame, other: pd.DataFrame) -> float:
        gains = gains_by_scale(base, other)
        return float(np.polyfit(np.log(list(gains)), list(gains.values()), 1)[0])

    found = evidence.judged(lambda pairs: pairs.each(slope), below)
    gains = [gains_by_scale(*found.pairs.of(seed)) for seed in found.pairs.seeds]
    means = {scale: float(np.mean([of_seed[scale] for of_seed in gains])) for scale in gains[0]}
    spelled = ", ".join(f"{scale:g}: {gain:+.3f}" for scale, gain in means.items())
    note = f"mean log ratio by scale {spelled}"
    return _claim(label, statement, rule, found, Measure("gain in log gFMD on log guidance scale", SLOPE), note)


def gains_by_scale(base: pd.DataFrame, other: pd.DataFrame) -> dict[float, float]:
    """Return the mean log(baseline's gFMD / other's) over cells in the same order, at each scale that all of them have."""
    sides = [[parsed(text) for text in side.gfmd_by_scale] for side in (base, other)]
    scales = sorted(set.intersection(*(set(run) for side in sides for run in side)))
    return {
        scale: float(np.mean([math.log(before[scale] / after[scale]) for before, after in zip(*sides, strict=True)]))
        for scale in scales
    }


def _conditional(evidence: _Evidence, name: str) -> Claim:
    statement = (
        "Tokens are easier to predict even beyond their unigram entropy: fewer codes are not taken for easier tokens."
    )
    rule = (
        "effect: for each seed, mean over all cells of the difference to the baseline in held-out nats per token less the "
        f"entropy by position of the test images' tokens (unigram, in nats); {_how(evidence.planned)}; holds below 0, fails above"
    )
    label = f"E6.conditional {name}"
    if not evidence.so_far:
        return missing_claim(label, statement, rule, "no seed is complete")
    of_base, of_other = (side.position_entropy.astype(float) * _BITS for side in evidence.tokenizers)

    def parts(pairs: _Pairs) -> tuple[list[float], list[float]]:
        totals = pairs.each(lambda base, other: float((other.val_nats_per_token - base.val_nats_per_token).mean()))
        return totals, [float(of_other[seed] - of_base[seed]) for seed in pairs.seeds]

    found = evidence.judged(lambda pairs: list(np.subtract(*parts(pairs))), below)
    total, unigram = (float(np.mean(values)) for values in parts(found.pairs))
    note = f"of {total:+.3f} nats in all, {unigram:+.3f} are unigram"
    return _claim(label, statement, rule, found, Measure("conditional nats beyond the unigram entropy", NATS), note)


def _usage(evidence: _Evidence, name: str) -> Claim:
    statement = "The share of codes in use stays the same."
    rule = (
        "effect: difference to the baseline in the share of codes that occur in the test images; "
        f"{_how(evidence.planned)}; holds inside (-0.05, 0.05), fails outside"
    )
    label = f"E7.codes {name}"
    if not evidence.so_far:
        return missing_claim(label, statement, rule, "no seed is complete")
    base, other = (side.codebook_usage.astype(float) for side in evidence.tokenizers)
    found = evidence.judged(
        lambda pairs: [float(other[seed] - base[seed]) for seed in pairs.seeds],
        lambda estimate: within(estimate, -0.05, 0.05),
    )
    return _claim(label, statement, rule, found, Measure("change of the share of codes used", SHARE))


def _exponent(evidence: _Evidence, name: str) -> Claim:
    statement = "gFMD falls faster with compute (the paper: exponent -0.65 to -0.73)."
    rule = (
        "effect: for each seed, difference to the baseline in the slope of log(gFMD - rFMD) on log stage-2 FLOPs over all cells "
        "at the chosen guidance: the floor is fixed at the tokenizer's rFMD, since a fitted floor says nothing at three "
        f"lengths; seeds with a gFMD at or below rFMD are left out; {_how(evidence.planned)}; holds below 0, fails above"
    )
    label = f"E8.exponent {name}"
    if not evidence.so_far:
        return missing_claim(label, statement, rule, "no seed is complete")
    found = evidence.judged(lambda pairs: pairs.each(lambda base, other: _slope(other) - _slope(base)), below)
    slopes = [[_slope(side) for side in found.pairs.of(seed)] for seed in found.pairs.seeds]
    before, after = np.nanmean(slopes, axis=0)
    note = f"exponents {before:.2f} and {after:.2f}"
    return _claim(label, statement, rule, found, Measure("difference of exponents", SLOPE), note)


def _slope(rows: pd.DataFrame) -> float:
    """Return the slope of log(gFMD - rFMD) on log FLOPs; NaN where a distance does not exceed the floor."""
    above_floor = (rows.pooled - rows.rfmd).to_numpy(float)
    if (above_floor <= 0).any():
        return math.nan
    return float(np.polyfit(np.log(rows.train_flops.to_numpy(float)), np.log(above_floor), 1)[0])
