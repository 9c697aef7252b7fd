"""Facts about each image in packed files: its digest, what is unusual about it, or why it cannot be read.

Each image is decoded once; the facts are kept in the user's cache folder beside the file's listing.
"""

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vistok.data.images.image_file import BadImage, decode
from vistok.data.images.inspection import FileFacts, FolderReport, bar
from vistok.data.images.packed_files import Packed, alone, keep_arrays, load_arrays
from vistok.files import named_error, user_cache


@dataclass(frozen=True)
class Facts:
    """Facts about the images in one file: `digests` (count, 32), uint8, the SHA-256 of each image's bytes; `noted`
    describes the unusual or unreadable ones, by index."""

    digests: np.ndarray
    noted: Mapping[int, FileFacts]


@dataclass(frozen=True)
class PackedReport(FolderReport):
    """The contents of packed files, whose members count as files; `notes` are sentences for the user."""

    notes: Sequence[str] = ()

    def warnings(self) -> list[str]:
        """Return what a user should know before training."""
        return [*super().warnings(), *self.notes]


def look_at(files: Sequence[Packed], channels: int, size: int) -> list[Facts]:
    """Return the facts about each file's images; files that have not changed are not read again.

    Images that could not be read are tried again, as a different version of Pillow may read them. An OSError names the
    file and ends the inspection, as it says nothing about the image.
    """
    places = [user_cache() / "packed" / f"{packed.key}-{channels}-{size}.npz" for packed in files]
    known = [_kept(place, packed) for place, packed in zip(places, files, strict=True)]
    new = sum(len(packed) for packed, facts in zip(files, known, strict=True) if facts is None)
    with bar(new) as advance, warnings.catch_warnings():  # once, around all threads
        warnings.simplefilter("ignore")

        def look(packed: Packed, images: Iterable[int]) -> list[FileFacts]:
            return _looked_at(packed, images, channels, size, advance)

        return [
            _new(packed, place, look) if facts is None else _again(packed, facts, look)
            for packed, place, facts in zip(files, places, known, strict=True)
        ]


def _new(packed: Packed, place: Path, look: Callable[[Packed, Iterable[int]], list[FileFacts]]) -> Facts:
    with alone(place):
        facts = _kept(place, packed)  # another process of the same run may have done it meanwhile
        if facts is None:
            image_facts = look(packed, range(len(packed)))
            digests = np.frombuffer(b"".join(bytes.fromhex(image.digest) for image in image_facts), dtype=np.uint8)
            noted = {i: image for i, image in enumerate(image_facts) if image.unusual or image.problem is not None}
            facts = Facts(digests.reshape(-1, 32), noted)
            _keep(facts, place)
    return facts


def _again(packed: Packed, facts: Facts, look: Callable[[Packed, Iterable[int]], list[FileFacts]]) -> Facts:
    bad = [i for i, image in facts.noted.items() if image.problem is not None]
    if not bad:
        return facts
    again = dict(zip(bad, look(packed, bad), strict=True))
    return Facts(facts.digests, {**facts.noted, **again})


def _looked_at(
    packed: Packed, images: Iterable[int], channels: int, size: int, advance: Callable[[], None]
) -> list[FileFacts]:
    def look(image: int) -> FileFacts:
        data = os.pread(handle, int(packed.sizes[image]), int(packed.offsets[image]))
        digest = hashlib.sha256(data).hexdigest()
        try:
            return FileFacts(digest, decode(io.BytesIO(data), channels, size)[1])
        except BadImage as error:
            return FileFacts(digest, (), str(error) or "no image")

    results = []
    try:
        with packed.file.open("rb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
            handle = file.fileno()
            for facts in pool.map(look, images):
                advance()
                results.append(facts)
    except OSError as error:
        raise named_error(Path(packed.name), error) from None
    return results


def _kept(place: Path, packed: Packed) -> Facts | None:
    arrays = load_arrays(place)
    if arrays is None:
        return None
    try:
        noted = {
            int(image): FileFacts("", tuple(str(kinds).split(",")) if kinds else (), str(problem) if problem else None)
            for image, kinds, problem in zip(arrays["images"], arrays["unusual"], arrays["problems"], strict=True)
        }
        return Facts(arrays["digests"], noted) if arrays["digests"].shape == (len(packed), 32) else None
    except (ValueError, KeyError):
        return None


def _keep(facts: Facts, place: Path) -> None:
    keep_arrays(
        place,
        digests=facts.digests,
        images=np.array(list(facts.noted), dtype=np.int64),
        unusual=np.array([",".join(one.unusual) for one in facts.noted.values()], dtype=np.str_),
        problems=np.array([one.problem or "" for one in facts.noted.values()], dtype=np.str_),
    )
