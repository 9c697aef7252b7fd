"""The runs of a folder as a table, and curves of several of them over one pair of axes."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from vistok.app.parts import joined, said, table
from vistok.errors import UserError, printable
from vistok.files import is_locked
from vistok.overview.record import RunRecord
from vistok.overview.table import RunRow
from vistok.page.charts import Chart, Series
from vistok.runs.curves import charts_of
from vistok.runs.find import run_folders

_STAMPED = ("config.json", "metrics.jsonl", "finished.json", "evaluations")
HEADINGS = ("run", "kind", "recipe and changes", "state", "score", "alarms", "changed")


class RunRows:
    """The rows of all runs in a folder; a run is read again only after it has changed."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self._known: dict[Path, tuple[tuple[float, ...], RunRow]] = {}

    def read(self) -> list[RunRow]:
        """Return the rows, the run that was written to last first; folders that are no runs are left out."""
        known, rows = self._known, {}
        for run in run_folders(self.runs):
            stamp = _stamp(run)
            try:
                rows[run] = (
                    known[run] if run in known and known[run][0] == stamp else (stamp, RunRow.of(RunRecord(run)))
                )
            except (UserError, OSError):
                continue
        self._known = rows
        return [row for _, row in rows.values()]


def _stamp(run: Path) -> tuple[float, ...]:
    times = []
    for name in _STAMPED:
        try:
            times.append((run / name).stat().st_mtime)
        except OSError:
            times.append(0.0)
    return (*times, float(is_locked(run / "lock")))


def runs_table(rows: Sequence[RunRow], chosen: Sequence[str], runs: Path) -> Markup:
    """Return the table. Its buttons carry the run's name: `data-open` shows the run, `data-curve` adds its curve."""
    if not rows:
        return said(f"There are no runs in {runs} yet. The page Train makes the first from a folder of images.")
    return table(HEADINGS, [_cells(row, row.name in chosen) for row in rows])


def _cells(row: RunRow, chosen: bool) -> list[str]:
    name = Markup(
        '<div class="named"><button type="button" class="name" data-open="{0}">{1}</button>'
        '<button type="button" data-curve="{0}" aria-pressed="{2}" title="add its curve to the chart, or take it away">curve</button></div>'
    ).format(row.name, printable(row.name), "true" if chosen else "false")
    state = Markup('<span class="state {}">{}</span>').format(row.state.replace("training", "running"), row.position)
    alarms = joined([Markup('<span class="state stopped">{}</span>').format(alarm) for alarm in row.alarms])
    recipe = f"{row.recipe} {printable(row.changes)}".strip() or "imported"
    return [name, row.kind, recipe, state, _score(row), alarms, f"{row.changed:%Y-%m-%d %H:%M}"]


def _score(row: RunRow) -> str:
    if row.score is None:
        return ""
    by = ", ".join(filter(None, (row.score.evaluator, row.score.reference, row.score.treatment)))
    return f"{row.score} ({by})" if by else str(row.score)


def quantities(records: Sequence[RunRecord]) -> list[str]:
    """Return what the runs have curves of, the most telling first: titles of charts, with the line's name where several."""
    return list(dict.fromkeys(name for record in records for name in _curves(record)))


def overlaid(records: Sequence[RunRecord], quantity: str) -> Chart | None:
    """Return the curves of one quantity, a colour for each run; None if no run has it."""
    found = [(record.name, colour, _curves(record).get(quantity)) for colour, record in enumerate(records)]
    drawn = [(name, colour, *curve) for name, colour, curve in found if curve is not None]
    if not drawn:
        return None
    charts, lines = [chart for _, _, chart, _ in drawn], [line for *_, line in drawn]
    series = [Series(name, line.xs, line.ys, colour) for name, colour, _, line in drawn]
    positive = charts[0].y_log and all(y > 0 for line in lines for y in line.ys)
    return Chart(quantity, series, charts[0].x_label, charts[0].y_label, charts[0].x_log, positive)


def _curves(record: RunRecord) -> dict[str, tuple[Chart, Series]]:
    found = {}
    for chart in charts_of(record.rows, record.kind):
        # Colour 0 is what a chart is about: averaged weights, held-out images.
        lines = sorted((line for line in chart.series if len(line.xs)), key=lambda line: line.colour)
        for line in lines:
            found[chart.title if len(lines) == 1 else f"{chart.title}: {line.label}"] = (chart, line)
    return found
