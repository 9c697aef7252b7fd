"""A study's report: table, fits, claims and figures, in one self-contained HTML page and a Markdown summary."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from vistok.errors import counted
from vistok.files import write_atomic, write_json
from vistok.study.config import StudyConfig
from vistok.study.findings.answer import answer
from vistok.study.findings.arms import Arms
from vistok.study.findings.claim_data import StudyData
from vistok.study.findings.judged import claims_and_laws
from vistok.study.findings.laws import main_runs
from vistok.study.findings.outside import outside_lines, outside_of
from vistok.study.findings.page import Findings, study_page
from vistok.study.findings.scored_by import scored_by
from vistok.study.findings.table import alarm_sentence, collect, edge_sentence, generators, tokenizers, write_table
from vistok.study.findings.verdict import Claim
from vistok.study.run.record import StudyFolder


def write_report(study: StudyConfig, folder: StudyFolder, commands: Sequence[str] = ()) -> Path:
    """Write runs.csv, claims.json, fits.json, summary.md and index.html; return the page.

    `commands` repeat the study; by default those of the recipe with the study's name.
    """
    table, left_out = collect(folder, study)
    data = StudyData(table, study)
    claims, fits = claims_and_laws(data, folder.path)
    rows = main_runs(data)
    arms, by = Arms(data, rows), scored_by(folder, table)
    found = Findings(data, rows, arms, by, claims, fits, answer(arms, rows, claims, by), left_out)
    write_table(table, folder.table)
    write_json(folder.path / "claims.json", [claim.as_json() for claim in claims])
    write_json(folder.path / "fits.json", [{**asdict(fit), "law": asdict(fit.law)} for fit in fits])
    page = folder.path / "index.html"
    write_atomic(page, study_page(folder, found).encode())
    others = "".join(f"{line}\n" for line in outside_lines(outside_of(folder)))
    words = summary(study, table, claims, found.answer, left_out, commands) + others
    write_atomic(folder.path / "summary.md", words.encode())
    return page


def summary(
    study: StudyConfig,
    table: pd.DataFrame,
    claims: Sequence[Claim],
    sentences: Sequence[str],
    left_out: str = "",
    commands: Sequence[str] = (),
) -> str:
    """Return the Markdown summary, which begins with the answer; `left_out` is a sentence on records left out of the table."""
    named = [shlex.join(["vistok", "study", verb, study.name.replace("-", "_")]) for verb in ("run", "report")]
    lines = [
        f"# Study {study.name}",
        "",
        " ".join(sentences),
        "",
        f"{counted(len(tokenizers(table)), 'tokenizer')} and {counted(len(generators(table)), 'generator')} on "
        f"{', '.join(sorted(set(table.data)))}, "
        f"seeds {', '.join(map(str, sorted(set(table.seed))))}; {table.seconds.sum() / 3600:.1f} hours of training, summed "
        "over processes.",
        "",
        *([f"warning: {left_out}", ""] if left_out else []),
        *([f"warning: {alarms}", ""] if (alarms := alarm_sentence(table)) else []),
        *([f"warning: {edge}", ""] if (edge := edge_sentence(table, study.scoring.scales)) else []),
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
