"""The gain of each arm by guidance scale."""

import math

import pandas as pd

from vistok.page.axes import number
from vistok.page.charts import Chart, Series
from vistok.study.findings.arms import Arms
from vistok.study.findings.by_scale import parsed
from vistok.study.findings.claim_data import CELL
from vistok.study.findings.verdict import Estimate, as_ratio, mean_of_seeds

KEYS = ["seed", *CELL, "tokenizer_choice"]


def ratios_by_scale(rows: pd.DataFrame, baseline: str, other: str) -> dict[float, Estimate]:
    """Return, by guidance scale, the ratio of gFMD to the baseline's: mean over cells, t-interval over tokenizer seeds.

    Empty where no run was scored at every scale.
    """
    if "gfmd_by_scale" not in rows:
        return {}
    known = rows[rows.gfmd_by_scale.notna() & rows.tokenizer_choice.isin([baseline, other])]
    if known.empty:
        return {}
    logs = pd.DataFrame([parsed(text) for text in known.gfmd_by_scale], index=pd.MultiIndex.from_frame(known[KEYS]))
    sides = [logs.map(math.log).xs(name, level=-1) for name in (other, baseline) if name in set(known.tokenizer_choice)]
    if len(sides) < 2:
        return {}
    gaps = (sides[0] - sides[1]).dropna().groupby("seed").mean()
    by_scale: dict[float, list[float]] = {float(scale): list(gaps[scale]) for scale in gaps if len(gaps)}  # type: ignore
    return {scale: as_ratio(mean_of_seeds(by_scale[scale])) for scale in sorted(by_scale)}


def gain_by_scale(rows: pd.DataFrame, arms: Arms) -> Chart:
    """Return each arm's gFMD as a multiple of the baseline's against the guidance scale, with bands of its interval."""
    series = []
    for name in [name for name in arms.main if name != arms.baseline]:
        found = ratios_by_scale(rows, arms.baseline, name)
        if not found:
            continue
        texts = [f"{arms[name]} at {scale:g}: {_told(one)}" for scale, one in found.items()]
        values, low, high = zip(*((one.value, one.low, one.high) for one in found.values()), strict=True)
        band = all(map(math.isfinite, (*low, *high)))
        series.append(
            Series(
                arms[name], list(found), values, arms.colour(name), texts=texts, low=low if band else (), high=high if band else (),
            )
        )  # fmt: skip
    label = f"gFMD / that of {arms[arms.baseline]}"
    return Chart(label, series, "guidance scale", label, floors={"no difference": 1.0} if series else {})


def _told(one: Estimate) -> str:
    interval = f" ({number(round(one.low, 3))} to {number(round(one.high, 3))})" if math.isfinite(one.low) else ""
    return f"{number(round(one.value, 3))} times{interval}, {one.n} seed{'s' * (one.n != 1)}"
