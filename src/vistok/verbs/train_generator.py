"""Train a generator on a token cache: one phase, nats per token."""

import json
from collections.abc import Callable
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vistok.data.loader import train_tokens
from vistok.data.open import open_split
from vistok.data.token_cache import TokenCache
from vistok.data.transforms import to_uint8
from vistok.engine.device import setup_device
from vistok.engine.distributed import World
from vistok.engine.loop import Training
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.parallel import recompute
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.run_dir import RunDir
from vistok.engine.schedule import make_schedule
from vistok.errors import UserError
from vistok.generator.autoregressive.config import SamplingConfig
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.metrics.codebook import unigram_nats
from vistok.nn.flops import count_params
from vistok.rng import seeded_init
from vistok.runs.config import GeneratorRun
from vistok.runs.health.generator import generator_alarms
from vistok.runs.images import data_of
from vistok.runs.job import Job, accumulation_check, config_json, run_directory, spread_with_average
from vistok.runs.load import load_tokenizer, read_model
from vistok.runs.pictures import display_scale, save_png, sheet
from vistok.runs.plan import UNKNOWN_COST, Plan, activation_bytes, resolve_steps, sizes_fit, state_bytes, step_flops
from vistok.scoring.nats import code_counts, held_out_rows, validation_likelihood
from vistok.tokenizer.config import TokenizerConfig
from vistok.tokenizer.interface import Tokenizer
from vistok.units import Scale

EVAL_IMAGES = 2000
SHEET_COLUMNS = 10


def build_model(config: GeneratorRun, manifest: dict[str, Any], device: torch.device) -> AutoregressiveGenerator:
    """Return the network; `manifest` gives grid, codebook_size and num_classes."""
    with seeded_init(config.seed, "init", "generator"), device:
        return AutoregressiveGenerator(
            config.generator, manifest["grid"], manifest["codebook_size"], manifest["num_classes"]
        )


def build_phases(config: GeneratorRun, model: AutoregressiveGenerator, scale: Scale) -> list[Phase]:
    """Return the one phase: cross-entropy of the next token."""

    def loss(micro: MicroBatch, step: int) -> PhaseLoss:
        if not config.z_loss:
            return PhaseLoss({"nats_per_token": model.loss(micro["tokens"], micro["labels"]).mean()})
        nats, squared = model.loss_and_normalizer(micro["tokens"], micro["labels"])
        return PhaseLoss({"nats_per_token": nats.mean(), "z_loss": config.z_loss * squared.mean()})

    optimizer = adamw(decay_groups(model, config.optimizer.weight_decay), config.optimizer)
    clip = {"generator": list(model.parameters())}
    schedule = make_schedule(config.optimizer, scale)
    return [Phase("generator", [model], optimizer, schedule, loss, clip, config.optimizer.clip_norm)]


@sizes_fit()
def plan(config: GeneratorRun, manifest: dict[str, Any], num_images: int) -> Plan:
    """Return the run's derived numbers, from a build on the meta device.

    `manifest` gives grid, codebook_size and num_classes.
    """
    meta = torch.device("meta")
    num_tokens = manifest["grid"][0] * manifest["grid"][1]
    model = build_model(config, manifest, meta)
    phases = build_phases(config, model, Scale(config.batch_size, num_images, num_tokens, UNKNOWN_COST, 100))
    micro = {
        "tokens": torch.empty(config.batch_size, num_tokens, dtype=torch.int64, device=meta),
        "labels": torch.empty(config.batch_size, dtype=torch.int64, device=meta),
    }
    costs = ((0, step_flops(phases, micro, 0)),)
    scale = resolve_steps(config, num_images, num_tokens, costs)
    share = (config.execution.micro_batch_size or config.batch_size) / config.batch_size
    if config.execution.recompute:  # after the FLOPs are counted, which are those of the training itself
        recompute(model)
    memory = state_bytes([model]) + int(share * activation_bytes(phases, micro, 0, config.precision))
    return Plan(scale.total_steps, costs, {"generator": count_params(model)}, num_tokens, memory)


def dry_plan(
    config: GeneratorRun, tokenizer_path: Path, root: str | None = None, image_size: int | None = None
) -> dict[str, Any]:
    """Return the derived numbers of a run on a tokenizer's tokens, without encoding any image."""
    tokenizer = load_tokenizer(tokenizer_path)
    tokenizer = tokenizer.resized(image_size) if image_size else tokenizer
    source = open_split(data_of(tokenizer, root), "train")
    manifest = {
        "grid": tuple(tokenizer.token_grid),
        "codebook_size": tokenizer.codebook_size,
        "num_classes": len(source.class_names),
    }
    return {**plan(config, manifest, len(source)).summary(config), **manifest}


