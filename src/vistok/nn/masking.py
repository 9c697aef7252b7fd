"""Masked tokens: how many at which progress, and which of an image's, by keys alone."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vistok.rng import stream_of, uniform_grid

# The share of masked tokens at progress u in [0, 1]: from 1 to 0 (MaskGIT, section 3.4; arccos: TiTok's code).
SCHEDULES: dict[str, Callable[[Tensor], Tensor]] = {
    "arccos": lambda u: u.acos() / (math.pi / 2),
    "cosine": lambda u: (u * (math.pi / 2)).cos(),
    "linear": lambda u: 1 - u,
    "square": lambda u: 1 - u * u,
}
GOLDEN = 0x9E3779B9  # 2^32 times the golden ratio's fractional part
# Against products that are a whole number but for rounding.
ROUNDING = 1e-9


def even_progress(seed: int, positions: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Return numbers in [0, 1] for places in the stream of training images: neighbours are spread evenly.

    Multiples of the golden ratio: the loss of a batch then varies less than with independent numbers (as in variational
    diffusion models, Kingma et al. 2021, section 5.1), and a number still depends on its place alone.
    """
    bits = (positions * GOLDEN + stream_of(seed, "share")) & (2**32 - 1)
    return bits.to(torch.float32) / 2**32


def masked_counts(share: Float[Tensor, "*batch"], num_tokens: int) -> Int[Tensor, "*batch"]:
    """Return how many tokens a share of them is: the nearest number, and at least one."""
    return (num_tokens * share).round().long().clamp(1, num_tokens)


def masks(
    seed: int, keys: Int[Tensor, "batch"], counts: Int[Tensor, "batch"], num_tokens: int
) -> Bool[Tensor, "batch positions"]:
    """Return which tokens of each image are masked: `counts` of them, chosen by seed and key alone."""
    ranks = uniform_grid(seed, keys, 0, num_tokens, "mask").argsort(dim=1).argsort(dim=1)
    return ranks < counts[:, None]


def mean_share(schedule: str, num_tokens: int) -> float:
    """Return the expected share of masked tokens in training."""
    even = (torch.arange(10_000, dtype=torch.float64, device="cpu") + 0.5) / 10_000
    return float(masked_counts(SCHEDULES[schedule](even), num_tokens).double().mean()) / num_tokens


def still_masked(schedule: str, steps: int, num_tokens: int) -> list[int]:
    """Return how many tokens are masked before the first step and after each: from all to none.

    The schedule's share of all tokens, rounded down; but each step fills at least one, and leaves one for each that follows.
    """
    progress = torch.arange(1, steps + 1, dtype=torch.float64, device="cpu") / steps
    wanted = (num_tokens * SCHEDULES[schedule](progress) + ROUNDING).floor().long().tolist()
    left = [num_tokens]
    for step, count in enumerate(wanted, start=1):
        left.append(min(left[-1] - 1, max(steps - step, count)) if step < steps else 0)
    return left
