"""Fashion-MNIST (Zalando, MIT licence): downloaded by torchvision, else from the Debian package.

Both give the same four files, whose contents are checked against fixed digests.
"""

import gzip
import hashlib
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np

from vistok.data.images.sources import ArraySource
from vistok.errors import UserError
from vistok.files import only_one, read_bytes, write_atomic
from vistok.rng import numpy_generator

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
# SHA-256 of the uncompressed files.
DIGESTS = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
FOLDER = "fashion-mnist"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
VAL_PER_CLASS = 1_000


def load(root: Path, split: str) -> ArraySource:
    """Return a split: 50,000 `train`, 10,000 `val` (held out of train, 1,000 per class), 10,000 `test`."""
    folder = prepare(root)
    part = "t10k" if split == "test" else "train"
    images, labels = read_idx(folder / f"{part}-images-idx3-ubyte"), read_idx(folder / f"{part}-labels-idx1-ubyte")
    digest = DIGESTS[f"{part}-images-idx3-ubyte"]
    source = ArraySource(images[:, :, :, None], labels, CLASS_NAMES, digest)
    if split == "test":
        return source
    held_out = _held_out(labels)
    chosen = np.flatnonzero(held_out if split == "val" else ~held_out)
    return source.subset(chosen, split)


def _held_out(labels: np.ndarray) -> np.ndarray:
    mask = np.zeros(len(labels), dtype=bool)
    for label in range(len(CLASS_NAMES)):
        members = np.flatnonzero(labels == label)
        mask[numpy_generator(0, "fashion-mnist-val", label).permutation(members)[:VAL_PER_CLASS]] = True
    return mask


def prepare(root: Path) -> Path:
    """Return the folder with the four uncompressed files, fetching them if they are missing.

    Raises UserError naming both sources if neither can be reached.
    """
    folder = root / FOLDER
    if not is_complete(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with only_one(folder / "files"):  # with several processes, one fetches and the others find the files
            if not is_complete(folder):
                _fetch(folder)
    return folder


def is_complete(folder: Path) -> bool:
    """Whether the four uncompressed files are in a folder."""
    return all((folder / name).is_file() for name in DIGESTS)


def _fetch(folder: Path) -> None:
    failures = []
    if all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in DIGESTS):  # put there by hand
        try:
            _install(folder, folder)
            return
        except (OSError, EOFError, zlib.error) as error:
            failures.append(f"  {folder}: {error}")
    for name, fetch in (("torchvision's download", _from_torchvision), ("Debian package", _from_debian)):
        try:
            with tempfile.TemporaryDirectory() as scratch:
                _install(fetch(Path(scratch)), folder)
            return
        except (OSError, EOFError, zlib.error, RuntimeError, subprocess.SubprocessError, UserError) as error:
            failures.append(f"  {name}: {str(error).strip().splitlines()[-1] if str(error).strip() else error!r}")
    raise UserError(
        "Fashion-MNIST was not found: tried torchvision's download and the Debian package "
        f"{DEBIAN_PACKAGE!r}.\n" + "\n".join(failures) + f"\nPut the four files {', '.join(DIGESTS)} "
        f"(plain or .gz) into {DEBIAN_FOLDER} or {folder}, or connect to a network, and repeat the command."
    )


def _from_torchvision(scratch: Path) -> Path:
    # Fail quickly without a network: torchvision tries its mirrors without a timeout.
    import socket

    from torchvision.datasets import FashionMNIST

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(15)
    try:
        FashionMNIST(str(scratch), train=True, download=True)
    finally:
        socket.setdefaulttimeout(before)
    return scratch / "FashionMNIST" / "raw"


def _from_debian(scratch: Path) -> Path:
    if DEBIAN_FOLDER.is_dir():
        return DEBIAN_FOLDER
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        raise OSError("apt-get and dpkg are not on this machine")
    try:
        _run(["apt-get", "download", DEBIAN_PACKAGE], scratch)
    except OSError:  # no package lists yet: get them into our own folder, which needs no root
        options = _private_apt(scratch / "apt")
        _run(["apt-get", *options, "update"], scratch)
        _run(["apt-get", *options, "download", DEBIAN_PACKAGE], scratch)
    (package,) = scratch.glob(f"{DEBIAN_PACKAGE}_*.deb")
    _run(["dpkg", "-x", str(package), str(scratch)], scratch)
    return scratch / DEBIAN_FOLDER.relative_to("/")


def _private_apt(folder: Path) -> list[str]:
    """Return the options that make apt-get keep its lists below `folder`."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    places = {"Dir::State::lists": "lists", "Dir::Cache": "cache"}
    return [part for key, name in places.items() for part in ("-o", f"{key}={folder / name}")]


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise OSError(f"{command[0]} {command[-1]}: {done.stderr.strip() or 'failed'}")


def _install(source: Path, folder: Path) -> None:
    for name, digest in DIGESTS.items():
        plain, packed = source / name, source / f"{name}.gz"
        data = plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes())
        if hashlib.sha256(data).hexdigest() != digest:
            raise OSError(f"{name} differs from the published file")
        write_atomic(folder / name, data)


def read_idx(path: Path) -> np.ndarray:
    """Read one of the files (LeCun's IDX format: magic, sizes, unsigned bytes).

    Raises UserError if it is not the published file, as the data set's digest would then be wrong.
    """
    data = read_bytes(path)
    if hashlib.sha256(data).hexdigest() != DIGESTS[path.name]:
        raise UserError(f"{path} differs from the published file; delete it to have it fetched again")
    ndim = data[3]
    shape = np.frombuffer(data, dtype=">u4", count=ndim, offset=4)
    values = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * ndim)
    return values.reshape(tuple(int(n) for n in shape))
