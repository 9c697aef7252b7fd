"""WebDataset shards (tar files of `key.jpg`, `key.cls`, ...) as a source, local or by URL.

Shards are read by index rather than as a stream, so that order, resuming and workers behave as with any other source.
Shards at a URL are downloaded once, into the user's cache folder.
"""

import hashlib
import http.client
import itertools
import re
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from vistok.data.config import DataConfig
from vistok.data.images.names import image_suffixes, is_hidden_below
from vistok.data.images.packed import PackedSource, open_packed
from vistok.data.images.packed_files import Packed, listed
from vistok.data.images.tar_samples import Samples
from vistok.errors import UserError, damage_is_a_mistake, reason
from vistok.files import only_one, sweep, user_cache, write_atomic

TIMEOUT = 60  # seconds without a byte
BLOCK = 512
TAIL = 64 * 2**10  # bytes after the end of an archive to search for another one; padding is 10 KiB


def load(config: DataConfig, split: str) -> PackedSource:
    """Return one split of the shards that `config.root` names.

    It is a folder, a file or URL with ranges as in `train-{0000..0146}.tar`, or several of these joined by `::`.
    `tar_samples.py` defines images, labels and samples.
    """
    names = [name for part in config.root.split("::") for name in _expanded(part)]
    return open_packed(names, lambda name: _shard(name, config), config, split)


def _expanded(part: str) -> list[str]:
    root = Path(part)
    if root.is_dir():
        below = sorted(root.rglob("*.tar"))
        shards = [str(path) for path in below if not is_hidden_below(path.relative_to(root).as_posix())]
        if not shards:
            raise UserError(f"shards {part!r}: no .tar file in this folder")
        return shards
    return brace_expand(part)


def brace_expand(pattern: str) -> list[str]:
    """Return the names that `{0000..0146}` and `{a,b}` in a pattern stand for, in order."""
    pieces = re.split(r"\{([^{}]+)\}", pattern)
    choices = [[piece] if i % 2 == 0 else _choices(piece) for i, piece in enumerate(pieces)]
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(text: str) -> list[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if numbers is None:
        return text.split(",")
    first, last = numbers[1], numbers[2]
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _shard(name: str, config: DataConfig) -> Packed:
    remote = re.match(r"https?://", name) is not None
    path = _downloaded(name) if remote else Path(name)
    if not path.is_file():
        raise UserError(f"shard {name}: not found (data {config.root!r}); copy it there, or narrow the range")
    advice = f"remove {path}, then repeat the command to download it again" if remote else "copy it again"
    options = f"{config.image_key} {image_suffixes()}"
    return listed(path, name, options, lambda: _read_tar(path, name, config.image_key, advice))


def _downloaded(url: str) -> Path:
    path = user_cache() / "shards" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{url.rsplit('/', 1)[-1][-100:]}"
    if not path.is_file():
        with only_one(path):
            if not path.is_file():
                sweep(path.parent, of=path.name)
                write_atomic(path, _pieces(url))
    return path


def _pieces(url: str) -> Iterator[bytes]:
    """Yield the contents of a URL, piece by piece; raises UserError if it is incomplete."""
    received = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            expected = answer.headers.get("Content-Length")
            while piece := answer.read(2**20):
                received += len(piece)
                yield piece
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(
            f"shard {url}: cannot be downloaded ({reason(error)}); check the address, then repeat"
        ) from None
    if expected is not None and expected.isdecimal() and received != int(expected):
        raise UserError(f"shard {url}: only {received} of {expected} bytes arrived; repeat the command")


def _read_tar(path: Path, name: str, image_key: str | None, advice: str) -> Packed:
    """List a shard."""
    samples = Samples(f"shard {name}", image_key)
    with damage_is_a_mistake(f"shard {name}", advice), path.open("rb") as file:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps all members: a gigabyte for a million
                samples.add(member, file)
        file.seek(tar.offset)
        _at_its_end(file.read(TAIL))
    return samples.listed(path)


def _at_its_end(tail: bytes) -> None:
    """Raise ValueError if an archive continues after the last member found, where tarfile stops silently."""
    if tail[:BLOCK].strip(b"\0"):
        raise ValueError("a damaged header; images may follow it")
    if tail.strip(b"\0"):
        start = len(tail) - len(tail.lstrip(b"\0"))
        if tail[start // BLOCK * BLOCK :][257:262] == b"ustar":
            raise ValueError("several archives, one after another; join them with tar --concatenate")
