"""The facts about a folder of images that decide how to train on it."""

import io
import os
import shlex
import statistics
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vistok.data.config import DataConfig, Framing
from vistok.data.evenly import evenly
from vistok.data.images.folder import FolderSource
from vistok.data.images.framing import MARGIN, Box, centred, figure_of, looked_at
from vistok.data.images.image_file import BadImage, decode, file_bytes, not_read, open_image, upright_size
from vistok.data.images.inspection import describe_ignored
from vistok.data.images.names import split_of_folder
from vistok.data.images.open import kind_of, open_split
from vistok.data.images.walking import list_images
from vistok.errors import UserError, are, counted, some

LOOKED_AT = 200
# A picture is grey if its channels differ by less than this on average (0...255): JPEG leaves a little colour.
GREY = 2.0
# Files that are named as unreadable, and the share of a picture below which it is said that its sides are cut off.
SHOWN, KEPT = 3, 0.9
# Pictures whose ratios differ by less than this share one, if so many of them do.
SHARED, MOST = 1.2, 0.8
# Side (pixels) at which a picture is looked at, and the share of it from which what stands on its ground is close enough.
SMALL, CLOSE = 128, 0.7
# How far a figure may stick out of the crop, as a share of the picture's side, before it counts as cut off.
CUT = 0.02
# With fewer pictures for training, samples mostly repeat them.
TOO_FEW = 100


@dataclass(frozen=True)
class Look:
    """A folder of images: their number, classes, size (median of the shorter sides), and whether all are grey.

    `train`: how many are not held out. `ratio`: width / height, if most of them share one that is not square. `unreadable`:
    files that cannot be read, with reasons. `ignored`: files that are no images, by suffix. `deeper`: the folder whose sub-folders
    may be the classes, if the root has none; `deeper_splits`: those of them that are splits by their names. `squareness`: what a square from its middle holds of a typical picture.
    `notes`: what is unusual about the pictures. `framing`: how to frame them (`DataConfig.framing`), and a
    sentence that says why.
    """

    root: str
    count: int
    train: int
    classes: tuple[str, ...]
    side: int
    grey: bool
    ratio: float = 1.0
    unreadable: Mapping[str, str] = field(default_factory=dict)
    deeper: str = ""
    ignored: Mapping[str, int] = field(default_factory=dict)
    squareness: float = 1.0
    deeper_splits: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    framing: Framing = "crop"
    framed_because: str = ""

    @property
    def remarks(self) -> list[str]:
        """What else to know before training, a sentence each."""
        said = []
        if self.unreadable:
            shown = some((f"{name} ({why})" for name, why in self.unreadable.items()), SHOWN)
            number = len(self.unreadable)
            said.append(
                f"{number:,} more {'file' if number == 1 else 'files'} cannot be read and {are(number)} left out: {shown}."
            )
        if self.ignored:
            said.append(f"Not pictures by their names, so {describe_ignored(self.ignored)}.")
        said += [f"{note[0].upper()}{note[1:]}." for note in self.notes]
        if self.deeper:
            splits = " and ".join(self.deeper_splits)
            what = f"it holds {splits}, which are only then told apart" if splits else "each of these is a class"
            said.append(f"They lie in several folders in {self.deeper}: give that one, and {what}.")
        if self.train < TOO_FEW:
            said.append(
                f"{counted(self.train, 'picture')} to learn from (the others are held out) {are(self.train)} few: samples will "
                "mostly repeat them. A few hundred make a difference."
            )
        return said

    def cut_to(self, ratio: float) -> str:
        """Return what the plan's pictures lose at the sides if their shape (width / height) is another one; empty if little."""
        if self.framing == "close":  # nothing is cut off: the ground around it makes up for its shape
            return ""
        kept = min(self.ratio / ratio, ratio / self.ratio)
        if self.ratio == 1.0 and self.squareness <= KEPT:
            return (
                f"the middle square of each is used, {self.squareness:.0%} of a typical one, since their shapes differ"
            )
        if self.ratio == 1.0 or kept > KEPT:
            return ""
        return f"the middle {kept:.0%} of each is used, since shapes go up to two to one"

    @property
    def sentence(self) -> str:
        """The facts as a sentence."""
        count = counted(self.count, f"{'grey' if self.grey else 'colour'} picture")
        classes = f"in {len(self.classes)} classes" if len(self.classes) > 1 else "without classes"
        shape = "" if self.ratio == 1 else f", most are {'wide' if self.ratio > 1 else 'tall'} ({self.ratio:.2f} to 1)"
        sides = "their shorter sides" if self.framing != "close" else "cut close to what they show, their sides"
        return f"{self.root}: {count} {classes}; {sides} have a median of {self.side} pixels{shape}"


