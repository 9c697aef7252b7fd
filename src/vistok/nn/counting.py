"""What operations cost and how their outputs look, worked out once for inputs that look alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

META = torch.device("meta")
# Operations that are remembered at most; then all are forgotten.
LIMIT = 20_000


class Counting(TorchDispatchMode):
    """Counts the FLOPs of what runs inside it, by torch's formulas, and makes runs on the meta device several times as fast.

    There torch works out shapes in Python, for each operation anew, though networks repeat their layers. Here an operation
    is answered with empty outputs that look like those of an earlier one on such inputs. What writes into an input, returns
    a view of one, or involves another device is always executed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        key: Any
        try:
            key = (func, _key(args), _key(tuple(kwargs.items())))
            known = _KNOWN.get(key)
        except TypeError:  # an input that is elsewhere, or that cannot be looked up
            key = known = None
        if known is not None:
            self.flops += known.flops
            return known.make()
        if func._overloadpacket not in flop_registry:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        flops = _flops(func, args, kwargs, result)
        self.flops += flops
        if key is not None and not func._schema.is_mutable and not func.is_view:
            _remember(key, result, (*args, *kwargs.values()), flops)
        return result


# Size, strides and type of numbers of an output; None where there is none.
Look = tuple[torch.Size, tuple[int, ...], torch.dtype] | None


@dataclass(frozen=True)
class _Outputs:
    """How an operation's outputs look, and its FLOPs."""

    looks: tuple[Look, ...]
    alone: bool
    flops: int

    def make(self) -> Any:
        made = [look and torch.empty_strided(look[0], look[1], dtype=look[2], device=META) for look in self.looks]
        return made[0] if self.alone else tuple(made)


_KNOWN: dict[Any, _Outputs] = {}


def _key(value: Any) -> Any:
    """Return what decides an output's look. Raises TypeError for a tensor of another kind."""
    if isinstance(value, Tensor):
        if value.device != META or value.layout != torch.strided or value.is_conj() or value.is_neg():
            raise TypeError
        return value.shape, value.stride(), value.dtype
    if isinstance(value, tuple | list):
        return tuple(map(_key, value))
    return type(value), value  # since 1, 1.0 and True are equal


def _flops(func: Any, args: Any, kwargs: Any, result: Any) -> int:
    formula = flop_registry.get(func._overloadpacket)
    return int(formula(*args, **kwargs, out_val=result)) if formula else 0


def _remember(key: Any, result: Any, inputs: Any, flops: int) -> None:
    """Keep how the outputs look, if they are new tensors on the meta device."""
    alone = isinstance(result, Tensor)
    outputs = (result,) if alone else result
    if not isinstance(outputs, tuple):
        return
    storages = {tensor.untyped_storage()._cdata for tensor in _tensors(inputs)}
    looks: list[Look] = []
    for output in outputs:
        if output is None:
            looks.append(None)
        elif isinstance(output, Tensor) and output.device == META and output.untyped_storage()._cdata not in storages:
            looks.append((output.shape, output.stride(), output.dtype))
        else:
            return
    if len(_KNOWN) >= LIMIT:
        _KNOWN.clear()
    _KNOWN[key] = _Outputs(tuple(looks), alone, flops)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
