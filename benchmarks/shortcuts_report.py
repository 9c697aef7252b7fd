"""The table, the picture and the verdicts of `benchmarks/shortcuts.py`, from its scores."""

import json
import math
from pathlib import Path

import matplotlib
import pandas as pd
from scipy import stats

from vistok.files import write_atomic, write_json

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

SCALE, SEEDS = 1.75, 3
COLUMNS = ["calls", "milliseconds", "gfmd_corrected", "precision", "recall", "accuracy"]


def report(out: Path) -> None:
    """Write table.md, frontier.png and claims.json."""
    rows = pd.DataFrame([json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()])
    write_atomic(out / "table.md", _table(rows).encode())
    write_json(out / "claims.json", _claims(rows))
    _frontier(rows, out / "frontier.png")


def _table(rows: pd.DataFrame) -> str:
    means = rows.groupby(["arm", "steps", "solver", "scale"], sort=False)[COLUMNS].mean()
    seeds = rows.groupby(["arm", "steps", "solver", "scale"], sort=False).size()
    head = "| arm | steps | solver | scale | seeds | calls | ms an image | gFMD | precision | recall | accuracy |\n"
    lines = [head, "|---" * 11 + "|\n"]
    for key, row in means.iterrows():
        arm, steps, solver, scale = key
        lines.append(
            f"| {arm} | {steps} | {solver} | {scale:g} | {seeds[key]} | {row.calls:.0f} | {row.milliseconds:.3g} | "
            f"{row.gfmd_corrected:.3g} | {row.precision:.3f} | {row.recall:.3f} | {row.accuracy:.3f} |\n"
        )
    return "".join(lines)


def _of(rows: pd.DataFrame, arm: str, steps: int, scale: float = SCALE, solver: str = "") -> pd.DataFrame:
    chosen = rows[(rows.arm == arm) & (rows.steps == steps) & (rows.scale == scale)]
    return chosen[chosen.solver == solver] if solver else chosen


def _ratio(rows: pd.DataFrame, base: pd.DataFrame, most: float) -> dict[str, object]:
    """Return the ratio of gFMD to the teacher's, with its interval over seeds, and what it says about a margin."""
    if not len(rows) or not len(base):
        return {"verdict": "open", "why": "not run"}
    logs = [math.log(value / float(base.gfmd_corrected.iloc[0])) for value in rows.gfmd_corrected]
    mean, count = sum(logs) / len(logs), len(logs)
    if count < SEEDS:
        return {"ratio": math.exp(mean), "seeds": count, "at_most": most, "verdict": "open", "why": "too few seeds"}
    half = stats.t.ppf(0.975, count - 1) * pd.Series(logs).std() / math.sqrt(count)
    low, high = math.exp(mean - half), math.exp(mean + half)
    verdict = "holds" if high <= most else "fails" if low > most else "open"
    return {"ratio": math.exp(mean), "low": low, "high": high, "seeds": count, "at_most": most, "verdict": verdict}


def _claims(rows: pd.DataFrame) -> dict[str, object]:
    long, short = _of(rows, "teacher", 50, solver="multistep"), _of(rows, "teacher", 4, solver="euler")
    one = _of(rows, "teacher", 1, solver="euler")
    claims: dict[str, object] = {
        f"G1 at {scale:g}": _ratio(_of(rows, "guided", 20, scale), _of(rows, "teacher", 20, scale, "multistep"), 1.05)
        for scale in (1.0, SCALE, 3.0, 5.0)
    }
    claims["G2 beside 50 steps"] = _ratio(_of(rows, "halved-4", 4), long, 1.15)
    claims["G2 beside 4 steps"] = _ratio(_of(rows, "halved-4", 4), short, 0.5)
    for claim, arm, scale in (("Y1", "self-cooperative", 1.0), ("I1", "pseudo-huber", SCALE)):
        claims[f"{claim} beside one step"] = _ratio(_of(rows, arm, 1, scale), one, 0.5)
        claims[f"{claim} beside 50 steps"] = _ratio(_of(rows, arm, 1, scale), long, 1.5)
    for name, ours, theirs, column in (
        ("Y2 recall", "self-cooperative", "against-data", "recall"),
        ("I2 accuracy", "pseudo-huber-reward", "pseudo-huber", "accuracy"),
        ("I3 recall", "pseudo-huber-reward", "integral-kl-reward", "recall"),
    ):
        claims[name] = _difference(rows, ours, theirs, column)
    return claims


def _difference(rows: pd.DataFrame, ours: str, theirs: str, column: str) -> dict[str, object]:
    """Return the difference of two arms in one call, paired by seed, and whether it is above zero."""
    pairs = rows[rows.steps == 1].pivot_table(index="seed", columns="arm", values=column)
    if ours not in pairs or theirs not in pairs:
        return {"verdict": "open", "why": "not run"}
    found = (pairs[ours] - pairs[theirs]).dropna()
    if len(found) < SEEDS:
        return {"difference": float(found.mean()), "seeds": len(found), "verdict": "open", "why": "too few seeds"}
    half = float(stats.t.ppf(0.975, len(found) - 1) * found.std() / math.sqrt(len(found)))
    low, high = float(found.mean()) - half, float(found.mean()) + half
    verdict = "holds" if low >= 0 else "fails" if high < 0 else "open"
    return {"difference": float(found.mean()), "low": low, "high": high, "seeds": len(found), "verdict": verdict}


def _frontier(rows: pd.DataFrame, file: Path) -> None:
    """Draw quality against calls, the teacher by solver."""
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    fixed = rows[(rows.scale == SCALE) | ~rows.arm.isin(["teacher", "guided", "halved-4"])]
    for arm, part in fixed.groupby("arm", sort=False):
        groups = part.groupby("solver") if arm == "teacher" else [("", part)]
        for solver, some in groups:
            means = some.groupby("calls").gfmd_corrected.mean()
            name = f"teacher, {solver}" if solver else str(arm)
            axes.plot(means.index, means, "o--" if solver else "s-", label=name, markersize=4, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="calls for an image", ylabel="gFMD (test, bias removed)")
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(file, dpi=130)
