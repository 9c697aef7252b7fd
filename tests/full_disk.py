"""Fill a small file system while a job writes to it; make room; see that the job ends as on a large one.

Runs in a mount namespace of its own: unshare -Urm python full_disk.py JOB TOKENIZER FOLDER
"""

import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

from torture import differences
from torture_jobs import JOBS
from vistok.engine.checkpoint import load_latest
from vistok.engine.log import read_rows
from vistok.errors import UserError

SIZE = {"tokenizer": "12m", "cache": "400k"}


def fill(disk: Path, start: str, stop: threading.Event) -> None:
    """Once a file like `start` is there, take every free byte until told to stop."""
    while not list(disk.glob(start)) and not stop.is_set():
        time.sleep(0.01)
    with open(disk / "filler", "wb", buffering=0) as filler:
        while not stop.is_set():
            try:
                filler.write(bytes(4096))
            except OSError:
                time.sleep(0.001)


def main(job: str, given: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    whole, disk = folder / "whole", folder / "disk"
    JOBS[job](given, whole)
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE[job]}", "none", str(disk)], check=True)
    stop = threading.Event()
    start = "runs/*/checkpoints/step-00000003.json" if job == "tokenizer" else "runs/train.partial/pieces/00000004.npy"
    thread = threading.Thread(target=fill, args=(disk, start, stop))
    thread.start()
    try:
        JOBS[job](given, disk / "runs")
        raise SystemExit("the disk was never full")
    except UserError as error:
        print(error)
    finally:
        stop.set()
        thread.join()
    if job == "tokenizer":  # what was there is sound, even while the disk is full
        (run,) = (disk / "runs").iterdir()
        found, warnings = load_latest(run / "checkpoints")
        assert found is not None and found[0] >= 3 and len(read_rows(run / "metrics.jsonl")) >= 3, (found, warnings)
    else:
        assert list((disk / "runs" / "train.partial" / "pieces").glob("*.npy"))
    (disk / "filler").unlink()
    JOBS[job](given, disk / "runs")
    print(differences(whole, disk / "runs") or "equal")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
