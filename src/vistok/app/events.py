"""How the app's widgets and its functions are connected: a mistake becomes a sentence on the page, never a traceback."""

import sys
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import gradio as gr

from vistok.app.parts import page, said
from vistok.errors import UserError, reason

ALONE = "networks"  # what loads networks and computes with them runs one at a time


def block(clicks: str | None = None, visible: bool = True) -> gr.HTML:
    """Return a place for HTML with vistok's look; `clicks`: a script that turns clicks in it into events."""
    return gr.HTML(js_on_load=clicks, visible=visible, apply_default_css=False)


def message_box() -> gr.HTML:
    """Return the place for a page's messages; it takes no room while there is none."""
    return block(visible=False)


def changed(seen: dict[str, Any], name: str, value: Any, update: Any = None) -> Any:
    """Return a value to be shown, or an update that shows it; nothing to do where the page shows it already.

    `seen`: what the page shows, by name, and is brought up to date. Replacing what did not change would close lists and folds,
    and move what somebody reads.
    """
    if name in seen and seen[name] == value:
        return gr.skip()
    seen[name] = value
    return value if update is None else update


def live(seconds: float) -> gr.HTML:
    """Return a page's clock. It ticks in the browser, and only while the page can be seen."""
    script = (
        "const clock = setInterval(() => {"
        " if (!element.isConnected) clearInterval(clock);"
        " else if (element.offsetParent && !document.hidden) trigger('tick');"
        f" }}, {1000 * seconds:.0f});"
    )
    return gr.HTML(js_on_load=script, apply_default_css=False, elem_classes="clock")


def listen(
    event: Any, function: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any], message: gr.HTML,
    alone: bool = False, quietly: bool = False, once: bool = False, busy: gr.components.Component | None = None,
) -> Any:  # fmt: skip
    """Call a function on an event, with the values of `inputs`; what it returns, one value for each output, is shown.

    A UserError, or a failure of the machine, is shown as a message instead and the outputs stay as they are. `alone`: the
    function computes with networks. `quietly`: it is called by the clock, shows no progress and clears no message. Of events
    that come while it works, the last one is answered when it is done; with `once`, for buttons, and for ticks none is. `busy`:
    the widget that shows that it works, where not all of the outputs should.
    """
    return event(
        _told(function, len(outputs), quietly), list(inputs), [message, *outputs], api_visibility="private",
        show_progress="hidden" if quietly else "minimal", trigger_mode="once" if once or quietly else "always_last",
        show_progress_on=busy,
        **({"concurrency_id": ALONE, "concurrency_limit": 1} if alone else {}),
    )  # fmt: skip


def _told(function: Callable[..., Any], count: int, quietly: bool) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any) -> tuple[Any, ...]:
        try:
            result = function(*arguments)
        except Exception as error:  # whatever it is, the page says so
            box = gr.update(value=page(said(sentence(error), "bad")), visible=True)
            return (box, *[gr.skip()] * count)
        box = gr.skip() if quietly else gr.update(value="", visible=False)
        return (box, *(result if count > 1 else [result] * count))

    return call


def sentence(error: Exception) -> str:
    """Return what a page says of an error; that of a bug is printed to the terminal."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'the machine'}: {error.strerror}"
    traceback.print_exception(error, file=sys.stderr)
    return f"this is a bug in vistok ({reason(error)}); please report it with the lines in the terminal of vistok app"
