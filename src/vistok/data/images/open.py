"""Open a split of the configured data set."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class DataSet:
    """How a kind of data set is opened. Of one that is fetched when first used: whether it is here, its images by split, its classes."""

    load: Callable[[DataConfig, str], ImageSource]
    is_here: Callable[[DataConfig], bool] = lambda config: True
    counts: Mapping[str, int] = field(default_factory=dict)
    classes: int = 0


def open_split(config: DataConfig, split: str) -> ImageSource:
    """Return `train`, `val` (held out of train) or `test` of the configured data set."""
    if split not in ("train", "val", "test"):
        raise UserError(f"split {split!r}: must be one of train, val, test")
    source = DATA_SETS[config.dataset].load(config, split)
    if config.max_images is None or len(source) <= config.max_images:
        return source
    spread = evenly(len(source), config.max_images)
    return source.subset(spread, f"{config.max_images} images")


def images_to_fetch(config: DataConfig, split: str) -> int | None:
    """Return how many images a split has whose data set is known but not on this machine yet; None for all others.

    So a dry run can count without downloading anything.
    """
    known = DATA_SETS[config.dataset]
    if known.is_here(config):
        return None
    count = known.counts[split]
    return count if config.max_images is None else min(count, config.max_images)


def classes_to_fetch(config: DataConfig) -> int:
    """Return how many classes a data set has that `images_to_fetch` counts."""
    return DATA_SETS[config.dataset].classes


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


def _cifar10(config: DataConfig, split: str) -> ArraySource:
    from torchvision.datasets import CIFAR10

    root = Path(config.root)
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


DATA_SETS = {
    "fashion_mnist": DataSet(
        lambda config, split: fashion_mnist.load(Path(config.root), split),
        lambda config: fashion_mnist.is_complete(Path(config.root) / fashion_mnist.FOLDER),
        {"train": 50_000, "val": 10_000, "test": 10_000},
        10,
    ),
    "cifar10": DataSet(
        _cifar10,
        lambda config: (Path(config.root) / CIFAR10_FOLDER).is_dir(),
        {"train": 45_000, "val": 5_000, "test": 10_000},
        10,
    ),
    "openmoji": DataSet(
        lambda config, split: openmoji.load(Path(config.root), split, config.image_size),
        lambda config: any((Path(config.root) / openmoji.FOLDER).glob(f"*-{config.image_size}.npz")),
        {"train": 3_129, "val": 537, "test": 829},  # of version 17
        len(openmoji.CLASS_NAMES),
    ),
    "imagenet": DataSet(imagenet.load),
    "webdataset": DataSet(webdataset.load),
    "parquet": DataSet(parquet.load),
    "folder": DataSet(load_folder),
}