def look_at(root: str) -> Look:
    """Return the facts about a folder. Raises UserError just as opening it for training does."""
    kind = kind_of(root)
    if kind != "folder" and not _has_pictures(Path(root)):
        raise UserError(
            f"{root}: holds {kind}, but vistok start takes a folder of image files. Train on it with "
            f"vistok train tokenizer images64_crt --data {shlex.quote(root)} --set data.dataset={kind}"
        )
    data = DataConfig(dataset="folder", root=root, channels=3, unreadable_images="skip")
    train, *held_out = (open_split(data, split) for split in ("train", "val", "test"))
    assert isinstance(train, FolderSource)
    spread = evenly(len(train), LOOKED_AT)
    found = [seen(train.root / train.files[index]) for index in spread]
    report = train.report
    framing, why = framed(found)
    sizes = [one.close if framing == "close" else one.size for one in found]
    count, grey = len(train) + sum(map(len, held_out)), all(one.grey for one in found)
    ratio = shared_ratio(sizes)
    if framing == "close" and ratio == 1:  # each gets as much ground as makes it square
        sizes = [(max(size), max(size)) for size in sizes]
    side = int(statistics.median(min(size) for size in sizes))
    unreadable, ignored, notes = (report.skipped, report.ignored, tuple(report.remarks())) if report else ({}, {}, ())
    notes = (*notes, *merged(train.files, train.class_names))
    deeper = _deeper(root, train.files) if len(train.class_names) == 1 else ""
    splits = tuple(name for name in sorted(os.listdir(deeper)) if split_of_folder(name)) if deeper else ()
    square = statistics.median(min(size) / max(size) for size in sizes)
    return Look(
        root,
        count,
        len(train),
        train.class_names,
        side,
        grey,
        ratio,
        unreadable,
        deeper,
        ignored,
        square,
        splits,
        notes,
        framing,
        why,
    )


def _has_pictures(root: Path) -> bool:
    """Whether a folder can be taken as one of pictures, whatever archives lie beside them, or however its classes are named.

    ImageNet's own cannot: its held-out images are in no class folders.
    """
    loose = any(path.is_file() for path in (root / "val").iterdir()) if (root / "val").is_dir() else False
    return root.is_dir() and not loose and bool(list_images(root).images)


def _deeper(root: str, files: Sequence[str]) -> str:
    """Return the folder below the root whose sub-folders hold the files, as archives unpack; empty if one folder holds all."""
    places = {str(Path(file).parent) for file in files}
    return str(Path(root) / os.path.commonpath(places)) if len(places) > 1 else ""


