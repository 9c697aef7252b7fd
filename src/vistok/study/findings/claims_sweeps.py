"""C3 codebook size, C4 token count, C5 variants, C6 weight and layers: sweeps over one setting of the tokenizer."""

import math
from typing import Any

import numpy as np
import pandas as pd

from vistok.study.config import Grid
from vistok.study.findings.claim_data import CELL, StudyData
from vistok.study.findings.curves import loss_at
from vistok.study.findings.verdict import (
    CHANGED,
    FAILS,
    HOLDS,
    LOG10,
    LOG_RATIO,
    OPEN,
    SLOPE,
    Claim,
    Estimate,
    Measure,
    Verdict,
    above,
    below,
    make_claim,
    mean_of_seeds,
    missing_claim,
)

CROSSING = Measure("FLOPs of stage 2 at the crossing", LOG10)
NOISE = "over seeds (t), or with one seed from the noise of the scored samples alone"


def difference(rows: pd.DataFrame, first: str, second: str, where: str = "tokenizer_choice") -> Estimate:
    """Return the mean of log(gFMD of first / gFMD of second), paired by seed.

    With one seed, the interval covers only sampling noise: the runs' 95 % intervals, taken as independent.
    """
    sides = [rows[rows[where] == name].set_index("seed") for name in (first, second)]
    seeds = sides[0].index.intersection(sides[1].index)
    if len(seeds) == 0:
        return mean_of_seeds([])
    logs = [np.log(side.loc[seeds, "gfmd"].astype(float)) for side in sides]
    mean = mean_of_seeds(list(logs[0] - logs[1]))
    if mean.n > 1:
        return mean
    return _with_sampling_noise(mean, *(side.loc[seeds].iloc[0] for side in sides))


def _with_sampling_noise(mean: Estimate, *runs: "pd.Series[float]") -> Estimate:
    half = math.hypot(*(float((run.gfmd_high - run.gfmd_low) / 2 / run.gfmd) for run in runs))
    return Estimate(mean.value, mean.value - half, mean.value + half, 1)


def difference_at_equal_compute(rows: pd.DataFrame, first: str, second: str, dear: bool) -> Estimate:
    """Return the mean over seeds of log(gFMD of first / second) at the most (or least) stage-2 FLOPs that both have.

    The gFMD at that compute is read off each seed's frontier; runs with equal steps may differ in compute.
    """
    logs, last = [], []
    for _, runs in rows.groupby("seed"):
        sides = [runs[runs.tokenizer_choice == name] for name in (first, second)]
        if all(len(side) for side in sides):
            ends = [float(side.train_flops.max() if dear else side.train_flops.min()) for side in sides]
            compute = min(ends) if dear else max(ends)
            values = [math.log(loss_at(list(side.train_flops), list(side.gfmd), compute)) for side in sides]
            logs.append(values[0] - values[1])
            last = [side.loc[(np.log(side.train_flops) - math.log(compute)).abs().idxmin()] for side in sides]
    mean = mean_of_seeds(logs)
    return _with_sampling_noise(mean, *last) if mean.n == 1 else mean


def difference_over_cells(rows: pd.DataFrame, first: Any, second: Any, where: str) -> Estimate:
    """Return the mean over cells (generator, length) of `difference`.

    Paired by seed: each seed's mean is one value. With one seed, the cells' noise is taken as independent.
    """
    cells = [cell for _, cell in rows.groupby(CELL)]
    by_seed: dict[str, list[float]] = {}
    for cell in cells:
        for seed, runs in cell.groupby("seed"):
            found = difference(runs, first, second, where)
            if found.n:
                by_seed.setdefault(str(seed), []).append(found.value)
    mean = mean_of_seeds([float(np.mean(values)) for values in by_seed.values()])
    if mean.n != 1:
        return mean
    alone = [one for cell in cells if (one := difference(cell, first, second, where)).n]
    half = math.sqrt(sum(((one.high - one.low) / 2) ** 2 for one in alone)) / len(alone)
    return Estimate(mean.value, mean.value - half, mean.value + half, 1)


