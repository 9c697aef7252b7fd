"""Where tasks run: a pool of processes on this machine, or the nodes of a Ray cluster."""

import logging
import subprocess
import time
from collections.abc import Callable
from typing import Any, Protocol

from vistok.engine import processes
from vistok.errors import UserError
from vistok.study.run.order import Order


class Executor(Protocol):
    """Runs orders, several at a time."""

    @property
    def slots(self) -> int:
        """Number of tasks that can run at the same time."""

    def submit(self, order: Order) -> None:
        """Start a task."""

    def wait(self) -> list[tuple[str, str | None]]:
        """Return (run, None or an error) for the tasks that have ended, after at most a second."""

    def close(self) -> None:
        """Stop all running tasks; each saves its state first."""


def run_order(order: Order) -> str | None:
    """Perform an order in a separate process; return None, or the end of its log on failure."""
    process = start(order)
    try:
        return processes.outcome(order.log, process.wait())
    finally:
        process.terminate()  # if waiting was interrupted; the process saves its state


def start(order: Order) -> "subprocess.Popen[bytes]":
    """Start the process of an order; its output goes to the order's log."""
    return processes.start("vistok.study.run.worker", [str(order.write())], order.log, order.threads)


class PoolExecutor:
    """Runs tasks in processes on this machine."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.running: dict[str, tuple[Order, subprocess.Popen[bytes]]] = {}

    @property
    def slots(self) -> int:
        """Number of processes."""
        return self.processes

    def submit(self, order: Order) -> None:
        """Start a task."""
        self.running[order.run] = (order, start(order))

    def wait(self) -> list[tuple[str, str | None]]:
        """Return the tasks that have ended, after at most a second."""
        for _ in range(10):
            ended = [run for run, (_, process) in self.running.items() if process.poll() is not None]
            if ended or not self.running:
                break
            time.sleep(0.1)
        outcomes = []
        for run in ended:
            order, process = self.running.pop(run)
            outcomes.append((run, processes.outcome(order.log, process.returncode)))
        return outcomes

    def close(self) -> None:
        """Ask all processes to stop, and wait until they have saved their states."""
        for _, process in self.running.values():
            process.terminate()
        for _, process in self.running.values():
            try:
                process.wait(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()
        self.running.clear()


class RayExecutor:
    """Runs tasks on Ray nodes that share this machine's disk (runs and results); a lost node's tasks resume elsewhere."""

    def __init__(self, address: str, threads: int | None) -> None:
        try:
            import ray
        except ImportError:
            raise UserError("--executor ray needs Ray: pip install 'vistok[ray]'") from None
        self.ray = ray
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        self.threads = threads or 1
        # If a node dies, its task is sent to another one, where it resumes from its newest checkpoint.
        self.remote: Callable[..., Any] = ray.remote(num_cpus=self.threads, max_retries=-1)(run_order).remote
        self.pending: dict[Any, str] = {}

    @property
    def slots(self) -> int:
        """Number of tasks that the cluster's CPUs can run now; it changes as nodes come and go."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 1) // self.threads))

    def submit(self, order: Order) -> None:
        """Send a task to the cluster."""
        self.pending[self.remote(order)] = order.run

    def wait(self) -> list[tuple[str, str | None]]:
        """Return the tasks that have ended, after at most a second."""
        if not self.pending:
            return []
        ended, _ = self.ray.wait(list(self.pending), num_returns=1, timeout=1)
        outcomes = []
        for handle in ended:
            run = self.pending.pop(handle)
            try:
                outcomes.append((run, self.ray.get(handle)))
            except Exception as error:  # whatever Ray raises, the study continues
                outcomes.append((run, f"Ray: {error}"))
        return outcomes

    def close(self) -> None:
        """Cancel all tasks and leave the cluster."""
        for handle in self.pending:
            self.ray.cancel(handle)
        self.ray.shutdown()


def make_executor(kind: str, address: str | None, processes: int, threads: int | None) -> Executor:
    """Return the executor with this name; raises UserError for unknown names."""
    if kind == "pool":
        if address is not None:
            raise UserError(f"--address {address} works only with --executor ray; add that, or leave out --address")
        return PoolExecutor(processes)
    if kind == "ray":
        return RayExecutor(address or "auto", threads)
    raise UserError(f"--executor {kind!r}: give pool or ray")
