"""Images in the formats that other generators and evaluators exchange: ADM's .npz, a folder of images, or an array."""

import hashlib
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vistok.data.images.image_file import read_image
from vistok.data.images.inspection import describe_ignored
from vistok.data.images.names import image_suffixes
from vistok.data.images.walking import Listing, list_images
from vistok.errors import UserError, damage_is_a_mistake, some
from vistok.metrics.moments import Moments

ANY_SIZE = 2**14  # read_image decodes at a fraction of the size only JPEGs that are larger than this
MOST_FEATURES = 2**14  # a covariance of this many takes 2 GiB
# Tolerance, as a share of the largest variance: float32 and another order of summation stay far below it.
SYMMETRIC = 1e-3

_LAYOUT = (
    "wanted ADM's layout: arr_0, uint8 (count, height, width, 3); a reference may also hold mu and sigma (and, for sFID, "
    "mu_s and sigma_s), with or without images"
)


@dataclass(frozen=True)
class ImageBatch:
    """Images of one size in a file or folder, read in pieces, with a reference's statistics if the file has them.

    A file of statistics alone has 0 images. `ignored`: which files of a folder are not read, in words. `pixels`: those of
    images that are no file, uint8 (count, height, width, channels).
    """

    path: Path
    count: int
    shape: tuple[int, int, int]
    pooled: Moments | None = None
    spatial: Moments | None = None
    ignored: str = ""
    pixels: np.ndarray | None = None

    @classmethod
    def of(cls, pixels: np.ndarray, name: str) -> "ImageBatch":
        """Return images from memory, uint8 (count, height, width, channels), under a name for messages and protocols."""
        return cls(Path(name), len(pixels), pixels.shape[1:], pixels=pixels)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def is_folder(self) -> bool:
        """Whether each image is a separate file; they are read in the order of their names."""
        return self.pixels is None and self.path.is_dir()

    def batches(self, size: int) -> Iterator[UInt8[Tensor, "batch channels height width"]]:
        """Yield the images in order."""
        if self.count:
            for piece in self._pieces(size):
                yield torch.from_numpy(piece).permute(0, 3, 1, 2)

    def _pieces(self, size: int) -> Iterator[np.ndarray]:
        if self.pixels is not None:
            return (self.pixels[start : start + size] for start in range(0, self.count, size))
        return _folder_pieces(self.path, size) if self.is_folder else _npz_pieces(self.path, size)

    def digest(self) -> str:
        """Return a digest of the pixels and the statistics."""
        digest = hashlib.sha256()
        for images in self.batches(500):
            digest.update(images.numpy().tobytes())
        for moments in (self.pooled, self.spatial):
            if moments is not None:
                digest.update(moments.mean.tobytes() + moments.scatter.tobytes())
        return digest.hexdigest()


def open_batch(path: Path) -> ImageBatch:
    """Return the images of an .npz in ADM's layout, or of a folder. Raises UserError for anything else."""
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise UserError(f"images {path}: not found; give an .npz in ADM's layout or a folder of images")
    with damage_is_a_mistake(f"images {path}", _LAYOUT), zipfile.ZipFile(path) as archive:
        pooled, spatial = _moments(archive, "mu", "sigma"), _moments(archive, "mu_s", "sigma_s")
        if "arr_0.npy" not in archive.namelist():
            if pooled is not None:
                return ImageBatch(path, 0, (0, 0, 0), pooled, spatial)
            raise UserError(
                f"images {path}: holds {', '.join(archive.namelist()[:5]) or 'nothing'}, but no arr_0; {_LAYOUT}"
            )
        shape, dtype, fortran = _header(archive, "arr_0")
    if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or not all(shape) or fortran:
        order = " in Fortran order" if fortran else ""
        raise UserError(f"images {path}: arr_0 is {dtype} {shape}{order}; {_LAYOUT}")
    return ImageBatch(path, shape[0], shape[1:], pooled, spatial)


