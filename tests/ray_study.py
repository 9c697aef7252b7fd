"""A program for a test: run a study on a local Ray cluster, kill the node at work, and tell what came of it.

Call it inside a network namespace: Ray binds more than loopback otherwise.
"""

import contextlib
import fcntl
import json
import os
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any


def bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        up_and_running = 0x1 | 0x40
        fcntl.ioctl(handle, 0x8914, struct.pack("16sh", b"lo", up_and_running))  # SIOCSIFFLAGS


def raylet(node: Any) -> int:
    """Return the process that stands for a node."""
    return int(node.all_processes["raylet"][0].process.pid)


def task_process(root: Path) -> int:
    """Return the process of the study's task."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone in between
            command = (place / "cmdline").read_bytes()
            if b"vistok.study.run.worker" in command and str(root).encode() in command:
                return int(place.name)
    raise RuntimeError("no task is at work")


def ancestors(process: int) -> list[int]:
    found = []
    while process > 1:
        status = Path(f"/proc/{process}/status").read_text()
        process = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid"))
        found.append(process)
    return found


def main() -> None:
    bring_loopback_up()
    import ray
    from ray.cluster_utils import Cluster

    from vistok.config import override
    from vistok.engine.log import Progress
    from vistok.study.config import StudyConfig
    from vistok.study.findings.report import write_report
    from vistok.study.run.executor import RayExecutor
    from vistok.study.run.record import StudyFolder
    from vistok.study.run.scheduler import run_study

    file, root = Path(sys.argv[1]), Path(sys.argv[2])
    study = override(
        StudyConfig.from_json(file.read_text()),
        ["tokenizer.length=60 steps", "tokenizer.execution.checkpoint_minutes=0.01"],
    )
    study = study.replace(grids=(study.grids[0].replace(generators=(), lengths=()),))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    found = {"killed_at_step": 0}
    runs = root / "runs"

    def kill_the_node_at_work() -> None:
        while not (checkpoints := sorted(runs.glob("*/*/checkpoints/step-*.json"))):
            time.sleep(0.02)
        found["killed_at_step"] = int(checkpoints[-1].stem.split("-")[1])
        above = ancestors(task_process(root))
        at_work = next(node for node in nodes if raylet(node) in above)
        cluster.remove_node(at_work, allow_graceful=False)

    threading.Thread(target=kill_the_node_at_work, daemon=True).start()
    folder = StudyFolder(root / "results")
    executor = RayExecutor(cluster.address, 1)
    outcome = run_study(study, runs, folder, executor, 1, Progress(quiet=True))
    found["failed"] = sorted(outcome.failed.values())
    log = next((runs / study.name / "logs").glob("*.log")).read_text()
    found["resumed"] = "resuming from step" in log
    write_report(study, folder)
    found["table"] = str(folder.table)
    cluster.shutdown()
    ray.shutdown()
    print(json.dumps(found), flush=True)
    os._exit(0)  # Ray's threads may linger


if __name__ == "__main__":
    main()
