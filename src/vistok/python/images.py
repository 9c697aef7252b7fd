"""Images as a notebook shows them: one sheet, and still arrays."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vistok.errors import counted
from vistok.files import replacing
from vistok.runs.captions import shown_name
from vistok.runs.pictures import SUFFIXES, check_side, display_scale, png_bytes, sheet, write_picture
from vistok.verbs.output import output_file
from vistok.verbs.sample_sheet import MOST_COLUMNS, Layout

MOST_SHOWN = 100
COLUMNS = 10


class Images:
    """Images of one size, uint8: shown as a sheet in a notebook, and taken as arrays elsewhere.

    `pixels`: (count, channels, height, width), uint8. `labels`: a class name for each, or none. `len(images)` counts them,
    `images[0]` is a Pillow picture, `images[:5]` some of them, and `np.asarray(images)` (count, height, width, channels).

    Example: `run.sample("Bag", 8).save("bags.png")`.
    """

    def __init__(self, pixels: Tensor, labels: Sequence[str] = ()) -> None:
        self.pixels, self.labels = pixels, tuple(labels)

    def __len__(self) -> int:
        return len(self.pixels)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: Any) -> "Images": ...
    def __getitem__(self, index: Any) -> "Images | Image.Image":
        if isinstance(index, int | np.integer):
            pixels = self.pixels[int(index)].permute(1, 2, 0).numpy()
            return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        return self._some(np.arange(len(self))[index])

    def _some(self, chosen: np.ndarray) -> "Images":
        labels = [self.labels[i] for i in chosen] if self.labels else ()
        return Images(self.pixels[torch.from_numpy(chosen)], labels)

    def __iter__(self) -> Iterator[Image.Image]:
        return (self[number] for number in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.pixels.permute(0, 2, 3, 1).numpy()
        return array.astype(dtype) if dtype is not None else array.copy() if copy else array

    def sheet(self) -> Image.Image:
        """Return the images on one sheet, small ones enlarged, with the names of several classes; of more than 100, the first."""
        return self._whole(MOST_SHOWN)

    def save(self, path: str | Path) -> Path:
        """Write all images on one sheet (.png, .jpg or .webp) and return its path, whole or not at all.

        Raises UserError for another kind of file.
        """
        place = output_file(Path(path), "images.png", SUFFIXES)
        picture = self._whole(len(self))
        check_side(place, max(picture.size))
        with replacing(place) as file:
            write_picture(file, picture, place.suffix)
        return place

    def _whole(self, most: int) -> Image.Image:
        return _layout(self.labels[:most], min(len(self), most)).picture(self.pixels[:most])

    def _repr_png_(self) -> bytes:
        return png_bytes(self.sheet())

    def __repr__(self) -> str:
        count, channels, height, width = self.pixels.shape
        named = f", of {', '.join(dict.fromkeys(self.labels))}" if 0 < len(set(self.labels)) <= COLUMNS else ""
        return f"{counted(count, 'image')} of {height}x{width} pixels, {'grey' if channels == 1 else 'colour'}{named}"


class Reconstructions(Images):
    """What a tokenizer keeps of images; the sheet shows the originals above.

    `pixels` are the reconstructions, `originals` what the tokenizer saw, both (count, channels, height, width), uint8;
    `psnr` is (count,), in dB.

    Example: `run.reconstruct(images).psnr.mean()`.
    """

    def __init__(self, pixels: Tensor, originals: Tensor, psnr: np.ndarray) -> None:
        super().__init__(pixels)
        self.originals, self.psnr = originals, psnr

    def _some(self, chosen: np.ndarray) -> "Reconstructions":
        rows = torch.from_numpy(chosen)
        return Reconstructions(self.pixels[rows], self.originals[rows], self.psnr[chosen])

    def sheet(self) -> Image.Image:
        """Return originals above reconstructions, in as many double rows as needed; of more than 100, the first."""
        return self._whole(MOST_SHOWN)

    def _whole(self, most: int) -> Image.Image:
        count = min(len(self), most)
        columns = min(COLUMNS, count)
        parts = []
        for start in range(0, count, columns):
            for images in (self.originals, self.pixels):
                row = images[start : min(start + columns, count)]
                parts += [row, row.new_full((columns - len(row), *row.shape[1:]), 255)]
        return sheet(torch.cat(parts), columns, display_scale(self.pixels.shape[-1]))

    def __repr__(self) -> str:
        return f"{super().__repr__()}, reconstructed at {self.psnr.mean():.2f} dB (mean PSNR)"


def _layout(labels: Sequence[str], count: int) -> Layout:
    """Return how images lie on a sheet: classes that take turns above their columns, others above each image."""
    classes = list(dict.fromkeys(labels))
    if len(classes) < 2:
        return Layout(count, min(COLUMNS, count))
    names = [shown_name(name, classes.index(name)) for name in labels]
    by_turns = all(name == classes[i % len(classes)] for i, name in enumerate(labels))
    if by_turns and len(classes) <= MOST_COLUMNS:
        columns = min(count, max(1, COLUMNS // len(classes)) * len(classes))
        return Layout(count, columns, tuple(names[:columns]))
    return Layout(count, min(COLUMNS, count), tuple(names))
