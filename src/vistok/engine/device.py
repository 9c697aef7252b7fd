"""Device, threads, memory and precision of a run."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from vistok.engine.allocator import keep_freed_memory
from vistok.engine.config import ExecutionConfig
from vistok.errors import UserError


def setup_device(execution: ExecutionConfig) -> torch.device:
    """Set the number of threads and, on a CPU, how memory is kept; return the device ("auto": CUDA, Apple's, CPU)."""
    if execution.threads is not None:
        torch.set_num_threads(execution.threads)
    if execution.device != "auto":
        try:
            device = torch.empty(0, device=execution.device).device
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f"execution.device {execution.device!r} cannot be used: {str(error).splitlines()[0]}"
            ) from None
    else:
        device = best_device()
    if device.type == "cpu":
        keep_freed_memory()
    return device


def best_device() -> torch.device:
    """Return CUDA (this process's own card), else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context that a run computes its losses in; weights stay float32."""
    if precision == "float32" or device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
