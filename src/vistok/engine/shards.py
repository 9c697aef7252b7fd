"""Tensors that are sharded over processes, written and read by torch.distributed.checkpoint as safetensors.

Every process writes what it holds; a reader with any number of processes, or none, gets what it needs of it. The
format is the one of Hugging Face's shards: nothing in it is unpickled.
"""

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from vistok.engine.distributed import World
from vistok.files import disk_error, sync

SUFFIX = ".shards"


def is_sharded(tensor: Tensor | None) -> TypeGuard[Any]:
    """Whether a tensor lies in parts on several processes."""
    return hasattr(tensor, "full_tensor")  # a DTensor, without a second for importing it


def place(tensor: Tensor, like: Any) -> Tensor:
    """Return a whole tensor, which every process has, sharded as `like` is; or as it is."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def write_shards(folder: Path, tensors: dict[str, Tensor], world: World) -> None:
    """Write a folder that is whole or absent; all processes take part. Raises UserError where the disk is full."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    partial = folder.with_name(folder.name + ".partial")
    if world.main:
        for left in (folder, *folder.parent.glob(f"*{SUFFIX}.partial")):  # a stopped save's take the room of this one
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir()
    world.wait()
    packed = {name: tensor if is_sharded(tensor) else tensor.contiguous() for name, tensor in tensors.items()}
    try:
        dcp.save(packed, storage_writer=dcp.HuggingFaceStorageWriter(str(partial), save_distributed=True))
    except CheckpointException as error:  # of any of the processes, and not an Exception
        if world.main:
            shutil.rmtree(partial, ignore_errors=True)
        raise _failure(error, folder, "written") from None
    world.wait()
    if world.main:
        partial.rename(folder)
        sync(folder.parent)


def _failure(error: Any, folder: Path, verb: str) -> Exception:
    """Return what went wrong on the first of the processes where something did."""
    first = next((found[0] for found in error.failures.values()), error)
    if isinstance(first, OSError):
        return disk_error(folder, first)
    return RuntimeError(f"{folder} could not be {verb}: {first}")


def read_shards(folder: Path, layout: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return all tensors of a folder: sharded as those that `layout` names, the others whole, on the CPU.

    Raises OSError, which names the folder, where the machine cannot read them.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    tensors = {}
    described: dict[str, Any] = dcp.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    for name, found in described.items():
        like, dtype = layout.get(name), found.properties.dtype
        tensors[name] = (
            torch.zeros_like(like, dtype=dtype) if is_sharded(like) else torch.zeros(found.size, dtype=dtype)
        )  # type: ignore[arg-type]
    with warnings.catch_warnings():  # one process alone may read what many wrote: nothing to be warned of
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        try:
            dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(folder)))
        except CheckpointException as error:  # not an Exception
            raise _failure(error, folder, "read") from None
    return tensors
