"""Which run is meant: a run itself, its path, a unique part of its name, or the latest."""

from pathlib import Path
from typing import Any

from vistok.errors import UserError
from vistok.python.run import Run


def run(text: "str | Path | Run" = "latest", kind: str | None = None, runs: str | Path = "runs") -> Run:
    """Return a run: "latest", a unique part of a name, or a path. `kind`: "tokenizer", "generator" or "classifier" alone.

    `runs`: the folder to look in. Example: `vistok.run("latest", kind="generator").sample()`. Raises UserError if there is no
    such run, or several.
    """
    return text if isinstance(text, Run) else Run(find(text, kind, Path(runs)))


def find(text: str | Path, kind: str | None, runs: Path) -> Path:
    """Return a run's directory. Raises UserError if there is no such run, or several."""
    if Path(text).is_dir() and (Path(text) / "config.json").is_file():
        return Path(text)
    raise UserError(f"run {text}: not found")


def model_path(model: Any, kind: str) -> Path:
    """Return the run directory or weights file that is meant: of a run, a path, or a part of a run's name."""
    if isinstance(model, Run):
        return model.path
    if not isinstance(model, str | Path):
        raise UserError(f"{kind}: a {type(model).__name__}; give a run, its path, or a part of its name")
    return Path(model) if Path(model).exists() else find(model, kind, Path("runs"))
