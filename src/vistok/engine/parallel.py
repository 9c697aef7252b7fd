"""How networks are spread over devices: torch's own parts, applied from outside.

Before optimizers are made, `spread` changes a network in place: blocks that are computed again in the backward pass,
compiled, sharded (`fully_shard`). Phases that are not sharded run inside DistributedDataParallel (`replicate`). What one
process does alone (validation, samples, export) sees plain networks (`Whole`).
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vistok.engine.config import ExecutionConfig
from vistok.engine.distributed import World
from vistok.engine.ema import EMA
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.shards import is_sharded


class Spreadable(Protocol):
    """A network that names the parts of it that are recomputed, compiled and sharded one by one."""

    def spread_units(self) -> Sequence[nn.Module]:
        """Return these parts, in the order in which they run; together they hold most of the weights."""
        ...


def shards(execution: ExecutionConfig, world: World) -> bool:
    """Whether a run's weights are sharded: only several processes can."""
    return execution.parallel == "shard" and world.size > 1


def spread(network: nn.Module, execution: ExecutionConfig, world: World) -> None:
    """Change a network that is trained, in place: recompute, compile, shard. Optimizers are made afterwards."""
    if execution.recompute:
        recompute(network)
    if execution.compile:
        for unit in units_of(network):
            unit.compile()
    if shards(execution, world):
        _shard(network, world)


def units_of(network: nn.Module) -> Sequence[nn.Module]:
    """Return the parts of a network that are handled one by one."""
    return network.spread_units()  # type: ignore[operator]


def recompute(network: nn.Module) -> None:
    """Keep the inputs of a network's units alone; the rest is computed again in the backward pass."""
    for unit in units_of(network):
        _recompute(unit)


def _recompute(unit: nn.Module) -> None:
    """Dropout draws the same numbers again."""
    inner = unit.forward

    def forward(*inputs: Any) -> Any:
        return checkpoint(inner, *inputs, use_reentrant=False) if torch.is_grad_enabled() else inner(*inputs)

    unit.forward = forward  # type: ignore[method-assign]


def _shard(network: nn.Module, world: World) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # Outputs are views where images are cropped; nothing writes into them.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    device = next(network.parameters()).device
    mesh = init_device_mesh(device.type, (world.size,))
    for unit in units_of(network):
        fully_shard(unit, mesh=mesh)
    fully_shard(network, mesh=mesh)


# "ema" and "raw": networks by name.
Weights = dict[str, dict[str, nn.Module]]


class Whole:
    """Plain forms of the networks that are averaged, averaged and raw, on the main process.

    Where nothing is sharded they are the networks themselves. Made before sharding: a sharded one cannot be copied.
    """

    def __init__(self, emas: Mapping[str, EMA], execution: ExecutionConfig, world: World) -> None:
        self._networks: Weights = {
            "ema": {name: ema.module for name, ema in emas.items()},
            "raw": {name: ema.source for name, ema in emas.items()},
        }
        self._plain: Weights | None = None
        if shards(execution, world):
            # Only the main process needs them, and on the CPU, where there is room.
            self._plain = {
                weights: {
                    name: copy.deepcopy(module).cpu() if world.main else nn.Identity() for name, module in found.items()
                }
                for weights, found in self._networks.items()
            }

    @contextmanager
    def __call__(self) -> Iterator[Weights]:
        """Give {"ema": {name: network}, "raw": ...}; all processes take part, and the main one alone may use what it gets."""
        if self._plain is None:
            yield self._networks
            return
        for weights, found in self._networks.items():
            for name, module in found.items():
                _gather(module, self._plain[weights][name])
        yield self._plain
        for found in self._plain.values():
            for module in found.values():
                module.cpu()


def _gather(module: nn.Module, plain: nn.Module) -> None:
    """Put a sharded network's weights together in a plain one, where the process keeps one."""
    device, kept, state = next(module.parameters()).device, not isinstance(plain, nn.Identity), {}
    for key, value in module.state_dict().items():
        whole = whole_tensor(value)  # all take part, the main process alone keeps it
        if kept:
            state[key] = whole.cpu()
    if kept:
        plain.load_state_dict(state)
        plain.to(device)


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return all of a sharded tensor (all processes take part), or the tensor itself."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


class _PhaseLossModule(nn.Module):
    """A phase's loss as a module that owns what the phase trains: what DistributedDataParallel wants."""

    def __init__(self, phase: Phase) -> None:
        super().__init__()
        self.trained = nn.ModuleList(phase.modules)
        self._loss: Callable[[MicroBatch, int], PhaseLoss] = phase.loss

    def forward(self, micro: MicroBatch, step: int) -> PhaseLoss:
        """Return the phase's loss."""
        return self._loss(micro, step)


def replicate(phases: Sequence[Phase], world: World) -> None:
    """Let the phases' gradients be averaged over processes: inside DistributedDataParallel where nothing is sharded."""
    if world.size == 1:
        return
    for phase in phases:
        if any(is_sharded(p) for module in phase.modules for p in module.parameters()):
            continue  # fully_shard averages
        with warnings.catch_warnings():  # the name that takes its place is not there in older versions
            warnings.filterwarnings("ignore", ".*broadcast_buffers.* is deprecated", FutureWarning)
            wrapped = nn.parallel.DistributedDataParallel(_PhaseLossModule(phase), broadcast_buffers=False)
        phase.loss, phase.unsynced = wrapped, wrapped.no_sync


def synced(phase: Phase, last: bool) -> AbstractContextManager[Any]:
    """Exchange gradients with the last micro-batch alone."""
    return nullcontext() if last else phase.unsynced()
