"""Train a tokenizer: autoencoder phase (with the causal regularizer inside), and a discriminator phase."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vistok.data.loader import eval_images, train_images
from vistok.data.open import open_split
from vistok.data.sources import ImageSource
from vistok.data.transforms import to_uint8
from vistok.engine.device import setup_device
from vistok.engine.distributed import ALONE, World, join_world
from vistok.engine.ema import EMA
from vistok.engine.loop import Training
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.run_dir import RunDir
from vistok.engine.schedule import make_schedule
from vistok.errors import UserError
from vistok.nn.flops import count_params
from vistok.rng import seeded_init, stable_choice
from vistok.tasks.alarms import tokenizer_alarms
from vistok.tasks.config import TokenizerRun
from vistok.tasks.init_from import initial_weights, load_initial
from vistok.tasks.perceptual import build_perceptual
from vistok.tasks.pictures import display_scale, save_png, sheet
from vistok.tasks.plan import UNKNOWN_COST, Plan, activation_bytes, resolve_steps, sizes_fit, state_bytes, step_flops
from vistok.tasks.setup import Job, accumulation_check, config_json, folder_facts, folder_warnings, run_directory
from vistok.tokenizer.crt import CausalRegularizer, batch_variance
from vistok.tokenizer.discriminator import PatchDiscriminator, adversarial_loss, hinge_discriminator_loss
from vistok.tokenizer.losses import cosine_ramp, reconstruction_terms
from vistok.tokenizer.model import ConvTokenizer
from vistok.units import Scale

EVAL_IMAGES = 1000
EVAL_BATCH = 250
SHEET_IMAGES = 16


@dataclass
class Stage1:
    """The networks of a tokenizer's training; only the tokenizer is kept."""

    tokenizer: ConvTokenizer
    regularizer: CausalRegularizer | None
    discriminator: PatchDiscriminator | None
    perceptual: nn.Module | None


def build_networks(config: TokenizerRun, device: torch.device, world: World = ALONE) -> Stage1:
    """Build every network, each from a seed of its own: adding one does not change the others."""
    crt, adversarial, quantizer = config.crt, config.losses.adversarial, config.tokenizer.quantizer
    regularizer, discriminator = None, None
    with device:
        with seeded_init(config.seed, "init", "tokenizer"):
            tokenizer = ConvTokenizer(config.tokenizer)
        if crt is not None:
            with seeded_init(config.seed, "init", "crt"):
                regularizer = CausalRegularizer(
                    crt, quantizer.code_dim, quantizer.codebook_size, config.tokenizer.grid, world.average
                )
        if adversarial is not None:
            with seeded_init(config.seed, "init", "discriminator"):
                discriminator = PatchDiscriminator(adversarial, config.tokenizer.in_channels)
    perceptual = build_perceptual(config.losses.perceptual, device)
    for network in (tokenizer, discriminator, perceptual):
        if network is not None:
            # A sixth faster per step on the CPU that we measured; the weights' values are the same.
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Stage1(tokenizer, regularizer, discriminator, perceptual)


def build_phases(config: TokenizerRun, networks: Stage1, scale: Scale, world: World = ALONE) -> list[Phase]:
    """Return the autoencoder's phase and, with adversarial losses, the discriminator's."""
    schedule = make_schedule(config.optimizer, scale)
    phases = [
        Phase(
            name="autoencoder",
            modules=[networks.tokenizer] + ([networks.regularizer] if networks.regularizer else []),
            optimizer=adamw(_autoencoder_groups(config, networks), config.optimizer),
            schedule=schedule,
            loss=_autoencoder_loss(config, networks, scale, world),
            clip_groups=_clip_groups(networks),
            clip_norm=config.optimizer.clip_norm,
            after_step=lambda step: networks.tokenizer.quantizer.after_step(config.seed, step, world.gather),
        )
    ]
    discriminator, adversarial = networks.discriminator, config.losses.adversarial
    if discriminator is not None and adversarial is not None:
        start = adversarial.start.to_steps(scale)

        def discriminator_loss(micro: MicroBatch, step: int) -> PhaseLoss:
            real, fake = discriminator(micro["images"]).float(), discriminator(micro["reconstruction"]).float()
            statistics = {"real_logit": real.detach().mean(), "fake_logit": fake.detach().mean()}
            return PhaseLoss({"discriminator_loss": hinge_discriminator_loss(real, fake)}, statistics)

        phases.append(
            Phase(
                name="discriminator",
                modules=[discriminator],
                optimizer=adamw(decay_groups(discriminator, config.optimizer.weight_decay), config.optimizer),
                schedule=schedule,
                loss=discriminator_loss,
                clip_groups={"discriminator": list(discriminator.parameters())},
                clip_norm=config.optimizer.clip_norm,
                active=lambda step: step >= start,
            )
        )
    return phases


