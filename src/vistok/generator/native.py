"""A decode step in C++, compiled on the user's machine when it is first needed.

Where that cannot be (no compiler, no OpenMP, not a CPU) torch makes the step, slower and with the same tokens. The library
lies in the user's cache, under a name that tells source, compiler and CPU, and shares torch's OpenMP threads.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.files import user_cache
from vistok.generator.autoregressive import AutoregressiveGenerator
from vistok.generator.kv_cache import KVCache
from vistok.nn.transformer import Block

SOURCE = Path(__file__).with_name("decode_step.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
# New positions, of all rows together, up to which the step is faster than torch's (benchmarks/products.py).
MOST = 16


class _Sizes(ctypes.Structure):
    _names = ("depth", "width", "heads", "hidden", "codes", "turns", "positions", "rows", "fresh", "threads")
    _fields_ = [(name, ctypes.c_int64) for name in _names]


class _Layer(ctypes.Structure):
    _names = ("attention_norm", "qkv", "query_norm", "key_norm", "out", "feed_forward_norm", "gate", "up", "down")
    _fields_ = [(name, ctypes.c_void_p) for name in _names]


class NativeStep:
    """The C++ step on a model's own weights: nothing is copied."""

    def __init__(self, model: AutoregressiveGenerator, function: Any) -> None:
        self.model, self.function = model, function
        blocks = [block for block in model.blocks if isinstance(block, Block)]
        self.hidden = blocks[0].feed_forward.gate.out_features
        self.layers = (_Layer * len(blocks))(*map(_layer, blocks))

    def __call__(
        self, x: Float[Tensor, "rows new width"], cache: KVCache, places: Int[Tensor, "rows new"]
    ) -> Float[Tensor, "rows new codes"]:
        """Feed embedded inputs at these places of the cache; return the logits of the token after each.

        Raises IndexError for places outside the cache.
        """
        model, config = self.model, self.model.config
        (rows, new, width), positions = x.shape, cache.buffers.shape[4]
        if not 0 <= int(places.min()) <= int(places.max()) < positions:
            raise IndexError(f"places {places.tolist()} in a cache of {positions}")
        sizes = _Sizes(
            config.depth, width, config.num_heads, self.hidden, model.codebook_size, len(model.cos), positions, rows, new,
            torch.get_num_threads(),
        )  # fmt: skip
        x = x.clone(memory_format=torch.contiguous_format)
        scratch = x.new_empty(rows * (new * (4 * width + self.hidden) + config.num_heads * positions))
        logits = x.new_empty(rows, new, model.codebook_size)
        tensors = (model.norm.weight, model.head.weight, model.cos, model.sin, places.contiguous(), x, cache.buffers,
                   scratch, logits)  # fmt: skip
        self.function(ctypes.byref(sizes), self.layers, *(ctypes.c_void_p(t.data_ptr()) for t in tensors))
        return logits


def native_step(model: AutoregressiveGenerator) -> NativeStep | None:
    """Return the C++ step of a model, or None where there is none: for float32 weights on a CPU, with a compiler."""
    weights = (*model.parameters(), model.cos, model.sin)
    plain = all(w.device.type == "cpu" and w.dtype == torch.float32 and w.is_contiguous() for w in weights)
    function = library() if plain else None
    return None if function is None else NativeStep(model, function)


@cache
def library() -> Any:
    """Return the compiled function, compiled in a second where it was not yet, or None where that fails."""
    command = shlex.split(os.environ.get("CXX", "")) or [shutil.which("c++") or shutil.which("g++") or "clang++"]
    digest = hashlib.sha256("\0".join([*command, *FLAGS, _cpu()]).encode() + SOURCE.read_bytes()).hexdigest()
    file = user_cache() / "native" / f"decode_step-{digest[:16]}.so"
    try:
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=file.parent) as folder:
                made = Path(folder) / file.name
                subprocess.run([*command, *FLAGS, str(SOURCE), "-o", str(made)], check=True, capture_output=True)
                made.replace(file)
        return ctypes.CDLL(str(file)).vistok_decode_step
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    """Return what decides which instructions the compiler may use: homes are shared between machines."""
    listing = Path("/proc/cpuinfo")
    if not listing.is_file():
        return platform.processor() + platform.machine()
    return "".join(sorted({line for line in listing.read_text().splitlines() if line.lower().startswith(("flags", "feat", "model"))}))


def _layer(block: Block) -> _Layer:
    attention, feed_forward = block.attention, block.feed_forward
    return _Layer(
        *map(_pointer, (
            block.attention_norm, attention.qkv, attention.query_norm, attention.key_norm, attention.out,
            block.feed_forward_norm, feed_forward.gate, feed_forward.up, feed_forward.down,
        ))
    )  # fmt: skip


def _pointer(module: nn.Module) -> int | None:
    weight = getattr(module, "weight", None)
    return None if weight is None else weight.data_ptr()
