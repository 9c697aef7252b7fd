"""Image sources: something with a length, uint8 images, labels, class names and a digest."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vistok.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
SPLIT_FOLDERS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
HELD_OUT_SHARE = 0.1


class ImageSource(ABC):
    """Labelled images, read by index. `labels` is int64; without classes every label is 0."""

    labels: np.ndarray
    class_names: tuple[str, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def read(self, index: int) -> np.ndarray:
        """Return one image as uint8 (height, width, channels)."""

    @abstractmethod
    def subset(self, indices: np.ndarray, name: str) -> "ImageSource":
        """Return the images at `indices` as a source of their own; `name` enters its digest."""


class ArraySource(ImageSource):
    """Images that lie in memory: uint8 (count, height, width, channels)."""

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
        """Return the images at `indices` as a source of their own."""
        return ArraySource(self.images[indices], self.labels[indices], self.class_names, f"{self.digest}/{name}")


class FolderSource(ImageSource):
    """Image files, decoded when read. Raises UserError naming the file that cannot be read."""

    def __init__(
        self, root: Path, files: Sequence[str], labels: np.ndarray, class_names: Sequence[str], channels: int, size: int
    ) -> None:
        self.root, self.size = root, size
        self.files = list(files)
        self.labels = labels.astype(np.int64)
        self.class_names = tuple(class_names)
        self.channels = channels
        sizes = (f"{name}\0{(root / name).stat().st_size}" for name in self.files)
        self.digest = hashlib.sha256("\n".join(sizes).encode()).hexdigest()

    def read(self, index: int) -> np.ndarray:
        """Return one image as uint8 (height, width, channels), turned upright by its EXIF tag."""
        return read_image(self.root / self.files[index], self.channels, self.size)

    def subset(self, indices: np.ndarray, name: str) -> "FolderSource":
        """Return the images at `indices` as a source of their own."""
        files = [self.files[i] for i in indices]
        return FolderSource(self.root, files, self.labels[indices], self.class_names, self.channels, self.size)


def read_image(path: Path, channels: int, size: int) -> np.ndarray:
    """Decode a file to uint8 (height, width, channels), both sides at least `size` where the file has them.

    A JPEG many times larger is decoded at a fraction of its size, never below twice `size`, which is
    several times faster. Transparency is laid on white.
    """
    try:
        with Image.open(path) as opened:
            opened.draft("L" if channels == 1 else "RGB", (2 * size, 2 * size))
            image: Image.Image = ImageOps.exif_transpose(opened)
            image.load()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"image {path}: cannot be read ({error}); remove or replace the file") from None
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        top = 65_535 if values.max() > 255 else 255  # by depth, not by content: dark images stay dark
        image = Image.fromarray((values / top * 255).clip(0, 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[:, :, None] if channels == 1 else array


def load_folder(root: Path, split: str, channels: int, size: int) -> FolderSource:
    """Return one split of a folder of images.

    Sub-folders named train/val/test are splits; without them, a tenth of the files each, chosen by a
    hash of their names, are held out as `test` and `val`. Sub-folders below are the classes; a flat
    folder has one class, named "all". Raises UserError for a missing or empty folder.
    """
    if not root.is_dir():
        raise UserError(f"folder of images {str(root)!r}: not found; give an existing folder, as in --data photos/")
    given = {SPLIT_FOLDERS[p.name]: p.name for p in root.iterdir() if p.is_dir() and p.name in SPLIT_FOLDERS}
    base = root / given["train"] if "train" in given else root
    files = _image_files(base)
    if "train" not in given:  # given test or val images lie below the root too, and are not for training
        files = [name for name in files if name.split(os.sep)[0] not in given.values()]
    if not files:
        raise UserError(
            f"folder of images {str(base)!r}: no image found; files end in {', '.join(IMAGE_SUFFIXES)}, "
            "one sub-folder per class or all in one"
        )
    class_names = sorted({name.split(os.sep)[0] for name in files if os.sep in name}) or ["all"]
    if split != "train" and split in given:
        base = root / given[split]
        chosen = _image_files(base)
    else:
        held_out = [name for name in ("test", "val") if name not in given]
        chosen = _split_by_hash(files, split, held_out)
    if not chosen:
        raise UserError(f"folder of images {str(base)!r}: split {split!r} is empty; it needs at least 3 images")
    loose = [name for name in chosen if os.sep not in name]
    if class_names != ["all"] and loose:
        raise UserError(
            f"folder of images {str(base)!r}: {len(loose)} files lie beside the class folders (first: {loose[0]!r}); "
            "move them into a class folder, or put all images into one flat folder"
        )
    unknown = sorted({name.split(os.sep)[0] for name in chosen if os.sep in name} - set(class_names))
    if unknown:
        raise UserError(f"split {split!r} has classes that train has not: {', '.join(unknown)}")
    number = {name: i for i, name in enumerate(class_names)}
    labels = np.array([number.get(name.split(os.sep)[0], 0) for name in chosen])
    return FolderSource(base, chosen, labels, class_names, channels, size)


def _image_files(base: Path) -> list[str]:
    found = []
    for folder, _, names in os.walk(base, followlinks=False):
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                found.append(os.path.relpath(os.path.join(folder, name), base))
    return sorted(found)


def _split_by_hash(files: list[str], split: str, held_out: list[str]) -> list[str]:
    """Hold out a tenth of the files for each name in `held_out`; the rest is train."""
    ranked = sorted(files, key=lambda name: hashlib.sha256(name.encode()).digest())
    count = max(1, round(len(files) * HELD_OUT_SHARE))
    parts = {name: ranked[i * count : (i + 1) * count] for i, name in enumerate(held_out)}
    parts["train"] = ranked[len(held_out) * count :]
    return sorted(parts.get(split, []))
