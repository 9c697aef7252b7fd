"""FLOPs counted from what is executed, on the meta device: 2 per multiply-add, forward and backward."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(run: Callable[[], object]) -> float:
    """Return the FLOPs of matrix products, convolutions and attention that `run` executes.

    Attention is run by its plain matrix products, which every device counts alike.
    """
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        run()
    return float(counter.get_total_flops())


def paper_flops(params: int, num_steps: int, tokens_per_image: int) -> float:
    """Return 6 * params * steps * tokens per image, the CRT paper's plotted axis (no batch factor)."""
    return 6.0 * params * num_steps * tokens_per_image


def count_params(module: nn.Module) -> int:
    """Return the number of parameters, embeddings included."""
    return sum(parameter.numel() for parameter in module.parameters())


M = TypeVar("M", bound=nn.Module)


def on_meta(build: Callable[[], M]) -> M:
    """Build a module without memory or initial values."""
    with torch.device("meta"):
        return build()
