"""What names of files and folders say: hidden ones, splits, and suffixes of images. One table each, for every reader."""

import re
from functools import cache

from vistok.data.config import Split

# Folder and file names, in any capitals, that mean a split.
SPLITS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
# What systems leave beside pictures, under names that do not begin with a point.
_LEFT_BY_SYSTEMS = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
    "@eadir", "#recycle", "lost+found",
}  # fmt: skip
# What Pillow may open. Not its other formats: some start a program (EPS runs Ghostscript), and a file is what its first
# bytes say, whatever its suffix.
FORMATS = (
    "PNG", "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "PCX", "SGI", "QOI",
)  # fmt: skip


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not part of a data set: hidden, or left by a system (`.thumbnails`, `__MACOSX`)."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def is_hidden_below(path: str) -> bool:
    """Whether a path with slashes, relative to its data set, has a hidden part."""
    return any(is_hidden(part) for part in path.split("/") if part not in ("", ".", ".."))


def split_of_folder(name: str) -> Split | None:
    """Return the split that a folder's whole name means, in any capitals, or None."""
    return SPLITS.get(name.lower())


def split_of_words(name: str) -> Split | None:
    """Return the split that a word in a file's name means (`imagenet-train-0001.tar`), or None."""
    return next((SPLITS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLITS), None)


def split_names() -> str:
    """Return which folder names mean which split, for a message."""
    named = [f"{split} ({', '.join(n for n, s in SPLITS.items() if s == split)})" for split in ("train", "val", "test")]
    return ", ".join(named[:-1]) + f" and {named[-1]}, in any capitals"


@cache
def formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that the installed Pillow opens by that name (it opens MPO as JPEG)."""
    from PIL import Image

    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


@cache
def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes, with their points, of what the installed Pillow can open of `FORMATS`."""
    from PIL import Image

    allowed = formats()
    return tuple(sorted(suffix for suffix, kind in Image.registered_extensions().items() if kind in allowed))
