"""The page, the table, the picture and the verdicts of `benchmarks/shortcuts.py`, from its scores."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from judging import SEEDS
from markupsafe import Markup
from shortcuts_claims import SCALE, claims_of
from shortcuts_picture import frontier_picture
from shortcuts_table import write_advice_table

from vistok.files import data_uri, write_atomic, write_json
from vistok.page.axes import number
from vistok.page.charts import Chart, Series
from vistok.page.render import render
from vistok.page.tables import Table
from vistok.study.findings.claims_view import claims_view
from vistok.study.findings.verdict import FAILS, HOLDS, OPEN, Claim, as_ratio, mean_of_seeds

WAY = ["arm", "steps", "solver", "scale"]
COLUMNS = ["calls", "train_flops", "gfmd_corrected", "precision", "recall", "accuracy"]
# How arms are called, and the number of their colour; what shares a colour shares its kind.
NAMES = {
    "teacher": ("teacher", 0), "guided": ("guided", 1), "halved-4": ("guided, halved to 4", 2), "halved-1": ("guided, halved to 1", 2),
    "self-cooperative": ("YOSO", 3), "against-data": ("YOSO, data as targets", 3), "pseudo-huber": ("Diff-Instruct*", 4),
    "l2": ("L2 (SiD)", 4), "integral-kl": ("integral KL (Diff-Instruct)", 4),
    "pseudo-huber-reward": ("Diff-Instruct*, class reward", 5), "integral-kl-reward": ("integral KL, class reward", 5),
    "pseudo-huber-absurd": ("Diff-Instruct*, 1,000 times the reward", 6), "mean-flow": ("MeanFlow", 7),
}  # fmt: skip
# The number of samples of a second look, which was added when 2,000 proved to be few.
AGAIN = 10_000
AGAIN_COLUMNS = {name: f"{name}_again" for name in ("gfmd", "low", "high")}
TITLE = "Few calls: what shortcuts of a flow generator keep"


@dataclass(frozen=True)
class Uncoloured:
    """No claim here is about an arm of a study."""

    colours: dict[str, int] = field(default_factory=dict)

    def __getitem__(self, choice: str) -> str:
        """Return the name as it is."""
        return choice


def report(out: Path) -> None:
    """Write index.html, table.md, frontier.png, claims.json and runs.csv, of which a copy ships for advice."""
    rows = _rows(out / "scores.jsonl")
    file = out / "drawn.json"
    timed = json.loads(file.read_text()) if file.is_file() else {"rows": []}
    times = pd.DataFrame(timed["rows"], columns=[*WAY, "milliseconds"])
    claims, ways = claims_of(rows, times), ways_of(rows, times)
    if timed["rows"]:
        write_advice_table(rows, ways, timed["tokenizer"], out / "runs.csv")
    write_json(out / "claims.json", [claim.as_json() for claim in claims])
    again = [out / f"scores-{AGAIN}.jsonl", out / f"claims-{AGAIN}.json"]
    second = _rows(again[0]) if again[0].is_file() else rows.head(0)
    # What it was not drawn for, and milliseconds, are the first look's.
    judged = claims_of(second, times.head(0)) if len(second) else []
    more = [claim for claim in judged if claim.n]
    ways = with_second_look(ways, second)
    if more:
        write_json(again[1], [claim.as_json() for claim in more])
    write_atomic(out / "table.md", _markdown(ways, claims, more).encode())
    write_atomic(out / "index.html", _page(out, ways, claims, more, timed).encode())
    frontier_picture(shown(latest(ways)), NAMES, out / "frontier.png")


def _rows(file: Path) -> pd.DataFrame:
    return pd.DataFrame([json.loads(line) for line in file.read_text().splitlines()])


def ways_of(rows: pd.DataFrame, times: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each way to draw: means over seeds, gFMD as a geometric mean with its t-interval, milliseconds."""
    found = []
    for key, part in rows.groupby(WAY, sort=False):
        means = part[COLUMNS].mean().to_dict()
        logs = as_ratio(mean_of_seeds([math.log(value) for value in part.gfmd_corrected]))
        found.append(
            {
                **dict(zip(WAY, key, strict=True)),
                **means,
                "gfmd": logs.value,
                "low": logs.low,
                "high": logs.high,
                "seeds": len(part),
            }
        )
    ways = pd.DataFrame(found)
    if len(times):
        times = times.assign(milliseconds=times.milliseconds.map(lambda runs: sorted(runs)[len(runs) // 2]))
        return ways.merge(times, on=WAY, how="left")
    return ways.assign(milliseconds=float("nan"))


def with_second_look(ways: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the ways with gFMD and its interval from rows of more samples, as numbers (`*_again`) and in words (`again`)."""
    if rows.empty:
        return ways.assign(again="", **dict.fromkeys(AGAIN_COLUMNS.values(), math.nan))
    found = ways_of(rows, pd.DataFrame())
    found["again"] = [_gfmd(way) for way in found.itertuples()]
    found = found.rename(columns=AGAIN_COLUMNS)
    return ways.merge(found[[*WAY, "again", *AGAIN_COLUMNS.values()]], on=WAY, how="left").fillna({"again": ""})


def latest(ways: pd.DataFrame) -> pd.DataFrame:
    """Return the ways with the gFMD that counts: of the second look where there is one."""
    return ways.assign(**{name: ways[again].fillna(ways[name]) for name, again in AGAIN_COLUMNS.items()})


def counting(claims: list[Claim], more: list[Claim]) -> list[Claim]:
    """Return the claims that count: those of the second look where there is one."""
    second = {claim.claim: claim for claim in more}
    return [second.get(claim.claim, claim) for claim in claims]


def shown(ways: pd.DataFrame) -> pd.DataFrame:
    """Return the ways at the one guidance scale that is compared."""
    inside = ~ways.arm.isin(["teacher", "guided", "halved-4"])
    return ways[(ways.scale == SCALE) | inside]


def _gfmd(way: Any) -> str:
    interval = f" ({way.low:.2f} to {way.high:.2f})" if way.seeds > 1 else ""
    return f"{way.gfmd:.2f}{interval}"


def _cells(way: Any) -> list[str]:
    return [
        NAMES[way.arm][0], f"{way.steps:g} {way.solver}", f"{way.scale:g}", str(way.seeds), f"{way.calls:.0f}",
        "" if pd.isna(way.milliseconds) else f"{way.milliseconds:.3g}", _gfmd(way), way.again, f"{way.precision:.3f}", f"{way.recall:.3f}",
        f"{way.accuracy:.3f}", f"{way.train_flops:.2g}",
    ]  # fmt: skip


HEAD = [
    "arm",
    "steps",
    "scale",
    "seeds",
    "calls",
    "ms an image",
    "gFMD",
    f"gFMD, {AGAIN:,} samples",
    "precision",
    "recall",
    "accuracy",
    "training FLOPs",
]


def _markdown(ways: pd.DataFrame, claims: list[Claim], more: list[Claim]) -> str:
    lines = [
        f"| {' | '.join(HEAD)} |",
        "|---" * len(HEAD) + "|",
        *(f"| {' | '.join(_cells(way))} |" for way in ways.itertuples()),
    ]
    for count, found in ((2_000, claims), (AGAIN, more)):
        if found:
            lines += [
                "",
                f"Claims, {count:,} samples:",
                "",
                "| claim | measured | interval | n | verdict |",
                "|---|---|---|---|---|",
            ]
            lines += map(_claim_line, found)
    return "\n".join([*lines, ""])


def _claim_line(claim: Claim) -> str:
    bounds = "" if claim.low is None or claim.high is None else f"{claim.low:.3g} to {claim.high:.3g}"
    effect = "" if claim.effect is None else f"{claim.effect:.3g}"
    measured = f"{claim.quantity} ({claim.unit or 'as its rule says'})" if claim.quantity else claim.note
    return f"| {claim.claim} | {measured}: {effect} | {bounds} | {claim.n} | {claim.verdict} |"


def _page(out: Path, ways: pd.DataFrame, claims: list[Claim], more: list[Claim], timed: dict[str, Any]) -> str:
    all_ways = Table(HEAD, [_cells(way) for way in ways.itertuples()], words=(0, 1), dense=True).html()
    parts = [
        ("ways", "Every way to draw", "arm, steps, solver, guidance scale", all_ways),
        ("samples", "Samples", "the same labels and seed, no selection", _sheets(out)),
        ("claims", "Claims", "each with its interval beside its margin", claims_view(claims, Uncoloured())),
        *(
            [("again", "Claims, with 10,000 samples", "added later, the same rules", claims_view(more, Uncoloured()))]
            if more
            else []
        ),
        ("scales", "Guidance", "accuracy and gFMD by scale", _by_scale(ways)),
    ]
    of_latest = shown(latest(ways))
    charts = [_frontier(of_latest, "calls", "calls for an image")]
    if ways.milliseconds.notna().any():
        charts.append(_frontier(of_latest, "milliseconds", "milliseconds for an image, one thread"))
    best = Table(HEAD[:1] + HEAD[4:10], [_few(_cells(way)) for way in _best(ways).itertuples()], words=(0,))
    machine = f"Milliseconds: {timed['cpu']}, one thread, {timed['images']} images at once." if timed.get("cpu") else ""
    return render(
        "vistok.page", "report.html.j2", title=TITLE, answer=_answer(latest(ways), counting(claims, more)), figures=_columns(charts), table=best,
        parts=parts,
        note=f"gFMD with its bias removed, of {AGAIN:,} samples where so many were drawn, else of 2,000, against the test images of Fashion-MNIST: geometric mean over the student's "
        f"seeds with its 95 % t-interval. Guidance {SCALE:g}, the teacher's best on held-out images; one tokenizer and one teacher, so what "
        f"holds here may differ for others. Accuracy is by a classifier that nothing here was trained or scored with. {machine}",
    )  # fmt: skip


def _few(cells: list[str]) -> list[str]:
    return [f"{cells[0]}, {cells[1]}", *cells[4:10]]


def _best(ways: pd.DataFrame) -> pd.DataFrame:
    """Return the frontier: ways that no other one matches with as few calls, fewest calls first."""
    ordered, least, kept = shown(latest(ways)).sort_values(["calls", "gfmd"]), float("inf"), []
    for way in ordered.itertuples():
        if way.gfmd < least:
            kept.append(way.Index)
            least = way.gfmd
    return ways.loc[kept]


def _called(arm: str) -> str:
    return "the teacher" if arm == "teacher" else NAMES[arm][0]


def _answer(ways: pd.DataFrame, claims: list[Claim]) -> list[str]:
    best = _best(ways)
    first, last = best.iloc[0], best.iloc[-1]
    counts = {word: sum(claim.verdict == word for claim in claims) for word in (HOLDS, FAILS, OPEN)}
    few = int(ways[ways.arm != "teacher"].seeds.min())
    return [
        f"In {first.calls:.0f} call{'s' if first.calls > 1 else ''} {_called(first.arm)} reaches gFMD {_gfmd(first)}; the lowest is "
        f"{_gfmd(last)}, of {_called(last.arm)} in {last.calls:.0f} calls.",
        f"Of {len(claims)} claims {counts[HOLDS]} hold, {counts[FAILS]} fail and {counts[OPEN]} are open"
        + (f"; some students have fewer than {SEEDS} seeds so far." if few < SEEDS else "."),
    ]


def _frontier(ways: pd.DataFrame, x: str, label: str) -> Chart:
    series = []
    for arm, part in ways[ways[x].notna()].groupby("arm", sort=False):
        name, colour = NAMES[str(arm)]
        groups = part.groupby("solver") if arm == "teacher" else [("", part)]
        for solver, some in groups:
            some = some.sort_values(x)
            called = f"{name}, {solver}" if solver else name
            texts = [
                f"{called}: gFMD {_gfmd(way)} in {number(getattr(way, x))} {label.split()[0]}"
                for way in some.itertuples()
            ]
            if len(some) > 1:
                series.append(Series("", list(some[x]), list(some.gfmd), colour, faint=True))
            bars = {"low": list(some.low), "high": list(some.high)} if (some.seeds > 1).all() else {}
            series.append(Series(name, list(some[x]), list(some.gfmd), colour, marks=True, texts=texts, **bars))
    return Chart(f"gFMD against {label}", series, label, "gFMD", x_log=True, y_log=True)


def _by_scale(ways: pd.DataFrame) -> Markup:
    charts = []
    for column, label in (("accuracy", "accuracy by an independent classifier"), ("gfmd", "gFMD")):
        series = []
        for arm, steps in (("teacher", 20), ("guided", 20), ("halved-4", 4)):
            part = ways[
                (ways.arm == arm) & (ways.steps == steps) & ways.solver.isin(["multistep", "ddim"])
            ].sort_values("scale")
            if len(part):
                series.append(
                    Series(f"{NAMES[arm][0]}, {steps} steps", list(part.scale), list(part[column]), NAMES[arm][1])
                )
        charts.append(Chart(label, series, "guidance scale", label, y_log=column == "gfmd"))
    return _columns([chart for chart in charts if not chart.empty])


def _sheets(out: Path) -> Markup:
    figures = [
        Markup('<figure><img class="pixels" src="{}" alt="Samples of {}"><figcaption>{}</figcaption></figure>').format(
            data_uri(file.read_bytes()), file.stem, _caption(file.stem)
        )
        for file in sorted((out / "samples").glob("*.png"))
    ]
    return Markup('<div class="columns">{}</div>').format(Markup("").join(figures))


def _caption(stem: str) -> str:
    arm, _, steps = stem.rpartition("-")
    return f"{NAMES[arm][0]}, {steps} step{'' if steps == '1' else 's'}"


def _columns(charts: list[Chart]) -> Markup:
    return Markup('<div class="columns">{}</div>').format(Markup("").join(chart.figure() for chart in charts))
