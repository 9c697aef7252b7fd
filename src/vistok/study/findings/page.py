"""A study's page: the answer, a figure and five rows; folded below them every finding, and the claims at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vistok.engine.run_dir import provenance
from vistok.page.charts import Chart
from vistok.page.intervals import Rows
from vistok.page.render import render
from vistok.study.config import Grid
from vistok.study.findings import figures, tables
from vistok.study.findings.answer import multiplicity
from vistok.study.findings.arms import Arms
from vistok.study.findings.claim_data import StudyData, longest
from vistok.study.findings.claims_view import claims_view
from vistok.study.findings.families import families
from vistok.study.findings.generator_figure import generators_beside
from vistok.study.findings.laws import CONVENTIONS, Fit, main_grids
from vistok.study.findings.outside import outside_of
from vistok.study.findings.samples import sample_sheets
from vistok.study.findings.scale_figure import gain_by_scale
from vistok.study.findings.scored_by import ScoredBy
from vistok.study.findings.table import alarm_sentence, edge_sentence
from vistok.study.findings.verdict import Claim
from vistok.study.run.record import StudyFolder

# Grid -> (swept column, label): the most expensive runs are plotted against the setting.
SWEEPS = {
    "weights": ("crt_weight", "weight of the regularizer"),
    "layers": ("crt_layers", "layers of the causal model"),
}
# Grid -> label: all runs are plotted against compute, since the setting changes a step's cost or when it pays.
FRONTIERS = {
    "codebooks": "codes",
    "tokens": "tokens per image, a tokenizer trained for each",
    "resolutions": "tokens per image, one tokenizer at several image sizes",
}


@dataclass(frozen=True)
class Findings:
    """What a study's page shows: its table, the main grid's `rows`, how arms are named and scored, and what was concluded."""

    data: StudyData
    rows: pd.DataFrame
    arms: Arms
    by: ScoredBy
    claims: Sequence[Claim]
    fits: Sequence[Fit]
    answer: Sequence[str]
    left_out: str


def study_page(folder: StudyFolder, found: Findings) -> str:
    """Return the page of a study."""
    data, rows, arms, claims = found.data, found.rows, found.arms, found.claims
    everywhere = data.all_runs()
    across = families(everywhere, arms)
    return render(
        "vistok.study.findings",
        "study.html.j2",
        study=data.study,
        base=arms[arms.baseline],
        answer=found.answer,
        by=found.by,
        seeds=sorted(set(data.table.seed)),
        runs=len(data.table),
        hours=float(data.table.seconds.sum()) / 3600,
        left_out=found.left_out,
        alarms=alarm_sentence(data.table),
        edge=edge_sentence(data.table, data.study.scoring.scales),
        top=tables.top_table(data.tokenizers, rows, arms, claims),
        tokenizers=tables.tokenizer_table(data.tokenizers, arms),
        claims=claims_view(claims, arms),
        multiplicity=multiplicity(claims),
        sheets=sample_sheets(folder, rows if across is None else everywhere, arms),
        sweeps=_sweeps(data, arms),
        families=across,
        others=outside_of(folder),
        provenance=provenance(),
        **_generation(rows, arms, found.fits),
        **_likelihood(data, rows, arms, found.fits),
    )


def _generation(rows: pd.DataFrame, arms: Arms, fits: Sequence[Fit]) -> dict[str, Any]:
    """Return what there is on gFMD; nothing of it without generators."""
    if not len(rows):
        return dict.fromkeys(("differences", "guided", "unguided", "scales", "compute", "cells", "fits"))
    free = {(fit.tokenizer, fit.compute): fit.law for fit in fits if fit.value == "gfmd" and fit.floor == "free"}
    laws = {name: law for (name, compute), law in free.items() if compute == "train_flops"}
    differences, scales = figures.differences(rows, arms), gain_by_scale(rows, arms)
    pairs = {
        column: figures.joined(figures.pairs(rows, arms, column, laws))
        for column in ("gfmd", "gfmd_unguided")
        if rows[column].notna().any()
    }
    charts = [
        figures.against_compute(rows, "gfmd", "gFMD (chosen guidance)", arms, free, column) for column in CONVENTIONS
    ]
    return {
        "differences": differences.figure() if differences.rows else None,
        "guided": pairs.get("gfmd"),
        "unguided": pairs.get("gfmd_unguided"),
        "scales": None if scales.empty else scales.figure(),
        "compute": figures.joined(charts),
        "cells": tables.score_table(rows, arms),
        "fits": tables.fit_table(fits, arms) if fits else None,
    }


def _likelihood(data: StudyData, rows: pd.DataFrame, arms: Arms, fits: Sequence[Fit]) -> dict[str, Any]:
    """Return what there is on entropies and nats; vectors have no entropies, and not all families a likelihood."""
    known = data.tokenizers.entropy.notna().any()
    found: dict[str, Any] = dict.fromkeys(("nats", "rate", "curves", "gains", "costs"))
    found["entropies"] = figures.joined(figures.entropies(data.tokenizers, arms)) if known else None
    if len(rows):
        found["costs"] = tables.likelihood_table(rows, arms)
    likely = rows[rows.by_position.fillna("") != ""]
    if not len(likely):
        return found
    laws = {(fit.tokenizer, fit.compute): fit.law for fit in fits if fit.value != "gfmd" and fit.floor == "free"}
    last = longest(likely)
    gains = figures.position_gains(last, arms)
    charts = [
        figures.against_compute(likely, "val_nats_per_token", "nats per token (held out)", arms, laws, column)
        for column in CONVENTIONS
    ]
    return found | {
        "nats": figures.joined(charts),
        "rate": figures.joined(figures.rate_distortion(likely, arms)),
        "curves": figures.position_curves(last, arms).figure(),
        "gains": figures.joined(gains) if gains else None,
    }


def _sweeps(data: StudyData, arms: Arms) -> list[dict[str, Any]]:
    """Return a section for each grid but the main ones."""
    sections: list[dict[str, Any]] = []
    main = [grid.name for grid in main_grids(data)]
    order = [*SWEEPS, *FRONTIERS]
    for grid in sorted(data.study.grids, key=lambda grid: order.index(grid.name) if grid.name in order else len(order)):
        name, rows = grid.name, data.runs(grid)
        if name in main or rows.empty:
            continue
        label, charts, shown = _section(grid, rows, arms)
        if charts:
            title = f"{'Sweep' if name in order else 'Grid'}: {name}"
            sections.append(
                {"title": title, "name": name, "label": label, "shown": shown, "figures": figures.joined(charts)}
            )
    return sections


def _section(grid: Grid, rows: pd.DataFrame, arms: Arms) -> tuple[str, Sequence[Chart | Rows], str]:
    """Return what a grid varies, its figures, and what they show."""
    label = FRONTIERS.get(grid.name, grid.purpose.rstrip(".").replace("`", "")) or "a grid whose purpose is not stated"
    if rows.tokenizer_choice.nunique() < 2:
        return (
            label,
            generators_beside(rows, grid),
            "means over tokenizer seeds, paired by seed, with 95 % t-intervals where there are several",
        )
    if grid.name in SWEEPS:
        column, label = SWEEPS[grid.name]
        charts = figures.sweep(_with_zero(longest(rows)), column, label, "crt_variant", _variants(rows, arms))
        return label, charts, "the most expensive runs of the grid: small marks are seeds, lines join their means"
    shown = (
        "marks are means over seeds, lines join the runs that no cheaper run matches, dashed is each tokenizer's rFMD"
    )
    return label, figures.frontiers(rows, arms, arms.among(rows)), shown


def _variants(rows: pd.DataFrame, arms: Arms) -> Any:
    """Return which colour a variant has: that of the main grid's arm with it, else of its first."""
    found: dict[str, int] = {}
    for name in sorted(dict.fromkeys(rows.tokenizer_choice), key=lambda name: name not in arms.main):
        variant = str(rows[rows.tokenizer_choice == name].crt_variant.iloc[0])
        found.setdefault(variant, arms.colour(name))
    return lambda variant: found.get(variant, 0)


def _with_zero(rows: pd.DataFrame) -> pd.DataFrame:
    """Include the runs without regularizer in every variant's line."""
    none, others = rows[rows.crt_variant == "none"], rows[rows.crt_variant != "none"]
    return pd.concat([others, *(none.assign(crt_variant=variant) for variant in sorted(set(others.crt_variant)))])
