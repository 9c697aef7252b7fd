"""ImageNet-1k in torchvision's layout: `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`.

`test` is the official validation set, whose images published scores are against; `val` is held out of train.
Files are listed, not read: 1.3 million of them are vouched for by the checksums of the archives they came in.
"""

import os
import shutil
from pathlib import Path

import numpy as np

from vistok.data.config import DataConfig
from vistok.data.folder import FolderSource
from vistok.errors import UserError
from vistok.files import only_one
from vistok.rng import stable_choice

HELD_OUT = 10_000
LARGEST_HELD_OUT_SHARE = 10  # of a subset of ImageNet no more than a tenth is held out


def load(config: DataConfig, split: str) -> FolderSource:
    """Return one split; archives that lie in the folder are unpacked by torchvision first, once.

    Classes are numbered by sorted WordNet ids, as everywhere. Raises UserError where there is nothing.
    """
    root, folder = Path(config.root), "val" if split == "test" else "train"
    begun = root / f".{folder}-unpacking"  # there while archives are being unpacked, and after a kill in between
    if begun.exists() or not (root / folder).is_dir():
        if not root.is_dir():
            raise UserError(f"ImageNet {root}: no such folder; {_WANTED}")
        with only_one(root / folder):
            if begun.exists():
                shutil.rmtree(root / folder, ignore_errors=True)
            if not (root / folder).is_dir():
                _unpack(root, folder, begun)
    class_names = _folders(root / folder)
    if not class_names:
        raise UserError(f"ImageNet {root / folder}: no class folders (n01440764 ...) in it; {_WANTED}")
    if split == "test" and (root / "train").is_dir() and class_names != (found := _folders(root / "train")):
        differing = sorted(set(class_names) ^ set(found))
        raise UserError(
            f"ImageNet {root}: train and val have different classes, such as {differing[0]!r}; both need a folder of every "
            "class"
        )
    files, sizes, labels = _listed(root, folder, class_names)
    source = FolderSource(root, files, sizes, labels, class_names, config)
    if split == "test":
        return source
    count = min(HELD_OUT, len(source) // LARGEST_HELD_OUT_SHARE)
    held_out = stable_choice(0, "imagenet-val", len(source), count)
    rest = np.setdiff1d(np.arange(len(source)), held_out)
    return source.subset(np.sort(held_out) if split == "val" else rest, split)


_WANTED = (
    "put ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz there, which are unpacked, or "
    "the unpacked train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, and name the folder with --data"
)


def _unpack(root: Path, folder: str, begun: Path) -> None:
    from torchvision.datasets import ImageNet

    try:
        begun.touch()
        ImageNet(str(root), split=folder)
        begun.unlink()
    except (OSError, RuntimeError) as error:
        if not (root / folder).is_dir():
            begun.unlink(missing_ok=True)
        raise UserError(f"ImageNet is not in {root} ({str(error).splitlines()[0]}); {_WANTED}") from None


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _listed(root: Path, folder: str, class_names: list[str]) -> tuple[list[str], list[str], np.ndarray]:
    """Return names, sizes and labels of all files, in order of class and name."""
    files: list[str] = []
    sizes: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        with os.scandir(root / folder / name) as entries:
            found = sorted((entry.name, entry.stat().st_size) for entry in entries if entry.is_file())
        files += [os.path.join(folder, name, file) for file, _ in found]
        sizes += [str(size) for _, size in found]
        labels += [label] * len(found)
    if not files:
        raise UserError(f"ImageNet {root / folder}: the class folders are empty; {_WANTED}")
    return files, sizes, np.array(labels)
