"""A run's facts and pictures as a notebook shows them."""

import html
import json
from collections.abc import Sequence
from pathlib import Path

from vistok.files import data_uri
from vistok.overview.record import RunRecord


def facts_html(run: RunRecord, sheet: bytes | None, page: Path | None) -> str:
    """Return a run's facts as a table, with its newest pictures below."""
    changes = ", ".join(f"{path}={json.dumps(value)}" for path, value in run.differs.items())
    facts = [
        ("kind", f"{run.kind}, recipe {run.recipe}" if run.recipe else run.kind),
        *([("changes", changes)] if changes else []),
        ("state", f"{run.state}, step {run.step:,}" + (f" of {run.steps:,}" if run.steps else "")),
        *([("score", str(run.main_score))] if run.main_score else []),
        *(("alarm", f"{alarm.name}: {alarm.words}") for alarm in run.alarms),
        ("folder", shown(run.path)),
        *([("page", shown(page))] if page else []),
    ]
    picture = (
        ""
        if sheet is None
        else f'<div><img src="{data_uri(sheet)}" alt="newest pictures" style="max-width:100%"></div>'
    )
    return f"<div><strong>{html.escape(run.name)}</strong>{table(facts)}{picture}</div>"


def shown(path: Path) -> str:
    """Return a path as seen from the current folder, if it is below it."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """Return rows of text as an HTML table."""
    tops = f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>" if head else ""
    cells = "".join(
        f"<tr>{''.join(f'<td style=text-align:left>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table>{tops}{cells}</table>"
