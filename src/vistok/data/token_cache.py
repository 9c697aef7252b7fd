"""The boundary between the stages: a memory-mapped table of integers, with a manifest.

A cache is a folder with `tokens.npy` (rows x positions; row = image * views + view), `labels.npy`,
`manifest.json`, and `written.json`: seconds and checksums. How it comes to be: `token_writer.py`.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vistok.config import Config
from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import read_json, sha256_of

SCHEMA = 3
AGAIN = "delete the folder and repeat vistok cache"
WRITTEN = "written.json"
CHECKED = ("tokens.npy", "labels.npy", "manifest.json")
# The centre crop, and ten-crop's middle one.
CENTRAL = ("center", "middle")


class TokenManifest(Config):
    """What the integers mean, and of which tokenizer, data and split they are."""

    schema_version: int = SCHEMA
    tokenizer_digest: str
    grid: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    codebook_size: int = Field(ge=2)
    dataset: str
    data_digest: str
    split: str
    num_images: int = Field(ge=1)
    views: tuple[str, ...] = Field(default=("center",), min_length=1)
    class_names: tuple[str, ...] = Field(min_length=1)
    # Side of the encoded images, where it is not the tokenizer's own.
    image_size: int | None = Field(default=None, ge=1)

    @property
    def num_tokens(self) -> int:
        """Positions of a row."""
        return self.grid[0] * self.grid[1]


def _present(file: Path) -> Path:
    """Return the file; raises UserError where it is missing, which is a damage of the cache."""
    if not file.exists():
        raise UserError(f"token cache {file.parent}: {file.name} is missing; {AGAIN}")
    return file


def token_dtype(codebook_size: int) -> type[np.generic]:
    """Return uint16, or uint32 above 65,536 codes."""
    return np.uint16 if codebook_size <= 2**16 else np.uint32


def _read_manifest(folder: Path) -> TokenManifest:
    file = folder / "manifest.json"
    if not file.is_file():
        raise UserError(f"token cache {folder}: no manifest.json; make it with vistok cache, into a place of its own")
    found = read_json(file, f"token cache {folder}: its manifest.json", AGAIN)
    version = found.get("schema_version")
    if version != SCHEMA:
        raise UserError(f"token cache {folder}: schema version {version}, this vistok reads {SCHEMA}; {AGAIN}")
    try:
        return TokenManifest.from_json(json.dumps(found))
    except UserError as error:
        raise UserError(f"token cache {folder}: its manifest.json is damaged ({error}); {AGAIN}") from None


class TokenCache:
    """A finished cache, opened for reading. Raises UserError where it is incomplete or damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder)
        with damage_is_a_mistake(f"token cache {folder}", AGAIN):
            self.tokens = np.load(_present(folder / "tokens.npy"), mmap_mode="r", allow_pickle=False)
            self.labels = np.load(_present(folder / "labels.npy"), allow_pickle=False)
        shape = (self.manifest.num_images * self.num_views, self.manifest.num_tokens)
        dtype = token_dtype(self.manifest.codebook_size)
        if self.tokens.shape != shape or self.tokens.dtype != dtype:
            raise UserError(
                f"token cache {folder}: holds {self.tokens.dtype} {self.tokens.shape}, its manifest says "
                f"{np.dtype(dtype)} {shape}; {AGAIN}"
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
        """Images, not rows."""
        return self.manifest.num_images

    @property
    def num_views(self) -> int:
        """Rows per image."""
        return len(self.manifest.views)

    @property
    def central_view(self) -> int:
        """Number of the view that likelihoods are of: the centre's, so that caches of any views can be compared."""
        views = self.manifest.views
        return next((views.index(name) for name in CENTRAL if name in views), 0)

    @property
    def seconds(self) -> float:
        """What encoding took, in seconds of one process."""
        return float(self._written()["seconds"])

    def verify(self) -> "TokenCache":
        """Return the cache, all of it read once; raises UserError where bytes changed since it was written."""
        for name, expected in self._written()["sha256"].items():
            if sha256_of(self.folder / name) != expected:
                raise UserError(f"token cache {self.folder}: {name} is damaged (checksum differs); {AGAIN}")
        return self

    def _written(self) -> dict[str, Any]:
        what = f"token cache {self.folder}: its {WRITTEN}"
        with damage_is_a_mistake(what, AGAIN):
            found = read_json(_present(self.folder / WRITTEN), what, AGAIN)
            if not 0 <= found["seconds"] < math.inf or set(found["sha256"]) != set(CHECKED):
                raise ValueError("seconds or sums of other files")
            return found

    def batch(self, rows: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Return "tokens" (rows positions) and "labels" (rows), int64."""
        rows = np.asarray(rows)
        return {
            "tokens": torch.from_numpy(np.asarray(self.tokens[rows]).astype(np.int64)),
            "labels": torch.from_numpy(self.labels[rows // self.num_views].astype(np.int64)),
        }

    def require(self, **expected: Any) -> None:
        """Raise UserError unless the manifest has these values, naming the first that differs."""
        for name, value in expected.items():
            found = getattr(self.manifest, name)
            if found != value:
                raise UserError(
                    f"token cache {self.folder}: its {name} is {found!r}, this run needs {value!r}, and its tokens would "
                    "mean other pictures. Make the right one with vistok cache: in another folder, or here once this one is "
                    "removed"
                )

    def identity(self) -> str:
        """Return what decides the tokens: tokenizer, data, split, views, and the images' size where it is another."""
        m = self.manifest
        size = (f"{m.image_size} pixels",) if m.image_size else ()
        return "/".join((m.tokenizer_digest, m.data_digest, m.split, *m.views, *size))
