"""The page that trains: from a folder of images to a plan, and from the plan into the queue."""

import os
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from vistok.app.events import block, changed, listen, live, message_box
from vistok.app.parts import heading, page, quiet, said
from vistok.app.place import Place
from vistok.app.queue import Job, Queue
from vistok.app.queue_view import queue_list
from vistok.errors import UserError

SECONDS = 2.0
TIMES = ["10m", "30m", "1h", "2h", "8h"]
CLICKS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-job]');
  if (button) trigger('click', { job: Number(button.dataset.job), action: button.dataset.do });
});
"""


def train_page(place: Place, queue: Queue) -> None:
    """Lay out the page."""
    with gr.Tab("Train", id="train") as tab:
        with gr.Row():
            folder = gr.Textbox(
                label="Folder of images", info="on this machine: a sub-folder for each class, or all together", scale=3,
                placeholder="~/photos",
            )  # fmt: skip
            time = gr.Dropdown(
                TIMES, value="30m", label="Time", info="as in 30m or 2h", allow_custom_value=True, scale=1
            )
        with gr.Row():
            look = gr.Button("Look and plan")
            go = gr.Button("Train", variant="primary")
        message = message_box()
        plan = block()
        jobs = block(CLICKS)
        seen = gr.State({})
        clock = live(SECONDS)

    def refresh(seen: dict[str, Any]) -> tuple[Any, ...]:
        return changed(seen, "queue", page(heading("Queue"), queue_list(queue))), seen

    def act(seen: dict[str, Any], event: gr.EventData) -> tuple[Any, ...]:
        actions = {"stop": queue.stop, "again": queue.again, "remove": queue.remove}
        actions[str(event.action)](int(event.job))  # type: ignore[attr-defined]
        return refresh(seen)

    def enqueue(name: str, wanted: str, seen: dict[str, Any]) -> tuple[Any, ...]:
        train_folder(queue, place, name, wanted)
        return refresh(seen)

    listen(
        look.click,
        lambda name, wanted: plan_of(place, name, wanted),
        [folder, time],
        [plan],
        message,
        alone=True,
        once=True,
    )
    listen(go.click, enqueue, [folder, time, seen], [jobs, seen], message, once=True)
    listen(jobs.click, act, [seen], [jobs, seen], message)
    listen(clock.tick, refresh, [seen], [jobs, seen], message, quietly=True)
    listen(tab.select, refresh, [seen], [jobs, seen], message, quietly=True)


def folder_named(text: str) -> str:
    """Return a folder as it is named, with its `~` expanded. Raises UserError if there is none."""
    folder = os.path.expanduser(text.strip())
    if not folder:
        raise UserError("name a folder of images first, as in ~/photos")
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: there is no such folder on this machine")
    return folder


def plan_of(place: Place, name: str, wanted: str) -> str:
    """Return what `vistok start` plans for a folder and a time. Raises UserError where it does."""
    from vistok.start.go import prepare_start
    from vistok.start.plan import lines, seconds_of

    warnings: list[str] = []
    plan, look = prepare_start(folder_named(name), seconds_of(wanted), place.runs, warnings.append)
    first, *more = lines(plan, look, place.runs)
    know = [*(_capital(line.removeprefix("warning: ")) for line in warnings), *look.remarks]
    more = more[len(look.remarks) :]
    return page(said(first), *(said(line, "warn") for line in know), Markup("<pre>{}</pre>").format("\n".join(more)), quiet(
        "Train carries this out: tokenizer, generator, samples, scores."
    ))  # fmt: skip


def _capital(line: str) -> str:
    return line[:1].upper() + line[1:]


def train_folder(queue: Queue, place: Place, name: str, wanted: str) -> Job:
    """Queue `vistok start --go` for a folder and a time. Raises UserError for a folder that there is not, or a bad time."""
    from vistok.start.plan import seconds_of

    folder, wanted = folder_named(name), wanted.strip()
    seconds_of(wanted)
    return queue.add(f"{folder} in {wanted}", ["start", folder, "--go", wanted, "--runs", str(place.runs)])
