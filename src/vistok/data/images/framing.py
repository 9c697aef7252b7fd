"""Which part of a picture to use: the centre crop, a random crop, or what stands on a plain ground, whole.

A crop that cuts off a figure's edge teaches a generator to draw figures that are cut off. Where the ground is plain there
is no need to: a window may reach beyond the picture, in the colour of its ground.
"""

from dataclasses import dataclass

import numpy as np

from vistok.data.config import DataConfig

# The ground is plain if this share of the outermost pixels differs from their median by no more than so much of 255.
PLAIN, ALIKE = 0.75, 12
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
    figure = None if config.framing == "crop" else figure_of(image)
    whole = _centred(image.shape[:2], config.sides)
    if figure is None:
        return (whole if generator is None else _any_part(image.shape[:2], whole, config, generator)), None
    frame = _close(figure.box, config.sides) if config.framing == "close" else whole
    return (frame if generator is None else _around(figure.box, frame, config, generator)), figure


def figure_of(image: np.ndarray) -> Figure | None:
    """Return what stands on an image's plain ground; None if its ground is not plain, or nothing stands on it."""
    border = np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]]).astype(np.int16)
    ground = np.median(border, axis=0).astype(np.int16)
    if (np.abs(border - ground).max(axis=1) <= ALIKE).mean() < PLAIN:
        return None
    stands = np.abs(image.astype(np.int16) - ground).max(axis=2) > ALIKE
    rows, columns = np.flatnonzero(stands.any(axis=1)), np.flatnonzero(stands.any(axis=0))
    if not len(rows):
        return None
    (top, height), (left, width) = ((float(found[0]), float(np.ptp(found) + 1)) for found in (rows, columns))
    return Figure(Box(top, left, height, width), ground.astype(np.uint8))


def _centred(sides: tuple[int, ...], shape: tuple[int, int]) -> Box:
    """Return the largest part of an image that has a shape's ratio, in its middle."""
    if shape[0] == shape[1]:  # exactly, whatever a division would round
        height = width = float(min(sides))
    else:
        scale = min(sides[0] / shape[0], sides[1] / shape[1])
        height, width = min(shape[0] * scale, float(sides[0])), min(shape[1] * scale, float(sides[1]))
    return Box((sides[0] - height) * 0.5, (sides[1] - width) * 0.5, height, width)


def _close(figure: Box, shape: tuple[int, int]) -> Box:
    """Return the smallest part of a shape's ratio that holds a figure and its margin, with the figure in the middle."""
    scale = (1 + 2 * MARGIN) * max(figure.height / shape[0], figure.width / shape[1])
    height, width = shape[0] * scale, shape[1] * scale
    return Box(figure.top + (figure.height - height) / 2, figure.left + (figure.width - width) / 2, height, width)


def _any_part(sides: tuple[int, ...], whole: Box, config: DataConfig, generator: np.random.Generator) -> Box:
    """Return a crop of random scale and place."""
    if config.crop_scale == 1.0:
        return whole
    scale = generator.uniform(config.crop_scale, 1.0)
    height, width = whole.height * scale, whole.width * scale
    return Box((sides[0] - height) * generator.random(), (sides[1] - width) * generator.random(), height, width)


def _around(figure: Box, frame: Box, config: DataConfig, generator: np.random.Generator) -> Box:
    """Return a window of random scale and place that holds as much of a figure, and a little ground, as the frame does.

    Its scale goes half as far above the frame's as below, so that figures are as large as they are.
    """
    if config.crop_scale == 1.0:
        return frame
    figure = _grown(figure, MARGIN / 2)
    least = max(config.crop_scale, _share(figure, frame))
    scale = generator.uniform(least, 1.0 + (1.0 - config.crop_scale) / 2)
    height, width = frame.height * scale, frame.width * scale
    top = _place(figure.top, figure.height, frame.top, frame.height, height, generator)
    return Box(top, _place(figure.left, figure.width, frame.left, frame.width, width, generator), height, width)


def _grown(box: Box, share: float) -> Box:
    """Return a box with a share of its longer side added all around."""
    more = share * max(box.height, box.width)
    return Box(box.top - more, box.left - more, box.height + 2 * more, box.width + 2 * more)


def _share(figure: Box, frame: Box) -> float:
    """Return how much of a frame's height or width a figure takes, whichever is more; 1 at most."""
    return min(1.0, max(figure.height / frame.height, figure.width / frame.width))


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