def merged(files: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Return a sentence if classes hold several folders, which might have been meant as classes."""
    if len(classes) < 2:
        return []
    below: dict[str, set[str]] = {}
    for file in files:
        folders = Path(file).parts[:-1]
        if folders and folders[0] not in classes and split_of_folder(folders[0]):
            folders = folders[1:]
        if folders and folders[0] in classes:
            below.setdefault(folders[0], set()).add(folders[1] if len(folders) > 1 else "")
    found = [
        f"{name} ({some(sorted(filter(None, inside)), SHOWN)})"
        for name, inside in sorted(below.items())
        if len(inside) > 1
    ]
    if not found:
        return []
    of = "of one class" if len(found) == 1 else "of one class each"
    return [f"folders inside a class are {of}: {some(found, SHOWN)}; to tell them apart, move them up"]


def shared_ratio(sizes: Sequence[tuple[int, int]]) -> float:
    """Return the median of width / height if most (width, height) come close to it and it is not nearly square; else 1."""
    ratios = [width / height for width, height in sizes]
    median = statistics.median(ratios)
    near = sum(1 / SHARED < ratio / median < SHARED for ratio in ratios)
    return median if near >= MOST * len(ratios) and not 1 / SHARED < median < SHARED else 1.0


def limited(ratio: float) -> float:
    """Return the width / height that a plan's pictures get for one: two to one at most."""
    return min(2.0, max(0.5, ratio))


@dataclass(frozen=True)
class Seen:
    """A picture's width and height when it is upright, whether it is grey and transparent, and what stands on its plain ground.

    `figure`: its box, in shares of the picture's height and width; None if the ground is not plain.
    """

    size: tuple[int, int]
    grey: bool
    transparent: bool
    figure: Box | None

    @property
    def close(self) -> tuple[int, int]:
        """Width and height (pixels) of the figure and its margin, if there is one."""
        figure = self.figure or Box(0.0, 0.0, 1.0, 1.0)
        width, height = self.size[0] * figure.width, self.size[1] * figure.height
        margin = 2 * MARGIN * max(width, height) if self.figure else 0.0
        return max(1, round(width + margin)), max(1, round(height + margin))

    def is_cut(self, ratio: float) -> bool:
        """Whether the figure sticks out of the largest crop from the middle that a plan takes for this width / height."""
        if self.figure is None:
            return False
        crop = centred(self.size[::-1], (1000, round(1000 * limited(ratio))))
        lengths = ((crop.top, crop.height, self.size[1]), (crop.left, crop.width, self.size[0]))
        ends = ((self.figure.top, self.figure.height), (self.figure.left, self.figure.width))
        return any(
            start < begin / side - CUT or start + length > (begin + size) / side + CUT
            for (begin, size, side), (start, length) in zip(lengths, ends, strict=True)
        )


def framed(found: Sequence[Seen]) -> tuple[Framing, str]:
    """Return how to frame pictures, and a sentence that says why.

    The ground is cut away where pictures are transparent and mostly empty (of others it may be part of what they show), and
    where the shape that they get would cut figures off.
    """
    figures = [one.figure for one in found if one.figure]
    if len(figures) < MOST * len(found):
        return "crop", ""
    same = "each is cut close to what it shows, so that large and small things get the same size (data.framing)."
    fills = statistics.median(max(figure.width, figure.height) for figure in figures)
    if sum(one.transparent for one in found) >= MOST * len(found) and fills < CLOSE:
        return "close", f"What they show fills {fills:.0%} of a typical one's side: {same}"
    shape = shared_ratio([one.size for one in found])
    if sum(one.is_cut(shape) for one in found) > (1 - MOST) * len(found):
        return "close", f"A crop of one shape from their middles would cut off what they show: {same}"
    return "whole", "Most show something on a plain ground: crops will not cut it off (data.framing)."


def seen(path: Path) -> Seen:
    """Return what a picture is like, at a small size. Raises UserError if it cannot be read."""
    try:
        data = file_bytes(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels, kinds = decode(io.BytesIO(data), 3, SMALL)
            size = _upright_size(data) or (pixels.shape[1], pixels.shape[0])
    except BadImage as error:
        raise UserError(f"image {path}: cannot be read ({error}); remove or replace the file") from None
    except OSError as error:
        raise not_read(path, error) from None
    small, _ = looked_at(pixels)
    figure, (height, width, _) = figure_of(small), small.shape
    shown, share = small, None
    if figure is not None:
        box = figure.box
        share = Box(box.top / height, box.left / width, box.height / height, box.width / width)
        shown = small[int(box.top) :, int(box.left) :][: int(box.height), : int(box.width)]
    grey = float(np.ptp(shown.astype(np.float32), axis=2).mean()) < GREY
    return Seen(size, grey, "transparent" in kinds, share)


def _upright_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height as a file's header has them, turned upright; None where only its pixels can be read."""
    try:
        with open_image(io.BytesIO(data)) as image:
            return upright_size(image)
    except ValueError:  # of a PNG whose text is too long
        return None
