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
    """Return the app with all pages. A page's clock ticks only while the page is shown."""
    networks = Networks()
    with gr.Blocks(analytics_enabled=False, title="vistok", fill_width=True) as blocks:
        with gr.Tabs(selected="runs", overflow_behavior="wrap") as tabs:
            runs, runs_clock, table = runs_page(place)
            run, run_clock, chosen = run_page(place, queue)
            generate = generate_page(place, networks)
            reconstruct = reconstruct_page(place, networks)
            compare = compare_page(place)
            advise = advise_page(place)
            study, study_clock = study_page(place)
            train, train_clock = train_page(place, queue)
        clocks = {runs: runs_clock, run: run_clock, study: study_clock, train: train_clock}
        every: list[Any] = list(clocks.values())

        def only(shown: Any) -> Any:
            return lambda: [gr.Timer(active=clock is clocks.get(shown)) for clock in every]

        for tab in (runs, run, generate, reconstruct, compare, advise, study, train):
            tab.select(only(tab), None, every, api_visibility="private", show_progress="hidden")

        def open_run(event: gr.EventData) -> tuple[Any, ...]:
            return gr.Tabs(selected="run"), event.run, *(gr.Timer(active=clock is run_clock) for clock in every)  # type: ignore[attr-defined]

        table.submit(open_run, None, [tabs, chosen, *every], api_visibility="private", show_progress="hidden")
        blocks.load(only(runs), None, every, api_visibility="private", show_progress="hidden")
    return blocks
