"""AdamW with weight decay only where it belongs."""

import torch
from torch import nn

from vistok.engine.config import OptimizerConfig


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Return parameter groups: weights of linear and conv layers decay, nothing else does.

    Not: biases, norms, embeddings and codebooks (their scale is either free or fixed by use).
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
    """Return AdamW over parameter groups."""
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
