"""A study's report: table, fits, claims and figures, in one self-contained HTML page and a Markdown summary."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from vistok.engine.run_dir import provenance
from vistok.errors import counted
from vistok.files import data_uri, write_atomic, write_json
from vistok.study.config import StudyConfig
from vistok.study.findings import figures
from vistok.study.findings.claim_data import StudyData
from vistok.study.findings.claims import judge
from vistok.study.findings.fit import PowerLaw, fit_power_law, frontier
from vistok.study.findings.table import alarm_sentence, collect, generators, tokenizers, write_table
from vistok.study.findings.verdict import Claim
from vistok.study.run.record import StudyFolder

# What an image costs its generator.
COSTS = ("calls", "flops_per_image", "ms_per_image")
# Grid -> (swept column, label): the most expensive runs are plotted against the setting.
SWEEPS = {
    "weights": ("crt_weight", "weight of the regularizer"),
    "layers": ("crt_layers", "layers of the causal model"),
}
# Grid -> (column, label): all runs are plotted against compute, since the setting changes a step's cost or when it pays.
FRONTIERS = {
    "codebooks": ("codebook_size", "codes"),
    "tokens": ("num_tokens", "tokens per image, a tokenizer trained for each"),
    "resolutions": ("num_tokens", "tokens per image, one tokenizer at several image sizes"),
}


@dataclass(frozen=True)
class Fit:
    """A law of a value against compute, fitted to the frontier runs of one tokenizer choice."""

    tokenizer: str
    value: str
    compute: str
    floor: str
    law: PowerLaw


def write_report(study: StudyConfig, folder: StudyFolder, commands: Sequence[str] = ()) -> Path:
    """Write runs.csv, claims.json, fits.json, summary.md and index.html; return the page.

    `commands` repeat the study; by default those of the recipe with the study's name.
    """
    table, left_out = collect(folder, study)
    write_table(table, folder.table)
    claims = judge(table, study)
    write_json(folder.path / "claims.json", [claim.as_json() for claim in claims])
    data = StudyData(table, study)
    fits = all_fits(data)
    write_json(folder.path / "fits.json", [{**asdict(fit), "law": asdict(fit.law)} for fit in fits])
    page = folder.path / "index.html"
    write_atomic(page, _page(study, folder, data, claims, fits, left_out).encode())
    write_atomic(folder.path / "summary.md", summary(study, table, claims, left_out, commands).encode())
    return page


def main_runs(data: StudyData) -> pd.DataFrame:
    """Return the generators of the main grid, or of all grids if it has none."""
    grid = data.grid(data.study.main_grid)
    rows = data.runs(grid) if grid else data.generators
    return rows if len(rows) else data.generators


def all_fits(data: StudyData) -> list[Fit]:
    """Return the laws of gFMD and of nats per token for every tokenizer choice, in each way to count compute."""
    fits = []
    for name, rows in main_runs(data).groupby("tokenizer_choice"):
        for value in ("gfmd", "val_nats_per_token"):
            for compute in figures.CONVENTIONS:
                x, y = _frontier_runs(rows.dropna(subset=[value]), compute, value)
                if not y:  # a family without a likelihood
                    continue
                fixed = 0.9 * min(min(y), float(rows.rfmd.mean()) if value == "gfmd" else min(y))
                for floor, given in (("free", None), ("fixed", fixed)):
                    if len(x) > (3 if given is None else 2):
                        fits.append(Fit(str(name), value, compute, floor, fit_power_law(x, y, given)))
    return fits


def _frontier_runs(rows: pd.DataFrame, compute: str, value: str) -> tuple[list[float], list[float]]:
    """Return (compute, value) of the runs on each seed's frontier."""
    x, y = [], []
    for _, runs in rows.groupby("seed"):
        kept = frontier(list(runs[compute]), list(runs[value]))
        x += [float(runs[compute].iloc[i]) for i in kept]
        y += [float(runs[value].iloc[i]) for i in kept]
    return x, y


