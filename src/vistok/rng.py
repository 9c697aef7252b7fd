"""Randomness as a function of (seed, stream, index...): no hidden global state, no dependence on rank.

`derive_seed` mixes names and integers into one seed. `uniform_grid` is counter-based: the number at
(seed, image, position, code) does not depend on the batch, the device or the order of calls.
"""

import hashlib
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import torch

# SplitMix64 (Steele, Lea, Flood 2014), written as signed 64-bit integers for torch.
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX2 = 0x94D049BB133111EB - (1 << 64)


def derive_seed(seed: int, *stream: str | int) -> int:
    """Return a 63-bit seed that depends on every part and nothing else."""
    text = "\x1f".join(str(part) for part in (seed, *stream))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def numpy_generator(seed: int, *stream: str | int) -> "np.random.Generator":
    """Return a NumPy generator for this stream."""
    import numpy as np

    return np.random.Generator(np.random.Philox(derive_seed(seed, *stream)))


def torch_generator(seed: int, *stream: str | int) -> "torch.Generator":
    """Return a CPU torch generator for this stream."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, *stream))


def reseed_global(seed: int, *stream: str | int) -> None:
    """Seed torch's global generators, which dropout uses, for this stream."""
    import torch

    torch.manual_seed(derive_seed(seed, *stream))


@contextmanager
def seeded_init(seed: int, *stream: str | int) -> "Iterator[None]":
    """Run a block (building a module) with its own seed, then restore the global generator."""
    import torch

    state = torch.get_rng_state()
    torch.manual_seed(derive_seed(seed, *stream))
    try:
        yield
    finally:
        torch.set_rng_state(state)


def uniform_grid(
    seed: int, image_ids: "torch.Tensor", position: "int | torch.Tensor", count: int, stream: str = "gumbel"
) -> "torch.Tensor":
    """Return float32 uniforms in (0, 1), shape (images, count), keyed by (seed, stream, image, position, column).

    `position` is one number, or one per image.
    """
    import torch

    key = _mix(image_ids.to(torch.int64) * _GAMMA + stream_of(seed, stream))
    step = _signed((position + 1) * _MIX1) if isinstance(position, int) else (position + 1) * _MIX1
    key = _mix(key + step)
    columns = torch.arange(1, count + 1, device=image_ids.device, dtype=torch.int64) * _GAMMA
    return _to_uniform(_mix_(key[:, None] + columns[None, :]))


def stream_of(seed: int, stream: str = "gumbel") -> int:
    """Return the key of `uniform_grid`, a signed 64-bit integer."""
    return _signed(derive_seed(seed, stream))


def _to_uniform(bits: "torch.Tensor") -> "torch.Tensor":
    """Map 64 random bits to (0, 1): the highest 23 bits, centred in their cells.

    With 24 bits, the added half would not fit into float32: the highest cell would round to 1, its Gumbel noise to inf.
    """
    import torch

    return (bits >> 41).bitwise_and_((1 << 23) - 1).to(torch.float32).add_(0.5).mul_(2.0**-23)


def gumbel_grid(seed: int, image_ids: "torch.Tensor", position: "int | torch.Tensor", count: int) -> "torch.Tensor":
    """Return standard Gumbel noise, shape (images, count), keyed like `uniform_grid`."""
    return to_gumbel(uniform_grid(seed, image_ids, position, count))


def normal_grid(
    seed: int, image_ids: "torch.Tensor", step: "int | torch.Tensor", shape: "Sequence[int]"
) -> "torch.Tensor":
    """Return standard normal noise, float32, shape (images, *shape), keyed by (seed, image, step), whatever the batch.

    `step` is one number, or one per image. The noise is made from pairs of 23-bit uniforms (Box and Muller 1958), so no
    value exceeds 5.8 in magnitude.
    """
    import torch

    count = math.prod(shape)
    half = -(-count // 2)
    radius, angle = uniform_grid(seed, image_ids, step, 2 * half, "normal").chunk(2, dim=1)
    radius, angle = radius.log_().mul_(-2).sqrt_(), angle * (2 * math.pi)
    noise = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return noise[:, :count].unflatten(1, tuple(shape)) if shape else noise[:, 0]


def content_keys(numbers: "torch.Tensor") -> "torch.Tensor":
    """Return a key for each row of whole numbers (rows, count), which its numbers and their order decide: noise that they fix."""
    import torch

    places = torch.arange(1, numbers.shape[1] + 1, device=numbers.device, dtype=torch.int64) * _GAMMA
    return _mix_(_mix_(numbers.to(torch.int64) * _MIX1 + places).sum(dim=1))


def to_gumbel(uniform: "torch.Tensor") -> "torch.Tensor":
    """Turn uniforms into Gumbel noise, in place."""
    return uniform.log_().neg_().log_().neg_()


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _mix(x: "torch.Tensor") -> "torch.Tensor":
    return _mix_(x.clone())


def _mix_(x: "torch.Tensor") -> "torch.Tensor":
    """SplitMix64's finaliser, in place; the masks turn shifts of signed integers into logical shifts."""
    for bits, factor in ((30, _MIX1), (27, _MIX2), (31, 1)):
        x ^= (x >> bits).bitwise_and_((1 << (64 - bits)) - 1)
        if factor != 1:
            x *= factor
    return x


def stable_choice(seed: int, stream: str, population: int, count: int) -> Any:
    """Return `count` distinct integers below `population` as a sorted array, determined by seed and stream."""
    import numpy as np

    return np.sort(numpy_generator(seed, stream).permutation(population)[:count])
