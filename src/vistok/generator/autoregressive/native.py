"""A decode step in C++, compiled on the user's machine when first needed.

Where that is impossible (`nn/native_library.py`, or weights that are not float32 on a CPU), torch does the step, more
slowly but with the same tokens.
"""

import ctypes
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.generator.autoregressive.kv_cache import KVCache
from vistok.generator.autoregressive.native_cache import cache_for
from vistok.generator.autoregressive.network import AutoregressiveNetwork
from vistok.nn.linear_kernels import Rounding, to_int8
from vistok.nn.mixers.softmax import Attention
from vistok.nn.native_library import compiled_library
from vistok.nn.transformer import Block

SOURCE = Path(__file__).with_name("decode_step.cpp")
# Most new positions, over all rows, for which the step is faster than torch's (benchmarks/decode_step.py).
MOST = 32
# Of a value of a weight.
BYTES: dict[Rounding, int] = {"none": 4, "bfloat16": 2, "int8": 1}


class _Sizes(ctypes.Structure):
    _names = ("depth", "width", "heads", "hidden", "codes", "turns", "positions", "rows", "fresh", "threads", "cache")
    _fields_ = [(name, ctypes.c_int64) for name in _names]


class _Matrix(ctypes.Structure):
    _fields_ = [("values", ctypes.c_void_p), ("scales", ctypes.c_void_p)]


class _Layer(ctypes.Structure):
    _norms = ("attention_norm", "query_norm", "key_norm", "feed_forward_norm")
    _matrices = ("qkv", "out", "gate", "up", "down")
    _fields_ = [(name, ctypes.c_void_p) for name in _norms] + [(name, _Matrix) for name in _matrices]


class NativeStep:
    """The C++ step, on a model's weights without copying them, or on a copy in fewer bits."""

    def __init__(self, model: AutoregressiveNetwork, compiled: ctypes.CDLL, rounding: Rounding) -> None:
        self.config, self.codes, self.rounding = model.config, model.codebook_size, rounding
        self.function = getattr(compiled, f"decode_step_{'float32' if rounding == 'none' else rounding}")
        self.kept: list[Tensor] = []  # keeps the tensors behind our pointers alive
        blocks = model.plain_blocks()
        self.hidden = blocks[0].feed_forward.gate.out_features
        self.layers = (_Layer * len(blocks))(*map(self._layer, blocks))
        self.norm, self.head = self._pointer(model.norm.weight), self._matrix(model.head)
        self.tables = [self._pointer(table) for table in (model.cos, model.sin)]
        self.turns = len(model.cos)
        # Embeddings are looked up; every other weight is read for each token.
        read = sum(weight.numel() for weight in model.parameters()) * BYTES[rounding]
        self.cache = cache_for(compiled, read)

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
            torch.get_num_threads(), self.cache,
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
        if self.rounding == "int8":
            return _Matrix(*map(self._pointer, to_int8(linear.weight.detach())))
        weight = linear.weight.detach()
        return _Matrix(self._pointer(weight.to(torch.bfloat16) if self.rounding == "bfloat16" else weight), None)

    def _pointer(self, tensor: Tensor | None) -> ctypes.c_void_p:
        if tensor is None:
            return ctypes.c_void_p(None)
        self.kept.append(tensor.detach())
        return ctypes.c_void_p(tensor.data_ptr())


def library_for(model: AutoregressiveNetwork) -> ctypes.CDLL | None:
    """Return the compiled step if it can write a model's tokens, or None; it needs float32 weights on a CPU, and a compiler."""
    weights = (*model.parameters(), model.cos, model.sin)
    plain = all(
        type(w) in (Tensor, nn.Parameter)  # not a shard of a weight, as with fully_shard
        and w.device.type == "cpu"
        and w.dtype == torch.float32
        and w.is_contiguous()
        for w in weights
    )
    return library() if plain and all(type(block) is Block for block in model.blocks) else None


def native_step(model: AutoregressiveNetwork, rounding: Rounding = "none") -> NativeStep | None:
    """Return the C++ step for a model, or None where there is none (`library_for`)."""
    compiled = library_for(model)
    return None if compiled is None else NativeStep(model, compiled, rounding)


def library() -> ctypes.CDLL | None:
    """Return the library built from decode_step.cpp, or None."""
    return compiled_library(SOURCE, (f"-DMOST={MOST}",))
