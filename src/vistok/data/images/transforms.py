"""From uint8 images to training tensors and back: pure functions of (image, generator)."""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vistok.data.config import DataConfig
from vistok.data.images.framing import Box, Figure, reduced, window


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
    """Return uint8 (height, width, channels): a part of the image of the config's shape, resized.

    With a generator (training): a part of random scale and place, and a random flip, as the config says. Without: the
    same part each time (`framing.window`).
    """
    box, figure = window(image, config, generator)
    if image.shape[:2] != config.sides or box.edges != (0, 0, *config.sides[::-1]):
        image = _resized(image, box, config.sides, figure)
    if generator is not None and config.horizontal_flip and generator.random() < 0.5:
        image = image[:, ::-1]
    return np.array(image, order="C")  # a copy, as a decoded image may be read-only


def _resized(image: np.ndarray, box: Box, sides: tuple[int, int], figure: Figure | None) -> np.ndarray:
    if figure is not None:
        image, box = _extended(*_smaller(image, box, sides), figure)
    grey = image.shape[2] == 1
    picture = Image.fromarray(image[:, :, 0] if grey else image)
    # Bicubic with antialiasing, like the last step of ADM's and LlamaGen's centre crop.
    picture = picture.resize((sides[1], sides[0]), Image.Resampling.BICUBIC, box=box.edges)
    array = np.asarray(picture)
    return array[:, :, None] if grey else array


def _smaller(image: np.ndarray, box: Box, sides: tuple[int, int]) -> tuple[np.ndarray, Box]:
    """Return an image, and the box in it, at a fraction of its size that still shows the box at twice these sides.

    Of a picture of 30,000 x 100 pixels, the square that holds all of it would take gigabytes.
    """
    factor = max(1, math.floor(min(box.height / sides[0], box.width / sides[1]) / 2))
    return reduced(image, factor), Box(*(length / factor for length in (box.top, box.left, box.height, box.width)))


def _extended(image: np.ndarray, box: Box, figure: Figure) -> tuple[np.ndarray, Box]:
    """Return an image that is continued in the colour of its ground as far as the box reaches, and the box in it."""
    left, top, right, bottom = box.edges
    beyond = (-top, bottom - image.shape[0], -left, right - image.shape[1])
    above, below, before, after = (max(0, math.ceil(length)) for length in beyond)
    if not (above or below or before or after):
        return image, box
    height, width, channels = image.shape
    larger = np.empty((above + height + below, before + width + after, channels), dtype=np.uint8)
    larger[:] = figure.ground
    larger[above : above + height, before : before + width] = image
    return larger, replace(box, top=top + above, left=left + before)
