"""The table and the verdicts of `benchmarks/tokens.py`, by rules set before its runs."""

import json
import math
from pathlib import Path

import pandas as pd
from judging import judged

from vistok.files import write_atomic, write_json
from vistok.study.findings.verdict import (
    LOG_RATIO,
    SHARE,
    Claim,
    above,
    below,
    mean_of_seeds,
)

INTERVAL = "95 % t-interval over seeds"
LEVELS = (30, 20, 10, 1)
COLUMNS = (
    ("psnr", 2), ("rfmd", 3), ("codebook_usage", 2), *((f"changed_{level}", 3) for level in LEVELS), ("gfmd_corrected", 3),
    ("probe_accuracy", 3),
)  # fmt: skip


def report(out: Path) -> None:
    """Write table.md and claims.json."""
    rows = pd.DataFrame([json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()])
    claims = claims_of(rows)
    write_json(out / "claims.json", [claim.as_json() for claim in claims])
    write_atomic(out / "table.md", _markdown(rows, claims).encode())


def claims_of(rows: pd.DataFrame) -> list[Claim]:
    """Return T2 and S1 to S3, S2 twice; those without runs are open."""
    two = "A line trained in two stages is better than in one, of equal FLOPs."
    rendered = "Clusters with a renderer generate better than codes, without classes, of equal FLOPs."
    stable = "Clusters change less under noise than codes."
    return [
        _ratio(rows, "T2.reconstruction", two, "two stages", "one stage", "rfmd"),
        _ratio(rows, "T2.generation", two, "two stages", "one stage", "gfmd_corrected"),
        *(
            _difference(rows, f"S1.{level} dB {of}", stable, "clusters", of, f"changed_{level}", lower=True)
            for level in LEVELS
            for of in ("codes", "causal codes")
        ),
        _ratio(rows, "S2", rendered, "rendered clusters", "codes", "gfmd_corrected"),
        _ratio(rows, "S2.long", rendered, "rendered clusters, long", "codes, long", "gfmd_corrected"),
        _difference(
            rows, "S3", "Inner layers of a generator of clusters tell classes better than those of codes.", "clusters", "codes",
            "probe_accuracy", lower=False,
        ),
    ]  # fmt: skip


def _pairs(rows: pd.DataFrame, ours: str, theirs: str, column: str) -> pd.DataFrame:
    """Return both arms' scores by seed, of the seeds that both have."""
    if column not in rows:
        return pd.DataFrame(columns=[ours, theirs])
    return rows.pivot_table(index="seed", columns="arm", values=column).reindex(columns=[ours, theirs]).dropna()


def _ratio(rows: pd.DataFrame, claim: str, statement: str, ours: str, theirs: str, column: str) -> Claim:
    pairs = _pairs(rows, ours, theirs, column)
    found = mean_of_seeds([math.log(a / b) for a, b in pairs.itertuples(index=False)])
    rule = f"effect: mean of log({column} of {ours} / of {theirs}), {INTERVAL}; holds below 0, fails above"
    return judged(claim, statement, rule, found, below(found), f"{column} of {ours} / of {theirs}", LOG_RATIO)


def _difference(
    rows: pd.DataFrame, claim: str, statement: str, ours: str, theirs: str, column: str, lower: bool
) -> Claim:
    pairs = _pairs(rows, ours, theirs, column)
    found = mean_of_seeds([a - b for a, b in pairs.itertuples(index=False)])
    wanted, other = ("below", "above") if lower else ("above", "below")
    rule = f"effect: mean of {column} of {ours} minus that of {theirs}, {INTERVAL}; holds {wanted} 0, fails {other}"
    verdict = below(found) if lower else above(found)
    return judged(claim, statement, rule, found, verdict, f"{column} of {ours} - of {theirs}", SHARE)


def _markdown(rows: pd.DataFrame, claims: list[Claim]) -> str:
    known = [(name, digits) for name, digits in COLUMNS if name in rows]
    lines = [f"| arm | seeds | {' | '.join(name for name, _ in known)} |", "|---" * (2 + len(known)) + "|"]
    for arm, part in rows.groupby("arm", sort=False):
        means = part[[name for name, _ in known]].mean()
        cells = ["" if pd.isna(means[name]) else f"{means[name]:.{digits}f}" for name, digits in known]
        lines.append(f"| {arm} | {part.seed.nunique()} | {' | '.join(cells)} |")
    lines += ["", "| claim | measured | effect | interval | n | verdict |", "|---|---|---|---|---|---|"]
    for claim in claims:
        bounds = "" if claim.low is None or claim.high is None else f"{claim.low:.3g} to {claim.high:.3g}"
        effect = "" if claim.effect is None else f"{claim.effect:.3g}"
        measured = f"{claim.quantity} ({claim.unit})" if claim.quantity else claim.note
        lines.append(f"| {claim.claim} | {measured} | {effect} | {bounds} | {claim.n} | {claim.verdict} |")
    return "\n".join([*lines, ""])
