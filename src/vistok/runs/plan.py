"""From a config to numbers: steps, FLOPs, parameters, memory. Counted on the meta device, printed, saved."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vistok.engine.device import autocast
from vistok.engine.distributed import ALONE
from vistok.engine.objective import Objective
from vistok.engine.parallel import recompute
from vistok.engine.phase import MicroBatch, Phase, only
from vistok.errors import UserError
from vistok.nn.flops import count_flops, count_params, paper_flops
from vistok.runs.config import RunConfig
from vistok.units import Scale, total_flops


@dataclass(frozen=True)
class Plan:
    """Derived numbers of a run. flops_per_step: (from this step on, FLOPs of one step)."""

    total_steps: int
    flops_per_step: tuple[tuple[int, float], ...]
    params: dict[str, int]
    num_tokens: int
    memory_bytes: int

    @property
    def train_flops(self) -> float:
        """FLOPs of the whole training: every phase, forward and backward."""
        return total_flops(self.total_steps, self.flops_per_step)

    def scale(self, config: RunConfig, num_images: int) -> Scale:
        """Return what durations of the run are converted by."""
        return Scale(config.batch_size, num_images, max(1, self.num_tokens), self.flops_per_step, self.total_steps)

    def summary(self, config: RunConfig) -> dict[str, Any]:
        """Return the numbers that are printed and saved as resolved.json."""
        return {
            "name": config.name,
            "steps": self.total_steps,
            "images_seen": self.total_steps * config.batch_size,
            "params": self.params,
            "tokens_per_image": self.num_tokens,
            "train_flops": self.train_flops,
            "train_flops_paper": paper_flops(sum(self.params.values()), self.total_steps, self.num_tokens),
            "flops_per_step": [list(part) for part in self.flops_per_step],
            "memory_gib_estimate": round(self.memory_bytes / 2**30, 3),
        }


@contextmanager
def sizes_fit() -> Iterator[None]:
    """Raise UserError where a config's sizes are too large to be counted, let alone built."""
    try:
        yield
    except (RuntimeError, OverflowError) as error:
        if not any(word in str(error).lower() for word in ("overflow", "too large", "too big")):
            raise
        raise UserError(
            f"this config's sizes cannot be built ({str(error).splitlines()[0]}); "
            "look at its channels, width, codebook_size, image_size and batch_size"
        ) from None


# Counting a step needs phases, and phases a scale: where a warm-up or a ramp is given in FLOPs, any cost does.
UNKNOWN_COST = ((0, 1e12),)


def step_flops(phases: Sequence[Phase], micro: MicroBatch, step: int) -> float:
    """Return the FLOPs that all active phases execute for one (meta) micro-batch at a step."""

    def run() -> None:
        shared = dict(micro)
        for phase in phases:
            if phase.active(step):
                with only(phase, phases):
                    phase.loss(shared, step).total.backward()

    return count_flops(run)


def activation_bytes(phases: Sequence[Phase], micro: MicroBatch, step: int, precision: str) -> int:
    """Return the bytes that the heaviest phase keeps for its backward pass, for one (meta) micro-batch."""
    weights = {id(p) for phase in phases for m in phase.modules for p in m.parameters()}
    heaviest = 0
    shared = dict(micro)
    for phase in phases:
        if not phase.active(step):
            continue
        kept: dict[tuple[int, ...], int] = {}

        def keep(tensor: Tensor, kept: dict[tuple[int, ...], int] = kept) -> Tensor:
            if id(tensor) not in weights:
                kept[(id(tensor.untyped_storage()), *tensor.shape)] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), autocast(torch.device("meta"), precision):
            total = phase.loss(shared, step).total
        heaviest = max(heaviest, sum(kept.values()))
        del total
    return heaviest


def state_bytes(modules: Sequence[nn.Module]) -> int:
    """Return the bytes of weights, gradients, AdamW's two moments and the average."""
    return 5 * 4 * sum(count_params(module) for module in modules)


def plan_of(
    config: RunConfig,
    objective: Objective,
    num_images: int,
    num_tokens: int,
    stages: Callable[[Scale], tuple[int, ...]] | None = None,
) -> Plan:
    """Return a run's derived numbers; `objective` is built on the meta device, `num_tokens` are an image's latents (0: none).

    `stages`: where the run's stages begin, if the objective's own are only for counting.
    """
    meta, stages = torch.device("meta"), stages or objective.stages
    scale = Scale(config.batch_size, num_images, max(1, num_tokens), UNKNOWN_COST, 100)
    phases = objective.phases(scale, ALONE)
    micro = objective.example(config.batch_size, meta)
    counted_at = (0, *objective.stages(scale))
    counts = {step: step_flops(phases, micro, step) for step in dict.fromkeys(counted_at)}
    scale = _settle(config, scale, [counts[step] for step in counted_at], stages)
    share = (config.execution.micro_batch_size or config.batch_size) / config.batch_size
    if config.execution.recompute:  # after the FLOPs are counted, which are those of the training itself
        for network in objective.networks.values():
            if hasattr(network, "spread_units"):
                recompute(network)
    last = max(counted_at)
    memory = state_bytes([module for phase in phases for module in phase.modules])
    memory += int(share * activation_bytes(phases, micro, last, config.precision))
    return Plan(scale.total_steps, tuple(scale.flops_per_step), _params(objective), num_tokens, memory)


def _params(objective: Objective) -> dict[str, int]:
    """Return the parameters of each part of what is exported; what lies in none of them is the quantizer's."""
    parts = {name: count_params(part) for name, part in objective.parts().items()}
    rest = sum(count_params(objective.networks[name]) for name in objective.averaged) - sum(parts.values())
    return parts if not rest and set(parts) == set(objective.averaged) else {**parts, "quantizer": rest}


def _settle(
    config: RunConfig, scale: Scale, counts: Sequence[float], stages: Callable[[Scale], tuple[int, ...]]
) -> Scale:
    """Return the run's scale, its number of steps filled in: where a stage begins may be a share of a length in FLOPs.

    `counts`: FLOPs of a step, stage after stage.
    """

    def resolved(costs: Sequence[tuple[int, float]]) -> Scale:
        priced = replace(scale, flops_per_step=tuple(costs), total_steps=0)
        return replace(priced, total_steps=config.length.to_steps(priced))

    found = resolved([(0, counts[0])])
    for _ in range(20 if len(counts) > 1 else 0):
        starts = {0: counts[0]}  # a later stage replaces an earlier one that begins at the same step
        for start, count in zip(stages(found), counts[1:], strict=True):
            starts[start] = count
        found = resolved(list(starts.items()))
    return found
