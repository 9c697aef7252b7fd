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
    images: UInt8[Tensor, "batch channels height width"], size: int
) -> UInt8[Tensor, "batch channels size size"]:
    """Resize to square images: bicubic with antialiasing, rounded and clipped to uint8."""
    if tuple(images.shape[2:]) == (size, size):
        return images
    resized = F.interpolate(images.float(), (size, size), mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def prepare(image: np.ndarray, config: DataConfig, generator: np.random.Generator | None) -> np.ndarray:
    """Return uint8 (size, size, channels): the shorter side resized, then cropped.

    With a generator (training): a square crop of random scale and position, and a random flip, as the config says.
    Without: the centre crop.
    """
    size = config.image_size
    height, width = image.shape[:2]
    if generator is None or config.crop_scale == 1.0:
        side, place = float(min(height, width)), (0.5, 0.5)
    else:
        side = min(height, width) * generator.uniform(config.crop_scale, 1.0)
        place = (generator.random(), generator.random())
    if (height, width) != (size, size) or side != size:
        image = _crop_and_resize(image, side, place, size)
    if generator is not None and config.horizontal_flip and generator.random() < 0.5:
        image = image[:, ::-1]
    return np.array(image, order="C")  # a copy, as a decoded image may be read-only


def _crop_and_resize(image: np.ndarray, side: float, place: tuple[float, float], size: int) -> np.ndarray:
    height, width, channels = image.shape
    top, left = (height - side) * place[0], (width - side) * place[1]
    cropped = Image.fromarray(image[:, :, 0] if channels == 1 else image)
    # Bicubic with antialiasing, like the last step of ADM's and LlamaGen's centre crop.
    cropped = cropped.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    array = np.asarray(cropped)
    return array[:, :, None] if channels == 1 else array
