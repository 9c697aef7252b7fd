"""The images of a folder, or one file, as pixels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vistok.data.config import DataConfig
from vistok.data.images.image_file import read_image
from vistok.data.images.names import image_suffixes
from vistok.data.images.walking import list_images
from vistok.errors import UserError


def folder_images(path: Path, data: DataConfig) -> Iterator[np.ndarray]:
    """Yield a folder's images, or a file's, as uint8 (height, width, channels). Raises UserError if there are none."""
    files = [path] if path.is_file() else [path / name for name in list_images(path).images] if path.is_dir() else []
    if not files:
        found = "holds no images" if path.is_dir() else "not found"
        raise UserError(f"images {path}: {found}; give a folder with files that end in {', '.join(image_suffixes())}")
    return (read_image(file, data.channels, data.least_side) for file in files)
