"""A run that diverges: which state is never saved, what it can go on from, and how."""

import shlex
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.engine.checkpoint import finished, is_weight, named_tensors, set_aside, step_of
from vistok.engine.distributed import World
from vistok.engine.shards import is_sharded

# The squares of larger weights are not finite in float32, so no norm and no gradient of them is.
LARGEST = torch.finfo(torch.float32).max ** 0.5
DIVERGED = "diverged"


def exploded(state: dict[str, Any], world: World) -> list[str]:
    """Return what of a state must not be saved: weights and averages beyond `LARGEST`, anything that is not finite.

    All processes take part, each with the parts of tensors that it holds.
    """
    own = {name: _local(tensor) for name, tensor in named_tensors(state).items()}
    own = {name: tensor for name, tensor in own.items() if tensor.is_floating_point() and tensor.numel()}
    if not own:
        return []
    sizes = torch._foreach_norm(list(own.values()), ord=float("inf"))
    found = []
    for name, size in zip(own, sizes, strict=True):
        largest = float(size)
        if not largest <= (LARGEST if is_weight(name) else torch.finfo(torch.float64).max):
            found.append(f"{name.lstrip('/')} (up to {largest:.2g})")
    return sorted({name for names in world.collect(found) for name in names})


def _local(tensor: Any) -> Tensor:
    return tensor.detach().to_local() if is_sharded(tensor) else tensor.detach()


def last_good(folder: Path, step: int, world: World) -> Path | None:
    """Return the newest checkpoint from which a step's loss was finite, where that of `step` was not.

    A checkpoint of `step` itself leads straight back here and is set aside in `diverged`.
    """
    found = finished(folder)
    for path in found:
        if step_of(path) == step and world.main:
            set_aside(path, DIVERGED)
    earlier = [path for path in found if step_of(path) < step]
    return earlier[-1] if earlier else None


def how_to_go_on(checkpoint: Path | None, lr: float, init_option: str) -> str:
    """Return what to add to the command; `init_option` begins a new run from a checkpoint's weights, where one can."""
    lower = f"--set optimizer.lr={lr / 10:.2g}"
    if checkpoint is None or not init_option:
        return (
            f"Last good checkpoint: {checkpoint or 'none yet'}. To train again at a lower rate, as a new run, add to the "
            f"command: {lower} (a longer optimizer.warmup, or float32 precision, may help too)"
        )
    return (
        f"Last good checkpoint: {checkpoint}. To go on from its weights at a lower rate, as a new run, add to the command: "
        f"{init_option} {shlex.quote(str(checkpoint))} {lower} (a longer optimizer.warmup, or float32 precision, may help "
        "too)"
    )
