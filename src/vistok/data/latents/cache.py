"""The interface between the stages: a memory-mapped table of latents, with a manifest.

A cache is a folder with `tokens.npy` (rows x positions, integers; row = image * views + view) or `vectors.npy` (rows x
positions x twice the dim: means and standard deviations, float16), `labels.npy`, `manifest.json`, and `written.json`:
seconds, checksums, and for vectors the mean and standard deviation of each channel. `writer.py` writes it.

A frozen network's features of the same images and views lie in a folder of the same kind beside it, with `features.npy` (rows x
positions x numbers, float16).
"""

import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from vistok.config import Config, with_tuples
from vistok.data.evenly import evenly
from vistok.data.latents.views import views_in_words
from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import read_json, sha256_of
from vistok.space import Space, former_space

SCHEMA = 3
AGAIN = "delete the folder and repeat vistok cache"
WRITTEN = "written.json"
# The centre crop, and ten-crop's middle one.
CENTRAL = ("center", "middle")


# Rows that the statistics of single places are taken over.
PLACE_ROWS = 10_000


class LatentManifest(Config):
    """What the latents are, and which tokenizer, data and split they come from."""

    schema_version: int = SCHEMA
    tokenizer_digest: str
    space: Space
    dataset: str
    data_digest: str
    split: str
    num_images: int = Field(ge=1)
    views: tuple[str, ...] = Field(default=("center",), min_length=1)
    class_names: tuple[str, ...] = Field(min_length=1)
    # Side of the encoded images, if it differs from the tokenizer's.
    image_size: int | None = Field(default=None, ge=1)
    # The frozen network whose features these are, instead of latents; `space` is then theirs.
    features: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _former(cls, data: Any, info: Any) -> Any:
        data = with_tuples(data, info)
        return former_space(data) if isinstance(data, dict) else data

    @property
    def num_tokens(self) -> int:
        """Number of positions in a row."""
        return self.space.layout.positions

    @property
    def file(self) -> str:
        """The name of the table."""
        return "features.npy" if self.features else f"{self.space.kind}.npy"

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The dtype of an entry on disk."""
        return _stored(self.space)[0]

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of a row."""
        return (self.num_tokens, self.space.dim) if self.features else _stored(self.space)[1]  # type: ignore[union-attr]

    @property
    def checked(self) -> tuple[str, ...]:
        """The names of the files with checksums."""
        return self.file, "labels.npy", "manifest.json"


def bytes_of_row(space: Space) -> int:
    """Return the bytes that the latents of one view of an image take on disk."""
    dtype, shape = _stored(space)
    return dtype.itemsize * math.prod(shape)


def _stored(space: Space) -> "tuple[np.dtype[Any], tuple[int, ...]]":
    """Return an entry's dtype and a row's shape: of tokens, or of the means and deviations of vectors."""
    if space.kind == "tokens":
        return np.dtype(token_dtype(space.codebook_size)), space.shape
    return np.dtype(np.float16), (space.layout.positions, 2 * space.dim)


def _difference(name: str, stored: Any, value: Any) -> str:
    """Return in words what of a manifest is not as a run needs it."""
    if name == "data_digest":
        return (
            "it was made of other pictures than those that are there now (files were added, removed, renamed or changed, or the "
            "folder is another one: --data names it)"
        )
    if name == "views":
        return f"its views are {views_in_words(stored)}, this run needs {views_in_words(value)}"
    return f"its {name} is {_shown(stored)}, this run needs {_shown(value)}"


def _shown(value: Any) -> str:
    return str(value) if isinstance(value, Config) else repr(value)


def _present(file: Path) -> Path:
    """Return the file; raises UserError if it is missing, as the cache is then damaged."""
    if not file.exists():
        raise UserError(f"token cache {file.parent}: {file.name} is missing; {AGAIN}")
    return file


def token_dtype(codebook_size: int) -> type[np.generic]:
    """Return uint16, or uint32 above 65,536 codes."""
    return np.uint16 if codebook_size <= 2**16 else np.uint32


def _read_manifest(folder: Path) -> LatentManifest:
    file = folder / "manifest.json"
    if not file.is_file():
        raise UserError(f"token cache {folder}: no manifest.json; {AGAIN}")
    manifest = read_json(file, f"token cache {folder}: its manifest.json", AGAIN)
    version = manifest.get("schema_version")
    if version != SCHEMA:
        raise UserError(f"token cache {folder}: schema version {version}, this vistok reads {SCHEMA}; {AGAIN}")
    try:
        return LatentManifest.from_json(json.dumps(manifest))
    except UserError as error:
        raise UserError(f"token cache {folder}: its manifest.json is damaged ({error}); {AGAIN}") from None