def _dearest(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the most expensive cell (generator, length), by mean stage-2 FLOPs."""
    return max((cell for _, cell in rows.groupby(CELL)), key=lambda cell: cell.train_flops.mean())


def codebook_size(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge C3: the smallest codebook wins at low compute, the largest at high compute, and their laws cross in between."""
    return _small_against_large(data.runs(grid), "C3", "codebook_size", "codebook")


def token_count(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge C4: fewer tokens win at low compute, more at high compute; a tokenizer is trained for each number."""
    return _small_against_large(data.runs(grid), "C4", "num_tokens", "number of tokens")


def resolution(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge C4 as in the paper: one tokenizer run at several image sizes, with its output resized before scoring."""
    return _small_against_large(data.runs(grid), "C4.resolution", "num_tokens", "number of tokens of one tokenizer")


def _small_against_large(rows: pd.DataFrame, claim: str, column: str, what: str) -> list[Claim]:
    low_rule = (
        f"effect: log(gFMD of the smallest / of the largest {what}) at the least stage-2 FLOPs that both have, gFMD read off "
        f"each seed's frontier (log-log lines), 95 % {NOISE}; holds below 0, fails above"
    )
    high_rule = "the same at the most FLOPs that both have; holds above 0, fails below"
    cross_rule = (
        "effect: log10 of the stage-2 FLOPs at which parabolas in logarithms, fitted to all runs of the smallest and of the largest, "
        "cross (with three lengths or fewer: lines); interval: 95 % of 400 fits of the same kind to runs redrawn with their scatter; open without a crossing "
        "inside the runs, where the interval leaves them, or with one seed; else holds where the larger wins beyond it, and fails where the smaller does"
    )
    statements = (
        f"The smallest {what} wins at low compute.",
        f"The largest {what} wins at high compute.",
        f"The laws of the smallest and the largest {what} cross.",
    )
    names, rules = (f"{claim}.low", f"{claim}.high", f"{claim}.crossing"), (low_rule, high_rule, cross_rule)
    if rows.empty or rows[column].nunique() < 2:
        why = "its grid has no runs of two of them"
        return [missing_claim(*parts, why) for parts in zip(names, statements, rules, strict=True)]
    sizes = rows[column].min(), rows[column].max()
    small, large = (str(rows[rows[column] == size].tokenizer_choice.iloc[0]) for size in sizes)
    low, high = (difference_at_equal_compute(rows, small, large, dear) for dear in (False, True))
    note, ratio = f"{small} against {large}", Measure(f"gFMD of {small} / of {large}", LOG_RATIO)
    return [
        make_claim(names[0], statements[0], rules[0], low, below(low), note, ratio),
        make_claim(names[1], statements[1], rules[1], high, above(high), note, ratio),
        _crossing(rows, small, large, names[2], statements[2], rules[2]),
    ]


def _crossing(rows: pd.DataFrame, small: str, large: str, name: str, statement: str, rule: str) -> Claim:
    sides = [rows[rows.tokenizer_choice == choice] for choice in (small, large)]
    if any(len(side) < 4 or side.train_flops.nunique() < 3 for side in sides):
        return missing_claim(name, statement, rule, "fewer than 4 runs of one of them")
    runs = [(side.train_flops.to_numpy(float), side.gfmd.to_numpy(float)) for side in sides]
    bounds = max(x.min() for x, _ in runs), min(x.max() for x, _ in runs)
    grid = np.linspace(math.log(bounds[0]), math.log(bounds[1]), 200)
    curves = [_parabola(x, y) for x, y in runs]
    gap = np.polyval(curves[0], grid) - np.polyval(curves[1], grid)
    centre = _sign_change(grid, gap)
    if centre is None:
        winner = small if gap.mean() < 0 else large
        return missing_claim(name, statement, rule, f"no crossing inside the runs: {winner} is ahead throughout")
    rng, crossings = np.random.default_rng(0), []
    scatter = [_scatter(curve, x, y) for curve, (x, y) in zip(curves, runs, strict=True)]
    for _ in range(400):
        # The same kind of curve as for the runs themselves: a crossing that most redraws lack is no crossing.
        redrawn = [
            _parabola(x, np.exp(np.polyval(curve, np.log(x)) + scale * rng.standard_normal(len(x))))
            for curve, scale, (x, _) in zip(curves, scatter, runs, strict=True)
        ]
        place = _sign_change(grid, np.polyval(redrawn[0], grid) - np.polyval(redrawn[1], grid))
        crossings.append(math.nan if place is None else place)
    inside = np.array(crossings)[~np.isnan(crossings)]
    to10, seeds = 1 / math.log(10), int(rows.seed.nunique())
    if len(inside) < 0.95 * len(crossings):
        estimate = Estimate(centre * to10, -math.inf, math.inf, seeds)
        note = "the crossing leaves the runs in more than 5 % of redraws"
        return make_claim(name, statement, rule, estimate, Verdict(OPEN), note, CROSSING)
    low, high = np.quantile(inside, [0.025, 0.975])
    estimate = Estimate(centre * to10, float(low) * to10, float(high) * to10, seeds)
    verdict = Verdict(HOLDS if gap[-1] > 0 else FAILS)
    return make_claim(name, statement, rule, estimate, verdict, f"{small} against {large}", CROSSING)


def _parabola(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the coefficients of log y in log x: a parabola, or a line through three lengths or fewer."""
    return np.polyfit(np.log(x), np.log(y), 2 if len(np.unique(x)) > 3 else 1)


def _scatter(curve: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """Return the standard deviation of log y about its curve."""
    left = max(1, len(x) - len(curve))
    return float(np.sqrt(((np.log(y) - np.polyval(curve, np.log(x))) ** 2).sum() / left))


def _sign_change(grid: np.ndarray, gap: np.ndarray) -> float | None:
    """Return where the gap last changes sign, or None."""
    changes = np.nonzero(np.diff(np.sign(gap)))[0]
    return float(grid[changes[-1]]) if len(changes) else None


def variants(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge C5: l2 before quantization beats l2 and cross-entropy after it."""
    rule = f"effect: mean over cells of log(gFMD of l2_pre / of the other), by seed, 95 % {NOISE}; holds below 0, fails above"
    rows = data.runs(grid)
    claims = []
    for other in ("l2_post", "ce_post"):
        statement = f"l2_pre generates better than {other}."
        pair = rows[rows.crt_variant.isin(["l2_pre", other])] if len(rows) else rows
        if len(pair) == 0 or pair.crt_variant.nunique() < 2:
            claims.append(missing_claim(f"C5.{other}", statement, rule, "its grid has no runs of both"))
            continue
        estimate = difference_over_cells(pair, "l2_pre", other, "crt_variant")
        ratio = Measure(f"gFMD of l2_pre / of {other}", LOG_RATIO)
        claims.append(make_claim(f"C5.{other}", statement, rule, estimate, below(estimate), measure=ratio))
    return claims


def weight(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge C6: an interior optimum of the weight, and what shrinks as it grows, for each variant of the grid `weights`."""
    rows = data.runs(grid)
    claims = []
    for variant in sorted(set(rows.crt_variant) - {"none"}) if len(rows) else []:
        claims += [_optimum(data, grid, rows, variant), *_shrinking(data.tokenizer_runs(grid), variant)]
    return claims or [missing_claim("C6", "the weight has an interior optimum", "", "no runs of the grid 'weights'")]


def best_weight(rows: pd.DataFrame, variant: str, interior: bool = True) -> float | None:
    """Return the weight with the lowest mean gFMD to held-out training images, never the test set; `interior`: not the largest."""
    of_variant = rows[rows.crt_variant == variant]
    means = of_variant.groupby("crt_weight").gfmd_val.mean()
    if interior and len(means) > 1:
        means = means.drop(means.index.max())
    return float(means.index.to_numpy()[means.to_numpy().argmin()]) if len(means) else None


def _optimum(data: StudyData, grid: Grid, rows: pd.DataFrame, variant: str) -> Claim:
    statement = f"{variant}: some weight between 0 and the largest tried generates better than both."
    rule = (
        f"{CHANGED} (the dearest cell alone counted): the weight is chosen by the mean gFMD to held-out train images; effect: log(gFMD to the test set at that weight / at "
        f"weight 0 or at the largest), whichever is larger, means over the grid's cells, 95 % {NOISE}; holds below 0, fails above"
    )
    of_variant = rows[(rows.crt_variant == variant) | (rows.tokenizer_choice == data.study.baseline)]
    chosen = best_weight(rows, variant)
    label = f"C6.optimum {variant}"
    if chosen is None or 0.0 not in set(of_variant.crt_weight):
        return missing_claim(label, statement, rule, "the grid lacks weight 0 or this variant")
    ends = [0.0, float(of_variant.crt_weight.max())]
    contrasts = [difference_over_cells(of_variant, chosen, end, "crt_weight") for end in ends]
    worst = max(contrasts, key=lambda estimate: estimate.value)
    note = f"weight {chosen:g}, against {ends[0]:g} and {ends[1]:g}"
    ratio = Measure("gFMD at this weight / at the better end", LOG_RATIO)
    return make_claim(label, statement, rule, worst, below(worst), note, ratio)


def _shrinking(rows: pd.DataFrame, variant: str) -> list[Claim]:
    claims = []
    of_variant = rows[(rows.crt_variant == variant) & (rows.crt_weight > 0)]
    for column, what in (("latent_variance", "spread of the latents"), ("quantization_error", "distance to the codes")):
        rule = f"effect: slope of log {column} on log weight by seed, 95 % {NOISE.split(',')[0]}; holds below 0, fails above"
        slopes = [
            float(np.polyfit(np.log(runs.crt_weight.astype(float)), np.log(runs[column].astype(float)), 1)[0])
            for _, runs in of_variant.groupby("seed")
            if runs.crt_weight.nunique() > 2
        ]
        slope = mean_of_seeds(slopes)
        statement = f"{variant}: the {what} shrinks as the weight grows."
        measure = Measure(f"log {column.replace('_', ' ')} on log weight", SLOPE)
        claims.append(make_claim(f"C6.{column} {variant}", statement, rule, slope, below(slope), measure=measure))
    return claims


def layers(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge C6: an interior optimum of the number of layers (the paper: 4, out of 0 to 12)."""
    statement = "Some number of layers between the least and the most tried generates best."
    rule = (
        "the layers are chosen by gFMD to held-out train images; effect: log(gFMD to the test set / at the least or the most "
        f"layers), whichever is larger, dearest cell, 95 % {NOISE}; holds below 0, fails above"
    )
    rows = data.runs(grid)
    if rows.empty or rows.crt_layers.nunique() < 3:
        return [missing_claim("C6.layers", statement, rule, "its grid has no runs of 3 numbers of layers")]
    counts = sorted(set(rows.crt_layers))
    last = _dearest(rows)
    inner = last[last.crt_layers.isin(counts[1:-1])]
    means = inner.groupby("crt_layers").gfmd_val.mean()
    chosen = int(means.index.to_numpy()[means.to_numpy().argmin()])
    contrasts = [difference(last, chosen, end, "crt_layers") for end in (counts[0], counts[-1])]  # type: ignore[arg-type]
    worst = max(contrasts, key=lambda estimate: estimate.value)
    ratio = Measure("gFMD at this depth / at the better end", LOG_RATIO)
    return [make_claim("C6.layers", statement, rule, worst, below(worst), f"{chosen} layers", ratio)]
