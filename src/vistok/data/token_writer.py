"""How a token cache is written: in pieces, by one process or many, and stopped and resumed at any instant.

Every piece is a file of its own, whole or absent. When all are there they are joined, and the folder
gets its name.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from vistok.data.token_cache import CHECKED, WRITTEN, TokenCache, TokenManifest, token_dtype
from vistok.errors import UserError
from vistok.files import sha256_of, sync, write_atomic, write_json


class TokenCacheWriter:
    """Writes pieces of `piece_rows` rows in any order; the last may be smaller.

    One process prepares and finishes (and holds the lock between); all may write. `prepare` keeps what
    an earlier, stopped writer of the same cache has written.
    """

    def __init__(self, folder: Path, manifest: TokenManifest, piece_rows: int) -> None:
        self.folder, self.manifest, self.piece_rows = folder, manifest, piece_rows
        self.partial = folder.with_name(folder.name + ".partial")
        self.num_rows = manifest.num_images * len(manifest.views)
        self.num_pieces = -(-self.num_rows // piece_rows)
        self._dtype = token_dtype(manifest.codebook_size)
        self._lock: int | None = None

    def prepare(self, labels: np.ndarray) -> None:
        """Make the folder, or take over what is there; raises UserError where another process writes it."""
        self._take_lock()
        layout = json.dumps([json.loads(self.manifest.to_json()), self.piece_rows])
        try:
            same = (self.partial / "layout.json").read_text() == layout
        except (OSError, ValueError):
            same = False
        if not same:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            write_atomic(self.partial / "labels.npy", _npy(labels.astype(np.int64)))
            write_atomic(self.partial / "manifest.json", self.manifest.to_json().encode())
            write_atomic(self.partial / "layout.json", layout.encode())

    def missing(self) -> list[int]:
        """Return the numbers of the pieces that are not written yet."""
        return [number for number in range(self.num_pieces) if not self._is_whole(number)]

    def write(self, number: int, tokens: Tensor, seconds: float) -> None:
        """Write a piece (rows positions), and how long it took to make."""
        if tuple(tokens.shape) != self._shape(number):
            raise ValueError(f"piece {number} has shape {self._shape(number)}, found {tuple(tokens.shape)}")
        write_atomic(self._piece(number), _npy(tokens.cpu().numpy().astype(self._dtype)))
        write_atomic(self._piece(number).with_suffix(".seconds"), f"{seconds:.4f}".encode())

    def finish(self) -> TokenCache:
        """Join the pieces, move the cache to its place and open it."""
        if self.missing():
            raise RuntimeError(f"pieces {self.missing()} are not written")
        digest = hashlib.sha256()
        write_atomic(self.partial / "tokens.npy", self._joined(digest))
        seconds = sum(self._seconds(number) for number in range(self.num_pieces))
        sums = {name: sha256_of(self.partial / name) for name in CHECKED if name != "tokens.npy"}
        sums["tokens.npy"] = digest.hexdigest()
        write_json(self.partial / WRITTEN, {"seconds": round(seconds, 3), "sha256": sums})
        shutil.rmtree(self.folder, ignore_errors=True)
        os.replace(self.partial, self.folder)
        sync(self.folder.parent)
        (self.folder / "layout.json").unlink()
        shutil.rmtree(self.folder / "pieces")
        self.close()
        return TokenCache(self.folder)

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.folder.with_name(self.folder.name + ".lock"), os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise UserError(
                f"token cache {self.folder}: another process is writing it; wait for it or stop it, then repeat"
            ) from None

    def _piece(self, number: int) -> Path:
        return self.partial / "pieces" / f"{number:08d}.npy"

    def _shape(self, number: int) -> tuple[int, int]:
        rows = min(self.piece_rows, self.num_rows - number * self.piece_rows)
        return rows, self.manifest.num_tokens

    def _is_whole(self, number: int) -> bool:
        try:
            found = np.load(self._piece(number), mmap_mode="r", allow_pickle=False)
        except Exception:  # whatever numpy's parser of headers met
            return False
        return found.shape == self._shape(number) and found.dtype == self._dtype

    def _seconds(self, number: int) -> float:
        try:
            return float(self._piece(number).with_suffix(".seconds").read_text())
        except (OSError, ValueError):
            return 0.0  # killed between a piece and its time

    def _joined(self, digest: "hashlib._Hash") -> Iterator[bytes]:
        header = io.BytesIO()
        shape = (self.num_rows, self.manifest.num_tokens)
        description = np.lib.format.dtype_to_descr(np.dtype(self._dtype))
        np.lib.format.write_array_header_1_0(header, {"descr": description, "fortran_order": False, "shape": shape})
        digest.update(header.getvalue())
        yield header.getvalue()
        for number in range(self.num_pieces):
            rows = np.load(self._piece(number), allow_pickle=False).tobytes()
            digest.update(rows)
            yield rows


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
