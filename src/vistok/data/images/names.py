"""The meaning of file and folder names: hidden ones, splits, image suffixes. One table each, for all readers."""

import re
from functools import cache

from vistok.data.config import Split

# Folder and file names, in upper or lower case, that mean a split.
SPLITS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
# What operating systems leave beside images under names that do not begin with a dot.
_LEFT_BY_SYSTEMS = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
    "@eadir", "#recycle", "lost+found",
}  # fmt: skip
# The formats that Pillow may open. Some of its others start a program (EPS runs Ghostscript), and the first bytes of a
# file determine its format, whatever its suffix.
FORMATS = (
    "PNG", "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "PPM", "TGA", "PCX", "SGI", "QOI",
)  # fmt: skip


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden or was left by the operating system (`.thumbnails`, `__MACOSX`)."""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def is_hidden_below(path: str) -> bool:
    """Whether a slash-separated path, relative to its data set, has a hidden part."""
    return any(is_hidden(part) for part in path.split("/") if part not in ("", ".", ".."))


def split_of_folder(name: str) -> Split | None:
    """Return the split that a folder's whole name means, ignoring case, or None."""
    return SPLITS.get(name.lower())


def split_of_words(name: str) -> Split | None:
    """Return the split that a word in a file's name means (`imagenet-train-0001.tar`), or None."""
    return next((SPLITS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in SPLITS), None)


def split_names() -> str:
    """List which folder names mean which split, for messages."""
    named = [f"{split} ({', '.join(n for n, s in SPLITS.items() if s == split)})" for split in ("train", "val", "test")]
    return ", ".join(named[:-1]) + f" and {named[-1]}, in upper or lower case"


@cache
def formats() -> tuple[str, ...]:
    """Return the `FORMATS` that the installed Pillow opens under that name (it opens MPO as JPEG)."""
    from PIL import Image

    Image.init()
    return tuple(kind for kind in FORMATS if kind in Image.OPEN)


@cache
def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes, with dots, of the `FORMATS` that the installed Pillow can open."""
    from PIL import Image

    allowed = formats()
    return tuple(sorted(suffix for suffix, kind in Image.registered_extensions().items() if kind in allowed))
