"""What the benchmarks of own images share: their files of records, and finished runs of `vistok start` to judge."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vistok.engine.log import Progress
from vistok.start.go import prepare_start, run_start
from vistok.start.look import Look
from vistok.start.plan import StartPlan

OUT = Path("results/own_images")


def records_in(file: Path) -> list[dict[str, Any]]:
    """Return a file's records, one a line; none where there is no file yet."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


@dataclass(frozen=True)
class FinishedStart:
    """A run of `vistok start`: its folder's name and minutes, its plan, what came of it, and where records of it go."""

    name: str
    minutes: float
    plan: StartPlan
    look: Look
    done: dict[str, Any]
    out: Path


def finished_start(description: str | None, minutes: float, progress: Progress) -> FinishedStart:
    """Read the command line, which names a folder and its runs, and then the run itself, of `minutes` unless it says otherwise."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    plan, look = prepare_start(given.folder, 60 * given.minutes, given.runs, print)
    done = run_start(plan, given.runs, progress)  # finished runs are only read
    return FinishedStart(Path(given.folder).name, given.minutes, plan, look, done, given.out)
