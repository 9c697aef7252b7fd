"""Train a tokenizer: autoencoder phase (with the causal regularizer inside), and a discriminator phase."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vistok.data.loader import eval_images, train_images
from vistok.data.open import open_split
from vistok.data.sources import ImageSource
from vistok.data.transforms import to_uint8
from vistok.engine.device import setup_device
from vistok.engine.distributed import World, join_world
from vistok.engine.loop import Training
from vistok.engine.parallel import recompute, spread
from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.nn.flops import count_params
from vistok.rng import stable_choice
from vistok.runs.config import TokenizerRun
from vistok.runs.health.reconstructions import baseline_of, reconstruction_quality
from vistok.runs.health.tokenizer import tokenizer_alarms
from vistok.runs.identity import by_contents, content_digests, former_names
from vistok.runs.initial import initial_weights, load_initial
from vistok.runs.job import (
    Job,
    accumulation_check,
    config_json,
    folder_facts,
    folder_warnings,
    run_directory,
    spread_with_average,
)
from vistok.runs.pictures import display_scale, save_png, sheet
from vistok.runs.plan import UNKNOWN_COST, Plan, activation_bytes, resolve_steps, sizes_fit, state_bytes, step_flops
from vistok.units import Scale, steps
from vistok.verbs.stage1 import build_networks, build_phases

EVAL_IMAGES = 1000
SHEET_IMAGES = 16


@lru_cache(maxsize=32)  # a count costs seconds, and a demo asks for the same one often
@sizes_fit()
def plan(config: TokenizerRun, num_images: int) -> Plan:
    """Return the run's derived numbers, from a build on the meta device."""
    meta = torch.device("meta")
    networks = build_networks(config, meta)
    size, channels, num_tokens = config.tokenizer.image_size, config.tokenizer.in_channels, config.tokenizer.num_tokens
    micro = {
        "images": torch.empty(config.batch_size, channels, size, size, device=meta),
        "labels": torch.empty(config.batch_size, dtype=torch.int64, device=meta),
    }
    scale = Scale(config.batch_size, num_images, num_tokens, UNKNOWN_COST, 100)
    phases = build_phases(_counted(config), networks, scale)
    late = 10**9
    # The middle stage is seldom there, and a count costs seconds.
    middle = 7 if config.losses.adversarial and config.losses.adversarial.warmup.value else 0
    counts = {step: step_flops(phases, micro, step) for step in {0, middle, late}}
    scale = _settle(config, num_images, [counts[0], counts[middle], counts[late]])
    share = (config.execution.micro_batch_size or config.batch_size) / config.batch_size
    modules = [module for phase in phases for module in phase.modules]
    if config.execution.recompute:  # after the FLOPs are counted, which are those of the training itself
        for network in (networks.tokenizer, networks.regularizer):
            if network is not None:
                recompute(network)
    memory = state_bytes(modules) + int(share * activation_bytes(phases, micro, late, config.precision))
    parts = {"encoder": networks.tokenizer.encoder, "decoder": networks.tokenizer.decoder}
    params = {name: count_params(part) for name, part in parts.items()}
    params["quantizer"] = count_params(networks.tokenizer) - sum(params.values())
    return Plan(scale.total_steps, tuple(scale.flops_per_step), params, num_tokens, memory)


def _counted(config: TokenizerRun) -> TokenizerRun:
    """Return the run with its stages where they are counted: the discriminator alone from step 5 on, all from step 10."""
    if config.losses.adversarial is None:
        return config
    stages = config.losses.adversarial.replace(start=steps(10), warmup=steps(5))
    return config.replace(losses=config.losses.replace(adversarial=stages))


def _settle(config: TokenizerRun, num_images: int, stages: Sequence[float]) -> Scale:
    """Return the run's scale: where the adversarial stages start may be a share of a length in FLOPs.

    `stages`: FLOPs of a step before the discriminator, while it learns alone, and after.
    """
    adversarial, num_tokens = config.losses.adversarial, config.tokenizer.num_tokens
    costs: tuple[tuple[int, float], ...] = ((0, stages[0]),)
    scale = resolve_steps(config, num_images, num_tokens, costs)
    for _ in range(20 if adversarial else 0):
        assert adversarial is not None
        start = adversarial.start.to_steps(scale)
        starts = {0: stages[0]}  # a later stage replaces an earlier one that begins at the same step
        starts[max(0, start - adversarial.warmup.to_steps(scale))] = stages[1]
        starts[start] = stages[2]
        costs = tuple(starts.items())
        scale = resolve_steps(config, num_images, num_tokens, costs)
    return scale


def _whole_batches(config: TokenizerRun, world: World) -> None:
    """Raise UserError where micro-batches would change the result."""
    if (config.execution.micro_batch_size or config.batch_size) >= config.batch_size // world.size:
        return
    if config.crt is not None and config.crt.variant == "l2_pre_normalized":
        raise UserError(
            "crt.variant l2_pre_normalized divides by the variance over the batch, which micro-batches would change; "
            "leave execution.micro_batch_size null, or take variant l2_pre"
        )
    if config.losses.adversarial is not None and config.losses.adversarial.adaptive:
        raise UserError(
            "losses.adversarial.adaptive compares gradients of the batch, which micro-batches would change; leave "
            "execution.micro_batch_size null, or switch it off"
        )


