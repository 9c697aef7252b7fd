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
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.files import replace_synced, sync, user_cache
from vistok.generator.autoregressive import AutoregressiveGenerator
from vistok.generator.kv_cache import KVCache
from vistok.nn.linear_kernels import to_int8
from vistok.nn.transformer import Block

SOURCE = Path(__file__).with_name("decode_step.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
# New positions, of all rows together, up to which the step is faster than torch's (benchmarks/decode_step.py).
MOST = 32


class _Sizes(ctypes.Structure):
    _names = ("depth", "width", "heads", "hidden", "codes", "turns", "positions", "rows", "fresh", "threads")
    _fields_ = [(name, ctypes.c_int64) for name in _names]


class _Matrix(ctypes.Structure):
    _fields_ = [("values", ctypes.c_void_p), ("scales", ctypes.c_void_p)]


class _Layer(ctypes.Structure):
    _norms = ("attention_norm", "query_norm", "key_norm", "feed_forward_norm")
    _matrices = ("qkv", "out", "gate", "up", "down")
    _fields_ = [(name, ctypes.c_void_p) for name in _norms] + [(name, _Matrix) for name in _matrices]


class NativeStep:
    """The C++ step on a model's own weights, nothing is copied, or on a copy of eight bits."""

    def __init__(self, model: AutoregressiveGenerator, compiled: ctypes.CDLL, int8: bool) -> None:
        self.model, self.int8 = model, int8
        self.function = compiled.decode_step_int8 if int8 else compiled.decode_step_float32
        self.kept: list[Tensor] = []  # what pointers point to
        blocks = [block for block in model.blocks if isinstance(block, Block)]
        self.hidden = blocks[0].feed_forward.gate.out_features
        self.layers = (_Layer * len(blocks))(*map(self._layer, blocks))
        self.head = self._matrix(model.head)

    def __call__(
        self, x: Float[Tensor, "rows new width"], cache: KVCache, places: Int[Tensor, "rows new"]
    ) -> Float[Tensor, "rows new codes"]:
        """Feed embedded inputs, `MOST` at most, at these places of the cache; return the logits of the token after each.

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
        tensors = (model.cos, model.sin, places.contiguous(), x, cache.buffers, scratch, logits)
        self.function(
            ctypes.byref(sizes),
            self.layers,
            _pointer(model.norm.weight),
            ctypes.byref(self.head),
            *map(_pointer, tensors),
        )
        return logits

    def _layer(self, block: Block) -> _Layer:
        attention, feed_forward = block.attention, block.feed_forward
        norms = (block.attention_norm, attention.query_norm, attention.key_norm, block.feed_forward_norm)
        linears = (attention.qkv, attention.out, feed_forward.gate, feed_forward.up, feed_forward.down)
        return _Layer(*(_pointer(getattr(norm, "weight", None)) for norm in norms), *map(self._matrix, linears))

    def _matrix(self, linear: nn.Linear) -> _Matrix:
        if not self.int8:
            return _Matrix(_pointer(linear.weight), None)
        values, scales = to_int8(linear.weight.detach())
        self.kept += [values, scales]
        return _Matrix(_pointer(values), _pointer(scales))


def native_step(model: AutoregressiveGenerator, int8: bool = False) -> NativeStep | None:
    """Return the C++ step of a model, or None where there is none: for float32 weights on a CPU, with a compiler."""
    weights = (*model.parameters(), model.cos, model.sin)
    plain = all(
        type(w) in (Tensor, nn.Parameter)  # not a part of a weight, as fully_shard's
        and w.device.type == "cpu"
        and w.dtype == torch.float32
        and w.is_contiguous()
        for w in weights
    )
    compiled = library() if plain else None
    return None if compiled is None else NativeStep(model, compiled, int8)


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


@cache
def library() -> ctypes.CDLL | None:
    """Return what decode_step.cpp gives, compiled in a second where it was not yet, or None where that fails."""
    command = shlex.split(os.environ.get("CXX", "")) or [shutil.which("c++") or shutil.which("g++") or "clang++"]
    digest = hashlib.sha256("\0".join([*command, *FLAGS, _cpu()]).encode() + SOURCE.read_bytes()).hexdigest()
    file = user_cache() / "native" / f"decode_step-{digest[:16]}.so"
    with suppress(OSError):
        return ctypes.CDLL(str(file))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            made = Path(folder) / file.name
            subprocess.run([*command, *FLAGS, str(SOURCE), "-o", str(made)], check=True, capture_output=True)
            sync(made)
            replace_synced(made, file)
        return ctypes.CDLL(str(file))
    except (OSError, subprocess.CalledProcessError):
        return None


def _cpu() -> str:
    """Return what decides which instructions the compiler may use: homes are shared between machines."""
    listing = Path("/proc/cpuinfo")
    if not listing.is_file():
        return platform.processor() + platform.machine()
    lines = {line for line in listing.read_text().splitlines() if line.startswith(("flags", "Features", "model"))}
    return "".join(sorted(lines))