class LatentCache:
    """A finished cache, opened for reading. Raises UserError if it is incomplete or damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder)
        with damage_is_a_mistake(f"token cache {folder}", AGAIN):
            self.latents = np.load(_present(folder / self.manifest.file), mmap_mode="r", allow_pickle=False)
            self.labels = np.load(_present(folder / "labels.npy"), allow_pickle=False)
        shape, dtype = (self.manifest.num_images * self.num_views, *self.manifest.row), self.manifest.dtype
        if self.latents.shape != shape or self.latents.dtype != dtype:
            raise UserError(
                f"token cache {folder}: holds {self.latents.dtype} {self.latents.shape}, its manifest says "
                f"{dtype} {shape}; {AGAIN}"
            )
        classes = len(self.manifest.class_names)
        if self.labels.shape != (self.manifest.num_images,) or self.labels.dtype.kind not in "iu":
            raise UserError(f"token cache {folder}: its labels are not one integer per image; {AGAIN}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < classes:
            raise UserError(
                f"token cache {folder}: labels must lie in 0...{classes - 1}, found {self.labels.min()}..."
                f"{self.labels.max()}; {AGAIN}"
            )

    @property
    def num_images(self) -> int:
        """Number of images, not rows."""
        return self.manifest.num_images

    @property
    def num_views(self) -> int:
        """Number of rows per image."""
        return len(self.manifest.views)

    @property
    def central_view(self) -> int:
        """Index of the view whose likelihood is measured: the centre, so that caches with any views can be compared."""
        views = self.manifest.views
        return next((views.index(name) for name in CENTRAL if name in views), 0)

    @property
    def seconds(self) -> float:
        """Encoding time in seconds of a single process."""
        return float(self._written()["seconds"])

    def verify(self) -> "LatentCache":
        """Read all of the cache once and return it; raises UserError if bytes have changed since it was written."""
        for name, expected in self._written()["sha256"].items():
            if sha256_of(self.folder / name) != expected:
                raise UserError(f"token cache {self.folder}: {name} is damaged (checksum differs); {AGAIN}")
        return self

    def _written(self) -> dict[str, Any]:
        what = f"token cache {self.folder}: its {WRITTEN}"
        with damage_is_a_mistake(what, AGAIN):
            written = read_json(_present(self.folder / WRITTEN), what, AGAIN)
            if not 0 <= written["seconds"] < math.inf or set(written["sha256"]) != set(self.manifest.checked):
                raise ValueError("seconds or checksums do not fit")
            return written

    @property
    def channel_statistics(self) -> tuple[Tensor, Tensor]:
        """The mean and standard deviation of each channel over the whole cache, (dim,) each; for vectors only."""
        channels = self._written()["channels"]
        return torch.tensor(channels["mean"]), torch.tensor(channels["std"])

    def place_statistics(self) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation of vectors at each place, (positions, dim) each, over 10,000 rows at most."""
        rows = evenly(len(self.latents), PLACE_ROWS)
        vectors = self.batch(rows)["latents"].double()
        return vectors.mean(dim=0).float(), vectors.std(dim=0).float()

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Return "latents" and "labels" (rows, int64).

        Tokens (rows positions) are int64; vectors (rows positions dim) are float32 means, along with "deviations", or a frozen
        network's features.
        """
        rows = np.asarray(rows)
        labels = torch.from_numpy(self.labels[rows // self.num_views].astype(np.int64))
        stored = np.asarray(self.latents[rows])
        if self.manifest.space.kind == "tokens":
            return {"latents": torch.from_numpy(stored.astype(np.int64)), "labels": labels}
        if self.manifest.features:
            return {"latents": torch.from_numpy(stored.astype(np.float32)), "labels": labels}
        means, deviations = torch.from_numpy(stored.astype(np.float32)).chunk(2, dim=-1)
        return {"latents": means, "deviations": deviations, "labels": labels}

    def require(self, **expected: Any) -> None:
        """Raise UserError unless the manifest has these values, naming the first that differs."""
        for name, value in expected.items():
            stored = getattr(self.manifest, name)
            if stored != value:
                raise UserError(
                    f"token cache {self.folder}: {_difference(name, stored, value)}, so its tokens would mean different images. To "
                    f"make it anew, remove it (rm -r {shlex.quote(str(self.folder))}) and repeat the command"
                )

    def identity(self) -> str:
        """Return what determines the latents: tokenizer, data, split, views, and image size if not the default."""
        m = self.manifest
        size = (f"{m.image_size} pixels",) if m.image_size else ()
        return "/".join((m.tokenizer_digest, m.data_digest, m.split, *m.views, *size))