def _page(
    study: StudyConfig, folder: StudyFolder, data: StudyData, claims: Sequence[Claim], fits: Sequence[Fit],
    left_out: str,
) -> str:  # fmt: skip
    template = jinja2.Template(
        (files("vistok") / "study" / "findings" / "study.html.j2").read_text(),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    rows, base = main_runs(data), study.baseline
    choices = list(dict.fromkeys([base, *rows.tokenizer_choice])) if len(rows) else [base]
    choices = [name for name in choices if (data.tokenizers.choice == name).any()]
    style, everyone = figures.Style(choices), figures.Style(list(dict.fromkeys(data.tokenizers.choice)))
    free = {(fit.tokenizer, fit.compute): fit.law for fit in fits if fit.value == "gfmd" and fit.floor == "free"}
    nats = {(fit.tokenizer, fit.compute): fit.law for fit in fits if fit.value != "gfmd" and fit.floor == "free"}
    pictures: dict[str, str] = {}
    if data.tokenizers.entropy.notna().any():  # vectors have none
        pictures["entropies"] = figures.entropies(data.tokenizers, everyone)
    columns, likely = list(figures.CONVENTIONS), rows[rows.by_position != ""]
    if len(rows):
        pictures["gfmd"] = figures.against_compute(rows, "gfmd", "gFMD (chosen guidance)", style, free, columns)
    if len(likely):  # of families with a likelihood
        last = likely[(likely.params == likely.params.max()) & (likely.steps == likely.steps.max())]
        pictures |= {
            "nats": figures.against_compute(
                likely, "val_nats_per_token", "held-out nats per token", style, nats, columns
            ),
            "rate": figures.rate_distortion(likely, style),
            "curves": figures.position_curves(last, style),
        }
        if (last.tokenizer_choice == base).any():
            pictures["gains"] = figures.position_gains(last, base, [name for name in choices if name != base])
    return template.render(
        study=study,
        pictures=pictures,
        sweeps=_sweeps(data),
        sheets=_sheets(folder, rows, choices),
        costs="calls" in rows and rows.calls.notna().any(),
        claims=claims,
        fits=fits,
        conventions=figures.CONVENTIONS,
        tokenizers=tokenizer_table(data.tokenizers),
        cells=cell_table(rows),
        seeds=sorted(set(data.table.seed)),
        runs=len(data.table),
        hours=float(data.table.seconds.sum()) / 3600,
        provenance=provenance(),
        left_out=left_out,
        alarms=alarm_sentence(data.table),
    )


def _sweeps(data: StudyData) -> list[dict[str, str]]:
    sweeps = []
    for name, (column, label) in (SWEEPS | FRONTIERS).items():
        grid = data.grid(name)
        rows = data.runs(grid) if grid else pd.DataFrame()
        if rows.empty or rows[column].nunique() < 2:
            continue
        if name in FRONTIERS:
            order = rows.sort_values(column).tokenizer_choice
            picture = figures.frontiers(rows, figures.Style(list(dict.fromkeys(order))))
            shown = "all runs of the grid; lines join the runs that no cheaper run matches"
        else:
            rows = rows[(rows.params == rows.params.max()) & (rows.steps == rows.steps.max())]
            picture = figures.sweep(_with_zero(rows), column, label, "crt_variant")
            shown = "the most expensive runs of the grid; each point is a seed"
        sweeps.append({"name": name, "label": label, "shown": shown, "picture": picture})
    return sweeps


def _with_zero(rows: pd.DataFrame) -> pd.DataFrame:
    """Include the runs without regularizer in every variant's line."""
    none, others = rows[rows.crt_variant == "none"], rows[rows.crt_variant != "none"]
    return pd.concat([others, *(none.assign(crt_variant=variant) for variant in sorted(set(others.crt_variant)))])


def _sheets(folder: StudyFolder, rows: pd.DataFrame, choices: Sequence[str]) -> list[dict[str, Any]]:
    """Return sample sheets at equal compute: for each choice, the largest generator's longest run, of the first seed."""
    if not len(rows):
        return []
    last = rows[(rows.params == rows.params.max()) & (rows.steps == rows.steps.max())]
    sheets = []
    for name in choices:
        of_choice = last[last.tokenizer_choice == name].sort_values("seed")
        file = folder.sheet_file(str(of_choice.run.iloc[0])) if len(of_choice) else None
        if file is not None and file.is_file():
            row = of_choice.iloc[0]
            facts = {"name": name, "gfmd": row.gfmd, "scale": row.guidance_scale, "seed": row.seed}
            sheets.append({**facts, "picture": data_uri(file.read_bytes())})
    return sheets


def tokenizer_table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the tokenizers' scores, averaged over seeds."""
    columns = ("psnr", "rfmd", "codebook_usage", "entropy", "position_entropy", "skewness", "latent_variance", "quantization_error", "seconds")  # fmt: skip
    return [
        {"name": name, "seeds": len(runs), **{column: _mean(runs[column]) for column in columns}}
        for name, runs in rows.groupby("choice", sort=False)
    ]


def cell_table(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the scores of each cell (tokenizer, generator, length), averaged over seeds."""
    cells = []
    for (tokenizer, generator, steps), runs in rows.groupby(["tokenizer_choice", "choice", "steps"], sort=True):
        cells.append({
            "tokenizer": tokenizer, "generator": generator, "steps": steps, "seeds": len(runs),
            "params": int(runs.params.iloc[0]), "nats": _mean(runs.val_nats_per_token),
            "gap": _mean(runs.val_nats_per_token - runs.train_nats_per_token),
            "gfmd": _mean(runs.gfmd), "low": float(runs.gfmd.min()), "high": float(runs.gfmd.max()),
            "unguided": _mean(runs.gfmd_unguided), "scale": _mean(runs.guidance_scale),
            "swap_pixels": _mean(runs.swap_pixels), "swap_features": _mean(runs.swap_features),
            # Records of earlier versions do not know what an image costs.
            **{name: _mean(runs[name]) if name in runs else float("nan") for name in COSTS},
        })  # fmt: skip
    return sorted(cells, key=lambda cell: (cell["params"], cell["steps"], cell["tokenizer"]))


def summary(
    study: StudyConfig, table: pd.DataFrame, claims: Sequence[Claim], left_out: str = "", commands: Sequence[str] = ()
) -> str:
    """Return the Markdown summary; `left_out` is a sentence on records left out of the table, `commands` repeat the study."""
    named = [shlex.join(["vistok", "study", verb, study.name.replace("-", "_")]) for verb in ("run", "report")]
    lines = [
        f"# Study {study.name}",
        "",
        f"{counted(len(tokenizers(table)), 'tokenizer')} and {counted(len(generators(table)), 'generator')} on {', '.join(sorted(set(table.data)))}, "
        f"seeds {', '.join(map(str, sorted(set(table.seed))))}; {table.seconds.sum() / 3600:.1f} hours of training, summed "
        "over processes.",
        "",
        *([f"warning: {left_out}", ""] if left_out else []),
        *([f"warning: {alarms}", ""] if (alarms := alarm_sentence(table)) else []),
        "| claim | verdict | effect | 95 % (or as the rule says) | n | statement |",
        "|---|---|---|---|---|---|",
    ]
    for claim in claims:
        bounds = "" if claim.low is None or claim.high is None else f"{claim.low:.4g} to {claim.high:.4g}"
        effect = "" if claim.effect is None else f"{claim.effect:.4g}"
        note = f" ({claim.note})" if claim.note else ""
        lines.append(f"| {claim.claim} | {claim.verdict} | {effect} | {bounds} | {claim.n} | {claim.statement}{note} |")
    lines += [
        "",
        "Rules: `claims.json`. All runs: `runs.csv`. Laws: `fits.json`. Page: `index.html`. To repeat the study:",
        "",
        "```",
        *(commands or named),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _mean(values: pd.Series) -> float:
    """Return the mean of what is known; not a number where nothing is."""
    return float(values.astype("Float64").astype(float).mean())
