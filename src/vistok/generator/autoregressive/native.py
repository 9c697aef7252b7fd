"""A decode step and its noise in C++, compiled on the user's machine when first needed.

Where that is impossible (no compiler, no OpenMP, not Linux, not a CPU), torch does the step, more slowly but with the
same tokens. The library is kept in the user's cache under a name derived from source, compiler and CPU, and shares
torch's OpenMP threads. Loading a library runs code: one that another user could have written, or that has changed since
it was tried out, is not loaded but rebuilt.
"""

import ctypes
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.errors import UserError
from vistok.files import only_one, replace_synced, sha256_of, sync, user_cache, write_atomic
from vistok.generator.autoregressive.kv_cache import KVCache
from vistok.generator.autoregressive.network import AutoregressiveNetwork
from vistok.nn.linear_kernels import to_int8
from vistok.nn.mixers.softmax import Attention
from vistok.nn.transformer import Block
from vistok.rng import gumbel_grid, stream_of, to_gumbel

SOURCE = Path(__file__).with_name("decode_step.cpp")
# Most new positions, over all rows, for which the step is faster than torch's (benchmarks/decode_step.py).
MOST = 32
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared", f"-DMOST={MOST}")
# Run in a separate process: a library that does not suit the CPU or torch's OpenMP would crash the whole program.
TRIAL = "import ctypes, sys, torch; sys.exit(ctypes.CDLL(sys.argv[1]).wrong())"


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
    """The C++ step, on a model's weights without copying them, or on an eight-bit copy."""

    def __init__(self, model: AutoregressiveNetwork, compiled: ctypes.CDLL, int8: bool) -> None:
        self.config, self.codes, self.int8 = model.config, model.codebook_size, int8
        self.function = compiled.decode_step_int8 if int8 else compiled.decode_step_float32
        self.kept: list[Tensor] = []  # keeps the tensors behind our pointers alive
        blocks = model.plain_blocks()
        self.hidden = blocks[0].feed_forward.gate.out_features
        self.layers = (_Layer * len(blocks))(*map(self._layer, blocks))
        self.norm, self.head = self._pointer(model.norm.weight), self._matrix(model.head)
        self.tables = [self._pointer(table) for table in (model.cos, model.sin)]
        self.turns = len(model.cos)

    def __call__(
        self, x: Float[Tensor, "rows new width"], cache: KVCache, places: Int[Tensor, "rows new"]
    ) -> Float[Tensor, "rows new codes"]:
        """Feed embedded inputs at these positions of the cache; return the logits for the token after each.

        Raises ValueError for inputs that are not float32 on a CPU, are more than `MOST`, or do not fit the cache, and
        IndexError for positions outside it.
        """
        config = self.config
        (rows, new, width), positions = x.shape, cache.buffers.shape[4]
        self._check(x, cache.buffers, places)
        sizes = _Sizes(
            config.depth, width, config.num_heads, self.hidden, self.codes, self.turns, positions, rows, new,
            torch.get_num_threads(),
        )  # fmt: skip
        x = x.clone(memory_format=torch.contiguous_format)
        scratch = x.new_empty(rows * (new * (4 * width + self.hidden) + config.num_heads * positions))
        logits, places = x.new_empty(rows, new, self.codes), places.contiguous()
        changing = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (places, x, cache.buffers, scratch, logits)]
        head = ctypes.byref(self.head)
        self.function(ctypes.byref(sizes), self.layers, self.norm, head, *self.tables, *changing)
        return logits

    def _check(self, x: Tensor, buffers: Tensor, places: Tensor) -> None:
        """Raise as `__call__` documents: otherwise the C++ code would write to memory that is not ours."""
        config, (rows, new, width) = self.config, x.shape
        shape = (config.depth, 2, rows, config.num_heads, buffers.shape[4], config.width // config.num_heads)
        if not (
            0 < rows * new <= MOST
            and width == config.width
            and places.shape == (rows, new)
            and places.dtype == torch.int64
            and buffers.shape == shape
            and buffers.is_contiguous()
            and all(tensor.dtype == torch.float32 and tensor.device.type == "cpu" for tensor in (x, buffers))
        ):
            raise ValueError(
                f"inputs {tuple(x.shape)} of {x.dtype}, places {tuple(places.shape)} and a cache {tuple(buffers.shape)} of "
                f"{buffers.dtype}: the cache must be {shape}, all float32 on a CPU, with at most {MOST} inputs"
            )
        if not 0 <= int(places.min()) <= int(places.max()) < buffers.shape[4]:
            raise IndexError(f"places {places.tolist()} in a cache of {buffers.shape[4]}")

    def _layer(self, block: Block) -> _Layer:
        attention, feed_forward = block.attention, block.feed_forward
        assert isinstance(attention, Attention)
        norms = (block.attention_norm, attention.query_norm, attention.key_norm, block.feed_forward_norm)
        linears = (attention.qkv, attention.out, feed_forward.gate, feed_forward.up, feed_forward.down)
        return _Layer(*(self._pointer(getattr(norm, "weight", None)) for norm in norms), *map(self._matrix, linears))

    def _matrix(self, linear: nn.Linear) -> _Matrix:
        if not self.int8:
            return _Matrix(self._pointer(linear.weight), None)
        return _Matrix(*map(self._pointer, to_int8(linear.weight.detach())))

    def _pointer(self, tensor: Tensor | None) -> ctypes.c_void_p:
        if tensor is None:
            return ctypes.c_void_p(None)
        self.kept.append(tensor.detach())
        return ctypes.c_void_p(tensor.data_ptr())


def native_step(model: AutoregressiveNetwork, int8: bool = False) -> NativeStep | None:
    """Return the C++ step for a model, or None; it needs float32 weights on a CPU, and a compiler."""
    weights = (*model.parameters(), model.cos, model.sin)
    plain = all(
        type(w) in (Tensor, nn.Parameter)  # not a shard of a weight, as with fully_shard
        and w.device.type == "cpu"
        and w.dtype == torch.float32
        and w.is_contiguous()
        for w in weights
    )
    compiled = library() if plain and all(type(block) is Block for block in model.blocks) else None
    return None if compiled is None else NativeStep(model, compiled, int8)


def gumbel_noise(
    seed: int, image_ids: Int[Tensor, "images"], position: int | Tensor, count: int
) -> Float[Tensor, "images count"]:
    """Return `rng.gumbel_grid`'s numbers, bit for bit, several times faster if there is a compiler."""
    compiled = library() if image_ids.device.type == "cpu" else None
    if compiled is None:
        return gumbel_grid(seed, image_ids, position, count)
    images = image_ids.to(torch.int64).contiguous()
    places = torch.as_tensor(position, dtype=torch.int64).expand(len(images)).contiguous()
    uniform = torch.empty(len(images), count)
    sizes = (stream_of(seed), images.data_ptr(), places.data_ptr(), len(images), count, torch.get_num_threads())
    compiled.uniform_grid(*map(ctypes.c_int64, sizes), ctypes.c_void_p(uniform.data_ptr()))
    return to_gumbel(uniform)


@cache
def library() -> ctypes.CDLL | None:
    """Return the library built from decode_step.cpp, compiling and trying it out if necessary; None if that fails.

    `CXX` may name a compiler; `CXX=false` switches the library off.
    """
    if sys.platform != "linux":  # elsewhere, compilers bring an OpenMP other than torch's
        return None
    try:
        return _load(shlex.split(os.environ.get("CXX", "")) or [shutil.which("c++") or "g++"])
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError, UserError):
        return None


