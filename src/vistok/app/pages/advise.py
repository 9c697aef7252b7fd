"""The page that advises: what to train for two purses, training compute and milliseconds for each image."""

import math
from typing import Any

import gradio as gr
from markupsafe import Markup

from vistok.app.events import block, listen, message_box
from vistok.app.frontier import advice_of, data_sets, findings, frontier_chart, known_studies, lines_of, words_of_budget
from vistok.app.parts import folded, joined, page, quiet, said, to_copy
from vistok.app.place import Place
from vistok.errors import in_digits
from vistok.study.findings.advice_source import advice_source
from vistok.study.findings.advise import advice_commands

STEPS = 200  # of the sliders


def advise_page(place: Place) -> None:
    """Lay out the page."""
    with gr.Tab("Advise", id="advise") as tab:
        with gr.Row():
            study = gr.Dropdown(
                [],
                label="Study",
                info="a folder of results, or a study that comes with vistok",
                allow_custom_value=True,
            )
            data = gr.Dropdown([], label="Data set")
        with gr.Row():
            # Of powers of ten, whose numbers nobody reads: what they mean is written below.
            budget = gr.Slider(0, 1, 0.5, step=1 / STEPS, label="Training budget", elem_classes="unread")
            limit = gr.Slider(
                0, 1, 1, step=1 / STEPS, label="Time for each image", elem_classes="unread", visible=False
            )
            measure = gr.Button("Measure this machine", scale=0, min_width=230)
        message = message_box()
        body = block()
        rate = gr.State(None)

    def refresh(
        study_name: str | None, chosen: str | None, share: float, fast: float, measured: float | None
    ) -> tuple[Any, ...]:
        known = known_studies(place.studies())
        study_name = study_name or known[0]
        sets = data_sets(study_name)
        chosen = chosen if chosen in sets else sets[0]
        return (
            gr.update(choices=known, value=study_name),
            gr.update(choices=sets, value=chosen),
            gr.update(visible=findings(study_name, chosen).milliseconds is not None),
            answer(study_name, chosen, share, fast, measured),
        )

    def time_here(study_name: str | None) -> float:
        from vistok.study.findings.measured_rate import measured_rate

        return measured_rate(advice_source(study_name))

    asked, shown = [study, data, budget, limit, rate], [study, data, limit, body]
    for event in (tab.select, study.input, data.input, rate.change, budget.change, limit.change):
        listen(event, refresh, asked, shown, message)
    listen(measure.click, time_here, [study], [rate], message, alone=True, once=True)


def answer(study: str, data: str, share: float, fast: float, measured: float | None) -> str:
    """Return the advice as HTML; `share` and `fast` are places on the sliders, 0...1. Raises UserError if nothing fits."""
    found = findings(study, data)
    flops = between(found.low, found.high, share)
    timed = found.milliseconds
    milliseconds = None if timed is None or fast >= 1 else between(*timed, fast)
    rate = measured or found.rate
    words = words_of_budget(flops, rate, measured is not None)
    if timed is not None:
        words += "; " + (
            "any time for an image" if milliseconds is None else f"at most {in_digits(milliseconds)} ms for each image"
        )
    advice = advice_of(found, flops, milliseconds)
    first, *more = lines_of(found, advice, measured, milliseconds)
    tone = "" if advice.supported else "warn"
    chart = frontier_chart(found.within(milliseconds).kept, flops).figure()
    commands = advice_commands(advice, found.source)
    train = [folded("The commands that train both", to_copy("\n".join(commands)))] if commands else []
    text = joined([quiet(words), said(first, tone), *map(quiet, more), *train])
    return page(Markup('<div class="columns"><div>{}</div>{}</div>').format(text, chart))


def between(low: float, high: float, share: float) -> float:
    """Return the number at a place between two others on a log scale."""
    return math.exp(math.log(low) + (math.log(high) - math.log(low)) * min(1.0, max(0.0, share)))
