"""Open a split of the configured data set."""

from pathlib import Path

from vistok.data import fashion_mnist
from vistok.data.config import DataConfig
from vistok.data.sources import ArraySource, ImageSource, load_folder
from vistok.rng import stable_choice


def open_split(config: DataConfig, split: str) -> ImageSource:
    """Return `train`, `val` (held out of train) or `test` of the configured data set."""
    root = Path(config.root)
    if config.dataset == "fashion_mnist":
        return fashion_mnist.load(root, split)
    if config.dataset == "cifar10":
        return _cifar10(root, split)
    return load_folder(root, split, config.channels)


def _cifar10(root: Path, split: str) -> ArraySource:
    import numpy as np
    from torchvision.datasets import CIFAR10

    found = CIFAR10(str(root), train=split != "test", download=True)
    source = ArraySource(found.data, np.array(found.targets), found.classes, "cifar10-" + found.tgz_md5)
    if split == "test":
        return source
    held_out = stable_choice(0, "cifar10-val", len(source), len(source) // 10)
    rest = np.setdiff1d(np.arange(len(source)), held_out)
    return source.subset(held_out if split == "val" else rest, split)
