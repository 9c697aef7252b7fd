"""A folder of images as a source: classes, splits, and what to do with unusable files."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vistok.data.config import DataConfig
from vistok.data.images.folder_splits import divide, split_folders, top
from vistok.data.images.image_file import read_image
from vistok.data.images.inspection import FolderReport, describe_ignored, inspect, report, usable
from vistok.data.images.inspection_index import FileFacts
from vistok.data.images.names import image_suffixes, is_hidden
from vistok.data.images.sources import ImageSource
from vistok.data.images.walking import Listing, list_images
from vistok.errors import UserError, are, counted, some


class FolderSource(ImageSource):
    """Image files, decoded when read. Raises UserError naming a file that cannot be read.

    `digests` are of the files' bytes; `former`: what earlier versions used in their place.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        digests: Sequence[str],
        labels: np.ndarray,
        class_names: Sequence[str],
        config: DataConfig,
        report: FolderReport | None = None,
        former: Sequence[str] | None = None,
    ) -> None:
        self.root, self.config = root, config
        # Millions of digests take half the memory in an array.
        self.files, self.digests, self.former = list(files), np.array(digests, dtype=np.bytes_), former
        self.labels = labels.astype(np.int64)
        self.class_names = tuple(class_names)
        self.report = report
        self.digest = _digest(self.files, digests)
        if former is not None:
            self.former_digests = (_digest(self.files, former),)

    def read(self, index: int) -> np.ndarray:
        """Return one image as uint8 (height, width, channels), turned upright by its EXIF tag."""
        return read_image(self.root / self.files[index], self.config.channels, self.config.least_side)

    def subset(self, indices: np.ndarray, name: str) -> "FolderSource":
        """Return the images at `indices` as a separate source."""
        former = None if self.former is None else [self.former[i] for i in indices]
        return FolderSource(
            self.root,
            [self.files[i] for i in indices],
            [digest.decode() for digest in self.digests[indices].tolist()],
            self.labels[indices],
            self.class_names,
            self.config,
            self.report,
            former,
        )


def _digest(files: Sequence[str], marks: Sequence[str]) -> str:
    named = (f"{name}\0{mark}" for name, mark in zip(files, marks, strict=True))
    return hashlib.sha256("\n".join(named).encode(errors="surrogateescape")).hexdigest()


def load_folder(config: DataConfig, split: str) -> FolderSource:
    """Return one split of a folder of images.

    Sub-folders named train/val/test (`names.SPLITS`) are splits; for `test` and `val`, if missing, a tenth of the files
    each is held out, chosen by a hash of the names. The sub-folders below are the classes; a flat folder has one class,
    named "all". All files are inspected and all splits checked first, so that problems with `test` show up before
    training. Raises UserError for a missing or empty folder or split, for files that the config refuses, and for images
    outside every split or class.
    """
    root = Path(config.root)
    what = f"folder of images {str(root)!r}"
    listing = _listing(root, what)
    files = listing.images
    folders = split_folders(root, what)
    splits = divide(files, folders, what)
    facts = inspect(root, files, config.channels, max(config.sides))
    facts |= {name: FileFacts("", (), problem) for name, problem in listing.problems.items()}
    used, skipped = usable(what, facts, config.unreadable_images, config.unusual_images)
    runs = {root / name for name in listing.runs}
    class_names = _class_names(root / folders.get("train", ""), files, folders, used, runs)
    chosen = {name: [file for file in files if file in used] for name, files in splits.items()}
    for name in chosen:
        _check_split(name, chosen, folders, class_names, what)
    if not chosen[split]:
        raise UserError(
            f"{what}: split {split!r} is empty; at least 3 images are needed in total, found "
            f"{len(files)}, of which {len(used)} can be used"
        )
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = np.array([numbers[_class_of(file, _base(split, folders))] for file in chosen[split]])
    folder_report = report(facts, splits, used, skipped, listing.ignored, listing.hidden, listing.runs)
    digests = [facts[name].digest for name in chosen[split]]
    return FolderSource(root, chosen[split], digests, labels, class_names, config, folder_report)


