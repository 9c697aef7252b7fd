"""Images packed in a few large files, read by index: any order of reading gives the same images."""

import hashlib
import io
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from vistok.data.config import DataConfig
from vistok.data.images.image_file import BadImage, decode
from vistok.data.images.inspection import FileFacts, FolderReport, describe_ignored, usable
from vistok.data.images.names import split_of_folder, split_of_words
from vistok.data.images.packed_classes import class_names, numbered
from vistok.data.images.packed_facts import PackedReport, look_at
from vistok.data.images.packed_files import Packed
from vistok.data.images.sources import ImageSource
from vistok.errors import UserError, reason
from vistok.rng import numpy_generator

# A set without val or test shards has this many images held out for each, but at most a tenth.
HELD_OUT = 10_000
SPLITS = ("train", "val", "test")
# A folder that holds all files means a split only under these names: `~/dev/shards.tar` is not a validation set.
SAID_BEFORE = ("train", "val", "valid", "validation", "test")


class PackedSource(ImageSource):
    """Images in packed files. Raises UserError naming the file and the member or row of an image that cannot be read.

    The digest covers the bytes and labels of exactly these images, in order.
    """

    def __init__(
        self,
        files: Sequence[Packed],
        where: np.ndarray,
        labels: np.ndarray,
        digests: np.ndarray,
        class_names: Sequence[str],
        config: DataConfig,
        former_digests: tuple[str, ...] = (),
        report: FolderReport | None = None,
    ) -> None:
        """`where`: (count, 2), file number and image number within it; `digests`: (count, 32), uint8, SHA-256."""
        self.files, self.where, self.labels, self.digests = list(files), where, labels, digests
        self.class_names, self.config, self.report = tuple(class_names), config, report
        whole = hashlib.sha256(digests.tobytes())
        whole.update(labels.astype("<i8").tobytes())
        self.digest, self.former_digests = f"packed-{whole.hexdigest()}", former_digests

    def read(self, index: int) -> np.ndarray:
        """Return one image as uint8 (height, width, channels)."""
        number, place = (int(value) for value in self.where[index])
        packed = self.files[number]
        try:
            with packed.file.open("rb") as file:
                file.seek(int(packed.offsets[place]))
                data = file.read(int(packed.sizes[place]))
            return decode(io.BytesIO(data), self.config.channels, self.config.least_side)[0]
        except (BadImage, OSError) as error:
            (image,) = packed.called(place)
            raise UserError(f"image {image}: cannot be read ({reason(error)}); write the file again") from None

    def subset(self, indices: np.ndarray, name: str) -> "PackedSource":
        """Return the images at `indices` as a separate source."""
        return PackedSource(
            self.files,
            self.where[indices],
            self.labels[indices],
            self.digests[indices],
            self.class_names,
            self.config,
            tuple(f"{digest}/{name}" for digest in self.former_digests),
            self.report,
        )


def open_packed(names: Sequence[str], read: Callable[[str], Packed], config: DataConfig, split: str) -> PackedSource:
    """Return one split of packed files, recognised by words in the files' names; `read` lists one file.

    If there are only validation files, or the labels of the test files are secret, the validation files are `test`: they
    are what others score against (as with ImageNet). Images for splits that are then missing are held out of train. The
    images of all splits are first inspected, once. Raises UserError if a split is empty, if its labels are not those of
    train, and for images that the config refuses.
    """
    what = f"data {config.root!r}"
    given, notes = _by_split([(name, read(name)) for name in sorted(names)])
    unlabelled = _unlabelled(given)
    if split in unlabelled:
        raise UserError(f"{what}: {unlabelled[split]}")
    files = {name: [] if name in unlabelled else group for name, group in given.items()}
    classes = _classes(files, what)
    images = _looked(files, classes, config, what)
    used, skipped = _usable(images, config, what)
    splits = _splits({name: sum(map(len, group)) for name, group in files.items()}, [n for n in given if not given[n]])
    report = _report(images, splits, used, skipped, [*notes, *unlabelled.values()])
    chosen = splits[split][used[splits[split]]]
    if not len(chosen):
        raise UserError(f"{what}: {_empty(split, len(splits[split]), given, report)}")
    whole = len(chosen) == len(splits[split])
    return PackedSource(
        images.files,
        images.where[chosen],
        images.labels[chosen],
        images.digests[chosen],
        classes[split],
        config,
        _former_digests(given, split) if whole else (),
        report,
    )


