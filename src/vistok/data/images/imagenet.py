"""ImageNet-1k in torchvision's layout: `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`.

`test` is the official validation set, whose images published scores are against; `val` is held out of train.
Every image is looked at once before the first run, as those of any folder: at about 3 ms an image of 500x375 that is an
hour of one processor core for all 1.28 million, shared among those there are. What was found is remembered; a look that
is stopped goes on.
"""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np

from vistok.data.config import DataConfig
from vistok.data.images.folder import FolderSource
from vistok.data.images.inspection import inspect, report, usable
from vistok.data.images.inspection_index import FileFacts
from vistok.data.images.names import is_hidden
from vistok.data.images.walking import Listing, list_images
from vistok.errors import UserError
from vistok.files import only_one
from vistok.rng import stable_choice

HELD_OUT = 10_000
LARGEST_HELD_OUT_SHARE = 10  # of a subset of ImageNet no more than a tenth is held out


def load(config: DataConfig, split: str) -> FolderSource:
    """Return one split; archives that lie in the folder are unpacked by torchvision first, once.

    Classes are numbered by sorted WordNet ids, as everywhere. The images of `val/` are looked at for every split, those
    of `train/` for theirs. Raises UserError where there is nothing, or train and val have different classes.
    """
    root = Path(config.root)
    folder = "val" if split == "test" else "train"
    _make_ready(root, folder)
    folders = [folder] if folder == "val" or not _is_whole(root, "val") else ["train", "val"]
    class_names = _folders(root / folder)
    if not class_names:
        raise UserError(f"ImageNet {root / folder}: no class folders (n01440764 ...) in it; {_WANTED}")
    other = "train" if folder == "val" else "val"
    if _is_whole(root, other) and class_names != (found := _folders(root / other)):
        differing = sorted(set(class_names) ^ set(found))
        raise UserError(
            f"ImageNet {root}: train and val have different classes, such as {differing[0]!r}; both need a folder of every "
            "class"
        )
    listings = {name: _listed(root, name) for name in folders}
    splits = _splits(listings)
    files = [file for listing in listings.values() for file in listing.images]
    facts = inspect(root, files, config.channels, max(config.sides))
    facts |= {name: FileFacts("", (), why) for found in listings.values() for name, why in found.problems.items()}
    used, skipped = usable(f"ImageNet {root}", facts, config.unreadable_images, config.unusual_images)
    chosen = [name for name in splits[split] if name in used]
    if not chosen:
        raise UserError(f"ImageNet {root}: split {split!r} is empty, of {len(facts)} images {len(used)} can be used")
    numbers = {name: number for number, name in enumerate(class_names)}
    ignored = sum((found.ignored for found in listings.values()), Counter[str]())
    return FolderSource(
        root,
        chosen,
        [facts[name].digest for name in chosen],
        np.array([numbers[name.split(os.sep)[1]] for name in chosen]),
        class_names,
        config,
        report(facts, splits, used, skipped, ignored, sum(found.hidden for found in listings.values())),
        former=[str(facts[name].size) for name in chosen],
    )


def _make_ready(root: Path, folder: str) -> None:
    if _is_whole(root, folder):
        return
    if not root.is_dir():
        raise UserError(f"ImageNet {root}: no such folder; {_WANTED}")
    with only_one(root / folder):
        if _begun(root, folder).exists():
            shutil.rmtree(root / folder, ignore_errors=True)
        if not (root / folder).is_dir():
            _unpack(root, folder, _begun(root, folder))


def _is_whole(root: Path, folder: str) -> bool:
    return (root / folder).is_dir() and not _begun(root, folder).exists()


def _begun(root: Path, folder: str) -> Path:
    """Return the file that is there while archives are being unpacked, and after a kill in between."""
    return root / f".{folder}-unpacking"


def _splits(listings: dict[str, Listing]) -> dict[str, list[str]]:
    """Return the files of each split. Images that are skipped count, so that who is held out does not depend on them."""
    splits = {"test": listings["val"].images} if "val" in listings else {}
    if "train" in listings:
        files = listings["train"].images
        held_out = stable_choice(0, "imagenet-val", len(files), min(HELD_OUT, len(files) // LARGEST_HELD_OUT_SHARE))
        splits["val"] = [files[i] for i in np.sort(held_out)]
        splits["train"] = [files[i] for i in np.setdiff1d(np.arange(len(files)), held_out)]
    return splits


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
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))


def _listed(root: Path, folder: str) -> Listing:
    """Return what lies below `train` or `val`, in order of class and name, with names relative to the root."""
    found = list_images(root / folder)
    loose = [name for name in found.images if os.sep not in name]
    if loose:
        raise UserError(
            f"ImageNet {root / folder}: {len(loose)} images lie beside the class folders, such as {loose[0]!r}; move them "
            "into class folders (n01440764 ...), or elsewhere"
        )
    if not found.images:
        raise UserError(f"ImageNet {root / folder}: the class folders are empty; {_WANTED}")
    # Not in order of the whole names: a class's name may be the beginning of another one's.
    found.images = [os.path.join(folder, name) for name in sorted(found.images, key=lambda name: name.split(os.sep))]
    found.problems = {os.path.join(folder, name): why for name, why in found.problems.items()}
    return found
