"""Which part of a picture to use: the centre crop, a random crop, or what stands on a plain ground, whole.

A crop that cuts off a figure's edge teaches a generator to draw figures that are cut off. Where the ground is plain there
is no need to: a window may reach beyond the picture, in the colour of its ground.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from vistok.data.config import DataConfig

# The ground is plain if this share of the outermost pixels differs from their median by no more than so much of 255.
PLAIN, ALIKE = 0.75, 12
# Side (pixels) of the copy on which figures are looked for: there, noise and specks are averaged away.
LOOKED_AT = 128
# The ground that "close" leaves on each side, as a share of what stands on it.
MARGIN = 1 / 16


@dataclass(frozen=True)
class Box:
    """Part of a picture (pixels), which may reach beyond its edges."""

    top: float
    left: float
    height: float
    width: float

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom, as Pillow takes them."""
        return self.left, self.top, self.left + self.width, self.top + self.height


@dataclass(frozen=True)
class Figure:
    """What stands on a plain ground: where it is, and the ground's colour (channels, uint8)."""

    box: Box
    ground: np.ndarray


def window(image: np.ndarray, config: DataConfig, generator: np.random.Generator | None) -> tuple[Box, Figure | None]:
    """Return the part of an image (height, width, channels) to use, and the figure in it if it is to stay whole.

    Without a generator, the frame: the largest centre crop of the config's shape or, where the config wants figures close,
    the figure with a little ground. With one (training), a window of random scale and place.
    """
    figure, sides = None if config.framing == "crop" else figure_of(image), image.shape[:2]
    if figure is not None and config.framing == "close":
        frame = _close(figure.box, sides, config.sides)
    else:
        frame = centred(sides, config.sides)
    if generator is None or config.crop_scale == 1.0:
        return frame, figure
    if figure is None:
        return _any_part(sides, frame, config, generator), None
    return _around(figure.box, sides, frame, config, generator), figure


def figure_of(image: np.ndarray) -> Figure | None:
    """Return what stands on an image's plain ground; None if its ground is not plain, or nothing stands on it."""
    small, factor = looked_at(image)
    small = small.astype(np.int16)
    border = np.concatenate([small[0], small[-1], small[1:-1, 0], small[1:-1, -1]])
    ground = np.median(border, axis=0).astype(np.int16)
    if (np.abs(border - ground).max(axis=1) <= ALIKE).mean() < PLAIN:
        return None
    stands = np.abs(small - ground).max(axis=2) > ALIKE
    rows, columns = np.flatnonzero(stands.any(axis=1)), np.flatnonzero(stands.any(axis=0))
    if not len(rows):
        return None
    (top, bottom), (left, right) = (
        (float(found[0] * factor), float(min(side, (found[-1] + 1) * factor)))
        for found, side in ((rows, image.shape[0]), (columns, image.shape[1]))
    )
    return Figure(Box(top, left, bottom - top, right - left), ground.astype(np.uint8))


def looked_at(image: np.ndarray) -> tuple[np.ndarray, int]:
    """Return an image at the size at which figures are looked for, and the factor: a strip keeps some pixels across."""
    shorter, longer = sorted(image.shape[:2])
    factor = max(1, min(longer // LOOKED_AT, shorter // (LOOKED_AT // 8)))
    return reduced(image, factor), factor


def reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """Return an image (height, width, channels) whose pixels are the means of squares of this many pixels a side."""
    if factor == 1:
        return image
    grey = image.shape[2] == 1
    small = np.asarray(Image.fromarray(image[:, :, 0] if grey else image).reduce(factor))
    return small[:, :, None] if grey else small


def centred(sides: tuple[int, ...], shape: tuple[int, int]) -> Box:
    """Return the largest part of an image (height, width) that has a shape's ratio, in its middle."""
    if shape[0] == shape[1]:  # exactly, whatever a division would round
        height = width = float(min(sides))
    else:
        scale = min(sides[0] / shape[0], sides[1] / shape[1])
        height, width = min(shape[0] * scale, float(sides[0])), min(shape[1] * scale, float(sides[1]))
    return Box((sides[0] - height) * 0.5, (sides[1] - width) * 0.5, height, width)


def _close(figure: Box, sides: tuple[int, ...], shape: tuple[int, int]) -> Box:
    """Return the smallest part of a shape's ratio that holds a figure and its margin, with the figure in the middle.

    Beside an edge of the picture that the figure touches, and may go on behind, there is no margin.
    """
    scale = (1 + 2 * MARGIN) * max(figure.height / shape[0], figure.width / shape[1])
    height, width = shape[0] * scale, shape[1] * scale
    top = _inside(figure.top + (figure.height - height) / 2, height, figure.top, figure.height, sides[0])
    left = _inside(figure.left + (figure.width - width) / 2, width, figure.left, figure.width, sides[1])
    return Box(top, left, height, width)


def _inside(begin: float, size: float, first: float, length: float, side: int) -> float:
    """Return where a window begins, along one side, if it may not pass the one end of a picture that a figure touches."""
    at_start, at_end = first <= 0, first + length >= side
    if at_start == at_end:
        return begin
    return max(begin, 0.0) if at_start else min(begin, side - size)


def _any_part(sides: tuple[int, ...], whole: Box, config: DataConfig, generator: np.random.Generator) -> Box:
    """Return a crop of random scale and place."""
    scale = generator.uniform(config.crop_scale, 1.0)
    height, width = whole.height * scale, whole.width * scale
    return Box((sides[0] - height) * generator.random(), (sides[1] - width) * generator.random(), height, width)


def _around(figure: Box, sides: tuple[int, ...], frame: Box, config: DataConfig, generator: np.random.Generator) -> Box:
    """Return a window of random scale and place that holds as much of a figure, and a little ground, as the frame does.

    Its scale goes up half as far as it may go down: most figures leave room for the latter.
    """
    more = MARGIN / 2 * max(figure.height, figure.width)
    room = Box(figure.top - more, figure.left - more, figure.height + 2 * more, figure.width + 2 * more)
    least = max(config.crop_scale, min(1.0, max(room.height / frame.height, room.width / frame.width)))
    scale = generator.uniform(least, 1.0 + (1.0 - config.crop_scale) / 2)
    height, width = frame.height * scale, frame.width * scale
    top = _place(room.top, room.height, frame.top, frame.height, height, generator)
    left = _place(room.left, room.width, frame.left, frame.width, width, generator)
    top = _inside(top, height, figure.top, figure.height, sides[0])
    return Box(top, _inside(left, width, figure.left, figure.width, sides[1]), height, width)


def _place(
    first: float, length: float, frame: float, whole: float, size: float, generator: np.random.Generator
) -> float:
    """Return where a window of a size begins, along one side.

    It lies within the frame, or around it if it is larger, and holds the part of the figure that the frame holds.
    """
    begin, end = (min(max(edge, frame), frame + whole) for edge in (first, first + length))
    lowest = max(min(frame, frame + whole - size), end - size)
    highest = min(max(frame, frame + whole - size), begin)
    return float(lowest + (highest - lowest) * generator.random())