def _load(compiler: list[str]) -> ctypes.CDLL:
    """Return the library from the user's cache, rebuilding it if it is missing or has changed.

    A folder that others can write to is not used; every process then builds a private copy.
    """
    program = Path(shutil.which(compiler[0]) or compiler[0]).stat()
    parts = [*compiler, *FLAGS, str(program.st_size), str(program.st_mtime_ns), _cpu()]
    digest = hashlib.sha256("\0".join(parts).encode() + SOURCE.read_bytes()).hexdigest()
    folder = user_cache() / "native"
    file = folder / f"decode_step-{digest[:16]}.so"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _only_ours(folder):
        with tempfile.TemporaryDirectory() as private:
            return ctypes.CDLL(str(_make(compiler, Path(private) / file.name)))
    if not _as_written(file):
        with only_one(folder / "making"):  # one process compiles, the others then find the library
            if not _as_written(file):
                _write(compiler, file)
    return ctypes.CDLL(str(file))


def _write(compiler: list[str], file: Path) -> None:
    """Build the library and write its checksum, each completely or not at all."""
    with tempfile.TemporaryDirectory(dir=file.parent) as private:
        made = _make(compiler, Path(private) / file.name)
        checksum = sha256_of(made)
        sync(made)
        replace_synced(made, file)
    write_atomic(_checksum_of(file), checksum.encode())
    _checksum_of(file).chmod(0o600)


def _make(compiler: list[str], made: Path) -> Path:
    """Compile to a path, and try the result out in a separate process."""
    for command in ([*compiler, *FLAGS, str(SOURCE), "-o", str(made)], [sys.executable, "-c", TRIAL, str(made)]):
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    made.chmod(0o700)  # whatever the umask: a group-writable file would not be loaded
    return made


def _as_written(file: Path) -> bool:
    """Whether a library is ours alone and, byte for byte, the one that was tried out: loading it runs code."""
    checksum = _checksum_of(file)
    try:
        return _only_ours(file) and _only_ours(checksum) and checksum.read_text() == sha256_of(file)
    except (OSError, ValueError):
        return False


def _checksum_of(file: Path) -> Path:
    return file.with_suffix(".so.sha256")


def _only_ours(path: Path) -> bool:
    """Whether a file or folder is not a link, and nobody else could have written it."""
    status = path.lstat()
    writable_by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == os.getuid() and not writable_by_others and not stat.S_ISLNK(status.st_mode)


def _cpu() -> str:
    """Return what determines the available CPU instructions, as machines may share a home directory."""
    listing = Path("/proc/cpuinfo").read_text().splitlines()
    lines = {line for line in listing if line.startswith(("flags", "Features", "model"))}
    return "".join(sorted(lines))