def _moments(archive: zipfile.ZipFile, mean: str, covariance: str) -> Moments | None:
    if f"{mean}.npy" not in archive.namelist():
        return None
    if f"{covariance}.npy" not in archive.namelist():
        raise ValueError(f"it has {mean} without {covariance}")
    (of_mean, *_), (of_covariance, *_) = _header(archive, mean), _header(archive, covariance)
    if len(of_mean) != 1 or of_covariance != 2 * of_mean or not 0 < of_mean[0] <= MOST_FEATURES:
        raise ValueError(f"shapes {mean} {of_mean}, {covariance} {of_covariance} are not a mean and a covariance")
    mu, sigma = (_numbers(archive, name) for name in (mean, covariance))
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        raise ValueError(f"{mean} or {covariance} holds values that are not finite")
    if sigma.diagonal().min() < 0 or np.abs(sigma - sigma.T).max() > SYMMETRIC * sigma.diagonal().max():
        raise ValueError(f"{covariance} is not a covariance: not symmetric, or with a negative variance")
    return Moments(2, mu, sigma)  # for two samples the scatter equals the covariance


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Return an array's shape, type, and whether it is in Fortran order. Raises ValueError if its size is wrong."""
    with archive.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        held = archive.getinfo(f"{name}.npy").file_size - file.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    if any(side < 0 for side in shape) or math.prod(shape) * dtype.itemsize != held:
        raise ValueError(f"{name} is {dtype} {shape} by its header, but has {held} bytes")
    return shape, dtype, fortran


def _numbers(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} is {array.dtype}, but must hold numbers")
    return np.asarray(array, dtype=np.float64)


def _npz_pieces(path: Path, size: int) -> Iterator[np.ndarray]:
    """Read the array a piece at a time: 50,000 images of 256x256 are 10 GB."""
    again = "copy it again"
    with damage_is_a_mistake(f"images {path}", again), zipfile.ZipFile(path) as archive:
        (count, *shape), _, _ = _header(archive, "arr_0")
        with archive.open("arr_0.npy") as file:
            file.seek(archive.getinfo("arr_0.npy").file_size - count * math.prod(shape))
            for start in range(0, count, size):
                wanted = min(size, count - start)
                data = file.read(wanted * math.prod(shape))
                if len(data) != wanted * math.prod(shape):
                    ends = start + len(data) // math.prod(shape)
                    raise UserError(f"images {path}: ends after {ends} of {count} images; {again}")
                yield np.frombuffer(bytearray(data), dtype=np.uint8).reshape(wanted, *shape)


def _open_folder(path: Path) -> ImageBatch:
    listing = list_images(path)
    if listing.problems:
        folders = some(f"{name} ({problem})" for name, problem in sorted(listing.problems.items()))
        raise UserError(f"images {path}: folders that cannot be read: {folders}")
    ignored = describe_ignored(listing.ignored) if listing.ignored else ""
    if not listing.images:
        skipped = f" ({ignored})" if ignored else ""
        raise UserError(f"images {path}: no images found{skipped}; image files end in {', '.join(image_suffixes())}")
    files = _in_order(path, listing)
    return ImageBatch(path, len(files), read_image(files[0], 3, ANY_SIZE).shape, ignored=ignored)


def _in_order(path: Path, listing: Listing) -> list[Path]:
    return sorted(path / name for name in listing.images)


def _folder_pieces(path: Path, size: int) -> Iterator[np.ndarray]:
    files = _in_order(path, list_images(path))
    first = read_image(files[0], 3, ANY_SIZE).shape
    for start in range(0, len(files), size):
        images = [read_image(file, 3, ANY_SIZE) for file in files[start : start + size]]
        odd = next((i for i, image in enumerate(images) if image.shape != first), None)
        if odd is not None:
            raise UserError(
                f"images {path}: {files[start + odd].name} is {images[odd].shape[:2]}, {files[0].name} {first[:2]} (height, "
                "width); scores need images of one size"
            )
        yield np.stack(images)
