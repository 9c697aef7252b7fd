"""The page that sets runs' scores side by side."""

from typing import Any

import gradio as gr

from vistok.app.compare_view import comparison_table, protocols
from vistok.app.events import block, listen, message_box
from vistok.app.parts import page, quiet, said
from vistok.app.place import Place
from vistok.errors import UserError
from vistok.runs.find import run_folders


def compare_page(place: Place) -> None:
    """Lay out the page."""
    with gr.Tab("Compare", id="compare") as tab:
        with gr.Row():
            runs = gr.Dropdown(
                [],
                multiselect=True,
                label="Runs",
                info="two or more of one kind that have been scored",
                allow_custom_value=True,
            )
            protocol = gr.Dropdown([], label="Protocol", info="what was scored against what", visible=False)
        message = message_box()
        body = block()

    def offer() -> Any:
        return gr.update(choices=scored(place))

    def compare(names: list[str] | None, asked: str | None) -> tuple[Any, ...]:
        if len(names or []) < 2:
            words = "Choose two or more runs. Scores are made by vistok evaluate, and by vistok start at its end."
            return gr.update(visible=False), page(quiet(words))
        try:
            html, offered, shown = compared(place, names or [], asked)
        except UserError as error:  # in the place of the table, whose words would say otherwise
            return gr.update(visible=False), page(said(str(error), "bad"))
        return gr.update(choices=offered, value=shown, visible=True), html

    listen(
        tab.select,
        lambda names, asked: (offer(), *compare(names, asked)),
        [runs, protocol],
        [runs, protocol, body],
        message,
    )
    # A name that is typed in full, and not clicked on, is a change but no input.
    for event in (runs.change, protocol.input):
        listen(event, compare, [runs, protocol], [protocol, body], message)


def scored(place: Place) -> list[str]:
    """Return the runs that have an evaluation, newest first."""
    return [run.name for run in run_folders(place.runs) if any((run / "evaluations").glob("*.json"))]


def compared(place: Place, names: list[str], asked: str | None) -> tuple[str, list[str], str]:
    """Return runs side by side as HTML, the protocols there are, and the one shown. Raises UserError where none is shared."""
    from vistok.verbs.compare import comparison

    found = comparison([place.find(name) for name in names])
    offered = protocols(found)
    if not offered:
        raise UserError("these runs have no score of one protocol in common")
    shown = asked if asked in offered else offered[0]
    return page(comparison_table(found, names, shown)), offered, shown
