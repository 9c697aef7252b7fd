"""Seconds of the whole `vistok demo`, with this code and with that of an earlier commit: by default the last one before
the kernels, packed weights and parts that this folder measures."""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from common import RESULTS, arguments, entry, median, save

ROOT = RESULTS.parents[1]


def source_of(commit: str, place: Path) -> Path:
    """Unpack src/ of a commit of this repository; return its path."""
    archive = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        sys.exit(f"cannot read src of commit {commit}: {archive.stderr.decode().strip()} (a shallow clone lacks it)")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(place, filter="data")
    return place / "src"


def demo(source: Path, runs: Path, *more: str) -> float:
    """Run the demo with the code in `source` into a new folder; return its seconds."""
    command = [sys.executable, "-m", "vistok", "demo", "--runs", str(runs), "--data", str(ROOT / "data"), *more]
    started = time.perf_counter()
    run = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(source)}, capture_output=True, check=False)
    if run.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{run.stderr.decode()}")
    return time.perf_counter() - started


def main() -> None:
    options = arguments(
        __doc__, before={"default": "96d0ee1", "help": "the earlier commit"}, rounds={"type": int, "default": 1}
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sources = {"before": source_of(options.before, place), "now": ROOT / "src"}
        for name, source in sources.items():  # fetches the images, compiles the modules
            demo(source, place / f"{name}-tiny", "--tiny")
        seconds: dict[str, list[float]] = {name: [] for name in sources}
        for i in range(options.rounds):
            for name in sorted(sources, reverse=bool(i % 2)):
                seconds[name].append(demo(sources[name], place / f"{name}-{i}"))
    now, before = (median(seconds[name]) for name in ("now", "before"))
    what = f"vistok demo, against commit {options.before}"
    each = "; ".join(f"{name} {', '.join(f'{value:.0f}' for value in seconds[name])} s" for name in sources)
    note = f"The peer is that commit; whole commands, timed from outside, in turn: {each}."
    save("demo", [entry(what, now, before, "s", 1.0, all_seconds=seconds)], "The demo before and now", note)


if __name__ == "__main__":
    main()
