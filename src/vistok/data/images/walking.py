"""Which files below a folder are images, and what else is there."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vistok.data.images.inspection import problem_of
from vistok.data.images.names import image_suffixes, is_hidden


@dataclass
class Listing:
    """The contents of a folder, with names relative to it.

    images: sorted names. problems: folders that cannot be entered, with reasons. ignored: number of other files, by
    suffix. hidden: number of files and folders that are hidden or were left by the operating system, and not entered. runs: folders
    of runs, which hold pictures that were made, and are not entered either.
    """

    images: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    runs: list[str] = field(default_factory=list)


def list_images(root: Path) -> Listing:
    """List what is below a folder, following links; raises UserError if the machine fails to read a folder."""
    listing = Listing()
    suffixes = frozenset(image_suffixes())
    for folder, names in _walk(str(root), listing):
        inner = os.path.relpath(folder, root)
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if is_hidden(name):
                listing.hidden += 1
            elif suffix in suffixes:
                listing.images.append(name if inner == "." else os.path.join(inner, name))
            else:
                listing.ignored[suffix or "without a suffix"] += 1
    listing.images.sort()
    return listing


def _is_of_runs(folder: str, below: list[str]) -> bool:
    """Whether a folder is a run, or holds runs or plans of `vistok start`, whose sheets are no pictures to learn from."""

    def written(place: str, *names: str) -> bool:
        return all(os.path.isfile(os.path.join(place, name)) for name in names)

    run, plan = ("config.json", "resolved.json", "provenance.json"), ("plan.json",)
    inner = [os.path.join(folder, name) for name in below]
    return written(folder, *run) or any(
        written(place, *run) or (name.startswith("start-") and written(place, *plan))
        for name, place in zip(below, inner, strict=True)
    )


def _walk(root: str, listing: Listing) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder that is not hidden, with the names of its files."""

    def refused(error: OSError) -> None:
        listing.problems[os.path.relpath(error.filename, root)] = problem_of(Path(error.filename), error, "folder")

    paths: dict[str, tuple[str, ...]] = {
        root: (os.path.realpath(root),)
    }  # for each folder to visit: the real paths that led there
    for folder, below, names in os.walk(root, followlinks=True, onerror=refused):
        ancestors = paths.pop(folder)
        listing.hidden += sum(map(is_hidden, below))
        below[:] = sorted(name for name in below if not is_hidden(name))
        if folder != root and _is_of_runs(folder, below):
            listing.runs.append(os.path.relpath(folder, root))
            below.clear()
            continue
        for name in list(below):
            path = os.path.join(folder, name)
            real = os.path.realpath(path) if os.path.islink(path) else os.path.join(ancestors[-1], name)
            if any(f"{place}{os.sep}".startswith(f"{real.rstrip(os.sep)}{os.sep}") for place in ancestors):
                below.remove(name)
                listing.problems[os.path.relpath(path, root)] = "a symbolic link that leads in a circle"
            else:
                paths[path] = (*ancestors, real)
        yield folder, names
