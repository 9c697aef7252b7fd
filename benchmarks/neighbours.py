"""Commands beside busy neighbours: how long they take against their fair share, as vistok starts them and as torch would.

vistok bounds how long threads spin, and leaves processors that are busy when a command begins to other programs.

A neighbour is a process that counts. Beside n of them, on a machine of c processors, a command with c threads has a fair
share of c in c + n: it should take (c + n) / c times as long as alone. Every command is a process of its own, as a user
starts it; the ways alternate. Start it on a machine that has nothing else to do.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import THREADS, arguments, earlier, entry, save

from vistok.engine.processors import THREAD_VARIABLES

VISTOK = [sys.executable, "-m", "vistok"]
# As torch does it: all processors, whatever else runs, and GNU's OpenMP spins so often where nothing is set.
PLAIN = {"OMP_NUM_THREADS": str(THREADS), "GOMP_SPINCOUNT": "300000"}
OURS = (*THREAD_VARIABLES, "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
NEIGHBOURS = (0, 1, 2, 4)


def commands(folder: Path, data: Path, count: int, steps: int) -> dict[str, list[str]]:
    """Return the commands: sampling, training a tokenizer and a generator on its tokens, and an evaluation."""
    quiet = ["--set", "execution.tensorboard=false", "--runs", str(folder)]
    length = ["--set", f'length="{steps} steps"', "--set", "execution.evaluate_every=100000"]
    made = ["--data", str(data), *quiet]
    tokenizer = ["train", "tokenizer", "fashion_crt", *made, *length, "--set", "data.max_images=2000"]
    trained = [str(path) for path in sorted(folder.glob("fashion-crt-*"))[:1]]
    generator = ["train", "generator", "fashion_ar", "--tokenizer", *trained, *made, *length]
    return {
        f"sample --from fashion-crt --count {count}": f"sample --from fashion-crt --count {count} --out".split(),
        f"tokenizer, {steps} steps": tokenizer,
        f"generator, {steps} steps": generator,
        "evaluate tokenizer": ["evaluate", "tokenizer", *trained, "--data", str(data)],
    }


def seconds(command: list[str], ours: bool, number: int, folder: Path) -> float:
    """Run a command once beside so many neighbours; return how long it took."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS} | ({} if ours else PLAIN)
    words = [*command, *anew(command[0], folder)]
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    time.sleep(0.5 if number else 0)  # they were there first
    try:
        started = time.perf_counter()
        subprocess.run([*VISTOK, *words], env=environment, check=True, capture_output=True)
        return time.perf_counter() - started
    finally:
        for process in busy:
            process.kill()
            process.wait()


def anew(verb: str, folder: Path) -> list[str]:
    """Return the last words of a command, so that it does all of its work: another run is a new one, no score is there already."""
    if verb == "sample":
        return [str(folder / "samples.png")]
    if verb == "train":
        return ["--set", f"seed={time.time_ns() % 2**31}"]
    for scores in folder.glob("*/evaluations"):
        shutil.rmtree(scores)
    return []


def main() -> None:
    options: Any = arguments(
        __doc__, data={"type": Path, "default": Path("data")}, count={"type": int, "default": 1000},
        steps={"type": int, "default": 100},
        only={"nargs": "*", "default": ["sample", "tokenizer", "generator", "evaluate"], "help": "which commands"},
    )  # fmt: skip
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if {"generator", "evaluate"} & set(options.only):
            first = ["train", "tokenizer", "fashion_crt", "--data", str(options.data), "--runs", place]
            short = ["--set", 'length="30 steps"', "--set", "data.max_images=2000"]
            subprocess.run([*VISTOK, *first, *short], check=True, capture_output=True)
        for name, command in commands(folder, options.data, options.count, options.steps).items():
            if name.split()[0].rstrip(",") not in options.only:
                continue
            results += measured(name, command, folder, options.repeats)
            everything = [*earlier("neighbours", results), *results]
            save("neighbours", everything, "Beside busy neighbours: as vistok starts its commands, and as torch would")


def measured(name: str, command: list[str], folder: Path, repeats: int) -> list[dict[str, Any]]:
    """Return how long a command takes beside each number of neighbours, in both ways."""
    results, alone = [], {}
    for number in NEIGHBOURS:
        taken: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(repeats):
            for ours, found in taken.items():
                found.append(seconds(command, ours, number, folder))
        middle = {ours: statistics.median(found) for ours, found in taken.items()}
        alone = alone or middle
        fair = (THREADS + number) / THREADS
        share = {ours: middle[ours] / (alone[ours] * fair) for ours in middle}
        print(f"{name}, beside {number}: {middle}, of the fair share {share}", flush=True)
        results.append(
            entry(f"{name}, beside {number} busy", middle[True], middle[False], "s",
                  of_fair_share=round(share[True], 3), of_fair_share_plain=round(share[False], 3))
        )  # fmt: skip
    return results


if __name__ == "__main__":
    main()
