"""Which run is meant: a run itself, its path, a unique part of its name, the latest, or a network that comes with vistok."""

from pathlib import Path
from typing import Any

from vistok.errors import UserError
from vistok.python.run import Run
from vistok.runs.find import find_run


def run(text: "str | Path | Run" = "latest", kind: str | None = None, runs: str | Path = "runs") -> Run:
    """Return the run that `text` means: "latest", a unique part of its name, or its path. `kind`: "tokenizer", "generator" or "classifier" alone.

    `runs`: the folder to look in. Example: `vistok.run("latest", kind="generator").sample()`. Raises UserError if there is no
    such run, or several.
    """
    return text if isinstance(text, Run) else Run(find_run(text, kind, Path(runs)))


def model_path(model: Any, kind: str | None = None, runs: Path = Path("runs")) -> Path:
    """Return the run directory or weights file that is meant: of a run, a path, or any name that `find_run` knows."""
    if isinstance(model, Run):
        return model.path
    if not isinstance(model, str | Path):
        raise UserError(f"{kind or 'run'} of type {type(model).__name__}; give a run, its path, or a part of its name")
    return find_run(model, kind, runs)
