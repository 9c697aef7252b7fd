"""Read files of torch.save without torch.load, and without running anything that they name.

A pickle can name any function to be called while it is read and can set attributes of any object it reaches; and
torch.load hands some archives to TorchScript, which runs the program in them. So both formats of torch.save, the zip
archive and the older stream of pickles, are read here by an unpickler that builds only containers, numbers and tensors.
Every other name becomes an inert object that swallows its arguments: a file with Lightning callbacks can be read, and a
call to os.system in a file does nothing.
"""

import argparse
import collections
import errno
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

import torch
from torch import Tensor

from vistok.errors import UserError, damage_is_a_mistake
from vistok.torch_files import ZIP, first_bytes, is_pickled, refuse_program

MAGIC = 0x1950A86A20F9469CFC6C  # the first number of a file in the older format
STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}  # fmt: skip


class Inert(dict):  # type: ignore[type-arg]
    """Stands in for anything that a file names: accepts any argument, holds any item, does nothing."""

    named = "something"

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        """Accept any arguments."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        """Do nothing."""
        return self

    def append(self, _: Any) -> None:
        """Swallow an item of a list."""

    def extend(self, _: Any) -> None:
        """Swallow items of a list."""

    add = append

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    """Return a tensor as a view of a flat storage; raises ValueError where it reaches beyond the storage."""
    if not isinstance(storage, Tensor):
        return Inert()
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if min(offset, *size, *stride, 0) < 0 or (0 not in size and last >= len(storage)):
        raise ValueError(f"a tensor of {tuple(size)} reaches beyond its storage of {len(storage)} numbers")
    return storage.as_strided(size, stride, offset)


def _tensor_of_bytes(
    storage: Any, offset: int, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> Any:
    """Do as `_tensor`, for dtypes without a storage class of their own; a dtype that is none gives an inert object."""
    return _tensor(storage.view(dtype), offset, size, stride) if isinstance(dtype, torch.dtype) else Inert()


def _parameter(data: Any, *_: Any) -> Any:
    """Return a parameter's tensor, without hooks and attributes."""
    return data


# Everything that a file may call or build: all of these do no more than hold numbers and names.
ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("argparse", "Namespace"): argparse.Namespace,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_bytes,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
    ("torch.storage", "UntypedStorage"): torch.uint8,
    **{("torch", name): dtype for name in dir(torch) if isinstance(dtype := getattr(torch, name), torch.dtype)},
}


# The unpickler written in Python, not the one in C: its method for setting attributes can be overridden, and a damaged
# size does not make it allocate memory.
class _Unpickler(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes], storage: Callable[[Any], Any]) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")  # type: ignore[arg-type]
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        return ALLOWED.get((module, name)) or type("Inert", (Inert,), {"named": f"{module}.{name}"})

    def persistent_load(self, saved: Any) -> Any:
        return self._storage(saved)

    def load_build(self) -> None:
        """Set attributes of a namespace, and of nothing else: other functions and classes are the program's own."""
        stack: list[Any] = self.stack  # type: ignore[attr-defined]
        state, built = stack.pop(), stack[-1]
        if isinstance(built, argparse.Namespace) and isinstance(state, dict):
            vars(built).update({str(name): value for name, value in state.items()})

    dispatch[pickle.BUILD[0]] = load_build


def read_pickled(path: Path) -> Any:
    """Return the contents of a file written by torch.save, on the CPU.

    Raises ValueError, pickle.UnpicklingError or nearly any other exception for a damaged file.
    """
    if not is_pickled(path):
        raise ValueError("not a file of torch.save")
    with open(path, "rb") as file:
        if first_bytes(path, 4) != ZIP:
            return _read_stream(file, path.stat().st_size)
        try:
            return _read_archive(file)
        except OSError as error:
            if error.errno == errno.EINVAL:  # the list of parts points outside the file
                raise ValueError("its list of parts is damaged") from None
            raise


def read_tensors(path: Path, what: str, advice: str) -> dict[str, Tensor]:
    """Return the tensors in a file of weights written by torch.save, by name. Raises UserError with advice for any other file."""
    refuse_program(path, what)
    with damage_is_a_mistake(f"{what} {path}", advice):
        found = read_pickled(path)
    tensors = (
        {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        if isinstance(found, dict)
        else {}
    )
    if not tensors:
        raise UserError(f"{what} {path}: holds no tensors by name; {advice}")
    return tensors


def _read_archive(file: IO[bytes]) -> Any:
    with zipfile.ZipFile(file) as archive:
        parts = {part.filename: part for part in archive.infolist()}
        tops = [name for name in parts if name.rpartition("/")[2] == "data.pkl" and name.count("/") < 2]
        if len(tops) != 1:
            raise ValueError("a zip archive without a data.pkl, so torch.save did not write it")
        top = tops[0].removesuffix("data.pkl")
        if f"{top}byteorder" in parts and archive.read(f"{top}byteorder") == b"big":
            raise ValueError("it was written on a machine with the other byte order")
        storages: dict[str, Tensor] = {}

        def storage(saved: Any) -> Any:
            kind, dtype, key, _, count = saved
            if kind != "storage" or not isinstance(dtype, torch.dtype):
                return Inert()
            if key not in storages:
                part = parts[f"{top}data/{key}"]
                _require(part.compress_type == zipfile.ZIP_STORED and part.file_size >= count * dtype.itemsize, key)
                buffer = bytearray(count * dtype.itemsize)
                with archive.open(part) as opened:
                    _require(opened.readinto(buffer) == len(buffer), key)  # type: ignore[attr-defined]
                    opened.read()  # to the end, where the checksum is verified
                storages[key] = _numbers(buffer, dtype)
            return storages[key]

        with archive.open(tops[0]) as opened:
            return _Unpickler(opened, storage).load()


def _read_stream(file: IO[bytes], size: int) -> Any:
    """Read the format from before torch 1.6: three headers, the object, the storages' keys, then the data of each storage."""
    storages: dict[str, tuple[bytearray, Tensor, int]] = {}

    def storage(saved: Any) -> Any:
        if saved[0] != "storage":
            return Inert()
        _, dtype, key, _, count, view = saved
        if not isinstance(dtype, torch.dtype):
            raise ValueError("it holds numbers of an unknown type")
        if key not in storages:
            _require(0 <= count * dtype.itemsize <= size, key)
            buffer = bytearray(count * dtype.itemsize)
            storages[key] = (buffer, _numbers(buffer, dtype), dtype.itemsize)
        numbers = storages[key][1]
        return numbers if view is None else numbers[view[1] : view[1] + view[2]]

    def refuse(_: Any) -> Any:
        raise ValueError("a storage in a header")

    if _Unpickler(file, refuse).load() != MAGIC:
        raise ValueError("a pickle that torch.save did not write")
    for _ in range(2):  # protocol, system
        _Unpickler(file, refuse).load()
    content = _Unpickler(file, storage).load()
    for key in _Unpickler(file, refuse).load():
        buffer, _, itemsize = storages[key]
        count = int.from_bytes(file.read(8), "little")
        _require(count * itemsize == len(buffer) and file.readinto(buffer) == len(buffer), key)  # type: ignore[attr-defined]
    return content


def _require(whole: bool, key: Any) -> None:
    if not whole:
        raise ValueError(f"the numbers of its tensor {key!r} are cut off or damaged")


def _numbers(buffer: bytearray, dtype: torch.dtype) -> Tensor:
    """Return a flat tensor that shares the memory of `buffer`."""
    return torch.frombuffer(buffer, dtype=dtype) if buffer else torch.empty(0, dtype=dtype)
