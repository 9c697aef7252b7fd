"""From a config to numbers: steps, FLOPs, parameters and memory, counted on the meta device."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vistok.engine.distributed import ALONE
from vistok.engine.objective import Objective
from vistok.engine.parallel import recompute
from vistok.engine.phase import MicroBatch, Phase, only
from vistok.errors import UserError
from vistok.nn.counting import Counting
from vistok.nn.flops import count_flops, paper_flops
from vistok.runs.config import RunConfig
from vistok.units import Scale, total_flops


@dataclass(frozen=True)
class Plan:
    """A run's derived numbers.

    flops_per_step: pairs of (from this step on, FLOPs per step). weight_bytes: of weights, gradients, AdamW and averages.
    activation_bytes: of the images that one process computes at a time, if it is the only one; in float32, whatever the precision.
    """

    total_steps: int
    flops_per_step: tuple[tuple[int, float], ...]
    params: dict[str, int]
    num_tokens: int
    weight_bytes: int
    activation_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Bytes of one process that trains alone."""
        return self.weight_bytes + self.activation_bytes

    @property
    def train_flops(self) -> float:
        """FLOPs of the whole training run: every phase, forward and backward."""
        return total_flops(self.total_steps, self.flops_per_step)

    def scale(self, config: RunConfig, num_images: int) -> Scale:
        """Return the scale that converts the run's durations into steps."""
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
            "images_at_once": images_at_once(config),
            "memory_gib_estimate": round(self.memory_bytes / 2**30, 3),
            "activation_gib_estimate": round(self.activation_bytes / 2**30, 3),
        }


def images_at_once(config: RunConfig) -> int:
    """Return how many images one process computes at a time, if it is the only one."""
    return min(config.execution.micro_batch_size or config.batch_size, config.batch_size)


@contextmanager
def sizes_fit() -> Iterator[None]:
    """Raise UserError if a config's sizes are too large to count, let alone build."""
    try:
        yield
    except (RuntimeError, OverflowError) as error:
        if not any(word in str(error).lower() for word in ("overflow", "too large", "too big")):
            raise
        raise UserError(
            f"this config's sizes cannot be built ({str(error).splitlines()[0]}); "
            "look at its channels, width, codebook_size, image_size and batch_size"
        ) from None


# Counting a step needs phases, and phases need a scale. For a warm-up or ramp given in FLOPs, any cost will do.
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


def activation_bytes(phases: Sequence[Phase], micro: MicroBatch, step: int) -> int:
    """Return the bytes that the most demanding phase keeps for its backward pass, for one (meta) micro-batch, in float32."""
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

        kept_by = torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t)
        with Counting(), kept_by:
            total = phase.loss(shared, step).total
        heaviest = max(heaviest, sum(kept.values()))
        del total
    return heaviest


def state_bytes(modules: Sequence[nn.Module]) -> int:
    """Return the bytes of weights, gradients, AdamW's two moments and the EMA weights; of frozen weights, their own."""
    parameters = {id(parameter): parameter for module in modules for parameter in module.parameters()}.values()
    return sum((5 if parameter.requires_grad else 1) * 4 * parameter.numel() for parameter in parameters)


def plan_of(
    config: RunConfig,
    objective: Objective,
    num_images: int,
    num_tokens: int,
    stages: Callable[[Scale], tuple[int, ...]] | None = None,
) -> Plan:
    """Return a run's derived numbers; `objective` is on the meta device, `num_tokens` counts latents per image (0: none).

    `stages`: where the run's stages begin, if the objective's stages serve only for counting.
    """
    meta, stages = torch.device("meta"), stages or objective.stages
    scale = Scale(config.batch_size, num_images, max(1, num_tokens), UNKNOWN_COST, 100)
    phases = objective.phases(scale, ALONE)
    micro = objective.example(config.batch_size, meta)
    counted_at = (0, *objective.stages(scale))
    turns = range(objective.period)
    counts = {
        step: sum(step_flops(phases, micro, step + turn) for turn in turns) / len(turns)
        for step in dict.fromkeys(counted_at)
    }
    scale = _settle(config, scale, [counts[step] for step in counted_at], stages)
    stages(scale)  # what cannot be trained in so few steps is refused here, too
    share = images_at_once(config) / config.batch_size
    if config.execution.recompute:  # only after counting, as recomputed FLOPs do not count towards training
        for network in objective.networks.values():
            if hasattr(network, "spread_units"):
                recompute(network)
    last = max(counted_at) + turns[-1]  # when all phases are active
    weights = state_bytes([module for phase in phases for module in phase.modules])
    activations = int(share * activation_bytes(phases, micro, last))
    return Plan(
        scale.total_steps, tuple(scale.flops_per_step), objective.parameters(), num_tokens, weights, activations
    )


def _settle(
    config: RunConfig, scale: Scale, counts: Sequence[float], stages: Callable[[Scale], tuple[int, ...]]
) -> Scale:
    """Return the run's scale with its steps filled in, iterating, as stages may start at a share of a length in FLOPs.

    `counts`: FLOPs per step, stage by stage.
    """

    def resolved(costs: Sequence[tuple[int, float]]) -> Scale:
        priced = replace(scale, flops_per_step=tuple(costs), total_steps=0)
        return replace(priced, total_steps=config.length.to_steps(priced))

    settled = resolved([(0, counts[0])])
    for _ in range(20 if len(counts) > 1 else 0):
        starts = {0: counts[0]}  # a later stage replaces an earlier one that begins at the same step
        for start, count in zip(stages(settled), counts[1:], strict=True):
            starts[start] = count
        settled = resolved(list(starts.items()))
    return settled
