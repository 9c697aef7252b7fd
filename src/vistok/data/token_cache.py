"""The boundary between the stages: a memory-mapped table of integers, with a manifest.

A cache is a folder with `tokens.npy` (rows x positions; row = image * views + view), `labels.npy` and
`manifest.json`. It is written beside its place and renamed when whole; a writer that was stopped goes
on where it was.
"""

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistok.config import Config
from vistok.errors import UserError

SCHEMA = 1
PROGRESS = "progress.json"


class TokenManifest(Config):
    """What the integers mean, and of which tokenizer, data and split they are."""

    schema_version: int = SCHEMA
    tokenizer_digest: str
    grid: tuple[int, int]
    codebook_size: int
    dataset: str
    data_digest: str
    split: str
    num_images: int
    views: tuple[str, ...] = ("center",)
    class_names: tuple[str, ...]


def token_dtype(codebook_size: int) -> type[np.generic]:
    """Return uint16, or uint32 above 65,536 codes."""
    return np.uint16 if codebook_size <= 2**16 else np.uint32


class TokenCache:
    """A finished cache, opened for reading. Raises UserError where it is incomplete or damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            raise UserError(f"token cache {folder}: no manifest.json; make it with vistok cache")
        try:
            found = json.loads(manifest.read_text())
        except ValueError:
            raise UserError(
                f"token cache {folder}: its manifest.json is damaged; delete the folder and repeat vistok cache"
            ) from None
        if found.get("schema_version") != SCHEMA:
            raise UserError(
                f"token cache {folder}: schema version {found.get('schema_version')}, this vistok reads {SCHEMA}; "
                "delete the folder and repeat vistok cache"
            )
        self.manifest = TokenManifest.from_json(json.dumps(found))
        try:
            self.tokens = np.load(folder / "tokens.npy", mmap_mode="r", allow_pickle=False)
            self.labels = np.load(folder / "labels.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(
                f"token cache {folder}: damaged ({error}); delete the folder and repeat vistok cache"
            ) from None
        rows = self.manifest.num_images * self.num_views
        positions = self.manifest.grid[0] * self.manifest.grid[1]
        if self.tokens.shape != (rows, positions) or len(self.labels) != self.manifest.num_images:
            raise UserError(
                f"token cache {folder}: holds {self.tokens.shape}, its manifest says {(rows, positions)}; "
                "delete the folder and repeat vistok cache"
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
    def seconds(self) -> float:
        """What encoding took."""
        return float(json.loads((self.folder / PROGRESS).read_text())["seconds"])

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
                    f"token cache {self.folder}: its {name} is {found!r}, this run needs {value!r}. Tokens of another "
                    "tokenizer mean other pictures; make a cache with vistok cache from the right one"
                )

    def identity(self) -> str:
        """Return what decides the tokens: tokenizer, data, split and views."""
        m = self.manifest
        return "/".join((m.tokenizer_digest, m.data_digest, m.split, *m.views))


class TokenCacheWriter:
    """Writes rows in order; `rows_done` tells where an earlier, stopped writer of the same cache came to."""

    def __init__(self, folder: Path, manifest: TokenManifest, labels: np.ndarray) -> None:
        self.folder, self.manifest = folder, manifest
        self.partial = folder.with_name(folder.name + ".partial")
        positions = manifest.grid[0] * manifest.grid[1]
        shape = (manifest.num_images * len(manifest.views), positions)
        self._started = time.monotonic()
        self.rows_done, self.seconds = self._earlier_writer(shape)
        if self.rows_done is None:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            np.save(self.partial / "labels.npy", labels)
            np.lib.format.open_memmap(
                self.partial / "tokens.npy", mode="w+", dtype=token_dtype(manifest.codebook_size), shape=shape
            ).flush()
            (self.partial / "manifest.json").write_text(manifest.to_json())
            self.rows_done = 0
        self._tokens = np.lib.format.open_memmap(self.partial / "tokens.npy", mode="r+")

    def _earlier_writer(self, shape: tuple[int, int]) -> tuple[int | None, float]:
        """Return rows and seconds of a stopped writer of the same cache."""
        try:
            same = (self.partial / "manifest.json").read_text() == self.manifest.to_json()
            found = np.load(self.partial / "tokens.npy", mmap_mode="r", allow_pickle=False).shape
            done = json.loads((self.partial / PROGRESS).read_text())
            rows, seconds = int(done["rows"]), float(done["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return None, 0.0
        return (rows, seconds) if same and found == shape and 0 <= rows <= shape[0] else (None, 0.0)

    def write(self, tokens: Tensor) -> None:
        """Append rows (rows positions); the count follows only after the rows are on disk."""
        assert self.rows_done is not None
        end = self.rows_done + len(tokens)
        self._tokens[self.rows_done : end] = tokens.cpu().numpy()
        self._tokens.flush()
        now = time.monotonic()
        self.seconds, self._started = self.seconds + now - self._started, now
        counter = self.partial / (PROGRESS + ".new")
        counter.write_text(json.dumps({"rows": end, "seconds": round(self.seconds, 3)}))
        os.replace(counter, self.partial / PROGRESS)
        self.rows_done = end

    def finish(self) -> TokenCache:
        """Move the whole cache to its place and open it."""
        if self.rows_done != len(self._tokens):
            raise RuntimeError(f"{self.rows_done} of {len(self._tokens)} rows written")
        for path in (*self.partial.iterdir(), self.partial):
            _sync(path)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(self.partial, self.folder)
        _sync(self.folder.parent)
        return TokenCache(self.folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
