"""From uint8 images to training tensors and back: pure functions of (image, generator)."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vistok.data.config import DataConfig


def to_float(images: UInt8[Tensor, "*batch channels height width"]) -> Float[Tensor, "*batch channels height width"]:
    """Map 0...255 to [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1.0


def to_uint8(images: Float[Tensor, "*batch channels height width"]) -> UInt8[Tensor, "*batch channels height width"]:
    """Map [-1, 1] to 0...255, rounding to nearest after clipping, as for every score."""
    return ((images.float().clamp(-1, 1) + 1.0) * 127.5).round().to(torch.uint8)


def resize_uint8(
    images: UInt8[Tensor, "batch channels _ _"], sides: tuple[int, int]
) -> UInt8[Tensor, "batch channels height width"]:
    """Resize images: bicubic with antialiasing, rounded and clipped to uint8."""
    if tuple(images.shape[2:]) == sides:
        return images
    resized = F.interpolate(images.float(), sides, mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def prepare(image: np.ndarray, config: DataConfig, generator: np.random.Generator | None) -> np.ndarray:
    """Return uint8 (height, width, channels): the largest crop of the config's shape, resized.

    With a generator (training): a crop of random scale and position, and a random flip, as the
    config says. Without: the centre crop.
    """
    whole = _largest(image.shape[:2], config.sides)
    if generator is None or config.crop_scale == 1.0:
        crop, place = whole, (0.5, 0.5)
    else:
        scale = generator.uniform(config.crop_scale, 1.0)
        crop, place = (whole[0] * scale, whole[1] * scale), (generator.random(), generator.random())
    if image.shape[:2] != config.sides or crop != config.sides:
        image = _crop_and_resize(image, crop, place, config.sides)
    if generator is not None and config.horizontal_flip and generator.random() < 0.5:
        image = image[:, ::-1]
    return np.array(image, order="C")  # a copy, as a decoded image may be read-only


def _largest(sides: tuple[int, ...], shape: tuple[int, int]) -> tuple[float, float]:
    """Return height and width of the largest crop of an image that has a shape's ratio."""
    if shape[0] == shape[1]:  # exactly, whatever a division would round
        return float(min(sides)), float(min(sides))
    scale = min(sides[0] / shape[0], sides[1] / shape[1])
    return min(shape[0] * scale, float(sides[0])), min(shape[1] * scale, float(sides[1]))


def _crop_and_resize(
    image: np.ndarray, crop: tuple[float, float], place: tuple[float, float], sides: tuple[int, int]
) -> np.ndarray:
    height, width, channels = image.shape
    top, left = (height - crop[0]) * place[0], (width - crop[1]) * place[1]
    picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    # Bicubic with antialiasing, like the last step of ADM's and LlamaGen's centre crop.
    box = (left, top, left + crop[1], top + crop[0])
    picture = picture.resize((sides[1], sides[0]), Image.Resampling.BICUBIC, box=box)
    array = np.asarray(picture)
    return array[:, :, None] if channels == 1 else array
