"""The averaged weights in a checkpoint of a run that is not finished."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from vistok.engine.checkpoint import load_checkpoint, problem_of
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import weights_digest
from vistok.errors import UserError


def is_checkpoint(path: str | Path) -> bool:
    """Whether a path is named as the checkpoints of a run are."""
    return re.fullmatch(r"step-\d+\.(safetensors|shards)", Path(path).name) is not None


def read_checkpoint(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the averaged weights in a checkpoint, and the `config` and `digest` that an exported file has in its header.

    Raises UserError where it is not sound, lies outside its run, or is of another kind.
    """
    if problem := problem_of(path):
        raise UserError(f"checkpoint {path} {problem}; name another one of {path.parent}")
    run = RunDir(path.resolve().parent.parent)
    config = run.read_config()
    if config.get("kind") != kind:
        raise UserError(f"checkpoint {path} is of a {config.get('kind')}, not of a {kind}")
    _, state = load_checkpoint(path)
    weights = state["emas"][kind]
    return weights, {"model": kind, "config": config[kind], "digest": weights_digest(weights)}