def _autoencoder_groups(config: TokenizerRun, networks: Stage1) -> list[dict[str, object]]:
    groups = decay_groups(networks.tokenizer, config.optimizer.weight_decay)
    if networks.regularizer is not None and config.crt is not None:
        groups += decay_groups(networks.regularizer, config.crt.weight_decay)
    return groups


def _clip_groups(networks: Stage1) -> dict[str, list[nn.Parameter]]:
    """Clip the causal model by its own norm, so that it cannot change the tokenizer's step."""
    groups = {"autoencoder": list(networks.tokenizer.parameters())}
    if networks.regularizer is not None:
        groups["crt"] = list(networks.regularizer.parameters())
    return groups


def _autoencoder_loss(config: TokenizerRun, networks: Stage1, scale: Scale, world: World):  # type: ignore[no-untyped-def]
    """Return the autoencoder phase's loss: reconstruction terms, causal loss, adversarial loss."""
    adversarial = config.losses.adversarial
    gan_start = adversarial.start.to_steps(scale) if adversarial else 0
    gan_ramp = adversarial.ramp.to_steps(scale) if adversarial else 0
    crt_ramp = config.crt.ramp.to_steps(scale) if config.crt else 0

    def loss(micro: MicroBatch, step: int) -> PhaseLoss:
        output = networks.tokenizer(micro["images"])
        terms = reconstruction_terms(output, micro["images"], config.losses, networks.perceptual)
        statistics = dict(output.quantized.statistics)
        statistics["latent_variance"] = batch_variance(output.quantized.latents.detach(), world.average)
        if networks.regularizer is not None and config.crt is not None:
            weight = config.crt.full_weight * cosine_ramp(step, 0, crt_ramp)
            terms["causal_loss"] = networks.regularizer(output.quantized, weight)
            statistics["crt_weight"] = torch.tensor(weight, device=micro["images"].device)
        if networks.discriminator is not None and adversarial is not None and step >= gan_start:
            weight = adversarial.weight * cosine_ramp(step, gan_start, gan_ramp)
            fake = networks.discriminator(output.reconstruction).float()
            terms["adversarial_loss"] = weight * adversarial_loss(fake)
            micro["reconstruction"] = output.reconstruction.detach()
        return PhaseLoss(terms, statistics)

    return loss


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
    phases = build_phases(config, networks, Scale(config.batch_size, num_images, num_tokens, UNKNOWN_COST, 100))
    late = 10**9
    before = step_flops(phases[:1], micro, 0)
    after = step_flops(phases, micro, late) if len(phases) > 1 else before
    scale = _settle(config, num_images, before, after)
    share = (config.execution.micro_batch_size or config.batch_size) / config.batch_size
    modules = [module for phase in phases for module in phase.modules]
    memory = state_bytes(modules) + int(share * activation_bytes(phases, micro, late, config.precision))
    parts = {"encoder": networks.tokenizer.encoder, "decoder": networks.tokenizer.decoder}
    params = {name: count_params(part) for name, part in parts.items()}
    params["quantizer"] = count_params(networks.tokenizer) - sum(params.values())
    return Plan(scale.total_steps, tuple(scale.flops_per_step), params, num_tokens, memory)


def _settle(config: TokenizerRun, num_images: int, before: float, after: float) -> Scale:
    """Return the run's scale: where the adversarial phase starts may be a share of a length in FLOPs."""
    adversarial, num_tokens = config.losses.adversarial, config.tokenizer.num_tokens
    costs: tuple[tuple[int, float], ...] = ((0, before),)
    scale = resolve_steps(config, num_images, num_tokens, costs)
    for _ in range(20 if adversarial else 0):
        assert adversarial is not None
        start = adversarial.start.to_steps(scale)
        costs = ((0, before), (start, after)) if start else ((0, after),)
        scale = resolve_steps(config, num_images, num_tokens, costs)
    return scale


