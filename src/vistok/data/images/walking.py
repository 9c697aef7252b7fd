"""Which files below a folder are images, and what else lies there."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vistok.data.images.inspection import problem_of
from vistok.data.images.names import image_suffixes, is_hidden


@dataclass
class Listing:
    """What lies below a folder. Names are relative to it.

    images: sorted names. problems: folders that cannot be entered, with the reason. ignored: how many other files there
    are, by suffix. hidden: how many files and folders are hidden, or were left by a system; nobody looks into them.
    """

    images: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    ignored: Counter[str] = field(default_factory=Counter)
    hidden: int = 0


def list_images(root: Path) -> Listing:
    """Return what lies below a folder, links followed; raises UserError where the machine cannot read a folder."""
    found = Listing()
    suffixes = frozenset(image_suffixes())
    for folder, names in _walk(str(root), found):
        inner = os.path.relpath(folder, root)
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if is_hidden(name):
                found.hidden += 1
            elif suffix in suffixes:
                found.images.append(name if inner == "." else os.path.join(inner, name))
            else:
                found.ignored[suffix or "without a suffix"] += 1
    found.images.sort()
    return found


def _walk(root: str, found: Listing) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder that is not hidden, with the names of its files."""

    def refused(error: OSError) -> None:
        found.problems[os.path.relpath(error.filename, root)] = problem_of(Path(error.filename), error, "folder")

    way: dict[str, tuple[str, ...]] = {
        root: (os.path.realpath(root),)
    }  # of each folder to come: the real places that led there
    for folder, below, names in os.walk(root, followlinks=True, onerror=refused):
        been = way.pop(folder)
        found.hidden += sum(map(is_hidden, below))
        below[:] = sorted(name for name in below if not is_hidden(name))
        for name in list(below):
            path = os.path.join(folder, name)
            real = os.path.realpath(path) if os.path.islink(path) else os.path.join(been[-1], name)
            if any(f"{place}{os.sep}".startswith(f"{real.rstrip(os.sep)}{os.sep}") for place in been):
                below.remove(name)
                found.problems[os.path.relpath(path, root)] = "a symbolic link that leads in a circle"
            else:
                way[path] = (*been, real)
        yield folder, names
