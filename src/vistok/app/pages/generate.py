"""The page that draws: one generator, or two side by side with the same seed."""

from typing import Any, get_args

import gradio as gr

from vistok.app.drawing import MOST, draw, told
from vistok.app.events import block, listen, message_box
from vistok.app.neighbours import beside, nearest_training_images
from vistok.app.networks import Networks
from vistok.app.parts import heading, page, said
from vistok.app.place import Place
from vistok.app.wish import OFFERED, Wish, fields_of
from vistok.errors import UserError
from vistok.nn.solver_names import SolverName

SOLVERS = [("the generator's own", ""), *((name, name) for name in get_args(SolverName))]
LARGEST_SEED = 2**31 - 1
MOST_STEPS = 250


def generate_page(place: Place, networks: Networks) -> None:
    """Lay out the page."""
    with gr.Tab("Generate", id="generate") as tab:
        with gr.Row():
            run = gr.Dropdown(
                [], label="Generator", info="a run, a path, or a pair that comes with vistok", allow_custom_value=True
            )
            other = gr.Dropdown(
                [], label="Beside it", info="another generator, drawn with the same seed", allow_custom_value=True
            )
        with gr.Row():
            classes = gr.Dropdown([], multiselect=True, label="Classes", info="none: all in turn", scale=2)
            count = gr.Slider(1, MOST, 20, step=1, label="Images", scale=1)
            seed = gr.Number(0, precision=0, minimum=0, maximum=LARGEST_SEED, label="Seed", scale=1, min_width=100)
        with gr.Row():
            guidance = gr.Slider(0, 8, 1, step=0.1, label="Guidance", info="1 is off")
            fields = _fields()
        with gr.Row():
            go = gr.Button("Draw", variant="primary")
            another = gr.Button("Another seed")
            near = gr.Button("Nearest training images")
        message = message_box()
        with gr.Row(elem_classes="pair"):
            first, second = block(), block(visible=False)

    asked = [run, other, classes, count, seed, guidance, *fields]

    def offer(name: str | None) -> tuple[Any, ...]:
        names = place.names("generator")
        return gr.update(choices=names, value=name or names[0]), gr.update(choices=["", *names])

    def facts(name: str | None) -> tuple[Any, ...]:
        from vistok.runs.drawing import usual_sampling

        generator = networks.generator(place.find(name, "generator"))
        info, offered = generator.info, fields_of(generator.config.kind)
        shown = [gr.update(visible=field in offered, **_range(generator, field)) for field in OFFERED]
        choices = [(text, number) for number, text in enumerate(info.class_names)]
        usual = usual_sampling(generator).guidance_scale
        return gr.update(choices=choices, value=[], visible=len(choices) > 1), usual, *shown

    def pictures(*values: Any) -> tuple[Any, ...]:
        drawn = [_told(wish, place, networks) for wish in wishes(*values)]
        return page(drawn[0]), gr.update(value=page(*drawn[1:]), visible=len(drawn) > 1)

    def pictures_of_next(*values: Any) -> tuple[Any, ...]:
        following = (int(values[4] or 0) + 1) % LARGEST_SEED
        return following, *pictures(*values[:4], following, *values[5:])

    def neighbours(*values: Any) -> tuple[Any, ...]:
        shown = [_nearest(wish, place, networks) for wish in wishes(*values)]
        return page(shown[0]), gr.update(value=page(*shown[1:]), visible=len(shown) > 1)

    listen(tab.select, offer, [run], [run, other], message)
    listen(run.change, facts, [run], [classes, guidance, *fields], message, alone=True, busy=run)
    listen(go.click, pictures, asked, [first, second], message, alone=True, once=True)
    listen(another.click, pictures_of_next, asked, [seed, first, second], message, alone=True, once=True)
    listen(near.click, neighbours, asked, [first, second], message, alone=True, once=True)


def _fields() -> list[Any]:
    """Return the widgets of the fields in `OFFERED`, in that order."""
    return [
        gr.Slider(0, 2, 1, step=0.05, label="Temperature", info="0: the most likely token"),
        gr.Slider(0, 1000, 0, step=1, label="Top-k", info="0: all tokens"),
        gr.Slider(0.05, 1, 1, step=0.01, label="Top-p", info="1: all tokens"),
        gr.Slider(1, MOST_STEPS, 50, step=1, label="Steps", visible=False),
        gr.Dropdown(SOLVERS, value="", label="Solver", visible=False),
    ]


def _range(generator: Any, field: str) -> dict[str, Any]:
    """Return where a field of another generator begins: its usual steps, at most one for each token, and its own solver."""
    from vistok.runs.drawing import usual_sampling

    if field == "solver":
        return {"value": ""}
    if field != "steps" or field not in fields_of(generator.config.kind):
        return {}
    space, usual = generator.space, usual_sampling(generator)
    most = space.layout.positions if space.kind == "tokens" else MOST_STEPS
    return {"value": getattr(usual, "steps", None) or generator.calls(usual), "maximum": most}


def wishes(
    run: str | None, other: str | None, classes: list[int] | None, count: float, seed: float | None, guidance: float, *fields: Any
) -> list[Wish]:  # fmt: skip
    """Return what the page's widgets ask for, of one generator or of two. Raises UserError if none is chosen."""
    if not run:
        raise UserError("choose a generator first")
    temperature, top_k, top_p, steps, solver = fields
    options = {
        "temperature": float(temperature),
        "top_k": int(top_k) or None,
        "top_p": None if top_p >= 1 else float(top_p),
        "steps": int(steps),
        "solver": solver or None,
    }
    rest = (tuple(map(int, classes or ())), int(count), int(seed or 0), round(float(guidance), 4), options)
    return [Wish(name, *rest) for name in (run, other) if name]


def _told(wish: Wish, place: Place, networks: Networks) -> str:
    return heading(wish.run) + told(draw(wish, place.find(wish.run, "generator"), networks))


def _nearest(wish: Wish, place: Place, networks: Networks) -> str:
    drawn = draw(wish, place.find(wish.run, "generator"), networks)
    try:
        return heading(wish.run) + beside(drawn, nearest_training_images(drawn, networks))
    except UserError as error:
        return heading(wish.run) + said(str(error), "warn") + told(drawn)
