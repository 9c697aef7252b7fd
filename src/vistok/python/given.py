"""Images as Python holds them: an array, a list, a data set. Read one at a time, checked, refused by name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from vistok.errors import UserError
from vistok.python.given_labels import label_list
from vistok.python.pixels import batch_pixels, image_pixels

# Keys of a data set whose items are dictionaries, as Hugging Face's are.
_IMAGE_KEYS, _LABEL_KEYS = ("image", "img", "pixel_values"), ("label", "labels", "fine_label", "target")
_FORMS = (
    "an array (count, height, width[, channels]), a list of arrays or pictures, a torch Dataset of images or (image, label), or "
    "a folder"
)


@dataclass(frozen=True)
class Given:
    """Images and their labels, read by number: `read(i)` gives uint8 (height, width, channels) and a label, or None for none.

    `what` names them in messages; `classes` are the names that a data set has for its class numbers.
    """

    what: str
    count: int
    read: Callable[[int], tuple[np.ndarray, Any]]
    classes: tuple[str, ...] | None = None

    def __iter__(self) -> Iterator[tuple[np.ndarray, Any]]:
        return (self.read(number) for number in range(self.count))

    def stacked(self) -> np.ndarray:
        """Return all images, (count, height, width, channels). Raises UserError if they differ in size or channels."""
        images = [pixels for pixels, _ in self]
        odd = next((i for i, image in enumerate(images) if image.shape != images[0].shape), None)
        if odd is not None:
            raise UserError(
                f"{self.what}: image {odd} is {images[odd].shape}, image 0 is {images[0].shape} (height, width, channels); "
                "give images of one size here: resizing affects what is measured, so it is yours to choose"
            )
        return np.stack(images)


def given(images: Any, labels: Any = None, classes: Sequence[str] | None = None) -> Given:
    """Return images and labels, to be read one at a time. Raises UserError for anything else than images."""
    if isinstance(images, np.ndarray | Tensor):
        pixels = batch_pixels(images, "images")
        read, what, count = lambda number: (pixels[number], None), "images", len(pixels)  # noqa: E731
    else:
        count, what = (
            _length(images),
            "images" if isinstance(images, list | tuple) else f"data set {type(images).__name__}",
        )
        read = lambda number: _item(images[number], f"{what}: image {number}")  # noqa: E731
        classes = classes or _classes_of(images)
    if labels is not None:
        chosen, pixels_alone = label_list(labels, count), read
        read = lambda number: (pixels_alone(number)[0], chosen[number])  # noqa: E731
    return Given(what, count, read, tuple(classes) if classes else None)


def _length(images: Any) -> int:
    name = type(images).__name__
    if name == "DataLoader":
        raise UserError(
            "images: a DataLoader gives batches in another order each time; give its data set, loader.dataset"
        )
    if isinstance(images, dict | str) or not hasattr(images, "__getitem__") or not hasattr(images, "__len__"):
        more = (
            "; a stream has no length: give list(images)"
            if hasattr(images, "__iter__") and not isinstance(images, dict | str)
            else ""
        )
        raise UserError(f"images of type {name}: wanted {_FORMS}{more}")
    if hasattr(images, "columns"):
        raise UserError(f"images of type {name}: a table; give a list of its pictures, or an array")
    if not len(images):
        raise UserError("images: empty; give at least one")
    return len(images)


def _item(item: Any, what: str) -> tuple[np.ndarray, Any]:
    if isinstance(item, dict):
        image = next((item[key] for key in _IMAGE_KEYS if key in item), None)
        if image is None:
            raise UserError(
                f"{what} is a dictionary with {', '.join(map(repr, item))}; wanted 'image' and, if any, 'label'"
            )
        return image_pixels(image, what), next((item[key] for key in _LABEL_KEYS if key in item), None)
    if isinstance(item, tuple | list):
        if len(item) < 1:
            raise UserError(f"{what} is an empty {type(item).__name__}; wanted an image, or (image, label)")
        return image_pixels(item[0], what), item[1] if len(item) > 1 else None
    return image_pixels(item, what), None


def _classes_of(images: Any) -> Sequence[str] | None:
    """Return the names that a data set, or the one that it is a part of, has for its classes."""
    while images is not None:
        classes = getattr(images, "classes", None)
        if isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes):
            return classes
        images = getattr(images, "dataset", None)
    return None
