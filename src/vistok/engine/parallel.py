"""How networks are spread over devices, using torch's tools from outside the networks.

Before optimizers are made, `spread` changes a network in place: its blocks are recomputed in the backward pass, compiled
or sharded (`fully_shard`). Phases that are not sharded run inside DistributedDataParallel (`replicate`). Work that one
process does alone (validation, samples, export) uses plain networks (`Whole`).
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
    """A network that lists its parts to be recomputed, compiled and sharded separately."""

    def spread_units(self) -> Sequence[nn.Module]:
        """Return these parts in execution order; together they hold most of the weights."""
        ...


def shards(execution: ExecutionConfig, world: World) -> bool:
    """Whether a run's weights are sharded, which takes several processes."""
    return execution.parallel == "shard" and world.size > 1


def spread(network: nn.Module, execution: ExecutionConfig, world: World) -> None:
    """Change a trained network in place: recompute, compile, shard. Make optimizers afterwards."""
    if execution.recompute:
        recompute(network)
    if execution.compile:
        for unit in units_of(network):
            unit.compile()
    if shards(execution, world):
        _shard(network, world)


def units_of(network: nn.Module) -> Sequence[nn.Module]:
    """Return the parts of a network that are handled separately."""
    return network.spread_units()  # type: ignore[operator]


def recompute(network: nn.Module) -> None:
    """Store only the inputs of a network's units and recompute the rest in the backward pass."""
    for unit in units_of(network):
        _recompute(unit)


def _recompute(unit: nn.Module) -> None:
    """Recompute one unit; dropout draws the same numbers again."""
    inner = unit.forward

    def forward(*inputs: Any) -> Any:
        return checkpoint(inner, *inputs, use_reentrant=False) if torch.is_grad_enabled() else inner(*inputs)

    unit.forward = forward  # type: ignore[method-assign]


def _shard(network: nn.Module, world: World) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # Outputs of cropped images are views, which nothing modifies.
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
    """Plain versions, EMA and raw, of the averaged networks, on the main process.

    Without sharding they are the networks themselves. Created before sharding, as sharded networks cannot be copied.
    """

    def __init__(self, emas: Mapping[str, EMA], execution: ExecutionConfig, world: World) -> None:
        self._networks: Weights = {
            "ema": {name: ema.module for name, ema in emas.items()},
            "raw": {name: ema.source for name, ema in emas.items()},
        }
        self._plain: Weights | None = None
        if shards(execution, world):
            # Needed only on the main process, and kept on the CPU, where there is room.
            self._plain = {
                weights: {
                    name: copy.deepcopy(module).cpu() if world.main else nn.Identity()
                    for name, module in networks.items()
                }
                for weights, networks in self._networks.items()
            }

    @contextmanager
    def __call__(self) -> Iterator[Weights]:
        """Yield {"ema": {name: network}, "raw": ...}; all processes take part, but only the main one may use them."""
        if self._plain is None:
            yield self._networks
            return
        for weights, networks in self._networks.items():
            for name, module in networks.items():
                _gather(module, self._plain[weights][name])
        yield self._plain
        for networks in self._plain.values():
            for module in networks.values():
                module.cpu()


def _gather(module: nn.Module, plain: nn.Module) -> None:
    """Gather a sharded network's weights into the plain one, on the process that keeps one."""
    device, kept, state = next(module.parameters()).device, not isinstance(plain, nn.Identity), {}
    for key, value in module.state_dict().items():
        whole = whole_tensor(value)  # all take part, only the main process keeps it
        if kept:
            state[key] = whole.cpu()
    if kept:
        plain.load_state_dict(state)
        plain.to(device)


def whole_tensor(tensor: Tensor) -> Tensor:
    """Return a sharded tensor in full (all processes take part), or the tensor itself."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


class _PhaseLossModule(nn.Module):
    """A phase's loss as a module that owns what the phase trains, as DistributedDataParallel requires."""

    def __init__(self, phase: Phase) -> None:
        super().__init__()
        self.trained = nn.ModuleList(phase.modules)
        self._loss: Callable[[MicroBatch, int], PhaseLoss] = phase.loss

    def forward(self, micro: MicroBatch, step: int) -> PhaseLoss:
        """Return the phase's loss."""
        return self._loss(micro, step)


def replicate(phases: Sequence[Phase], world: World) -> None:
    """Average the phases' gradients over processes, with DistributedDataParallel for those that are not sharded."""
    if world.size == 1:
        return
    for phase in phases:
        if any(is_sharded(p) for module in phase.modules for p in module.parameters()):
            continue  # fully_shard averages them
        with warnings.catch_warnings():  # older versions lack its replacement
            warnings.filterwarnings("ignore", ".*broadcast_buffers.* is deprecated", FutureWarning)
            wrapped = nn.parallel.DistributedDataParallel(_PhaseLossModule(phase), broadcast_buffers=False)
        phase.loss, phase.unsynced = wrapped, wrapped.no_sync


def synced(phase: Phase, last: bool) -> AbstractContextManager[Any]:
    """Exchange gradients only with the last micro-batch."""
    return nullcontext() if last else phase.unsynced()
