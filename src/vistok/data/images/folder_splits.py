"""Which images of a folder are for training and which are held out, by sub-folders or by a hash of the names."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vistok.data.config import Split
from vistok.data.images.names import is_hidden, split_names, split_of_folder
from vistok.errors import UserError, are, counted

HELD_OUT_SHARE = 0.1
SHOWN = 5


def split_folders(root: Path, what: str) -> dict[str, str]:
    """Return split -> sub-folder for the splits that have one; raises UserError if two folders mean the same split."""
    given: dict[str, str] = {}
    for name in sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not is_hidden(entry.name)):
        split = split_of_folder(name)
        if split is not None and split in given:
            raise UserError(f"{what}: both {given[split]!r} and {name!r} mean {split}; keep one of them")
        if split is not None:
            given[split] = name
    return given


def divide(files: Sequence[str], folders: Mapping[str, str], what: str) -> dict[str, list[str]]:
    """Return the files of each split: those in its folder, or, if it has none, files held out of train; every class stays in train.

    Raises UserError if there is a folder for train, but some images are outside every split.
    """
    splits = {split: [name for name in files if top(name) == folder] for split, folder in folders.items()}
    # Folders for test or val are below the root too, but not for training.
    given = set(folders.values())
    rest = [name for name in files if top(name) not in given]
    if "train" in folders and rest:
        raise UserError(
            f"{what}: {_places(rest)} in no split, although there is a folder {folders['train']!r}. Split folders are "
            f"{split_names()}; move the images into one of them, or out of this folder"
        )
    rest = splits.get("train", rest)
    held_out: list[Split] = [name for name in ("test", "val") if name not in folders]
    prefix = folders["train"] + os.sep if "train" in folders else ""
    ranked = sorted(
        rest, key=lambda name: hashlib.sha256(name.removeprefix(prefix).encode(errors="surrogateescape")).digest()
    )
    count = max(1, round(len(rest) * HELD_OUT_SHARE))
    for i, split in enumerate(held_out):
        splits[split] = sorted(ranked[i * count : (i + 1) * count])
    splits["train"] = sorted(ranked[len(held_out) * count :])
    for split in held_out:
        _give_back(splits, split, prefix)
    return splits


def _give_back(splits: dict[str, list[str]], split: Split, prefix: str) -> None:
    """Move to train what was held out of classes of which nothing is left there: none would learn them."""
    learned = {top(name.removeprefix(prefix)) for name in splits["train"]}
    back = {name for name in splits[split] if top(name.removeprefix(prefix)) not in learned}
    if 0 < len(back) < len(splits[split]):
        splits["train"] = sorted([*splits["train"], *back])
        splits[split] = [name for name in splits[split] if name not in back]


def _places(files: Sequence[str]) -> str:
    """Return where files are: "12 images in 'cats', 3 images in 'dogs', 1 image beside the folders (...) are"."""
    counts = Counter(top(name) for name in files)
    loose = counts.pop("", 0)
    parts = [f"{_images(count)} in {folder!r}" for folder, count in sorted(counts.items())]
    if len(parts) > SHOWN:
        rest = sum(count for _, count in sorted(counts.items())[SHOWN:])
        parts = [*parts[:SHOWN], f"{_images(rest)} in {len(parts) - SHOWN} more folders"]
    if loose:
        parts.append(f"{_images(loose)} beside the folders (such as {next(f for f in files if not top(f))!r})")
    return ", ".join(parts) + f" {are(len(files))}"


def _images(count: int) -> str:
    return counted(count, "image")


def top(name: str) -> str:
    """Return the first folder of a relative name, "" where it has none."""
    return name.split(os.sep)[0] if os.sep in name else ""
