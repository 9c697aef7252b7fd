"""Writing a token cache: in pieces, by one process or many, which can stop and resume at any point.

Each piece is a separate file, whole or absent, in the folder `NAME.partial`. Once all are there, they are joined and the
folder is renamed. `NAME.lock` keeps a second writer out.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vistok.data.latents.cache import WRITTEN, LatentCache, LatentManifest
from vistok.errors import UserError
from vistok.files import replace_synced, sha256_of, sweep, write_atomic, write_json

LAYOUT, PIECES = "layout.json", "pieces"


def views_at(folder: Path) -> tuple[str, ...] | None:
    """Return the views of the cache in a folder, finished or stopped; None if there is none.

    Raises UserError for a finished but damaged cache.
    """
    if is_there(folder):
        return LatentCache(folder).manifest.views
    manifest = _begun(_partial(folder))
    return None if manifest is None else manifest.views


def is_there(folder: Path) -> bool:
    """Whether anything exists at a cache's path, other than an empty folder."""
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")


def _begun(partial: Path) -> LatentManifest | None:
    """Return the manifest of a stopped cache, or None if there is none that can be resumed."""
    try:
        manifest, _ = json.loads((partial / LAYOUT).read_text())
        return LatentManifest.from_json(json.dumps(manifest))
    except (OSError, ValueError, TypeError, RecursionError, UserError):
        return None