def _can_shard(config: TokenizerRun) -> None:
    """Raise UserError for options that read or write whole weights within a step."""
    if config.execution.parallel != "shard":
        return
    quantizer, adversarial = config.tokenizer.quantizer, config.losses.adversarial
    refused = {
        "tokenizer.quantizer.restart_after": getattr(quantizer, "restart_after", None) is not None,
        "tokenizer.quantizer.start_after": getattr(quantizer, "start_after", None) is not None,
        "losses.adversarial.adaptive": adversarial is not None and adversarial.adaptive,
    }
    for name, found in refused.items():
        if found:
            raise UserError(
                f"{name} needs whole weights within a step, and execution.parallel is 'shard'; switch {name} off, or use "
                "--set 'execution.parallel=\"replicate\"'"
            )


def _codes_begin(config: TokenizerRun, total_steps: int) -> None:
    """Raise UserError where training ends before the codes have begun."""
    start = getattr(config.tokenizer.quantizer, "start_after", None)
    if start is not None and start >= total_steps:
        raise UserError(
            f"tokenizer.quantizer.start_after {start}: the run has {total_steps} steps and would end before its codes begin; "
            "train longer (--set length=...), or let them begin sooner"
        )


def prepare(config: TokenizerRun, runs: Path) -> Job:
    """Open the data and return the job."""
    accumulation_check(config)
    _whole_batches(config, join_world())
    _can_shard(config)
    source = open_split(config.data, "train")
    planned = plan(config, len(source))
    _codes_begin(config, planned.total_steps)
    initial = initial_weights(config)
    digests = content_digests(config, initial[1] if initial else None)
    former = former_names(config, source, digests.get("init_from"))
    run_dir, naming = run_directory(by_contents(config), runs, former, data=source.digest, **digests)

    watch = partial(tokenizer_alarms, config, planned.total_steps)

    def build(world: World) -> Training:
        device = setup_device(config.execution)
        networks = build_networks(config, device, world)
        if initial:
            load_initial(networks.tokenizer, initial[0], config.init_from)
        ema, whole = spread_with_average(networks.tokenizer, config, world)
        if networks.regularizer is not None:
            spread(networks.regularizer, config.execution, world)
        return Training(
            name=config.name,
            phases=build_phases(config, networks, planned.scale(config, len(source)), world),
            emas={"tokenizer": ema},
            whole=whole,
            batches=lambda steps: train_images(
                source,
                config.data,
                config.seed,
                config.batch_size,
                steps,
                config.execution.num_workers,
                (world.rank, world.size),
            ),
            evaluate=_evaluation(config, run_dir, device),
            total_steps=planned.total_steps,
            batch_size=config.batch_size,
            flops_per_step=planned.flops_per_step,
            lr=config.optimizer.lr,
            seed=config.seed,
            precision=config.precision,
            device=device,
            execution=config.execution,
            world=world,
            alarms=watch(),
            init_option="--init-from",
        )

    images = {"class_names": list(source.class_names), "data_digest": source.digest}
    facts = {**folder_facts(source), "num_images": len(source), **images, **digests}
    return Job(
        config, planned, run_dir, facts, build, _metadata(config, images), folder_warnings(source), naming, watch
    )


def _metadata(config: TokenizerRun, images: dict[str, Any]) -> dict[str, Any]:
    """Return what the header of the weights says."""
    plain = config_json(config)
    return {"config": plain["tokenizer"], "run_config": plain, **images, "dataset": config.data.dataset}


def _evaluation(
    config: TokenizerRun, run_dir: RunDir, device: torch.device
) -> Callable[[int, dict[str, nn.Module]], dict[str, float]]:
    """Return what a validation does: score a fixed random set of held-out images, and save a sheet."""
    held_out = open_split(config.data, "val")
    chosen = stable_choice(0, "validation", len(held_out), EVAL_IMAGES)
    validation = held_out.subset(chosen, f"{EVAL_IMAGES} random images")
    shown = held_out.subset(chosen[_spread(len(chosen))], "shown")
    baseline = cache(lambda: baseline_of(validation, config.data))
    network = config.tokenizer
    tokens_per_code = len(validation) * network.num_tokens / network.quantizer.codebook_size

    def evaluate(step: int, both: dict[str, nn.Module]) -> dict[str, float]:
        values, raw = (
            reconstruction_quality(both[name], validation, config.data, device, baseline()) for name in ("ema", "raw")
        )
        save_reconstructions(both["ema"], shown, config, device, run_dir, step)
        facts = {"image_variance": baseline().variance, "tokens_per_code": tokens_per_code}
        return values | {f"{name}_raw": value for name, value in raw.items()} | facts

    return evaluate


def _spread(count: int) -> np.ndarray:
    """Return numbers of images that are spread over a set, which may be sorted by class."""
    return np.linspace(0, count - 1, min(SHEET_IMAGES, count)).round().astype(np.int64)


@torch.inference_mode()
def save_reconstructions(
    model: nn.Module, source: ImageSource, config: TokenizerRun, device: torch.device, run_dir: RunDir, step: int
) -> None:
    """Write a sheet: images above their reconstructions."""
    batch = next(eval_images(source, config.data, SHEET_IMAGES))
    images = batch["images"].to(device)
    pair = torch.cat([to_uint8(images), to_uint8(model(images).reconstruction)]).cpu()
    scale = display_scale(config.data.image_size)
    path = run_dir.samples / f"reconstructions-{step:08d}.png"
    with run_dir.writing(path.parent):
        save_png(path, sheet(pair, len(images), scale), make_folder=False)
