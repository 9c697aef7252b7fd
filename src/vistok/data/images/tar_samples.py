"""Images and labels among the members of a tar file, by webdataset's rules.

Members whose paths agree up to the first dot of the file name form one sample: `cats/0003.jpg`, `cats/0003.cls`. The
rest of the name, `jpg`, tells them apart. A sample has one image. Its label is in a `.cls` (a number) or `.json` file
("label", "class_id", "cls" or "class"). A member `classes.json`, a list of texts, names the classes by number.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path
from tarfile import TarInfo
from typing import IO

import numpy as np

from vistok.data.images.names import image_suffixes, is_hidden_below
from vistok.data.images.packed_files import Packed
from vistok.errors import UserError, damage_is_a_mistake, has_or_have

JSON_LABELS = ("label", "class_id", "cls", "class")
MOST_BYTES = {"cls": 2**10, "json": 2**24}  # in a member that holds a label
MOST_LABEL = 2**31
CLASSES = "classes.json"
SHOWN = 8
MOST_INFIXED = 2**16  # bytes of a label with an infix between its sample's name and its kind


class Samples:
    """Collects the samples of one tar file, member by member; raises UserError for violations of the rules."""

    def __init__(self, what: str, image_key: str | None) -> None:
        """what: the tar file, for messages. image_key: if given, only members `KEY.image_key` are images."""
        self.what, self.image_key = what, image_key.lower().lstrip(".") if image_key else None
        self._images: dict[str, tuple[str, int, int]] = {}  # sample -> name, offset and size of its image
        self._labels: dict[str, tuple[int, str]] = {}  # sample -> label and the member it comes from
        self._names: set[str] = set()
        self._places: dict[str, tuple[int, int]] = {}  # of all members, for hard links
        self._ignored: Counter[str] = Counter()
        self._hidden = 0
        self._class_names: tuple[str, ...] = ()
        self._without: dict[str, str] = {}  # sample -> what its JSON has instead of a label
        # (sample, infix between dots) -> kind, name and bytes: the label of `cat.v1.png` may be `cat.v1.cls`.
        self._infixed: dict[tuple[str, str], tuple[str, str, bytes]] = {}

    def add(self, member: TarInfo, file: IO[bytes]) -> None:
        """Add a member; a hard link stands for its target."""
        place = self._places.get(member.linkname) if member.islnk() else (member.offset_data, member.size)
        if member.isdir():
            return
        if place is None or not (member.isreg() or member.islnk()):
            self._ignored["links and devices"] += 1
            return
        self._places[member.name] = place
        if is_hidden_below(member.name):
            self._hidden += 1
            return
        if member.name == CLASSES and (names := _listed_names(self._content("json", CLASSES, place, file))):
            self._class_names = names
            return
        folder, _, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        sample, kind = f"{folder}/{stem}".lstrip("/"), extension.lower()
        infix, _, last = kind.rpartition(".")
        if infix and last in MOST_BYTES and member.size <= MOST_INFIXED:
            self._once(member.name)
            self._infixed[sample, infix] = (last, member.name, self._content(last, member.name, place, file))
        elif kind in MOST_BYTES:
            self._once(member.name)
            self._label(sample, kind, member.name, self._content(kind, member.name, place, file))
        elif f".{kind}".endswith(image_suffixes()) and self.image_key in (None, kind):
            self._once(member.name)
            self._image(sample, member.name, place)
        else:
            self._ignored[f".{kind.rpartition('.')[2]}" if kind else "without a suffix"] += 1

    def listed(self, path: Path) -> Packed:
        """Return the images in order, with their labels; raises UserError if only some have a label."""
        for sample, (name, *_) in self._images.items():
            infix = name.rpartition("/")[2].partition(".")[2].lower().rpartition(".")[0]
            if sample not in self._labels and (sample, infix) in self._infixed:
                self._label(sample, *self._infixed.pop((sample, infix)))
        for last, _, _ in self._infixed.values():
            self._ignored[f".{last}"] += 1
        without = [sample for sample in self._images if sample not in self._labels]
        if without and len(without) < len(self._images):
            has = self._without.get(without[0])
            raise UserError(
                f"{self.what}: {len(without)} of {len(self._images)} images {has_or_have(len(without))} no label, such as "
                f"{self._images[without[0]][0]!r}{f', whose .json has {has}' if has else ''}; label all or none"
            )
        if alone := len(self._labels.keys() - self._images.keys()):
            self._ignored["labels without an image"] = alone
        places = np.array([place for _, *place in self._images.values()], dtype=np.int64).reshape(-1, 2)
        labels = [self._labels[sample][0] if sample in self._labels else -1 for sample in self._images]
        return Packed(
            file=path,
            offsets=places[:, 0],
            sizes=places[:, 1],
            labels=np.array(labels, dtype=np.int64),
            class_names=self._class_names if self._labels else (),
            labelled_by="members .cls and .json" if self._labels else "",
            members="".join(name.replace("\0", " ") + "\0" for name, *_ in self._images.values()),
            ignored=dict(self._ignored),
            hidden=self._hidden,
            notes=tuple(self._notes()),
        )

    def _notes(self) -> list[str]:
        if self._labels or not self._without:
            return []
        has = next(iter(self._without.values()))
        wanted = ", ".join(repr(key) for key in JSON_LABELS)
        return [
            f"the .json members have no label, so all images form one class; a label is one of {wanted}, but they have {has}"
        ]

    def _once(self, name: str) -> None:
        if name in self._names:
            raise UserError(f"{self.what}: member {name!r} occurs twice; write the file again with each name once")
        self._names.add(name)

    def _image(self, sample: str, name: str, place: tuple[int, int]) -> None:
        if sample in self._images:
            first = self._images[sample][0]
            kinds = sorted({image.rpartition("/")[2].partition(".")[2] for image in (first, name)})
            raise UserError(
                f"{self.what}: {first!r} and {name!r} are two images of sample {sample!r}, the name up to the first dot. "
                f"If one kind is enough, choose it, as in --set data.image_key={kinds[0]}, and the others are left out; if "
                "each is a separate image, rename them"
            )
        self._images[sample] = (name, *place)

    def _content(self, kind: str, name: str, place: tuple[int, int], file: IO[bytes]) -> bytes:
        offset, size = place
        if size > MOST_BYTES[kind]:
            raise UserError(
                f"{self.what}: {name!r} has {size:,} bytes, too many for a label; at most {MOST_BYTES[kind]:,} are allowed"
            )
        return os.pread(file.fileno(), size, offset)

    def _label(self, sample: str, kind: str, name: str, data: bytes) -> None:
        if kind == "cls":
            label = _whole(data.decode(errors="replace"))
            shown = repr(data[:40].decode(errors="replace"))
        else:
            with damage_is_a_mistake(f"{self.what}: {name!r}", "write it again"):
                content = json.loads(data)
            given = {key: content[key] for key in JSON_LABELS if key in content} if isinstance(content, dict) else {}
            if not given:
                keys = [repr(key) for key in list(content)[:SHOWN]] if isinstance(content, dict) else []
                self._without[sample] = ", ".join(keys) or f"no keys but a {type(content).__name__}"
                return
            label = next((number for number in map(_whole, given.values()) if number is not None), None)
            shown = f"{given!r:.80}"
        if label is None:
            raise UserError(
                f"{self.what}: the label in {name!r} is {shown}; it must be a class number, 0 to {MOST_LABEL - 1}"
            )
        if sample in self._labels and self._labels[sample][0] != label:
            raise UserError(
                f"{self.what}: the labels in {self._labels[sample][1]!r} and {name!r} differ; correct one of them"
            )
        self._labels[sample] = (label, name)


def _listed_names(data: bytes) -> tuple[str, ...]:
    """Return the different texts of a JSON list, or nothing if the data is anything else."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return ()
    named = isinstance(found, list) and all(isinstance(name, str) for name in found)
    return tuple(found) if named and len(set(found)) == len(found) else ()


def _whole(value: object) -> int | None:
    """Return a value as a label from -1 (no label) to MOST_LABEL - 1, or None if it is not one."""
    if isinstance(value, str):
        value = int(value) if re.fullmatch(r"\s*[+-]?[0-9]{1,20}\s*", value) else None
    if isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) and -1 <= value < MOST_LABEL else None