def _listing(root: Path, what: str) -> Listing:
    if root.is_file():
        raise UserError(f"{what}: a file; give the folder that it is in, or the one that it is unpacked to")
    if not root.is_dir():
        raise UserError(f"{what}: not found; give an existing folder, as in --data photos/")
    listing = list_images(root)
    if not listing.images and not listing.problems:
        ignored = f" ({describe_ignored(listing.ignored)})" if listing.ignored else ""
        raise UserError(
            f"{what}: no images found{ignored}; image files end in {', '.join(image_suffixes())} "
            "and are in one sub-folder per class, or all in one folder"
        )
    return listing


def _check_split(
    split: str, chosen: Mapping[str, Sequence[str]], folders: Mapping[str, str], class_names: Sequence[str], what: str
) -> None:
    """Raise UserError for a split without usable images, or with classes that train does not have."""
    files, base = chosen[split], _base(split, folders)
    if not files and split in folders:
        raise UserError(
            f"{what}: split {split!r} is empty, as no image in {base!r} can be used; add images, or remove the folder"
        )
    if not files and chosen["train"]:
        raise UserError(f"{what}: none of the images held out as split {split!r} can be used; add images")
    loose = [name for name in files if not top(_below(name, base))]
    if loose and list(class_names) != ["all"]:
        raise UserError(
            f"{what}: {counted(len(loose), 'image')} of split {split!r} {are(len(loose))} not in class folders (such as {loose[0]!r}), unlike "
            f"those of train. A folder called {base!r} holds the images of this split: if it is a class, rename it; if not, sort them into "
            "folders of the same classes, or move it elsewhere: some images of train are then held out in its place"
        )
    unknown = sorted({_class_of(name, base) for name in files} - set(class_names))
    if unknown:
        raise UserError(f"{what}: split {split!r} has classes that train does not have: {some(unknown)}")


def _class_names(
    base: Path, files: Sequence[str], folders: Mapping[str, str], used: set[str], left_out: set[Path]
) -> list[str]:
    """Return the classes, sorted; raises UserError if some are empty or there are loose files beside them."""
    top_folder, given = folders.get("train", ""), set(folders.values())
    mine = [name for name in files if (top(name) == top_folder if top_folder else top(name) not in given)]
    loose = [name for name in mine if not top(_below(name, top_folder))]
    named = {top(_below(name, top_folder)) for name in mine} - {""}
    if not named:
        return ["all"]
    if loose:
        raise UserError(
            f"folder of images {str(base)!r}: {counted(len(loose), 'file')} {are(len(loose))} beside the class folders (first: {loose[0]!r}); "
            "move them into a class folder, or put all images into one flat folder"
        )
    there = {path.name for path in set(base.iterdir()) - left_out if path.is_dir() and not is_hidden(path.name)}
    there -= set() if top_folder else set(folders.values())
    empty = sorted(there - {_class_of(name, top_folder) for name in mine if name in used})
    if empty:
        readable = " that can be read" if any(_class_of(name, top_folder) in empty for name in mine) else ""
        raise UserError(
            f"folder of images {str(base)!r}: class folders without any images{readable}: {some(empty)}; add images there, or "
            "move the folders elsewhere"
        )
    alike = _alike(named)
    if alike:
        raise UserError(
            f"folder of images {str(base)!r}: class folders {some(alike)} differ only in case; rename or merge them"
        )
    return sorted(named)


def _alike(names: Iterable[str]) -> list[str]:
    """Return the names that differ from another only in upper and lower case, sorted."""
    lowered = [(name, name.lower()) for name in names]
    counts = Counter(low for _, low in lowered)
    return sorted(name for name, low in lowered if counts[low] > 1)


def _base(split: str, folders: Mapping[str, str]) -> str:
    """Return the folder that contains the class folders of a split, "" for the root."""
    return folders.get(split, folders.get("train", ""))


def _below(name: str, folder: str) -> str:
    return name.removeprefix(folder + os.sep) if folder else name


def _class_of(name: str, folder: str) -> str:
    return top(_below(name, folder)) or "all"
