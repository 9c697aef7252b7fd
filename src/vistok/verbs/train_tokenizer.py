"""Train a tokenizer: an autoencoder with any regularizers and, if configured, a discriminator."""

from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vistok.config import load_named
from vistok.data.evenly import evenly
from vistok.data.images.open import open_split
from vistok.data.images.sources import ImageSource
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images
from vistok.engine.config import ExecutionConfig
from vistok.engine.distributed import ALONE, World, join_world
from vistok.engine.objective import Objective
from vistok.engine.parallel import Weights
from vistok.engine.run_dir import RunDir
from vistok.errors import UserError, counted
from vistok.overview.page import RunPage
from vistok.rng import stable_choice
from vistok.runs.config import TokenizerRun
from vistok.runs.fitting import Fit
from vistok.runs.frozen_networks import build_distances, build_features
from vistok.runs.health.reconstruction_quality import baseline_of, reconstruction_quality
from vistok.runs.health.tokenizer_symptoms import tokenizer_alarms
from vistok.runs.identity import by_contents, content_digests, former_names
from vistok.runs.initial import Initial, initial_weights, load_initial
from vistok.runs.job import (
    Evaluate,
    Job,
    config_json,
    folder_facts,
    folder_warnings,
    image_batches,
    require_whole_parts,
    run_directory,
)
from vistok.runs.pictures import display_scale, save_png, sheet
from vistok.runs.plan import Plan, plan_of, sizes_fit
from vistok.runs.proxy import Proxy, build_proxy, copy_proxy, proxy_of
from vistok.runs.sources import check_sources, load_sources, source_facts
from vistok.tokenizer.config import NETWORKS
from vistok.tokenizer.objective import adversarial_stages
from vistok.tokenizer.proxy_objective import ProxyTokens
from vistok.units import steps

EVAL_IMAGES = 1000
SHEET_IMAGES = 16


def build_objective(
    config: TokenizerRun, device: torch.device, world: World = ALONE, proxy: Proxy | None = None
) -> Any:
    """Return the objective of the network's kind, with new networks, and those inside it that come from elsewhere.

    Without a `proxy`, one that is needed has no weights, as for plans.
    """
    features = build_features(config.regularizers, device)
    if config.losses.target == "tokens":
        return ProxyTokens(config, build_proxy(config, proxy, device), device, world, features)
    distances = build_distances(config.losses, device)
    objective = load_named(NETWORKS[config.tokenizer.kind].objective)(config, distances, device, world, features)
    if device.type != "meta" and not config.init_from:  # whose file has them
        load_sources(objective.tokenizer, config.tokenizer)
    return objective


def plan(config: TokenizerRun, num_images: int) -> Plan:
    """Return the run's derived numbers, from a build on the meta device."""
    return _plan(config.replace(name="any", execution=_deciding(config.execution)), num_images)


def _deciding(execution: ExecutionConfig) -> ExecutionConfig:
    """Return the part of the execution config that a plan depends on."""
    return ExecutionConfig(recompute=execution.recompute, micro_batch_size=execution.micro_batch_size)


@lru_cache(maxsize=32)  # counting takes seconds, and a demo asks for the same plan repeatedly
@sizes_fit()
def _plan(config: TokenizerRun, num_images: int) -> Plan:
    meta = torch.device("meta")
    counted = build_objective(_counted(config), meta)
    stages = None
    if config.losses.adversarial is not None:
        stages = partial(adversarial_stages, config.losses.adversarial)
    return plan_of(config, counted, num_images, config.tokenizer.num_tokens, stages)


def _counted(config: TokenizerRun) -> TokenizerRun:
    """Return the run with stages moved for counting: the discriminator trains from step 5, everything from step 10."""
    adversarial = config.losses.adversarial
    if adversarial is None:
        return config
    # The middle stage is rarely used, and counting one takes seconds.
    stages = adversarial.replace(start=steps(10), warmup=steps(5 if adversarial.warmup.value else 0))
    return config.replace(losses=config.losses.replace(adversarial=stages))


