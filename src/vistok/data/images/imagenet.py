"""ImageNet-1k in torchvision's layout: `train/<wnid>/*.JPEG` and `val/<wnid>/*.JPEG`.

`test` is the official validation set, which published scores are measured on; `val` is held out of train. Every image
is inspected once before the first run, as in any folder: at about 3 ms per image of 500x375, that is one core-hour for
all 1.28 million, shared among the available cores. The facts are kept, and a stopped inspection resumes.
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
from vistok.errors import UserError, are, counted
from vistok.files import only_one
from vistok.rng import stable_choice

HELD_OUT = 10_000
# Of the whole of it; a dry run counts with these where it is not on this machine.
COUNTS = {"train": 1_281_167 - HELD_OUT, "val": HELD_OUT, "test": 50_000}
LARGEST_HELD_OUT_SHARE = 10  # at most a tenth of a subset of ImageNet is held out


def load(config: DataConfig, split: str) -> FolderSource:
    """Return one split; archives in the folder are first unpacked by torchvision, once.

    Classes are numbered by sorted WordNet ids, as usual. The images of `val/` are inspected for every split, those of
    `train/` only for its own splits. Raises UserError if there is nothing, or if train and val have different classes.
    """
    root = Path(config.root)
    folder = "val" if split == "test" else "train"
    _make_ready(root, folder)
    folders = [folder] if folder == "val" or not _is_whole(root, "val") else ["train", "val"]
    class_names = _folders(root / folder)
    if not class_names:
        raise UserError(f"ImageNet {root / folder}: no class folders (n01440764 ...) in it; {_WANTED}")
    other = "train" if folder == "val" else "val"
    if _is_whole(root, other) and class_names != (other_names := _folders(root / other)):
        differing = sorted(set(class_names) ^ set(other_names))
        raise UserError(
            f"ImageNet {root}: train and val have different classes, such as {differing[0]!r}; both need a folder for "
            "every class"
        )
    listings = {name: _listed(root, name) for name in folders}
    splits = _splits(listings)
    files = [file for listing in listings.values() for file in listing.images]
    facts = inspect(root, files, config.channels, max(config.sides))
    facts |= {name: FileFacts("", (), why) for listing in listings.values() for name, why in listing.problems.items()}
    used, skipped = usable(f"ImageNet {root}", facts, config.unreadable_images, config.unusual_images)
    chosen = [name for name in splits[split] if name in used]
    if not chosen:
        raise UserError(f"ImageNet {root}: split {split!r} is empty; {len(used)} of {len(facts)} images can be used")
    numbers = {name: number for number, name in enumerate(class_names)}
    ignored = sum((listing.ignored for listing in listings.values()), Counter[str]())
    return FolderSource(
        root,
        chosen,
        [facts[name].digest for name in chosen],
        np.array([numbers[name.split(os.sep)[1]] for name in chosen]),
        class_names,
        config,
        report(facts, splits, used, skipped, ignored, sum(listing.hidden for listing in listings.values())),
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
    """Return the file that exists while archives are being unpacked, or after that was interrupted."""
    return root / f".{folder}-unpacking"


def _splits(listings: dict[str, Listing]) -> dict[str, list[str]]:
    """Return the files of each split. Skipped images count too, so that the held-out ones do not depend on them."""
    splits = {"test": listings["val"].images} if "val" in listings else {}
    if "train" in listings:
        files = listings["train"].images
        held_out = stable_choice(0, "imagenet-val", len(files), min(HELD_OUT, len(files) // LARGEST_HELD_OUT_SHARE))
        splits["val"] = [files[i] for i in np.sort(held_out)]
        splits["train"] = [files[i] for i in np.setdiff1d(np.arange(len(files)), held_out)]
    return splits


_WANTED = (
    "put ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz there, to be unpacked, or the "
    "unpacked train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, and name the folder with --data"
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
    """List what is below `train` or `val`, in order of class and name, with names relative to the root."""
    listing = list_images(root / folder)
    loose = [name for name in listing.images if os.sep not in name]
    if loose:
        raise UserError(
            f"ImageNet {root / folder}: {counted(len(loose), 'image')} {are(len(loose))} beside the class folders, such as {loose[0]!r}; move them "
            "into class folders (n01440764 ...), or elsewhere"
        )
    if not listing.images:
        raise UserError(f"ImageNet {root / folder}: the class folders are empty; {_WANTED}")
    # Not sorted by whole path, as one class's name may be the beginning of another's.
    listing.images = [
        os.path.join(folder, name) for name in sorted(listing.images, key=lambda name: name.split(os.sep))
    ]
    listing.problems = {os.path.join(folder, name): why for name, why in listing.problems.items()}
    return listing
