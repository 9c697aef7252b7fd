"""The page of a study: which of its runs are done, running, failed or waiting."""

from typing import Any

import gradio as gr

from vistok.app.events import block, changed, listen, live, message_box
from vistok.app.parts import page, said
from vistok.app.place import Place
from vistok.app.study_matrix import cells_of, known_studies, matrix

SECONDS = 5.0


def study_page(place: Place) -> None:
    """Lay out the page."""
    with gr.Tab("Study", id="study") as tab:
        study = gr.Dropdown([], label="Study", info="one that runs here, or a folder of results")
        message = message_box()
        body = block()
        seen = gr.State({})
        clock = live(SECONDS)

    def refresh(name: str | None, seen: dict[str, Any]) -> tuple[Any, ...]:
        known = known_studies(place.runs, place.results)
        if not known:
            words = f"There is no study in {place.runs} or {place.results}. vistok study run STUDY begins one."
            return gr.update(choices=[], value=None), changed(seen, "page", page(said(words))), seen
        name = name if name in known else next(iter(known))
        html = page(matrix(*cells_of(*known[name])))
        names = changed(seen, "studies", (list(known), name), gr.update(choices=list(known), value=name))
        return names, changed(seen, "page", html), seen

    outputs = [study, body, seen]
    for event, quietly in ((tab.select, False), (clock.tick, True), (study.input, False)):
        listen(event, refresh, [study, seen], outputs, message, quietly=quietly)
