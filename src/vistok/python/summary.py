"""A run's facts and pictures as a notebook shows them."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vistok.files import data_uri
from vistok.python.words import in_words


def facts_html(run: Any, sheet: bytes | None) -> str:
    """Return a run's facts as a table, with its newest pictures below."""
    from vistok.python.stored import stored_scores

    facts = [
        ("kind", run.kind),
        ("state", f"{run.state}, step {run.step:,}"),
        ("folder", shown(run.path)),
        *(("score", in_words(score)) for score in stored_scores(run.path)[:6]),
        *(("alarm", f"{alarm.name}: {alarm}".rstrip(". ")) for alarm in run.alarms),
        *([("page", shown(run.page))] if run.page else []),
    ]
    picture = "" if sheet is None else f'<div><img src="{data_uri(sheet)}" alt="newest pictures" style="max-width:100%"></div>'
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
