"""The networks and losses of stage 1: autoencoder (with the causal regularizer inside), and discriminator."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from vistok.engine.distributed import ALONE, World
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.schedule import make_schedule
from vistok.rng import seeded_init
from vistok.runs.config import TokenizerRun
from vistok.runs.frozen_networks import build_perceptual
from vistok.tokenizer.crt import CausalRegularizer, batch_variance
from vistok.tokenizer.discriminator import PatchDiscriminator, adversarial_loss, hinge_discriminator_loss
from vistok.tokenizer.losses import adaptive_weight, cosine_ramp, reconstruction_terms
from vistok.tokenizer.model import ConvTokenizer
from vistok.tokenizer.waiting import Waiting
from vistok.units import Scale


@dataclass
class Stage1:
    """The networks of a tokenizer's training; only the tokenizer is kept."""

    tokenizer: ConvTokenizer
    regularizer: CausalRegularizer | None
    discriminator: PatchDiscriminator | None
    perceptual: nn.Module | None

    @property
    def waiting(self) -> Waiting | None:
        """What the regularizer waits for, if it does."""
        return self.regularizer.waiting if self.regularizer is not None else None


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
            after_step=_after_step(config, networks, world),
        )
    ]
    discriminator, adversarial = networks.discriminator, config.losses.adversarial
    if discriminator is not None and adversarial is not None:
        start = adversarial.start.to_steps(scale) - adversarial.warmup.to_steps(scale)

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


def _after_step(config: TokenizerRun, networks: Stage1, world: World) -> Callable[[int], None]:
    quantizer, waiting = networks.tokenizer.quantizer, networks.waiting

    def after_step(step: int) -> None:
        quantizer.after_step(config.seed, step, world.gather)
        if waiting is not None:
            waiting.after_step(step, world.average)

    return after_step


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
    discriminator_start = gan_start - (adversarial.warmup.to_steps(scale) if adversarial else 0)
    crt_ramp, waiting = config.crt.ramp.to_steps(scale) if config.crt else 0, networks.waiting

    def loss(micro: MicroBatch, step: int) -> PhaseLoss:
        output = networks.tokenizer(micro["images"])
        terms = reconstruction_terms(output, micro["images"], config.losses, networks.perceptual)
        statistics = dict(output.quantized.statistics)
        statistics["latent_variance"] = batch_variance(output.quantized.latents.detach(), world.average)
        if networks.regularizer is not None and config.crt is not None:
            if waiting is not None:
                waiting.see(output.reconstruction, micro["images"])
                statistics["explained_share"] = waiting.explained.clone()
            weight = config.crt.full_weight * cosine_ramp(step, waiting.begins if waiting else 0.0, crt_ramp)
            terms["causal_loss"] = networks.regularizer(output.quantized, weight)
            statistics["crt_weight"] = torch.tensor(weight, device=micro["images"].device)
        if networks.discriminator is not None and adversarial is not None and step >= gan_start:
            fake = adversarial_loss(networks.discriminator(output.reconstruction).float())
            weight = adversarial.weight * cosine_ramp(step, gan_start, gan_ramp)
            if adversarial.adaptive:
                seen = torch.stack([terms[name] for name in ("pixel_loss", "perceptual_loss") if name in terms]).sum()
                last = networks.tokenizer.decoder.conv_out.weight
                statistics["adaptive_weight"] = adaptive_weight(seen, fake, last, world.average)
                fake = fake * statistics["adaptive_weight"]
            terms["adversarial_loss"] = weight * fake
        if networks.discriminator is not None and step >= discriminator_start:
            micro["reconstruction"] = output.reconstruction.detach()
        return PhaseLoss(terms, statistics)

    return loss
