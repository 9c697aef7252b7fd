"""vistok runs, vistok show: find runs and look at them."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vistok.cli.options import Runs, place, say
from vistok.errors import UserError, reason

if TYPE_CHECKING:
    from vistok.overview.table import RunRow


def runs_command(
    runs: Annotated[
        Path, typer.Argument(parser=lambda text: Path(place(text)), metavar="[FOLDER]", help="Folder of runs.")
    ] = Path("runs"),
    kind: Annotated[str | None, typer.Option(help="Only tokenizer, generator or classifier.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print as CSV.")] = False,
) -> None:
    """List the runs in a folder: recipe and changes, state, main score with its interval, alarms, date."""
    from vistok.overview import table

    if as_json and as_csv:
        raise UserError("--json and --csv exclude each other; give one of them, or neither")
    if kind not in (None, "tokenizer", "generator", "classifier"):
        raise UserError(f"--kind {kind}: must be tokenizer, generator or classifier")
    rows = [row for row in table.run_rows(runs, partial(say, err=True)) if kind in (None, row.kind)]
    if as_json:
        say(json.dumps([row.as_json() for row in rows], indent=2))
    elif as_csv:
        say(table.as_csv(rows).rstrip("\n"))
    elif not rows:
        say(f"no runs in {runs} yet; vistok start FOLDER or vistok train makes the first")
    else:
        _print(rows)


def show(
    run: Annotated[
        str, typer.Argument(parser=place, metavar="RUN", help="Path of a run, a part of its name, or latest.")
    ],
    runs: Runs = Path("runs"),
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
) -> None:
    """Write a run's page anew and print it in short: how it goes, alarms, scores, cost, what to do next."""
    from vistok.overview.commands import next_commands
    from vistok.overview.page import tiles, verdict, write_page, write_picture
    from vistok.overview.record import NOT_BEGUN, TRAINING, RunRecord
    from vistok.runs.find import find_run

    path = find_run(run, None, runs)
    record = RunRecord(path)
    say(f"{record.name}: {record.kind}" + (f", recipe {record.recipe}" if record.recipe else ""))
    say(verdict(record)[1])
    for alarm in record.alarms:
        say(f"alarm {alarm.name}: {alarm.words}")
    for number, what in tiles(record):
        say(f"  {number.strip()} {what}")
    if record.folder:
        say(f"  pictures of {record.folder}")
    for path_, value in record.differs.items():
        say(f"  {path_} = {json.dumps(value)}")
    for words, command in next_commands(record):
        say(f"to {words}: {command}")
    for line in record.left_out:
        say(f"left out: {line}", err=True)
    try:
        page = write_page(path, training=record.state == TRAINING)
        if record.state not in (NOT_BEGUN, TRAINING):
            write_picture(record)
    except (OSError, UserError) as error:
        page = path / "page.html"
        say(f"warning: the page stays as it was: {reason(error)}", err=True)
    if page.is_file():
        say(f"page: {page}")
        if open_page:
            typer.launch(str(page))


def _print(rows: "list[RunRow]") -> None:
    from rich.console import Console
    from rich.table import Table

    from vistok.errors import printable

    console = Console(soft_wrap=False, highlight=False)
    if not console.is_terminal:
        console = Console(width=200, highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("name", no_wrap=True)
    for heading in ("kind", "recipe and changes", "state", "score", "alarms", "changed"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells: list[Any] = [row.name, row.kind, _recipe(row), row.position, _score(row), " ".join(row.alarms)]
        table.add_row(*(printable(str(cell)) for cell in cells), f"{row.changed:%Y-%m-%d %H:%M}")
    console.print(table, markup=False)


def _recipe(row: "RunRow") -> str:
    return f"{row.recipe} {row.changes}".strip() or "imported"


def _score(row: "RunRow") -> str:
    if row.score is None:
        return ""
    by = ", ".join(filter(None, (row.score.evaluator, row.score.reference, row.score.treatment)))
    return f"{row.score} ({by})" if by else str(row.score)
