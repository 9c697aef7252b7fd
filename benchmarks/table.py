"""Print the first table of docs/performance.md: what has a peer or a target, and what another machine gave for it."""

import json
from pathlib import Path
from typing import Any

from common import RESULTS, number

OTHER = "amd-epyc"
# Those that compare vistok with itself are cited where the text needs them.
QUESTIONS = (
    "sampling", "int8", "quantizer", "tokenizer_step", "generator_step", "caching", "frechet", "evaluate_memory",
    "startup",
)  # fmt: skip


def rows(folder: Path, question: str) -> list[dict[str, Any]]:
    """Return the results of a question, none where the folder has no file of it."""
    file = folder / f"{question}.json"
    return json.loads(file.read_text()) if file.is_file() else []


def main() -> None:
    print(f"| | what | ours | peer | unit | times better | target | {OTHER} |\n|---|---|---|---|---|---|---|---|")
    for question in QUESTIONS:
        elsewhere = {row["name"]: row["ratio"] for row in rows(RESULTS / OTHER, question)}
        link = f"[{question}](../benchmarks/results/{question}.md)"
        for row in rows(RESULTS, question):
            cells = [link, row["name"], *(number(row[key]) for key in ("ours", "peer")), row["unit"]]
            cells += [number(value) for value in (row["ratio"], row["target"], elsewhere.get(row["name"]))]
            print(f"| {' | '.join(cells)} |")
            link = ""


if __name__ == "__main__":
    main()