def _by_split(files: Sequence[tuple[str, Packed]]) -> tuple[dict[str, list[Packed]], list[str]]:
    """Return the files of each split, and notes for the user."""
    given: dict[str, list[Packed]] = {split: [] for split in SPLITS}
    parents = {PurePosixPath(name).parent for name, _ in files}
    lone = parents.pop() if len(parents) == 1 else None
    for name, packed in files:
        path = PurePosixPath(name)
        folder = "" if path.parent == lone and lone.name.lower() not in SAID_BEFORE else path.parent.name
        given[split_of_words(path.name) or split_of_folder(folder) or "train"].append(packed)
    notes: list[str] = []
    # Labels that are all "none" mark a test set with secret labels; no label field at all may just mean no labels.
    if given["val"] and all(packed.labelled_by and not packed.labelled for packed in given["test"]):
        if given["test"]:
            notes.append(f"split 'test' ({_files(given['test'])}) has no labels and is not used; 'val' takes its place")
        given["test"], given["val"] = given["val"], []
    return given, notes


def _unlabelled(given: dict[str, list[Packed]]) -> dict[str, str]:
    """Return the held-out splits without labels, if train has labels, each with a note for the user."""
    if not any(packed.labelled for packed in given["train"]):
        return {}
    return {
        split: f"split {split!r} ({_files(given[split])}) has no labels, unlike train, and cannot be used; label it, or "
        "remove its files: images of train are then held out in their place"
        for split in ("val", "test")
        if given[split] and not any(packed.labelled for packed in given[split])
    }


def _classes(files: dict[str, list[Packed]], what: str) -> dict[str, tuple[str, ...]]:
    """Return the class names of each split: those of train, if there is a train split."""
    if files["train"]:
        return dict.fromkeys(SPLITS, class_names(files["train"], what))
    return {split: class_names(group, what) for split, group in files.items()}


@dataclass(frozen=True)
class _Images:
    """All images of all splits, in order of split and file; `where`, `labels` and `digests` are as in a source.

    `noted`: facts about the images that are unusual or unreadable, by index; `names`: the names of those images.
    """

    files: list[Packed]
    where: np.ndarray
    labels: np.ndarray
    digests: np.ndarray
    noted: dict[int, FileFacts]
    names: dict[int, str]


def _looked(
    files: dict[str, list[Packed]], classes: dict[str, tuple[str, ...]], config: DataConfig, what: str
) -> _Images:
    labels = [numbered(packed, classes[split], what, split) for split in SPLITS for packed in files[split]]
    every = [packed for split in SPLITS for packed in files[split]]
    facts = look_at(every, config.channels, max(config.sides))
    counts = [len(packed) for packed in every]
    where = np.empty((sum(counts), 2), dtype=np.int64)
    where[:, 0] = np.repeat(np.arange(len(every)), counts)
    where[:, 1] = np.concatenate([np.empty(0, dtype=np.int64), *map(np.arange, counts)])
    firsts = np.cumsum([0, *counts]).tolist()
    noted = {
        first + i: image_facts
        for first, file_facts in zip(firsts, facts, strict=False)
        for i, image_facts in file_facts.noted.items()
    }
    return _Images(
        every,
        where,
        np.concatenate([np.empty(0, dtype=np.int64), *labels]),
        np.concatenate([np.empty((0, 32), dtype=np.uint8), *(file_facts.digests for file_facts in facts)]),
        noted,
        dict(zip(noted, _called(every, where[list(noted)]), strict=True)) if noted else {},
    )


def _called(files: Sequence[Packed], where: np.ndarray) -> list[str]:
    """Return the names of images for messages; the images of one file must be adjacent."""
    return [
        name
        for number, pairs in itertools.groupby(where.tolist(), key=lambda pair: pair[0])
        for name in files[number].called(*(place for _, place in pairs))
    ]