def prepare(config: GeneratorRun, cache: TokenCache, validation: TokenCache, tokenizer_path: Path, runs: Path) -> Job:
    """Check that both caches are of this tokenizer, and return the job."""
    accumulation_check(config)
    same = ("tokenizer_digest", "class_names", "grid", "codebook_size", "image_size")
    validation.require(**{name: getattr(cache.manifest, name) for name in same})
    _require_tokens_of(cache, tokenizer_path)
    num_classes, image_size = len(cache.manifest.class_names), cache.manifest.image_size
    manifest = {
        "grid": cache.manifest.grid,
        "codebook_size": cache.manifest.codebook_size,
        "num_classes": num_classes,
    }
    planned = plan(config, manifest, cache.num_images)
    run_dir, naming = run_directory(config, runs, tokens=cache.identity())

    watch = partial(generator_alarms, config, planned.total_steps, cache.manifest.views)

    def build(world: World) -> Training:
        device = setup_device(config.execution)
        cache.verify(), validation.verify()
        model = build_model(config, manifest, device)
        ema, whole = spread_with_average(model, config, world)
        tokenizer = load_tokenizer(tokenizer_path, device=device)
        tokenizer = tokenizer.resized(image_size) if image_size else tokenizer
        return Training(
            name=config.name,
            phases=build_phases(config, model, planned.scale(config, cache.num_images)),
            emas={"generator": ema},
            whole=whole,
            batches=lambda steps: train_tokens(
                cache, config.seed, config.batch_size, steps, part=(world.rank, world.size)
            ),
            evaluate=_evaluation(cache, validation, tokenizer, device, run_dir),
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
        )

    tokenizer_facts: dict[str, Any] = {"digest": cache.manifest.tokenizer_digest, "path": str(tokenizer_path.resolve())}
    if image_size:
        tokenizer_facts["image_size"] = image_size
    metadata = {
        "config": config_json(config)["generator"],
        "run_config": config_json(config),
        **manifest,
        "class_names": list(cache.manifest.class_names),
        "dataset": cache.manifest.dataset,
        "tokenizer": tokenizer_facts,
    }
    facts = {"num_images": cache.num_images, "tokenizer": tokenizer_facts, **manifest}
    return Job(config, planned, run_dir, facts, build, metadata, naming=naming, alarms=watch)


def _require_tokens_of(cache: TokenCache, tokenizer_path: Path) -> None:
    """Raise UserError where a cache is of another tokenizer: its samples would be decoded into other pictures."""
    _, header = read_model(tokenizer_path, "tokenizer")
    manifest = cache.manifest
    if manifest.tokenizer_digest != header["digest"]:
        raise UserError(
            f"token cache {cache.folder} holds the tokens of another tokenizer (digest {manifest.tokenizer_digest[:12]}) "
            f"than {tokenizer_path} (digest {header['digest'][:12]}); make a cache of this one with vistok cache, or name "
            "the tokenizer that the cache is of"
        )
    network = TokenizerConfig.from_json(json.dumps(header["config"]))
    network = network.replace(image_size=manifest.image_size) if manifest.image_size else network
    cache.require(grid=network.grid, codebook_size=network.quantizer.codebook_size)


def _evaluation(
    cache: TokenCache, validation: TokenCache, tokenizer: Tokenizer, device: torch.device, run_dir: RunDir
) -> Callable[[int, dict[str, torch.nn.Module]], dict[str, float]]:
    """Return what a validation does: the likelihood of held-out tokens, and a sheet of samples."""
    unigram = once(
        lambda: unigram_nats(code_counts(cache), code_counts(validation, held_out_rows(validation, EVAL_IMAGES)))
    )

    def evaluate(step: int, networks: dict[str, torch.nn.Module]) -> dict[str, float]:
        save_samples(networks["ema"], tokenizer, device, run_dir, step)
        values = {"unigram_nats_per_token": unigram()}
        for suffix, name in (("", "ema"), ("_raw", "raw")):
            found = validation_likelihood(networks[name], validation, device, EVAL_IMAGES)
            values[f"nats_per_token{suffix}"] = found.nats_per_token
        return values

    return evaluate


def save_samples(
    model: torch.nn.Module, tokenizer: Tokenizer, device: torch.device, run_dir: RunDir, step: int
) -> None:
    """Write a sheet: one column per class (the first ten), four samples each, the same noise every time."""
    assert isinstance(model, AutoregressiveGenerator)
    columns = min(model.num_classes, SHEET_COLUMNS)
    labels = torch.arange(columns, device=device).repeat(4)
    tokens = model.sample(labels, torch.arange(len(labels), device=device), SamplingConfig())
    images = to_uint8(tokenizer.decode(tokens)).cpu()
    scale = display_scale(images.shape[-1])
    path = run_dir.samples / f"samples-{step:08d}.png"
    with run_dir.writing(path.parent):
        save_png(path, sheet(images, columns, scale), make_folder=False)
