"""The app's window: its pages side by side, and what leads from one to another."""

from typing import Any

import gradio as gr

from vistok.app.networks import Networks
from vistok.app.pages.advise import advise_page
from vistok.app.pages.compare import compare_page
from vistok.app.pages.generate import generate_page
from vistok.app.pages.reconstruct import reconstruct_page
from vistok.app.pages.run import run_page
from vistok.app.pages.runs import runs_page
from vistok.app.pages.study import study_page
from vistok.app.pages.train import train_page
from vistok.app.place import Place
from vistok.app.queue import Queue


def window(place: Place, queue: Queue) -> gr.Blocks:
    """Return the app with all pages."""
    networks = Networks()
    with gr.Blocks(analytics_enabled=False, title="vistok", fill_width=True) as blocks:
        with gr.Tabs(selected="runs", overflow_behavior="wrap") as tabs:
            table = runs_page(place)
            chosen = run_page(place, queue)
            generate_page(place, networks)
            reconstruct_page(place, networks)
            compare_page(place)
            advise_page(place)
            study_page(place)
            train_page(place, queue)

        def open_run(event: gr.EventData) -> tuple[Any, str]:
            return gr.Tabs(selected="run"), str(event.run)  # type: ignore[attr-defined]

        table.submit(open_run, None, [tabs, chosen], api_visibility="private", show_progress="hidden")
    return blocks
