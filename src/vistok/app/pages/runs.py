"""The page of all runs: a live table, and curves of several runs over one another."""

from typing import Any

import gradio as gr

from vistok.app.events import block, changed, listen, live, message_box
from vistok.app.parts import page, quiet
from vistok.app.place import Place
from vistok.app.runs_view import RunRows, overlaid, quantities, runs_table
from vistok.overview.record import RunRecord

SECONDS = 3.0
CLICKS = """
element.addEventListener('click', (event) => {
  const open = event.target.closest('[data-open]'), curve = event.target.closest('[data-curve]');
  if (open) trigger('submit', { run: open.dataset.open });
  if (curve) trigger('click', { run: curve.dataset.curve });
});
"""


def runs_page(place: Place) -> gr.HTML:
    """Lay out the page; returns its table, whose `submit` asks for the page of a run."""
    rows = RunRows(place.runs)
    with gr.Tab("Runs", id="runs") as tab:
        message = message_box()
        with gr.Row():
            chosen = gr.Dropdown(
                [], multiselect=True, label="Curves of", info="choose runs here, or press curve in the table"
            )
            quantity = gr.Dropdown([], label="Quantity", visible=False)
        chart = block(visible=False)
        table = block(CLICKS)
        seen = gr.State({})
        clock = live(SECONDS)

    def records(names: list[str]) -> list[RunRecord]:
        return [RunRecord(place.runs / name) for name in names if (place.runs / name).is_dir()]

    def refresh(names: list[str] | None, asked: str | None, seen: dict[str, Any]) -> tuple[Any, ...]:
        found = rows.read()
        known = [row.name for row in found]
        names = [name for name in names or [] if name in known]
        chosen_records = records(names)
        offered = quantities(chosen_records)
        asked = asked if asked in offered else next(iter(offered), None)
        drawn = overlaid(chosen_records, asked) if asked else None
        curves = page(drawn.figure()) if drawn else page(quiet("These runs have no curves yet.")) if names else ""
        return (
            changed(seen, "runs", (known, names), gr.update(choices=known, value=names)),
            changed(
                seen, "quantities", (offered, asked), gr.update(choices=offered, value=asked, visible=bool(offered))
            ),
            changed(seen, "chart", curves, gr.update(value=curves, visible=bool(names))),
            changed(seen, "table", page(runs_table(found, names, place.runs))),
            seen,
        )

    def toggle(
        names: list[str] | None, asked: str | None, seen: dict[str, Any], event: gr.EventData
    ) -> tuple[Any, ...]:
        name, names = str(event.run), names or []  # type: ignore[attr-defined]
        return refresh([other for other in names if other != name] if name in names else [*names, name], asked, seen)

    asked, shown = [chosen, quantity, seen], [chosen, quantity, chart, table, seen]
    for event, quietly in ((clock.tick, True), (tab.select, True), (chosen.input, False), (quantity.input, False)):
        listen(event, refresh, asked, shown, message, quietly=quietly)
    listen(table.click, toggle, asked, shown, message)
    return table
