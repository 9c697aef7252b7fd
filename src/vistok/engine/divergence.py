"""Diverging runs: which state is never saved, and where and how to continue from instead."""

import shlex
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.engine.checkpoint import is_weight, named_tensors, set_aside
from vistok.engine.checkpoint_files import finished, step_of
from vistok.engine.distributed import World
from vistok.engine.shards import is_sharded

# Larger weights have squares, and so norms and gradients, that are not finite in float32.
LARGEST = torch.finfo(torch.float32).max ** 0.5
DIVERGED = "diverged"


def exploded(state: dict[str, Any], world: World) -> list[str]:
    """Return what must not be saved: weights and EMA weights beyond `LARGEST`, and anything that is not finite.

    All processes take part, each with the parts of tensors that it holds.
    """
    local = {name: _local(tensor) for name, tensor in named_tensors(state).items()}
    local = {name: tensor for name, tensor in local.items() if tensor.is_floating_point() and tensor.numel()}
    if not local:
        return []
    sizes = torch._foreach_norm(list(local.values()), ord=float("inf"))
    exploding = []
    for name, size in zip(local, sizes, strict=True):
        largest = float(size)
        if not largest <= (LARGEST if is_weight(name) else torch.finfo(torch.float64).max):
            exploding.append(f"{name.lstrip('/')} (up to {largest:.2g})")
    return sorted({name for names in world.collect(exploding) for name in names})


def _local(tensor: Any) -> Tensor:
    return tensor.detach().to_local() if is_sharded(tensor) else tensor.detach()


def last_good(folder: Path, step: int, world: World) -> Path | None:
    """Return the newest checkpoint before `step`, where the run diverged, or None.

    A checkpoint of `step` itself would lead straight back here, so it is set aside in `diverged`.
    """
    checkpoints = finished(folder)
    for path in checkpoints:
        if step_of(path) == step and world.main:
            set_aside(path, DIVERGED)
    earlier = [path for path in checkpoints if step_of(path) < step]
    return earlier[-1] if earlier else None


def how_to_go_on(checkpoint: Path | None, lr: float, init_option: str) -> str:
    """Say what to add to the command; `init_option` starts a new run from a checkpoint's weights, if possible."""
    lower = f"--set optimizer.lr={lr / 10:.2g}"
    if checkpoint is None or not init_option:
        return (
            f"Last good checkpoint: {checkpoint or 'none yet'}. To train again at a lower learning rate, as a new run, add "
            f"to the command: {lower} (a longer optimizer.warmup or float32 precision may help too)"
        )
    return (
        f"Last good checkpoint: {checkpoint}. To continue from its weights at a lower learning rate, as a new run, add to "
        f"the command: {init_option} {shlex.quote(str(checkpoint))} {lower} (a longer optimizer.warmup or float32 precision "
        "may help too)"
    )