def _whole_batches(config: TokenizerRun, world: World) -> None:
    """Raise UserError where micro-batches would change the result."""
    if config.crt is None or config.crt.variant != "l2_pre_normalized":
        return
    if config.execution.micro_batch_size not in (None, config.batch_size // world.size):
        raise UserError(
            "crt.variant l2_pre_normalized divides by the variance over the batch, which micro-batches would change; "
            "leave execution.micro_batch_size null, or take variant l2_pre"
        )


def prepare(config: TokenizerRun, runs: Path) -> Job:
    """Open the data and return the job."""
    accumulation_check(config)
    _whole_batches(config, join_world())
    source = open_split(config.data, "train")
    planned = plan(config, len(source))
    initial = initial_weights(config)
    run_dir = run_directory(config, runs, data=source.digest, **({"init_from": initial[1]} if initial else {}))

    def build(world: World) -> Training:
        device = setup_device(config.execution)
        networks = build_networks(config, device, world)
        if initial:
            load_initial(networks.tokenizer, initial[0], config.init_from)
        scale = planned.scale(config, len(source))
        ema = EMA(networks.tokenizer, config.ema_decay)
        return Training(
            name=config.name,
            phases=build_phases(config, networks, scale, world),
            emas={"tokenizer": ema},
            batches=lambda steps: train_images(
                source,
                config.data,
                config.seed,
                config.batch_size,
                steps,
                config.execution.num_workers,
                (world.rank, world.size),
            ),
            evaluate=_evaluation(config, networks, ema, run_dir, device),
            total_steps=planned.total_steps,
            batch_size=config.batch_size,
            flops_per_step=planned.flops_per_step,
            lr=config.optimizer.lr,
            seed=config.seed,
            precision=config.precision,
            device=device,
            execution=config.execution,
            world=world,
            alarms=tokenizer_alarms,
        )

    metadata = {
        "config": config_json(config)["tokenizer"],
        "run_config": config_json(config),
        "class_names": list(source.class_names),
        "dataset": config.data.dataset,
        "data_digest": source.digest,
    }
    facts = {
        **folder_facts(source),
        "num_images": len(source),
        "class_names": list(source.class_names),
        "data_digest": source.digest,
    }
    return Job(config, planned, run_dir, facts, build, metadata, folder_warnings(source))


def _evaluation(
    config: TokenizerRun, networks: Stage1, ema: EMA, run_dir: RunDir, device: torch.device
) -> Callable[[int], dict[str, float]]:
    """Return what a validation does: score a fixed random set of held-out images, and save a sheet."""
    held_out = open_split(config.data, "val")
    chosen = stable_choice(0, "validation", len(held_out), EVAL_IMAGES)
    validation = held_out.subset(chosen, f"{EVAL_IMAGES} random images")
    shown = held_out.subset(chosen[_spread(len(chosen))], "shown")

    def evaluate(step: int) -> dict[str, float]:
        values = reconstruction_quality(ema.module, validation, config, device)
        raw = reconstruction_quality(networks.tokenizer, validation, config, device)
        save_reconstructions(ema.module, shown, config, device, run_dir, step)
        return values | {f"{name}_raw": value for name, value in raw.items()}

    return evaluate


def _spread(count: int) -> np.ndarray:
    """Return numbers of images that are spread over a set, which may be sorted by class."""
    return np.linspace(0, count - 1, min(SHEET_IMAGES, count)).round().astype(np.int64)


@torch.inference_mode()
def reconstruction_quality(
    model: nn.Module, source: ImageSource, config: TokenizerRun, device: torch.device
) -> dict[str, float]:
    """Return PSNR (uint8, per image, mean) and codebook usage over images."""
    assert isinstance(model, ConvTokenizer)
    training = model.training
    model.eval()
    psnr: list[Tensor] = []
    used = torch.zeros(model.codebook_size, dtype=torch.bool, device=device)
    for batch in eval_images(source, config.data, EVAL_BATCH):
        images = batch["images"].to(device)
        output = model(images)
        used[output.quantized.indices.flatten()] = True
        error = to_uint8(output.reconstruction).float() - to_uint8(images).float()
        psnr.append(-10 * torch.log10(error.square().mean(dim=(1, 2, 3)).clamp(min=1e-10) / 255**2))
    model.train(training)
    return {"psnr": float(torch.cat(psnr).mean()), "codebook_usage": float(used.float().mean())}


@torch.inference_mode()
def save_reconstructions(
    model: nn.Module, source: ImageSource, config: TokenizerRun, device: torch.device, run_dir: RunDir, step: int
) -> None:
    """Write a sheet: images above their reconstructions."""
    batch = next(eval_images(source, config.data, SHEET_IMAGES))
    images = batch["images"].to(device)
    pair = torch.cat([to_uint8(images), to_uint8(model(images).reconstruction)]).cpu()
    scale = display_scale(config.data.image_size)
    save_png(run_dir.samples / f"reconstructions-{step:08d}.png", sheet(pair, len(images), scale))
