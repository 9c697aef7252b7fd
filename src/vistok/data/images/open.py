"""Open a split of the configured data set."""

import re
from pathlib import Path

import numpy as np

from vistok.data.config import DataConfig
from vistok.data.evenly import evenly
from vistok.data.images import fashion_mnist, imagenet, openmoji, parquet, webdataset
from vistok.data.images.folder import load_folder
from vistok.data.images.names import is_hidden_below
from vistok.data.images.sources import ArraySource, ImageSource
from vistok.errors import UserError
from vistok.rng import stable_choice

CIFAR10_FOLDER = "cifar-10-batches-py"
# Images of each split of the data sets that are fetched when first used.
_COUNTS = {
    "fashion_mnist": {"train": 50_000, "val": 10_000, "test": 10_000},
    "cifar10": {"train": 45_000, "val": 5_000, "test": 10_000},
    "openmoji": {"train": 3_129, "val": 537, "test": 829},  # of version 17
}
# Classes of the same.
_CLASSES = {"fashion_mnist": 10, "cifar10": 10, "openmoji": len(openmoji.CLASS_NAMES)}


def open_split(config: DataConfig, split: str) -> ImageSource:
    """Return `train`, `val` (held out of train) or `test` of the configured data set."""
    if split not in ("train", "val", "test"):
        raise UserError(f"split {split!r}: must be one of train, val, test")
    source = _open(config, split)
    if config.max_images is None or len(source) <= config.max_images:
        return source
    spread = evenly(len(source), config.max_images)
    return source.subset(spread, f"{config.max_images} images")


def images_to_fetch(config: DataConfig, split: str) -> int | None:
    """Return how many images a split has whose data set is known but not on this machine yet; None for all others.

    So a dry run can count without downloading anything.
    """
    root = Path(config.root)
    here = {
        "fashion_mnist": fashion_mnist.is_complete(root / fashion_mnist.FOLDER),
        "cifar10": (root / CIFAR10_FOLDER).is_dir(),
        "openmoji": any((root / openmoji.FOLDER).glob(f"*-{config.image_size}.npz")),
    }
    if here.get(config.dataset, True):
        return None
    known = _COUNTS[config.dataset][split]
    return known if config.max_images is None else min(known, config.max_images)


def classes_to_fetch(config: DataConfig) -> int:
    """Return how many classes a data set has that `images_to_fetch` counts."""
    return _CLASSES[config.dataset]


def kind_of(root: str) -> str:
    """Return the kind of data set at a path, by its contents: shards, parquet files, ImageNet, or a folder.

    For imported networks, whose files do not say where their images are.
    """
    place = Path(root)
    if _is_imagenet(place):  # checked first, as its archives are .tar files too
        return "imagenet"
    if ".tar" in place.name and not place.is_dir() or _holds(place, ".tar"):
        return "webdataset"
    return "parquet" if _holds(place, ".parquet") else "folder"


def _holds(place: Path, suffix: str) -> bool:
    """Whether there is a file with this suffix anywhere below, ignoring hidden ones."""
    return any(not is_hidden_below(path.relative_to(place).as_posix()) for path in place.rglob(f"*{suffix}"))


def _is_imagenet(place: Path) -> bool:
    """Whether there are ImageNet archives, or class folders named by WordNet ids (n01440764)."""
    if any((place / f"ILSVRC2012_img_{name}.tar").is_file() for name in ("train", "val")):
        return True
    folders = (path.name for split in ("train", "val") for path in (place / split).glob("n*"))
    return re.fullmatch(r"n\d{8}", next(folders, "")) is not None


def _open(config: DataConfig, split: str) -> ImageSource:
    root = Path(config.root)
    if config.dataset == "fashion_mnist":
        return fashion_mnist.load(root, split)
    if config.dataset == "openmoji":
        return openmoji.load(root, split, config.image_size)
    if config.dataset == "cifar10":
        return _cifar10(root, split)
    if config.dataset == "imagenet":
        return imagenet.load(config, split)
    if config.dataset == "webdataset":
        return webdataset.load(config, split)
    if config.dataset == "parquet":
        return parquet.load(config, split)
    return load_folder(config, split)


def _cifar10(root: Path, split: str) -> ArraySource:
    from torchvision.datasets import CIFAR10

    try:
        cifar10 = CIFAR10(str(root), train=split != "test", download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"CIFAR-10 is not in {root} and cannot be downloaded ({error}); put torchvision's folder "
            f"{CIFAR10_FOLDER} there, or give the folder that contains it with --data"
        ) from None
    source = ArraySource(cifar10.data, np.array(cifar10.targets), cifar10.classes, "cifar10-" + cifar10.tgz_md5)
    if split == "test":
        return source
    held_out = stable_choice(0, "cifar10-val", len(source), len(source) // 10)
    rest = np.setdiff1d(np.arange(len(source)), held_out)
    return source.subset(held_out if split == "val" else rest, split)
