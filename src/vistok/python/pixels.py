"""Pixels as Python holds them (arrays, tensors, Pillow's pictures), as uint8; anything else is refused by name."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vistok.data.images.image_file import BadImage, pixels_of
from vistok.errors import UserError

_CHANNELS = (1, 3)
_WANTED = "vistok takes uint8, 0...255"


def image_pixels(item: Any, what: str) -> np.ndarray:
    """Return one image as uint8 (height, width, channels), with 1 or 3 channels.

    `item`: a Pillow picture of any mode, or uint8 values: an array (height, width[, channels]) or a tensor ([channels,]
    height, width), where the other order is understood too. `what` names the image in messages. Raises UserError for
    anything else.
    """
    if isinstance(item, Image.Image):
        try:
            return pixels_of(item)
        except BadImage as error:
            raise UserError(f"{what}: {error}") from None
    if not isinstance(item, np.ndarray | Tensor):
        raise UserError(
            f"{what} is of type {type(item).__name__}; an image is a Pillow picture, or uint8 values (height, width, channels); for "
            "image files give the path of their folder"
        )
    array = _checked(item, what, "image")
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim == 3:
        return _channels_last(array[None], isinstance(item, Tensor), what, array.shape)[0]
    raise UserError(f"{what} has the shape {array.shape}; an image is (height, width) or (height, width, channels)")


def batch_pixels(images: np.ndarray | Tensor, what: str) -> np.ndarray:
    """Return images as uint8 (count, height, width, channels), from (count, height, width) or with channels on either side.

    Arrays have their channels last where both sides could be channels, tensors first. Raises UserError for other shapes
    and types.
    """
    array, is_tensor = _checked(images, what, "images"), isinstance(images, Tensor)
    if array.ndim == 3:
        if array.shape[0 if is_tensor else 2] in _CHANNELS:
            raise UserError(
                f"{what} of shape {array.shape} may be one image or several; give one as images[None], several grey ones as "
                f"images[:, {'None' if is_tensor else ':, :, None'}]"
            )
        return array[:, :, :, None]
    if array.ndim == 4:
        return _channels_last(array, is_tensor, what, array.shape)
    raise UserError(
        f"{what} have the shape {array.shape}; wanted (count, height, width), (count, height, width, channels) or (count, "
        "channels, height, width)"
    )


def _channels_last(images: np.ndarray, first: bool, what: str, shape: tuple[int, ...]) -> np.ndarray:
    for axis in (1, 3) if first else (3, 1):
        if images.shape[axis] in _CHANNELS:
            return np.moveaxis(images, axis, 3)
    if images.shape[3] == 4 or images.shape[1] == 4:
        alpha = "images[:, :3]" if images.shape[1] == 4 else "images[..., :3]"
        raise UserError(f"{what}: shape {shape}, with a fourth channel; leave out transparency: {alpha}")
    raise UserError(f"{what}: shape {shape}, in which neither end is 1 or 3 channels (grey or colour)")


def _checked(images: np.ndarray | Tensor, what: str, noun: str) -> np.ndarray:
    """Return the values as an array. Raises UserError if they are not uint8, or if there are none; `noun`: what to call them."""
    as_tensor = isinstance(images, Tensor)
    array = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
    if array.dtype == object:
        raise UserError(f"{what}: an array of Python objects; give images of different sizes as a list")
    if not array.size:
        raise UserError(f"{what}: empty, of shape {array.shape}; give at least one image")
    if array.dtype != np.uint8:
        raise UserError(f"{what}: {_other_type(array, noun, as_tensor)}")
    return array


def _other_type(array: np.ndarray, noun: str, as_tensor: bool) -> str:
    """Say what values of another type than uint8 are, and how to convert them."""
    cast = ".to(torch.uint8)" if as_tensor else '.astype("uint8")'
    if array.dtype.kind not in "bfiu":
        return f"{array.dtype}; {_WANTED}"
    low, high = float(array.min()), float(array.max())
    found = f"{array.dtype} from {low:g} to {high:g}; {_WANTED}"
    if not np.isfinite([low, high]).all():
        return f"{array.dtype} with {'NaN' if np.isnan(low) else 'infinite values'}; find out where these come from. {_WANTED}"
    if array.dtype.kind == "b":
        return f"bool; {_WANTED}: {noun}{cast} * 255"
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return f"{found}: ({noun} * 255).round(){cast}"
    if array.dtype.kind == "f" and low >= -1 and high <= 1:
        return f"{found}: (({noun} + 1) * 127.5).round(){cast}"
    if not 0 <= low <= high <= 255:
        return f"{found}: scale them to that range first"
    return f"{found}: {noun}{'.round()' if array.dtype.kind == 'f' else ''}{cast}"


def float_images(images: Any) -> Tensor:
    """Return uint8 images (count, height, width, channels) as a float tensor in [-1, 1], (count, channels, height, width)."""
    from vistok.data.images.transforms import to_float

    return to_float(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).contiguous())
