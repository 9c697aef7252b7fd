"""Sharded tensors, written and read as safetensors by torch.distributed.checkpoint.

Each process writes the parts it holds; any number of processes, or a single one, can read what they need. The format
is that of Hugging Face's shards: nothing in it is unpickled.
"""

import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from vistok.engine.checkpoint_files import SUFFIX
from vistok.engine.distributed import World
from vistok.files import disk_error, sync


def is_sharded(tensor: Tensor | None) -> TypeGuard[Any]:
    """Whether a tensor is split over several processes."""
    return hasattr(tensor, "full_tensor")  # a DTensor; importing the class would take a second


def place(tensor: Tensor, like: Any) -> Tensor:
    """Return a whole tensor, which every process has, sharded like `like`; unchanged if that is not sharded."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def write_shards(folder: Path, tensors: dict[str, Tensor], world: World) -> None:
    """Write a folder that is whole or absent; all processes take part. Raises UserError if the disk is full."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    partial = folder.with_name(folder.name + ".partial")
    if world.main:
        for left in (folder, *folder.parent.glob(f"*{SUFFIX}.partial")):  # remains of a stopped save take up space
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir()
    world.wait()
    packed = {name: tensor if is_sharded(tensor) else tensor.contiguous() for name, tensor in tensors.items()}
    try:
        dcp.save(packed, storage_writer=dcp.HuggingFaceStorageWriter(str(partial), save_distributed=True))
    except CheckpointException as error:  # from any process; not a subclass of Exception
        if world.main:
            shutil.rmtree(partial, ignore_errors=True)
        raise _failure(error, folder, "written") from None
    world.wait()
    if world.main:
        partial.rename(folder)
        sync(folder.parent)


def _failure(error: Any, folder: Path, verb: str) -> Exception:
    """Return the failure of the first process that failed."""
    first = next((failure[0] for failure in error.failures.values()), error)
    if isinstance(first, OSError):
        return disk_error(folder, first)
    return RuntimeError(f"{folder} could not be {verb}: {first}")


def read_shards(folder: Path, layout: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return all tensors in a folder: sharded like those in `layout`, the others whole and on the CPU.

    Raises an OSError that names the folder if the machine cannot read them.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    tensors = {}
    described: dict[str, Any] = dcp.HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    for name, metadata in described.items():
        like, dtype = layout.get(name), metadata.properties.dtype
        tensors[name] = (
            torch.zeros_like(like, dtype=dtype) if is_sharded(like) else torch.zeros(metadata.size, dtype=dtype)
        )  # type: ignore[arg-type]
    with warnings.catch_warnings():  # a single process may read what many wrote, so no warning
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        try:
            dcp.load(tensors, storage_reader=dcp.HuggingFaceStorageReader(str(folder)))
        except CheckpointException as error:  # not a subclass of Exception
            raise _failure(error, folder, "read") from None
    return tensors
