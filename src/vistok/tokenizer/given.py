"""What a tokenizer is given from outside: tensors or arrays of the right type; anything else is refused by name."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistok.errors import UserError
from vistok.space import Space


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


def _plain(array: np.ndarray, noun: str) -> None:
    if array.dtype.kind not in "fiub":
        raise UserError(f"{noun} of {array.dtype}: not numbers; give an array of numbers of one shape")


def _list_advice(value: Any) -> str:
    return "; use torch.stack(images)" if isinstance(value, list | tuple) else ""
