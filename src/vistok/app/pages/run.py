"""The page of one run, live: how it goes, stop it, train it again as its alarms advise."""

from typing import Any

import gradio as gr
from markupsafe import Markup

from vistok.app.advice_applied import advised_settings, again_with
from vistok.app.events import block, changed, listen, live, message_box
from vistok.app.parts import page, said
from vistok.app.place import Place
from vistok.app.queue import Queue
from vistok.errors import UserError
from vistok.overview.page import body_of
from vistok.overview.record import TRAINING, RunRecord
from vistok.runs.find import LATEST

SECONDS = 3.0


def run_page(place: Place, queue: Queue) -> gr.Dropdown:
    """Lay out the page; returns the choice of the run."""
    with gr.Tab("Run", id="run") as tab:
        with gr.Row():
            run = gr.Dropdown(
                [], label="Run", info="a name, a part of one, a path, or latest", allow_custom_value=True, scale=3
            )
            stop = gr.Button("Stop and save", visible=False, scale=1, min_width=140)
        with gr.Row(visible=False) as advice:
            setting = gr.Dropdown([], label="What the alarms advise", scale=3)
            apply = gr.Button("Train again with it", scale=1, min_width=140)
        message = message_box()
        body = block()
        seen = gr.State({})
        clock = live(SECONDS)

    def refresh(name: str | None, asked: str | None, seen: dict[str, Any]) -> tuple[Any, ...]:
        names = place.names()
        if not name and not names:
            empty = page(said("There are no runs yet. The page Train makes the first from a folder of images."))
            hidden = gr.update(visible=False)
            return gr.update(choices=[]), hidden, hidden, gr.skip(), changed(seen, "page", empty), seen
        name = name or names[0]
        record = RunRecord(place.find(name))
        advised = advised_settings(record)
        asked = asked if asked in advised else next(iter(advised), None)
        return (
            changed(seen, "runs", (names, name), gr.update(choices=[*names, LATEST], value=name)),
            gr.update(visible=record.state == TRAINING),
            gr.update(visible=bool(advised)),
            changed(seen, "advice", (advised, asked), gr.update(choices=advised, value=asked)),
            changed(seen, "page", shown(record)),
            seen,
        )

    def halt(name: str | None) -> tuple[()]:
        stop_run(place, queue, name)
        return ()

    def begin(name: str | None, asked: str | None) -> tuple[()]:
        record = RunRecord(place.find(name))
        if not asked:
            raise UserError(f"run {record.name} has no alarm whose advice is a setting")
        job = queue.add(f"{record.name} with {asked}", again_with(record, asked))
        gr.Info(f"Number {job.number} in the queue; the page Train shows it.")
        return ()

    outputs = [run, stop, advice, setting, body, seen]
    for event, quietly in ((clock.tick, True), (tab.select, False), (run.change, False)):
        listen(event, refresh, [run, setting, seen], outputs, message, quietly=quietly)
    listen(stop.click, halt, [run], [], message, once=True)
    listen(apply.click, begin, [run, setting], [], message, once=True)
    return run


def shown(record: RunRecord) -> str:
    """Return a run's page to be put into this one."""
    return page(Markup('<div data-page="{}">{}</div>').format(record.name, Markup(body_of(record))))


def stop_run(place: Place, queue: Queue, name: str | None) -> None:
    """Ask the process that trains a run to save and stop. Raises UserError if none does, or one that is not the app's."""
    path = place.find(name)
    record, job = RunRecord(path), queue.training(path)
    if job is not None:
        queue.stop(job.number)
        return
    if record.state == TRAINING:
        raise UserError(
            f"run {record.name} is trained by a process that this app did not start, so it cannot be stopped from here; press "
            "Ctrl-C in its terminal, and it saves and stops"
        )
    raise UserError(f"run {record.name} does not train now: it is {record.state}")
