"""Gumbel noise with a key, by C++ where possible (keyed_noise.cpp): a token's draw needs a number for every code.

That is on a CPU with a compiler. Otherwise it is `rng.gumbel_grid`; the numbers are the same bit for bit.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vistok.nn.native_library import compiled_library
from vistok.rng import gumbel_grid, stream_of, to_gumbel

SOURCE = Path(__file__).with_name("keyed_noise.cpp")


def gumbel_noise(
    seed: int, image_ids: Int[Tensor, "images"], position: int | Tensor, count: int
) -> Float[Tensor, "images count"]:
    """Return standard Gumbel noise keyed by (seed, image, position, column), as `rng.gumbel_grid` does, several times faster.

    `position` is one number, or one per image.
    """
    compiled = _library() if image_ids.device.type == "cpu" else None
    if compiled is None:
        return gumbel_grid(seed, image_ids, position, count)
    images = image_ids.to(torch.int64).contiguous()
    places = torch.as_tensor(position, dtype=torch.int64).expand(len(images)).contiguous()
    uniform = torch.empty(len(images), count)
    sizes = len(images), count, torch.get_num_threads()
    compiled.uniform_grid(stream_of(seed), images.data_ptr(), places.data_ptr(), *sizes, uniform.data_ptr())
    return to_gumbel(uniform)


@cache
def _library() -> Any:
    """Return the library built from keyed_noise.cpp, or None."""
    library = compiled_library(SOURCE)
    if library is not None:
        number, memory = ctypes.c_int64, ctypes.c_void_p
        library.uniform_grid.argtypes = [number, memory, memory, number, number, number, memory]
    return library
