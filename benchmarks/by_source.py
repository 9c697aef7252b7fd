"""Folders whose held-out pictures come from sources of their own, made of folders of crops, several of one picture.

python benchmarks/by_source.py FOLDER OUT

Split by the names of files, crops of one photograph lie in train, val and test alike, and the held-out ones are easy. Here a tenth of the
sources of each class, at least one, goes to val and as many to test, with all of their crops. A crop's source is its name up to the
last "-". OUT/train/CLASS/*, OUT/val/..., OUT/test/... are links.
"""

import argparse
import hashlib
from itertools import groupby
from pathlib import Path

SHARE = 0.1


def split_of(sources: list[str]) -> dict[str, str]:
    """Return the split of each source of a class, by a hash of its name."""
    if len(sources) < 3:
        raise SystemExit(f"{len(sources)} sources cannot be divided among train, val and test: {', '.join(sources)}")
    ranked = sorted(sources, key=lambda name: hashlib.sha256(name.encode()).digest())
    count = max(1, round(SHARE * len(ranked)))
    return {name: "test" if i < count else "val" if i < 2 * count else "train" for i, name in enumerate(ranked)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    files = sorted(path for path in given.folder.rglob("*") if path.is_file())
    for group, found in groupby(files, key=lambda path: path.parent.relative_to(given.folder)):
        pictures = list(found)
        splits = split_of(sorted({path.stem.rpartition("-")[0] for path in pictures}))
        for path in pictures:
            link = given.out / splits[path.stem.rpartition("-")[0]] / group / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())


if __name__ == "__main__":
    main()
