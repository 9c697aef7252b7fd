"""Peak memory of `vistok evaluate` on 2,000 and on 10,000 samples: it must not grow with the images."""

import os
import subprocess
import sys
from pathlib import Path

from common import arguments, entry, save

COUNTS = (2_000, 10_000)


def peak(vistok: Path, run: Path, count: int) -> float:
    """Return the MiB that one fresh evaluation holds at most, measured from outside."""
    for found in run.glob("evaluations/generator-*.json"):
        found.unlink()
    command = [str(vistok), "evaluate", "generator", str(run), "--count", str(count)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{process.stderr.read().decode() if process.stderr else ''}")
    return usage.ru_maxrss / 1024


def main() -> None:
    options = arguments(
        __doc__, run={"type": Path, "default": None}, runs={"type": Path, "default": Path("runs/speculative")}
    )
    # The largest generator there is: `speculative.py` trains it.
    run = options.run or max(
        options.runs.glob("fashion-ar-*"), key=lambda p: (p / "export/model.safetensors").stat().st_size
    )
    vistok = Path(sys.executable).parent / "vistok"
    few, many = (peak(vistok, run, count) for count in COUNTS)
    images = (COUNTS[1] - COUNTS[0]) * 28 * 28 * 4 / 2**20
    results = [
        entry(
            f"vistok evaluate, {COUNTS[1]:,} samples against {COUNTS[0]:,}", many, few, "MiB", images_would_add=images
        )
    ]
    note = f"The {COUNTS[1] - COUNTS[0]:,} further images would take {images:.0f} MiB as float32, their features less."
    save("evaluate_memory", results, "Memory of an evaluation", note)


if __name__ == "__main__":
    main()