def _whole_batches(config: TokenizerRun, world: World) -> None:
    """Raise UserError if micro-batches would change the result."""
    if (config.execution.micro_batch_size or config.batch_size) >= config.batch_size // world.size:
        return
    for regularizer in config.regularizers:
        if reason := regularizer.needs_whole_batches():
            raise UserError(f"{reason}, which micro-batches would change; leave execution.micro_batch_size null")
    if config.losses.adversarial is not None and config.losses.adversarial.adaptive:
        raise UserError(
            "losses.adversarial.adaptive compares gradients of the whole batch, which micro-batches would change; leave "
            "execution.micro_batch_size null, or switch it off"
        )


def _can_shard(config: TokenizerRun) -> None:
    """Raise UserError for options that read or write whole weights within a step."""
    if config.execution.parallel != "shard":
        return
    quantizer, adversarial = config.tokenizer.quantizer, config.losses.adversarial
    alignment = config.regularizer("alignment")
    refused = {
        "tokenizer.quantizer.restart_after": getattr(quantizer, "restart_after", None) is not None,
        "tokenizer.quantizer.start_after": getattr(quantizer, "start_after", None) is not None,
        "losses.adversarial.adaptive": adversarial is not None and adversarial.adaptive,
        "regularizers.alignment.adaptive": alignment is not None and alignment.adaptive,
        "regularizers.noising": config.regularizer("noising") is not None,
        "regularizers.equivariance": config.regularizer("equivariance") is not None,
        "tokenizer.kind 'rendered'": config.tokenizer.kind == "rendered",
    }
    for name, is_set in refused.items():
        if is_set:
            raise UserError(
                f"{name} needs whole weights within a step, but execution.parallel is 'shard'; switch {name} off, or use "
                "--set 'execution.parallel=\"replicate\"'"
            )


def _can_compile(config: TokenizerRun) -> None:
    """Raise UserError for gradients that are taken twice through compiled blocks, whose buffers are given away by then."""
    alignment = config.regularizer("alignment")
    if config.execution.compile and alignment is not None and alignment.adaptive:
        raise UserError(
            "regularizers.alignment.adaptive takes gradients through the decoder twice, which compiled blocks do not allow; use "
            "--set execution.compile=false, or a fixed weight: --set regularizers.alignment.adaptive=false"
        )


def _decoder_of_something(config: TokenizerRun) -> None:
    """Raise UserError for a decoder that would learn to draw untrained latents."""
    if config.tokenizer.kind == "proxy_line" and config.losses.target == "pixels" and not config.init_from:
        raise UserError(
            "tokenizer.kind proxy_line learns a grid's tokens before pixels: train it with losses.target 'tokens' and --proxy (such "
            "as fashion_proxy_line), then add --init-from with that run"
        )
    if config.trains == "decoder" and not config.init_from:
        raise UserError(
            "trains 'decoder' keeps the encoder of a trained tokenizer: add --init-from, with a run, a file or a shipped name"
        )


def _latents_stay(config: TokenizerRun, initial: Initial | None) -> None:
    """Raise UserError for a decoder that would train alone behind a new bottleneck."""
    if initial and initial.other and config.trains == "decoder":
        raise UserError(
            f"trains 'decoder' keeps the latents of {initial.path}, but this recipe's are of another kind, {config.tokenizer.space}; choose "
            "a recipe for its kind, or train everything: --set 'trains=\"all\"'"
        )


def _bottleneck_begins(initial: Initial | None, config: TokenizerRun) -> tuple[str, ...]:
    """Return what to say of weights with latents of another kind."""
    if initial is None or initial.other is None:
        return ()
    return (
        f"{initial.path} has latents of another kind than {config.tokenizer.space}: its encoder and decoder are kept, and the "
        "bottleneck begins anew",
    )


