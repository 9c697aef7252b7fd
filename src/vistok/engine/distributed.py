"""Several processes that act as one: their ranks, and the few things they exchange.

torchrun starts them and sets the environment. A process's rank determines which part of a batch it computes, never the
result for the whole batch.
"""

import atexit
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from vistok.errors import UserError

# Long, as the others wait while the main process evaluates.
TIMEOUT = timedelta(hours=6)


class _Mean(torch.autograd.Function):
    """The mean over processes. Every process's loss depends on it, so its gradient is averaged the same way."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, size: int) -> Tensor:
        ctx.size = size
        total = tensor.contiguous().clone()
        dist.all_reduce(total)
        return total / size

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total / ctx.size, None


@dataclass(frozen=True)
class World:
    """This process's rank and the number of processes; a single process exchanges nothing."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes the shared files: rows, checkpoints, pages."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over processes."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    def average(self, tensor: Tensor) -> Tensor:
        """Return the mean over processes, through which gradients flow."""
        if self.size == 1:
            return tensor
        return _Mean.apply(tensor, self.size)

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, which have one shape, concatenated by rank; the host does not wait."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the parts of all processes as one tensor, in order of rank; a process may have none."""
        return torch.cat([part for tensors in self.collect(list(parts)) for part in tensors])

    def collect(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share_of(self, items: range) -> range:
        """Return this process's share of a range: consecutive and about equal, in order of rank."""
        return items[len(items) * self.rank // self.size : len(items) * (self.rank + 1) // self.size]

    def agree(self, value: Any) -> Any:
        """Return the main process's value on every process."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        if self.size > 1:
            dist.barrier()

    def part_of(self, count: int, name: str) -> int:
        """Return one process's part of a count; raises UserError if it is not divisible."""
        if count % self.size:
            raise UserError(
                f"{name} {count} cannot be divided among {self.size} processes; choose a multiple of {self.size}, or a "
                "different number of processes"
            )
        return count // self.size


ALONE = World()


class Flags:
    """Flags that any process may raise. All see them together, a step later, so that none waits for another."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._underway: tuple[Tensor, dist.Work] | None = None

    def exchange(self, *mine: bool) -> tuple[bool, ...]:
        """Hand in this process's flags and return those that any process handed in at the last call.

        A process that is alone sees its own at once.
        """
        if self._world.size == 1:
            return mine
        before = self._arrived()
        flags = torch.tensor(mine, dtype=torch.int32)
        self._underway = flags, dist.all_reduce(flags, dist.ReduceOp.MAX, async_op=True)
        return before or (False,) * len(mine)

    def forget(self) -> None:
        """Drop what was handed in last."""
        self._arrived()

    def _arrived(self) -> tuple[bool, ...]:
        if self._underway is None:
            return ()
        (flags, work), self._underway = self._underway, None
        work.wait()
        return tuple(bool(flag) for flag in flags)


def join_world() -> World:
    """Return the world of processes that torchrun started; without torchrun, this process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE
    if not dist.is_initialized():
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            backend = "cpu:gloo,cuda:nccl"
        store, rank, size = next(dist.rendezvous("env://", timeout=TIMEOUT))
        # torchrun's store outlives the processes: restarted ones must not find the addresses of their dead predecessors.
        # With several nodes, each agent counts its own attempts; there each round needs its own store (docs/scale.md).
        if os.environ.get("GROUP_WORLD_SIZE", "1") == "1":
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
            store = dist.PrefixStore(f"attempt {attempt}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    return World(dist.get_rank(), dist.get_world_size())


def leave_world(code: int = 0) -> None:
    """Leave the other processes and exit this one with an exit code; a single process just returns.

    The interpreter is not torn down: a gloo thread may still have to release a tensor (DistributedDataParallel and
    fully_shard keep the group alive, destroyed or not), for which Python before 3.14 would abort the process, and
    torchrun would report a crash.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    try:
        if code == 0:  # after an error, others may be waiting for this process and must not be waited for
            dist.destroy_process_group()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            print(end="", file=stream, flush=True)
    except BaseException:  # including torchrun's SIGTERM
        code = code or 1
        traceback.print_exc()
    finally:
        os._exit(code)
