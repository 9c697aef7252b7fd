"""Read the EMA weights from a checkpoint of an unfinished run."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from vistok.engine.checkpoint import load_checkpoint, problem_of
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import weights_digest
from vistok.errors import UserError


def is_checkpoint(path: str | Path) -> bool:
    """Whether a path is named like a run's checkpoint."""
    return re.fullmatch(r"step-\d+\.(safetensors|shards)", Path(path).name) is not None


def read_checkpoint(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the EMA weights in a checkpoint, with the `config` and `digest` that an exported file has in its header.

    Raises UserError if it is damaged, lies outside its run, or holds another kind of network.
    """
    if problem := problem_of(path):
        raise UserError(f"checkpoint {path} {problem}; choose another one from {path.parent}")
    run = RunDir(path.resolve().parent.parent)
    config = run.read_config()
    if config.get("kind") != kind:
        raise UserError(f"checkpoint {path} is from a {config.get('kind')} run, not from a {kind} run")
    _, state = load_checkpoint(path)
    weights = state["emas"][kind]
    return weights, {"model": kind, "config": config[kind], "digest": weights_digest(weights)}
