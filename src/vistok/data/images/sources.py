"""Image sources: something with a length, uint8 images, labels, class names and a digest."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from vistok.data.images.inspection import FolderReport
from vistok.errors import UserError


class ImageSource(ABC):
    """Labelled images, read by index. `labels` is int64; without classes every label is 0.

    `report` is what an inspection of the files found, for the record of a run; None if there are no files.
    `former_digests`: earlier versions' digests of the same images, which did not cover everything. Runs and caches
    named by them are still found, and the user is told about the change.
    """

    labels: np.ndarray
    class_names: tuple[str, ...]
    digest: str
    report: FolderReport | None = None
    former_digests: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, index: int) -> np.ndarray:
        """Return one image as uint8 (height, width, channels)."""

    @abstractmethod
    def subset(self, indices: np.ndarray, name: str) -> "ImageSource":
        """Return the images at `indices` as a separate source; `name` becomes part of its digest."""


class ArraySource(ImageSource):
    """Images in memory: uint8 (count, height, width, channels)."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], digest: str) -> None:
        if images.dtype != np.uint8 or images.ndim != 4:
            raise UserError(
                f"images must be uint8 (count, height, width, channels), found {images.dtype} {images.shape}"
            )
        self.images = images
        self.labels = labels.astype(np.int64)
        self.class_names = tuple(class_names)
        self.digest = digest

    def read(self, index: int) -> np.ndarray:
        """Return one image as uint8 (height, width, channels)."""
        return self.images[index]

    def subset(self, indices: np.ndarray, name: str) -> "ArraySource":
        """Return the images at `indices` as a separate source."""
        return ArraySource(self.images[indices], self.labels[indices], self.class_names, f"{self.digest}/{name}")
