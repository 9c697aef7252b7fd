"""WebDataset shards (tar files of `key.jpg`, `key.cls`, ...) as a source, local or by URL.

Shards are read by place and not as a stream, so that order, resume and workers behave as with any other source.
A URL's shards are downloaded once, into the user's cache folder.
"""

import hashlib
import itertools
import json
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from vistok.data.config import DataConfig
from vistok.data.image_file import IMAGE_SUFFIXES
from vistok.data.packed import Packed, PackedSource, listed, open_packed
from vistok.errors import UserError
from vistok.files import disk_error, only_one, replace_synced, user_cache

TIMEOUT = 60  # seconds without a byte


def load(config: DataConfig, split: str) -> PackedSource:
    """Return one split of the shards that `config.root` names.

    It is a folder, a file or URL with ranges as in `train-{0000..0146}.tar`, or several of these joined by `::`.
    Labels come from `.cls` (a number) or `.json` (its "label"); without them all images are of one class.
    """
    names = [name for part in config.root.split("::") for name in _expanded(part)]
    return open_packed(names, lambda name: _shard(name, config.root), config, split)


def _expanded(part: str) -> list[str]:
    if Path(part).is_dir():
        found = sorted(str(path) for path in Path(part).rglob("*.tar"))
        if not found:
            raise UserError(f"shards {part!r}: no .tar file in this folder")
        return found
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


def _shard(name: str, root: str) -> Packed:
    path = _downloaded(name) if re.match(r"https?://", name) else Path(name)
    if not path.is_file():
        raise UserError(f"shard {path}: not found (data {root!r}); copy it there, or narrow the range")
    return listed(path, lambda: _read_tar(path))


def _downloaded(url: str) -> Path:
    path = user_cache() / "shards" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{url.rsplit('/', 1)[-1]}"
    if not path.is_file():
        with only_one(path):
            if not path.is_file():
                _download(url, path)
    return path


def _download(url: str, path: Path) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, partial.open("wb") as file:
            expected = answer.headers.get("Content-Length")
            shutil.copyfileobj(answer, file, 2**20)
            if expected is not None and file.tell() != int(expected):
                raise UserError(f"shard {url}: {file.tell()} of {expected} bytes came; repeat the command")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise UserError(f"shard {url}: cannot be downloaded ({error}); check the address, then repeat") from None
    except OSError as error:
        raise disk_error(path, error) from None
    replace_synced(partial, path)


def _read_tar(path: Path) -> Packed:
    """List a shard: members are grouped by their name up to the first dot, in order."""
    images: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                stem, _, extension = base.partition(".")
                key, suffix = f"{folder}/{stem}", f".{extension.lower()}"
                if not member.isfile():
                    continue
                if suffix.endswith(IMAGE_SUFFIXES):
                    images[key] = (member.offset_data, member.size)
                elif suffix in (".cls", ".json"):
                    found = tar.extractfile(member)
                    assert found is not None
                    labels |= _label(found.read(), suffix, key, path)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(f"shard {path}: cannot be read as a tar file ({error}); copy it again") from None
    unlabelled = [key for key in images if key not in labels]
    if unlabelled and len(unlabelled) < len(images):
        raise UserError(
            f"shard {path}: {len(unlabelled)} of {len(images)} images have no label, such as {unlabelled[0]!r}"
        )
    places = np.array(list(images.values()), dtype=np.int64).reshape(-1, 2)
    return Packed(path, places[:, 0], places[:, 1], np.array([labels.get(key, 0) for key in images], dtype=np.int64))


def _label(data: bytes, suffix: str, key: str, path: Path) -> dict[str, int]:
    try:
        if suffix == ".cls":
            return {key: int(data)}
        found = json.loads(data)
        return {key: int(found["label"])} if isinstance(found, dict) and "label" in found else {}
    except (ValueError, TypeError):
        raise UserError(f"shard {path}: the label of {key!r} is {data[:40]!r}, wanted a number") from None
