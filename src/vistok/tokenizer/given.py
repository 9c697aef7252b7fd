"""What a tokenizer is given from outside: tensors or arrays of the right type; anything else is refused by name."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistok.errors import UserError
from vistok.nn.finite import rows_not_finite
from vistok.space import Space, Tokens

# Interpolation overshoots a little; values of 0...255 and standardized images lie far outside.
FARTHEST = 1.5
# Pixels encoded or decoded at once, so that memory does not grow with the batch: 16 images of 256x256, whose widest
# layer then takes 0.5 GB. On a CPU a quarter of that, which is just as fast (benchmarks/parts.py).
CPU_PIXELS, PIXELS = 2**18, 2**20


def images_given(images: Any, channels: int) -> Tensor:
    """Return images (batch channels height width) as a tensor, as float32. Raises UserError for other things than floats.

    Values and sizes are left for the tokenizer to check.
    """
    if isinstance(images, np.ndarray):
        _plain(images, "images")
        images = torch.from_numpy(images.copy())
    if not isinstance(images, Tensor):
        raise UserError(
            f"images of type {type(images).__name__}: this tokenizer takes a tensor or an array of floats in [-1, 1], (batch, "
            f"{channels}, height, width){_list_advice(images)}"
        )
    if images.ndim != 4:
        more = "; give one image as images[None]" if images.ndim == 3 else ""
        raise UserError(f"images {tuple(images.shape)}: this tokenizer takes (batch, {channels}, height, width){more}")
    if images.shape[1] != channels and images.shape[3] == channels:
        raise UserError(
            f"images {tuple(images.shape)}: channels come second here, (batch, {channels}, height, width); use "
            "images.permute(0, 3, 1, 2), or images.transpose(0, 3, 1, 2) for an array"
        )
    if not images.is_floating_point():
        raise UserError(f"images of {images.dtype}: this tokenizer takes floats in [-1, 1]; use images / 127.5 - 1")
    return images.float()


def latents_given(latents: Any, space: Space) -> Tensor:
    """Return latents (batch, *space.shape) as a tensor. Raises UserError for other things, and for numbers of the wrong type."""
    tokens = space.kind == "tokens"
    noun = "tokens" if tokens else "latents"
    if isinstance(latents, list | tuple) and not any(isinstance(part, Tensor) for part in latents):
        latents = np.asarray(latents)
    if isinstance(latents, np.ndarray):
        _plain(latents, noun)
        latents = torch.from_numpy(latents.copy())
    if not isinstance(latents, Tensor):
        raise UserError(
            f"{noun} of type {type(latents).__name__}: this tokenizer takes a tensor or an array (batch, "
            f"{', '.join(map(str, space.shape))}){_list_advice(latents)}"
        )
    if tokens and (latents.is_floating_point() or latents.is_complex() or latents.dtype == torch.bool):
        raise UserError(f"tokens of {latents.dtype}: tokens are whole numbers; use tokens.long()")
    if not tokens and not latents.is_floating_point():
        raise UserError(
            f"latents of {latents.dtype}: this tokenizer's latents are vectors of floats; use latents.float()"
        )
    return latents.long() if tokens else latents.float()


def check_values(images: Tensor) -> None:
    """Raise UserError for values that must be a mistake: a NaN would quietly become a code like any other."""
    if not images.is_floating_point():
        raise UserError(f"images of {images.dtype}: this tokenizer takes floats in [-1, 1]; use images / 127.5 - 1")
    if not images.numel():
        return
    low, high = (float(value) for value in torch.aminmax(images))
    if not math.isfinite(low + high):
        raise UserError("images hold values that are not finite (NaN or infinity); find out where they come from")
    if low < -FARTHEST or high > FARTHEST:
        raise UserError(
            f"images must lie in [-1, 1], found {low:g}...{high:g}; use images / 127.5 - 1 for values of 0...255"
        )


def finite(z_e: Tensor) -> Tensor:
    """Return the encoder's outputs. Raises UserError if some are not finite: a NaN would quietly become a code like any other."""
    if bad := rows_not_finite(z_e):
        raise UserError(
            f"the tokenizer's encoder gives NaN or infinity for {bad} of {len(z_e)} images: its "
            "weights are damaged or their training diverged; train it again, or give another file"
        )
    return z_e


def check_numbers(latents: Tensor, space: Space) -> None:
    """Raise UserError for integers that are no code's number, and for vectors that are not finite."""
    if not isinstance(space, Tokens):
        if bad := rows_not_finite(latents):
            raise UserError(
                f"latents hold values that are not finite (NaN or infinity), in {bad} of {len(latents)} rows; find out where they "
                "come from"
            )
    elif latents.numel():
        low, high = int(latents.min()), int(latents.max())
        if not 0 <= low <= high < space.codebook_size:
            raise UserError(f"tokens must lie in 0...{space.codebook_size - 1}, found {low}...{high}")


def images_at_once(device: torch.device, height: int, width: int) -> int:
    """Return how many images of a size are encoded or decoded at once."""
    return max(1, (CPU_PIXELS if device.type == "cpu" else PIXELS) // (height * width))


def _plain(array: np.ndarray, noun: str) -> None:
    if array.dtype.kind not in "fiub":
        raise UserError(f"{noun} of {array.dtype}: not numbers; give an array of numbers of one shape")


def _list_advice(value: Any) -> str:
    return "; use torch.stack(images)" if isinstance(value, list | tuple) else ""
