"""FLOPs, counted by running the operations on the meta device: 2 per multiply-add, forward and backward."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vistok.nn.counting import Counting


def count_flops(run: Callable[[], object]) -> float:
    """Return the FLOPs of matrix products, convolutions and attention that `run` executes.

    Attention runs as plain matrix products, so that every device gives the same count.
    """
    with sdpa_kernel(SDPBackend.MATH), Counting() as counting:
        run()
    return float(counting.flops)


def paper_flops(params: int, num_steps: int, tokens_per_image: int) -> float:
    """Return 6 * params * steps * tokens per image: the axis of the CRT paper's plots, which omits the batch size."""
    return 6.0 * params * num_steps * tokens_per_image


def count_params(module: nn.Module) -> int:
    """Return the number of parameters, embeddings included."""
    return sum(parameter.numel() for parameter in module.parameters())


M = TypeVar("M", bound=nn.Module)


def on_meta(build: Callable[[], M]) -> M:
    """Build a module on the meta device: without memory and without initial values."""
    with torch.device("meta"):
        return build()
