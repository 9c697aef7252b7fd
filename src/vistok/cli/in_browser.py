"""vistok app: everything in a browser on this machine."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from vistok.cli.options import Runs, path, say
from vistok.errors import Stopped, UserError


def app_command(
    runs: Runs = Path("runs"),
    results: Annotated[Path, typer.Option("--results", parser=path, help="Folder of studies' results.")] = Path(
        "results"
    ),
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; default: the first free one from 7860.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
) -> None:
    """Look, draw, compare and train in a browser, on this machine only; Ctrl-C closes it."""
    if find_spec("gradio") is None:
        raise UserError("vistok app needs Gradio, which is not installed: pip install 'vistok[app]'")
    from vistok.app.place import Place
    from vistok.app.serve import serve

    def told(address: str) -> None:
        say(f"vistok app: {address} (Ctrl-C closes it; a training that it runs saves and stops)")
        if open_page:
            typer.launch(address)

    try:
        serve(Place(runs, results), port, told)
    except Stopped:
        say("closed")
