"""Print the table of docs/performance.md: every result that has a peer or a target, and what another machine gave for it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import RESULTS, number

OTHER = "amd-epyc"
NOT_SPEED = ("parity", "speculative")  # the second has a section of its own


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the results of a folder, question by question."""
    for file in sorted(folder.glob("*.json")):
        if file.stem not in NOT_SPEED:
            yield from json.loads(file.read_text())


def main() -> None:
    elsewhere = {row["name"]: row["ratio"] for row in rows(RESULTS / OTHER)}
    print(f"| what | ours | peer | unit | times better | target | {OTHER} |\n|---|---|---|---|---|---|---|")
    for row in rows(RESULTS):
        if row["ratio"] is not None or row["target"] is not None:
            cells = [row["name"], *(number(row[k]) for k in ("ours", "peer")), row["unit"]]
            cells += [number(value) for value in (row["ratio"], row["target"], elsewhere.get(row["name"]))]
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
