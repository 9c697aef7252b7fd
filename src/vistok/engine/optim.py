"""AdamW, with weight decay only where it belongs."""

from typing import Any

import torch
from torch import nn

from vistok.engine.config import OptimizerConfig


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return parameter groups: only weights of linear and conv layers decay.

    Biases, norms, embeddings and codebooks do not (their scale is either free or fixed by their use).
    """
    layers = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    decayed_ids = {id(layer.weight) for layer in module.modules() if isinstance(layer, layers)}
    parameters = list(module.parameters())
    groups = [
        {"params": [p for p in parameters if id(p) in decayed_ids], "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in decayed_ids], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def adamw(groups: list[dict[str, object]], config: OptimizerConfig) -> torch.optim.AdamW:
    """Return fused AdamW over parameter groups: on a CPU it takes a third of the time of torch's default."""
    parameters = [p for group in groups for p in group["params"]]  # type: ignore[attr-defined]
    fused = all(p.device.type != "meta" for p in parameters)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load a state, with the weights' memory layout: fused AdamW walks through all of them in step."""
    optimizer.load_state_dict(state)
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == weight.shape:
                values[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