class LatentCacheWriter:
    """Writes pieces of `piece_rows` rows in any order; the last may be smaller.

    One process prepares and finishes, holding the lock in between; all may write. `prepare` keeps the pieces of an
    earlier, stopped writer of the same cache.
    """

    def __init__(self, folder: Path, manifest: LatentManifest, piece_rows: int) -> None:
        self.folder, self.manifest, self.piece_rows = folder, manifest, piece_rows
        self.partial = _partial(folder)
        self.num_rows = manifest.num_images * len(manifest.views)
        self.num_pieces = -(-self.num_rows // piece_rows)
        self._dtype, self._channels = manifest.dtype, _Channels()
        self._lock: int | None = None

    def prepare(self, labels: np.ndarray, tell: Callable[[str], None] = lambda text: None) -> bool:
        """Create the folder, or take over the existing one; return False if the cache was finished in the meantime.

        Pieces of a different cache are removed, and `tell` gets a sentence about it. Raises UserError if another process
        is writing the cache.
        """
        self._take_lock()
        if is_there(self.folder):
            return False
        layout = json.dumps([json.loads(self.manifest.to_json()), self.piece_rows])
        if self._is_of(self.partial):
            sweep(self.partial)
            sweep(self.partial / PIECES)
            return True
        if self.partial.exists():
            tell(f"{self.partial}: {self._difference()}; its tokens are made again")
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True, exist_ok=True)
        write_atomic(self.partial / "labels.npy", _npy(labels.astype(np.int64)))
        write_atomic(self.partial / "manifest.json", self.manifest.to_json().encode())
        write_atomic(self.partial / LAYOUT, layout.encode())
        return True

    def _is_of(self, partial: Path) -> bool:
        """Whether a stopped writer's pieces belong to this cache."""
        try:
            _, piece_rows = json.loads((partial / LAYOUT).read_text())
        except (OSError, ValueError, TypeError):
            return False
        return bool(piece_rows == self.piece_rows and _begun(partial) == self.manifest)

    def _difference(self) -> str:
        """Return why the pieces left by a stopped writer cannot be used."""
        begun = _begun(self.partial)
        if begun is None:
            return "a stopped cache that is damaged"
        old, new = begun.model_dump(), self.manifest.model_dump()
        names = [name.replace("_", " ") for name in new if old[name] != new[name]]
        return f"a stopped cache of different tokens (different {', '.join(names) or 'piece size'})"

    def missing(self) -> list[int]:
        """Return the numbers of the pieces not yet written."""
        return [number for number in range(self.num_pieces) if not self._is_whole(number)]

    def write(self, number: int, stored: Tensor, seconds: float) -> None:
        """Write a piece (rows as the tokenizer stores them) and its time; raises UserError if the folder is gone."""
        self._require_folder()
        if tuple(stored.shape) != self._shape(number):
            raise ValueError(f"piece {number} has shape {self._shape(number)}, found {tuple(stored.shape)}")
        write_atomic(self._piece(number), _npy(self._held(stored)))
        write_atomic(self._piece(number).with_suffix(".seconds"), f"{seconds:.4f}".encode())

    def _held(self, stored: Tensor) -> np.ndarray:
        """Return rows as the cache holds them. Raises UserError for vectors too large for that."""
        largest = float(stored.abs().max()) if stored.is_floating_point() and stored.numel() else 0.0
        most = float(np.finfo(np.float16).max)
        if not largest <= most:
            raise UserError(
                f"token cache {self.folder}: the tokenizer's vectors hold numbers up to {largest:g}, and caches (float16) up to "
                f"{most:g}; its weights are damaged or their training diverged: train it again, or give another file"
            )
        return stored.cpu().numpy().astype(self._dtype)

    def finish(self) -> LatentCache:
        """Join the pieces, move the cache to its final place and open it; raises UserError if pieces are missing."""
        self._require_folder()
        if missing := len(self.missing()):
            raise UserError(
                f"token cache {self.folder}: {missing} of {self.num_pieces} pieces are missing in {self.partial / PIECES}; "
                "repeat the command to make them"
            )
        digest = hashlib.sha256()
        write_atomic(self.partial / self.manifest.file, self._joined(digest))
        seconds = sum(self._seconds(number) for number in range(self.num_pieces))
        sums = {name: sha256_of(self.partial / name) for name in self.manifest.checked if name != self.manifest.file}
        sums[self.manifest.file] = digest.hexdigest()
        written = {"seconds": round(seconds, 3), "sha256": sums}
        if self.manifest.space.kind == "vectors" and not self.manifest.features:
            written["channels"] = self._channels.statistics()
        write_json(self.partial / WRITTEN, written)
        if is_there(self.folder):
            raise UserError(
                f"{self.folder}: something else appeared here while the tokens were being made, and was left alone. They "
                f"are in {self.partial}: move {self.folder} away and repeat the command"
            )
        replace_synced(self.partial, self.folder)
        self.clear()
        self.close()
        return LatentCache(self.folder)

    def clear(self) -> None:
        """Remove what a finished cache no longer needs; a killed process may have left it."""
        with suppress(OSError):  # of a disk that is only read: nothing is in the way of a finished cache
            (self.folder / LAYOUT).unlink()
        shutil.rmtree(self.folder / PIECES, ignore_errors=True)

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        place = self.folder.with_name(self.folder.name + ".lock")
        self._lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise UserError(
                f"token cache {self.folder}: another process is writing it; wait for it or stop it, then repeat"
            ) from None

    def _require_folder(self) -> None:
        if not (self.partial / LAYOUT).is_file():
            raise UserError(
                f"token cache {self.folder}: {self.partial} was moved or removed while it was being written; put it back, "
                "or repeat the command to start over"
            )

    def _piece(self, number: int) -> Path:
        return self.partial / PIECES / f"{number:08d}.npy"

    def _shape(self, number: int) -> tuple[int, ...]:
        return min(self.piece_rows, self.num_rows - number * self.piece_rows), *self.manifest.row

    def _is_whole(self, number: int) -> bool:
        try:
            piece = np.load(self._piece(number), mmap_mode="r", allow_pickle=False)
        except Exception:  # numpy's header parser may raise almost anything
            return False
        return piece.shape == self._shape(number) and piece.dtype == self._dtype

    def _seconds(self, number: int) -> float:
        try:
            return float(self._piece(number).with_suffix(".seconds").read_text())
        except (OSError, ValueError):
            return 0.0  # killed between writing a piece and its time

    def _joined(self, digest: "hashlib._Hash") -> Iterator[bytes]:
        header = io.BytesIO()
        shape = (self.num_rows, *self.manifest.row)
        description = np.lib.format.dtype_to_descr(np.dtype(self._dtype))
        np.lib.format.write_array_header_1_0(header, {"descr": description, "fortran_order": False, "shape": shape})
        digest.update(header.getvalue())
        yield header.getvalue()
        for number in range(self.num_pieces):
            rows = np.load(self._piece(number), allow_pickle=False)
            if self.manifest.space.kind == "vectors" and not self.manifest.features:
                self._channels.add(rows)
            digest.update(rows.tobytes())
            yield rows.tobytes()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


class _Channels:
    """The mean and standard deviation of each channel of vectors sampled from their posteriors."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: Any = 0.0
        self.squares: Any = 0.0

    def add(self, rows: np.ndarray) -> None:
        """Include rows (rows, positions, twice the dim): means and deviations."""
        means, deviations = np.split(rows.astype(np.float64).reshape(-1, rows.shape[-1]), 2, axis=1)
        self.count += len(means)
        self.sum = self.sum + means.sum(axis=0)
        self.squares = self.squares + (means**2 + deviations**2).sum(axis=0)

    def statistics(self) -> dict[str, list[float]]:
        """Return "mean" and "std", one number per channel each."""
        mean = self.sum / self.count
        return {"mean": mean.tolist(), "std": np.sqrt(np.maximum(self.squares / self.count - mean**2, 0)).tolist()}
