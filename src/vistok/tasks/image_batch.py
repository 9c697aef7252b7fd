"""Images in a file, as others' generators and evaluators exchange them: ADM's .npz, or a folder of PNGs."""

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from vistok.data.image_file import read_image
from vistok.data.names import image_suffixes, is_hidden_below
from vistok.errors import UserError
from vistok.metrics.moments import Moments

ANY_SIZE = 2**14  # read_image decodes a JPEG at a fraction of its size only where that is larger than this

_LAYOUT = (
    "wanted ADM's layout: arr_0, uint8 (count, height, width, 3), and, in a reference, perhaps mu and sigma (mu_s and "
    "sigma_s for sFID)"
)


@dataclass(frozen=True)
class ImageBatch:
    """Images of one size in a file or folder, read in pieces; an ADM reference's own statistics where it has them."""

    path: Path
    count: int
    shape: tuple[int, int, int]
    pooled: Moments | None = None
    spatial: Moments | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    def batches(self, size: int) -> Iterator[UInt8[Tensor, "batch channels height width"]]:
        """Yield the images in order."""
        pieces = _npz_pieces(self.path, size) if self.path.is_file() else _folder_pieces(self.path, size)
        for piece in pieces:
            yield torch.from_numpy(piece).permute(0, 3, 1, 2)

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
    """Return the images of an .npz in ADM's layout, or of a folder; raises UserError for anything else."""
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise UserError(f"images {path}: not found; give an .npz in ADM's layout or a folder of PNGs")
    try:
        with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as file:
            shape, _, dtype = _header(file)
        with np.load(path, allow_pickle=False) as found:
            pooled = _moments(found, "mu", "sigma")
            spatial = _moments(found, "mu_s", "sigma_s")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"images {path}: cannot be read ({error}); {_LAYOUT}") from None
    if dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or not shape[0]:
        raise UserError(f"images {path}: arr_0 is {dtype} {shape}; {_LAYOUT}")
    return ImageBatch(path, shape[0], shape[1:], pooled, spatial)


def _moments(found: "np.lib.npyio.NpzFile", mean: str, covariance: str) -> Moments | None:
    if mean not in found.files:
        return None
    mu, sigma = (np.asarray(found[name], dtype=np.float64) for name in (mean, covariance))
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)) or not np.isfinite(sigma).all():
        raise ValueError(f"{mean} {mu.shape} and {covariance} {sigma.shape} are no mean and covariance")
    return Moments(2, mu, sigma)  # of two samples the covariance is the scatter


def _header(file: object) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)  # type: ignore[arg-type]
    if fortran:
        raise ValueError("arr_0 is in Fortran order")
    return shape, fortran, dtype


def _npz_pieces(path: Path, size: int) -> Iterator[np.ndarray]:
    """Read the array a piece at a time: 50,000 images of 256x256 are 10 GB."""
    with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as file:
        (count, *shape), _, _ = _header(file)
        each = int(np.prod(shape))
        for start in range(0, count, size):
            wanted = min(size, count - start)
            data = file.read(wanted * each)
            if len(data) != wanted * each:
                raise UserError(
                    f"images {path}: ends after {start + len(data) // each} of {count} images; copy it again"
                )
            yield np.frombuffer(bytearray(data), dtype=np.uint8).reshape(wanted, *shape)


def _open_folder(path: Path) -> ImageBatch:
    files = _image_files(path)
    if not files:
        raise UserError(f"images {path}: no image found; files end in {', '.join(image_suffixes())}")
    height, width, channels = read_image(files[0], 3, ANY_SIZE).shape
    return ImageBatch(path, len(files), (height, width, channels))


def _image_files(path: Path) -> list[Path]:
    images = (file for file in path.rglob("*") if file.suffix.lower() in image_suffixes())
    return sorted(file for file in images if not is_hidden_below(file.relative_to(path).as_posix()))


def _folder_pieces(path: Path, size: int) -> Iterator[np.ndarray]:
    files = _image_files(path)
    first = read_image(files[0], 3, ANY_SIZE).shape
    for start in range(0, len(files), size):
        images = [read_image(file, 3, ANY_SIZE) for file in files[start : start + size]]
        odd = next((i for i, image in enumerate(images) if image.shape != first), None)
        if odd is not None:
            raise UserError(
                f"images {path}: {files[start + odd].name} is {images[odd].shape[:2]}, {files[0].name} {first[:2]}; scores "
                "need images of one size"
            )
        yield np.stack(images)