def _usable(images: _Images, config: DataConfig, what: str) -> tuple[np.ndarray, dict[str, str]]:
    """Return which images are used (bool), and the names of the others with reasons."""
    facts = {images.names[index]: image_facts for index, image_facts in images.noted.items()}
    _, skipped = usable(what, facts, config.unreadable_images, config.unusual_images, len(images.where))
    used = np.ones(len(images.where), dtype=bool)
    used[[index for index, name in images.names.items() if name in skipped]] = False
    return used, skipped


def _splits(counts: dict[str, int], missing: list[str]) -> dict[str, np.ndarray]:
    """Return the image indices of each split; for splits without files, images of train are held out.

    Skipped images count too, so that the held-out images do not depend on which are skipped.
    """
    ends = np.cumsum([counts[split] for split in SPLITS])
    splits = {split: np.arange(end - counts[split], end) for split, end in zip(SPLITS, ends, strict=True)}
    held_out = [split for split in ("test", "val") if split in missing]
    if held_out and counts["train"]:
        count = min(HELD_OUT, max(1, counts["train"] // 10))
        order = numpy_generator(0, "packed-held-out").permutation(counts["train"])
        for i, split in enumerate(held_out):
            splits[split] = np.sort(order[i * count : (i + 1) * count])
        splits["train"] = np.sort(order[len(held_out) * count :])
    return splits


def _report(
    images: _Images, splits: dict[str, np.ndarray], used: np.ndarray, skipped: dict[str, str], notes: Sequence[str]
) -> PackedReport:
    unusual: dict[str, list[str]] = {}
    for index, image_facts in images.noted.items():
        for kind in image_facts.unusual if used[index] else ():
            unusual.setdefault(kind, []).append(images.names[index])
    # Eight bytes of a digest are enough to tell the images of one data set apart.
    short = np.ascontiguousarray(images.digests[:, :8]).view(np.uint64).ravel()
    mine = {split: chosen[used[chosen]] for split, chosen in splits.items()}
    held_out = np.concatenate([mine["val"], mine["test"]])
    leaked = held_out[_among(short[held_out], short[mine["train"]])]
    ordered = np.sort(short[used])
    counts = Counter(note for packed in images.files for note in packed.notes)
    return PackedReport(
        found=len(used),
        used=int(used.sum()),
        skipped=skipped,
        unusual={kind: sorted(names) for kind, names in unusual.items()},
        duplicates=int((ordered[1:] == ordered[:-1]).sum()),
        leaked=_called(images.files, images.where[leaked]),
        ignored=dict(sum((Counter(packed.ignored) for packed in images.files), Counter())),
        hidden=sum(packed.hidden for packed in images.files),
        notes=[*notes, *(f"{note} ({count} of {len(images.files)} files)" for note, count in counts.items())],
    )


def _among(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which values are among the others (bool); for a million digests, np.isin is twenty times slower."""
    if not len(others):
        return np.zeros(len(values), dtype=bool)
    ordered = np.sort(others)
    present: np.ndarray = ordered[np.searchsorted(ordered, values).clip(max=len(ordered) - 1)] == values
    return present


def _former_digests(given: dict[str, list[Packed]], split: str) -> tuple[str, ...]:
    """Return the digest of earlier versions, which covered only sizes and labels, and all of train."""
    digest = hashlib.sha256()
    for packed in given[split] or given["train"]:
        labels = packed.labels if packed.labelled_by else np.zeros(len(packed))
        for array in (packed.sizes, labels):
            digest.update(array.astype(np.int64).tobytes())
    held_out = not given[split] or (split == "train" and not all(given.values()))
    return (f"packed-{digest.hexdigest()}" + (f"/{split}" if held_out else ""),)


def _empty(split: str, skipped: int, given: dict[str, list[Packed]], report: PackedReport) -> str:
    """Say why a split has no images; `skipped` of its images were left out."""
    if skipped:
        return f"split {split!r} is empty: all its {skipped} images are skipped"
    if not given[split] and report.found and given["train"]:
        return f"{report.found} images are too few for three splits"
    ignored = f" ({describe_ignored(report.ignored)})" if report.ignored else ""
    return (
        f"no image of split {split!r} in {sum(map(len, given.values()))} files{ignored}; a file belongs to the split "
        "that its name or its folder names (train, val, test), or else to train"
    )


def _files(files: Sequence[Packed]) -> str:
    return files[0].name + (f" and {len(files) - 1} more" if len(files) > 1 else "")
