"""Kill runs with SIGKILL, start them again, and count how many end equal to a run that nobody killed.

    make torture

Half of the kills come at random instants, half at a random file operation: before, in the middle of and
after a write, a sync, a rename, a deletion. A run may be killed several times on its way.
"""

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from vistok.engine.checkpoint import load_latest
from vistok.engine.log import read_rows
from vistok.engine.weights import load_weights

JOBS = ("tokenizer", "generator", "classifier", "cache")


class Torture:
    """A place for the runs, and the reference of each job."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        # The server that children are forked from looks for modules here, and says nothing where it finds none.
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["torture_jobs"])
        self.deaths: Counter[str] = Counter()
        self.given = Path()
        self.operations: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def start(self, name: str, runs: Path, fatal: int | None = None):
        import torture_jobs

        arguments = (name, self.given, runs, self.folder / "report", fatal)
        (self.folder / "report").unlink(missing_ok=True)
        process = self.context.Process(target=torture_jobs.work, args=arguments)
        process.start()
        return process

    def prepare(self) -> None:
        """Run every job once, unharmed."""
        for name in JOBS:
            started = time.monotonic()
            process = self.start(name, self.folder / "whole" / name)
            process.join()
            assert process.exitcode == 0, f"{name} failed without being killed"
            self.seconds[name] = time.monotonic() - started
            self.operations[name] = int((self.folder / "report").read_text())
            if name == "tokenizer":
                (self.given,) = (self.folder / "whole" / name).iterdir()
                self._make_caches()

    def _make_caches(self) -> None:
        from vistok.engine.log import Progress
        from vistok.verbs.cache_latents import cache_tokens

        for split in ("train", "val"):
            cache_tokens(self.given, split, Progress(quiet=True))

    def kill(self, name: str, number: int) -> bool:
        """Kill a job once to three times, let it end, and return whether it is equal to the reference."""
        runs = self.folder / f"{name}-{number}"
        for turn in range(self.random.choice((1, 1, 2, 3))):
            by_operation = (number + turn) % 2 == 0
            fatal = self.random.randint(1, self.operations[name]) if by_operation else None
            process = self.start(name, runs, fatal)
            if not by_operation:
                process.join(self.random.uniform(0, self.seconds[name]))
                process.kill()
            process.join()
            if process.exitcode == -9:
                where = self.folder / "report"
                self.deaths[where.read_text() if by_operation and where.is_file() else "at a random instant"] += 1
        process = self.start(name, runs)
        process.join()
        return process.exitcode == 0 and differences(self.folder / "whole" / name, runs) == []


def differences(whole: Path, parts: Path) -> list[str]:
    """Return what differs between two jobs' results: weights, optimizers, averages, rows, tokens."""
    (a,), (b,) = (
        [path for path in folder.iterdir() if path.suffix != ".lock" and not path.name.endswith(".partial")]
        for folder in (whole, parts)
    )
    if (a / "tokens.npy").is_file():
        names = ("tokens.npy", "labels.npy", "manifest.json")
        return [name for name in names if (a / name).read_bytes() != (b / name).read_bytes()]
    found = []
    for name in ("model", "raw"):
        one, two = (load_weights(run / "export" / f"{name}.safetensors")[0] for run in (a, b))
        found += [f"{name} {key}" for key in one if not torch.equal(one[key], two[key])]
    one, two = (load_latest(run / "checkpoints")[0] for run in (a, b))
    found += ["checkpoint"] if one is None or two is None or not _same(one, two) else []
    one, two = (
        [{key: value for key, value in row.items() if key != "seconds"} for row in read_rows(run / "metrics.jsonl")]
        for run in (a, b)
    )
    return found + (["metrics.jsonl"] if one != two else [])


def _same(a, b) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a if key != "seconds")
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return a == b


def torture(folder: Path, kills: int, seed: int) -> dict[str, tuple[int, int]]:
    """Return job -> (equal, tried); prints as it goes."""
    found = Torture(folder, seed)
    found.prepare()
    results = {}
    for i, name in enumerate(JOBS):
        tried = len(range(i, kills, len(JOBS)))
        results[name] = (sum(found.kill(name, number) for number in range(tried)), tried)
        print(f"{name:<12} {results[name][0]} of {tried} equal to a run that nobody killed", flush=True)
    print(
        f"{sum(found.deaths.values())} deaths, of which {found.deaths.pop('at a random instant', 0)} at random instants"
    )
    for where, count in sorted(found.deaths.items()):
        print(f"  {count:>3}  {where}")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=48, help="runs that are killed, once to three times each")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        scores = torture(Path(place), options.kills, options.seed)
    equal, tried = (sum(values) for values in zip(*scores.values(), strict=True))
    print(f"{equal} of {tried} equal")
    raise SystemExit(equal != tried)
