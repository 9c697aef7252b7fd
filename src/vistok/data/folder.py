"""A folder of images as a source: classes, splits, and what to do with files that are no good."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vistok.data.config import DataConfig
from vistok.data.image_file import IMAGE_SUFFIXES, read_image
from vistok.data.inspection import FileFacts, FolderReport, inspect, report, usable
from vistok.data.sources import ImageSource
from vistok.errors import UserError

SPLIT_FOLDERS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
HELD_OUT_SHARE = 0.1


class FolderSource(ImageSource):
    """Image files, decoded when read; `digests` are of their bytes. Raises UserError naming an unreadable file."""

    def __init__(
        self,
        root: Path,
        files: Sequence[str],
        digests: Sequence[str],
        labels: np.ndarray,
        class_names: Sequence[str],
        config: DataConfig,
        report: FolderReport | None = None,
    ) -> None:
        self.root, self.config = root, config
        self.files, self.digests = list(files), list(digests)
        self.labels = labels.astype(np.int64)
        self.class_names = tuple(class_names)
        self.report = report
        named = (f"{name}\0{digest}" for name, digest in zip(self.files, self.digests, strict=True))
        self.digest = hashlib.sha256("\n".join(named).encode(errors="surrogateescape")).hexdigest()

    def read(self, index: int) -> np.ndarray:
        """Return one image as uint8 (height, width, channels), turned upright by its EXIF tag."""
        return read_image(self.root / self.files[index], self.config.channels, self.config.image_size)

    def subset(self, indices: np.ndarray, name: str) -> "FolderSource":
        """Return the images at `indices` as a source of their own."""
        files, digests = ([values[i] for i in indices] for values in (self.files, self.digests))
        return FolderSource(self.root, files, digests, self.labels[indices], self.class_names, self.config, self.report)


def load_folder(config: DataConfig, split: str) -> FolderSource:
    """Return one split of a folder of images.

    Sub-folders named train/val/test are splits; without them, a tenth of the files each, chosen by a
    hash of their names, are held out as `test` and `val`. Sub-folders below are the classes; a flat
    folder has one class, named "all". All files of all splits are looked at first. Raises UserError for
    a missing or empty folder, and for files that the config refuses.
    """
    root = Path(config.root)
    if not root.is_dir():
        raise UserError(f"folder of images {str(root)!r}: not found; give an existing folder, as in --data photos/")
    files, problems = _image_files(root)
    if not files and not problems:
        raise UserError(
            f"folder of images {str(root)!r}: no image found; files end in {', '.join(IMAGE_SUFFIXES)}, "
            "one sub-folder per class or all in one"
        )
    folders = _split_folders(root)
    splits = _split(files, folders)
    facts = inspect(root, files, config.channels, config.image_size) | problems
    used, skipped = usable(f"folder of images {str(root)!r}", facts, config.unreadable_images, config.unusual_images)
    class_names = _class_names(root / folders.get("train", ""), files, folders, used)
    chosen = [name for name in splits[split] if name in used]
    if not chosen:
        raise UserError(
            f"folder of images {str(root)!r}: split {split!r} is empty; at least 3 images are needed in all, found "
            f"{len(files)}, of which {len(used)} can be used"
        )
    classes = [_class_of(name, folders.get(split, folders.get("train", ""))) for name in chosen]
    unknown = sorted(set(classes) - set(class_names))
    if unknown:
        raise UserError(f"split {split!r} has classes that train has not: {', '.join(unknown)}")
    labels = np.array([class_names.index(name) for name in classes])
    found = report(facts, splits, used, skipped)
    return FolderSource(root, chosen, [facts[name].digest for name in chosen], labels, class_names, config, found)


def _image_files(root: Path) -> tuple[list[str], dict[str, FileFacts]]:
    """Return names of image files below a folder, links followed, and what cannot be entered."""
    found: list[str] = []
    problems: dict[str, FileFacts] = {}

    def refused(error: OSError) -> None:
        problems[os.path.relpath(error.filename, root)] = FileFacts("", (), error.strerror)

    for folder, below, names in os.walk(root, followlinks=True, onerror=refused):
        below.sort()
        above = {os.path.realpath(root)} | {str(parent) for parent in Path(os.path.realpath(folder)).parents}
        for name in list(below):
            path = os.path.join(folder, name)
            if os.path.islink(path) and os.path.realpath(path) in above | {os.path.realpath(folder)}:
                below.remove(name)
                problems[os.path.relpath(path, root)] = FileFacts("", (), "a symbolic link that leads in a circle")
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                found.append(os.path.relpath(os.path.join(folder, name), root))
    return sorted(found), problems


def _split_folders(root: Path) -> dict[str, str]:
    """Return split -> sub-folder for those that are given."""
    given: dict[str, str] = {}
    for name in sorted(SPLIT_FOLDERS):
        split = SPLIT_FOLDERS[name]
        if (root / name).is_dir():
            if split in given:
                raise UserError(
                    f"folder of images {str(root)!r}: both {given[split]!r} and {name!r} are there; keep one"
                )
            given[split] = name
    return given


def _split(files: list[str], folders: dict[str, str]) -> dict[str, list[str]]:
    """Return the files of each split: those in its folder, and what is held out for splits without one."""
    splits = {split: [name for name in files if _top(name) == folder] for split, folder in folders.items()}
    # Given test or val images lie below the root too, and are not for training.
    rest = splits["train"] if "train" in folders else [name for name in files if _top(name) not in folders.values()]
    held_out = [name for name in ("test", "val") if name not in folders]
    prefix = folders["train"] + os.sep if "train" in folders else ""
    ranked = sorted(
        rest, key=lambda name: hashlib.sha256(name.removeprefix(prefix).encode(errors="surrogateescape")).digest()
    )
    count = max(1, round(len(rest) * HELD_OUT_SHARE))
    for i, split in enumerate(held_out):
        splits[split] = sorted(ranked[i * count : (i + 1) * count])
    splits["train"] = sorted(ranked[len(held_out) * count :])
    return splits


def _class_names(base: Path, files: list[str], folders: dict[str, str], used: set[str]) -> list[str]:
    """Return the classes, sorted; raises UserError for empty ones, and where classes and loose files mix."""
    top = folders.get("train", "")
    mine = [name for name in files if (_top(name) == top if top else _top(name) not in folders.values())]
    named = {_class_of(name, top) for name in mine if _below(name, top) != os.path.basename(name)}
    if not named:
        return ["all"]
    loose = [name for name in mine if _below(name, top) == os.path.basename(name)]
    if loose:
        raise UserError(
            f"folder of images {str(base)!r}: {len(loose)} files lie beside the class folders (first: {loose[0]!r}); "
            "move them into a class folder, or put all images into one flat folder"
        )
    there = {path.name for path in base.iterdir() if path.is_dir() and not path.name.startswith(".")}
    there -= set() if top else set(folders.values())
    empty = sorted(there - {_class_of(name, top) for name in mine if name in used})
    if empty:
        raise UserError(
            f"folder of images {str(base)!r}: class folders without any image: {', '.join(empty)}; put images there, or "
            "remove the folders"
        )
    alike = sorted(name for name in named if sum(other.lower() == name.lower() for other in named) > 1)
    if alike:
        raise UserError(
            f"folder of images {str(base)!r}: class folders {', '.join(alike)} differ in capitals only; rename or merge them"
        )
    return sorted(named)


def _top(name: str) -> str:
    return name.split(os.sep)[0] if os.sep in name else ""


def _below(name: str, folder: str) -> str:
    return name.removeprefix(folder + os.sep) if folder else name


def _class_of(name: str, folder: str) -> str:
    return _top(_below(name, folder)) or "all"
