"""Peak memory of `vistok evaluate` on 2,000 and on 20,000 samples: it must not grow with the images."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from common import arguments, entry, median, save
from speculative import copy_without_scores, target_of

COUNTS = (2_000, 20_000)
# vistok's commands keep freed memory (engine/allocator.py), and with it holes; given back, what is held shows alone.
MODES = {"freed memory kept": {}, "freed memory given back": {"MALLOC_TRIM_THRESHOLD_": str(2**17)}}
# The least that keeping the further images would take: one byte a pixel.
IMAGES = (COUNTS[1] - COUNTS[0]) * 28 * 28 / 2**20


def peak(run: Path, count: int, settings: dict[str, str]) -> float:
    """Return the MiB that one fresh evaluation of a copy of the run holds at most, measured from outside."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_without_scores(run, Path(folder))
        command = [sys.executable, "-m", "vistok", "evaluate", "generator", str(copy), "--count", str(count)]
        log = Path(folder) / "log"
        with log.open("wb") as errors:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=os.environ | settings)
            _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{' '.join(command)} failed:\n{log.read_text()}")
    return usage.ru_maxrss / 1024


def main() -> None:
    options = arguments(
        __doc__, run={"type": Path, "default": None}, runs={"type": Path, "default": Path("runs/speculative")}
    )
    run = options.run or target_of(options.runs)
    found: dict[tuple[str, int], list[float]] = {(mode, count): [] for mode in MODES for count in COUNTS}
    for _ in range(options.repeats):
        for (mode, count), values in found.items():
            values.append(peak(run, count, MODES[mode]))
    results, lines = [], []
    for mode in MODES:
        few, many = (found[mode, count] for count in COUNTS)
        name = f"vistok evaluate, {COUNTS[1]:,} samples against {COUNTS[0]:,}, {mode}"
        results.append(entry(name, median(many), median(few), "MiB", images_would_add=IMAGES, all_runs=[many, few]))
        runs = " against ".join("/".join(f"{value:.0f}" for value in sorted(values)) for values in (many, few))
        lines.append(f"All runs, {mode}: {runs} MiB.")
    lines.append(f"The further images would take {IMAGES:.0f} MiB as bytes, {4 * IMAGES:.0f} as float32.")
    save("evaluate_memory", results, "Memory of an evaluation", "  \n".join(lines))


if __name__ == "__main__":
    main()
