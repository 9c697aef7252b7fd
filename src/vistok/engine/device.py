"""Device, threads, memory and precision of a run."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from vistok.engine.allocator import keep_freed_memory
from vistok.engine.config import ExecutionConfig
from vistok.engine.provenance import cpu_name
from vistok.errors import UserError


def setup_device(execution: ExecutionConfig) -> torch.device:
    """Set the number of threads and, on a CPU, the memory policy; return the device ("auto": CUDA, Apple's MPS, CPU)."""
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
    """Return CUDA (this process's GPU), else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context for computing losses at a run's precision; weights stay float32."""
    if precision == "float32" or device.type == "meta":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 itself; where it only imitates it, that takes longer than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities() if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities") else {}
    return any(bool(known.get(name)) for name in ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16"))


def free_memory(device: torch.device) -> int | None:
    """Return the free bytes on a device (for a CPU, those left to the machine or its container); None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [value for value in (_available(), _left_in_container()) if value is not None]
    return min(limits) if device.type == "cpu" and limits else None


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


CONTAINER = Path("/sys/fs/cgroup")


def _left_in_container() -> int | None:
    try:
        most, used = ((CONTAINER / name).read_text().strip() for name in ("memory.max", "memory.current"))
        if most == "max":
            return None
        lines = (CONTAINER / "memory.stat").read_text().splitlines()
        # Of files that were read, which give way to programs.
        cached = next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
        return max(0, int(most) - int(used) + cached)
    except (OSError, ValueError):
        return None


def hardware(device: torch.device) -> str:
    """Name the hardware of a timing: the GPU, or the CPU and the number of threads torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{cpu_name() or device.type} ({threads} thread{'s' * (threads > 1)})"