def _codes_begin(config: TokenizerRun, total_steps: int) -> None:
    """Raise UserError if training would end before quantization begins."""
    start = getattr(config.tokenizer.quantizer, "start_after", None)
    if config.trains == "all" and start is not None and start >= total_steps:
        soon = max(1, total_steps // 10)
        sooner = f", or begin sooner: --set tokenizer.quantizer.start_after={soon}" if soon < total_steps else ""
        raise UserError(
            f"tokenizer.quantizer.start_after {start}: the run has {counted(total_steps, 'step')} and would end before its codes begin; "
            f"train longer, as in --set 'length=\"{max(100, 10 * start)} steps\"'{sooner}"
        )


def require_trainable(config: TokenizerRun) -> None:
    """Raise UserError for what cannot be trained, whatever the images are."""
    require_whole_parts(config, join_world())
    _decoder_of_something(config)
    _whole_batches(config, join_world())
    _can_shard(config)
    _can_compile(config)
    if not config.init_from:
        check_sources(config.tokenizer)


def checked_plan(config: TokenizerRun, num_images: int) -> Plan:
    """Return a run's derived numbers. Raises UserError for a run that would end before its codes begin."""
    planned = plan(config, num_images)
    _codes_begin(config, planned.total_steps)
    return planned


def prepare(config: TokenizerRun, runs: Path) -> Job:
    """Open the data and return the job."""
    require_trainable(config)
    proxy = proxy_of(config) if config.losses.target == "tokens" else None
    source = open_split(config.data, "train")
    planned = checked_plan(config, len(source))
    initial = initial_weights(config)
    _latents_stay(config, initial)
    digests = content_digests(config, initial.digest if initial else None)
    former = former_names(config, source, digests.get("init_from"))
    run_dir, naming = run_directory(by_contents(config), runs, former, data=source.digest, **digests)

    fit = Fit(config, source, run_dir) if config.tokenizer.fits and not initial else None

    def objective(device: torch.device, world: World) -> Objective:
        built = build_objective(config, device, world, proxy)
        if initial:
            load_initial(built.tokenizer, initial)
        if proxy:
            copy_proxy(built.tokenizer, proxy)
        return built

    images = {"class_names": list(source.class_names), "data_digest": source.digest}
    return Job(
        config=config,
        plan=planned,
        run_dir=run_dir,
        page=RunPage(run_dir),
        num_images=len(source),
        objective=objective,
        batches=partial(image_batches, config, source),
        evaluate=partial(_evaluation, config, run_dir),
        metadata=_metadata(config, images) | _decodes(config, initial) | _sources(config),
        facts={**folder_facts(source), "num_images": len(source), **images, **digests},
        warnings=(*folder_warnings(source), *_bottleneck_begins(initial, config)),
        naming=naming,
        alarms=partial(tokenizer_alarms, config, planned.total_steps),
        init_option="--init-from",
        fit=None if fit is None else partial(_fitted, fit),
    )


def _metadata(config: TokenizerRun, images: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata for the header of the weights."""
    plain = config_json(config)
    return {"config": plain["tokenizer"], "run_config": plain, **images, "dataset": config.data.dataset}


def _fitted(fit: Fit, built: Objective, *where: Any) -> None:
    """Find the clusters of a run's tokenizer before its first step."""
    fit.into(built.networks["tokenizer"], *where)  # type: ignore[arg-type]


def _sources(config: TokenizerRun) -> dict[str, Any]:
    """Return what the header says of networks inside; weights to start from have them already."""
    return {} if config.init_from else source_facts(config.tokenizer)


def _decodes(config: TokenizerRun, initial: Initial | None) -> dict[str, Any]:
    """Return whose latents a decoder that was trained alone decodes, as generators of those fit, and how these are normalised."""
    if initial is None or config.trains != "decoder":
        return {}
    return {"decodes": [initial.digest, *initial.decodes], **initial.scales}


def _evaluation(config: TokenizerRun, run_dir: RunDir, device: torch.device) -> Evaluate:
    """Return the validation function: it scores a fixed random set of held-out images, and saves a sheet."""
    held_out = open_split(config.data, "val")
    chosen = stable_choice(0, "validation", len(held_out), EVAL_IMAGES)
    validation = held_out.subset(chosen, f"{EVAL_IMAGES} random images")
    shown = held_out.subset(chosen[evenly(len(chosen), SHEET_IMAGES)], "shown")
    baseline = cache(lambda: baseline_of(validation, config.data))
    space = config.tokenizer.space

    def evaluate(step: int, networks: Weights) -> dict[str, float]:
        both: dict[str, Any] = {weights: modules["tokenizer"] for weights, modules in networks.items()}
        values, raw = (
            reconstruction_quality(both[name], validation, config.data, device, baseline()) for name in ("ema", "raw")
        )
        save_reconstructions(both["ema"], shown, config, device, run_dir, step)
        facts = {"image_variance": baseline().variance}
        if space.kind == "tokens":
            facts["tokens_per_code"] = len(validation) * space.layout.positions / space.codebook_size
        return values | {f"{name}_raw": value for name, value in raw.items()} | facts

    return evaluate


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
