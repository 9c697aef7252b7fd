"""How samples lie on a sheet: a column for each class with its name above, else a square."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from vistok.runs.captions import caption_height, shown_name, with_captions
from vistok.runs.pictures import GAP, display_scale, sheet, sheet_size

MOST_COLUMNS = 12  # of classes; where there are more, each image gets its name


@dataclass(frozen=True)
class Layout:
    """Number of columns, and the captions above them: one for each column, one for each image, or none."""

    count: int
    columns: int
    captions: tuple[str, ...] = ()

    @property
    def each(self) -> bool:
        """Whether every image has a caption of its own."""
        return len(self.captions) > self.columns

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the picture in pixels, for images of this size."""
        scale = display_scale(width)
        tall, wide = sheet_size(self.count, height, width, self.columns, scale)
        return tall + sum(caption_height(row, scale * width) for row in self._rows()), wide

    def picture(self, images: UInt8[Tensor, "count channels height width"]) -> Image.Image:
        """Return images as one picture."""
        scale = display_scale(images.shape[-1])
        width, pitch = scale * images.shape[-1], scale * (images.shape[-1] + GAP)
        if not self.each:
            whole = sheet(images, self.columns, scale)
            return with_captions(whole, self.captions, width, pitch) if self.captions else whole
        parts = [sheet(part, self.columns, scale) for part in images.split(self.columns)]
        rows = [with_captions(part, row, width, pitch) for part, row in zip(parts, self._rows(), strict=True)]
        canvas = Image.new("RGB", self.size(*images.shape[2:])[::-1], "white")
        top = 0
        for row in rows:
            canvas.paste(row, (0, top))
            top += row.height + scale * GAP
        return canvas

    def _rows(self) -> list[tuple[str, ...]]:
        """Return the captions of each row that has some."""
        return [self.captions[first : first + self.columns] for first in range(0, len(self.captions), self.columns)]


def layout_of(labels: Int[Tensor, "count"], class_names: Sequence[str]) -> Layout:
    """Return the layout of samples of these classes, which take turns.

    Two to twelve classes get a column each; with more, the sheet is a square in which every image has its class above it. A
    square without captions shows one class, or a generator that knows none.
    """
    count, numbers = len(labels), labels.tolist()
    classes = list(dict.fromkeys(numbers))
    if len(classes) > 1:
        names = {number: shown_name(class_names[number], number) for number in classes}
        if len(classes) <= MOST_COLUMNS and numbers == [classes[i % len(classes)] for i in range(count)]:
            return Layout(count, len(classes), tuple(names[number] for number in classes))
        return Layout(count, _square(count), tuple(names[number] for number in numbers))
    return Layout(count, _square(count))


def _square(count: int) -> int:
    return math.ceil(math.sqrt(count))
