"""What a tokenizer minimises: the autoencoder's losses, including any regularizers, and the discriminator's."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vistok.config import make
from vistok.engine.config import OptimizerConfig
from vistok.engine.distributed import ALONE, World
from vistok.engine.objective import Objective
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.schedule import make_schedule
from vistok.nn.flops import count_params
from vistok.nn.frozen_features import FrozenFeatures
from vistok.rng import seeded_init
from vistok.tokenizer.config import NETWORKS, AdversarialConfig, LossConfig, TokenizerConfig, Trained
from vistok.tokenizer.discriminator import PatchDiscriminator, adversarial_loss, hinge_discriminator_loss
from vistok.tokenizer.interface import Tokenizer, TokenizerOutput
from vistok.tokenizer.lecam import LeCam
from vistok.tokenizer.losses import norm_ratio, reconstruction_terms
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.ramp import cosine_ramp
from vistok.tokenizer.regularizers.base import Regularizer, Seen, Setting
from vistok.tokenizer.regularizers.config import REGULARIZERS, RegularizerConfig
from vistok.units import Scale

# Terms that compare the result with the image.
COMPARED = ("pixel_loss", "perceptual_loss", "logits_loss", "proxy_loss")


@runtime_checkable
class TokenizerTraining(Protocol):
    """The fields of a run's config that the objective reads."""

    @property
    def seed(self) -> int: ...  # noqa: D102

    @property
    def tokenizer(self) -> TokenizerConfig: ...  # noqa: D102

    @property
    def losses(self) -> LossConfig: ...  # noqa: D102

    @property
    def regularizers(self) -> Sequence[RegularizerConfig]: ...  # noqa: D102

    @property
    def optimizer(self) -> OptimizerConfig: ...  # noqa: D102

    @property
    def trains(self) -> Trained: ...  # noqa: D102


class OfTokenizer(Objective):
    """What objectives of a tokenizer share: how its parts are counted, and what a batch looks like."""

    averaged = ("tokenizer",)
    run: TokenizerTraining
    tokenizer: Tokenizer

    def parameters(self) -> dict[str, int]:
        """Return the parameters of the tokenizer's networks; those in none of them belong to the bottleneck."""
        parts = {name: count_params(part) for name, part in self.tokenizer.parts().items()}
        return {**parts, "quantizer": count_params(self.tokenizer) - sum(parts.values())}

    def example(self, batch_size: int, device: torch.device) -> MicroBatch:
        """Return images and labels of the right shapes, all zeros."""
        sides, channels = self.run.tokenizer.sides, self.run.tokenizer.in_channels
        return {
            "images": torch.zeros(batch_size, channels, *sides, device=device),
            "labels": torch.zeros(batch_size, dtype=torch.int64, device=device),
            "positions": torch.zeros(batch_size, dtype=torch.int64, device=device),
        }


class Autoencoder(OfTokenizer):
    """The autoencoder's phase and, with adversarial losses, the discriminator's.

    Each network is initialised from a separate seed, so adding one does not change the others. `distances`: frozen
    networks that compare images, by the name of their part in the losses. `features`: frozen networks by the kind of the regularizer that uses them.
    """

    def __init__(
        self,
        run: TokenizerTraining,
        distances: Mapping[str, nn.Module],
        device: torch.device,
        world: World = ALONE,
        features: Mapping[str, FrozenFeatures] = MappingProxyType({}),
    ) -> None:
        self.run, self.distances, self.world, self.features = run, distances, world, features
        self.adversarial = run.losses.adversarial
        self.discriminator: PatchDiscriminator | None = None
        self.lecam: LeCam | None = None
        with device:
            with seeded_init(run.seed, "init", "tokenizer"):
                self.tokenizer: Tokenizer = make(NETWORKS, run.tokenizer)
            self.regularizers = [self._regularizer(config) for config in run.regularizers]
            if self.adversarial is not None:
                with seeded_init(run.seed, "init", "discriminator"):
                    self.discriminator = PatchDiscriminator(self.adversarial, run.tokenizer.in_channels)
                if self.adversarial.lecam_weight:
                    self.lecam = LeCam(self.adversarial.lecam_weight, self.adversarial.lecam_decay)
        for network in (self.tokenizer, self.discriminator, *distances.values()):
            if network is not None:
                # Makes a step a sixth faster on the CPU that we measured, without changing any weights.
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if run.trains == "decoder":
            for part in self.tokenizer.encoding_parts():
                part.requires_grad_(False)
        self.networks = {"tokenizer": self.tokenizer, **{part.name: part for part in self.regularizers}}
        if self.discriminator is not None:
            self.networks["discriminator"] = self.discriminator

    def _regularizer(self, config: RegularizerConfig) -> Regularizer:
        kind = REGULARIZERS[config.kind].load()
        features = self.features.get(config.kind)
        tokenizer = self.tokenizer
        facts = Setting(
            tokenizer.quantizer.code_dim,
            tokenizer.space,
            self.world.average,
            features,
            tokenizer.to_images,
            padded=getattr(tokenizer.config, "padded_sides", tokenizer.config.sides) != tokenizer.config.sides,
        )
        with seeded_init(self.run.seed, "init", kind.name):
            return kind(config, facts)  # type: ignore[no-any-return]

    def stages(self, scale: Scale) -> tuple[int, ...]:
        """Return the steps at which the discriminator starts to learn, and starts to affect the tokenizer."""
        return () if self.adversarial is None else adversarial_stages(self.adversarial, scale)

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the phases, the autoencoder's first."""
        for regularizer in self.regularizers:
            regularizer.begin(scale)
        optimizer = self.run.optimizer
        groups = decay_groups(self.tokenizer, optimizer.weight_decay)
        for regularizer in self.regularizers:
            groups += decay_groups(regularizer, regularizer.config.weight_decay)
        # Each regularizer's gradient is clipped separately, so that it cannot change the tokenizer's step.
        clip = {"autoencoder": list(self.tokenizer.parameters())}
        for regularizer in self.regularizers:
            if parameters := list(regularizer.parameters()):
                clip[regularizer.name] = parameters
        schedule = make_schedule(optimizer, scale)
        game = None if self.adversarial is None else _Game(self.adversarial, scale)
        phases = [
            Phase(
                name="autoencoder",
                modules=[self.tokenizer, *self.regularizers],
                optimizer=adamw(groups, optimizer),
                schedule=schedule,
                loss=lambda micro, step: self._loss(micro, step, game),
                clip_groups=clip,
                clip_norm=optimizer.clip_norm,
                after_step=self._after_step,
            )
        ]
        if self.discriminator is not None and game is not None:
            starts = game.discriminator_start
            phases.append(
                Phase(
                    name="discriminator",
                    modules=[self.discriminator] if self.lecam is None else [self.discriminator, self.lecam],
                    optimizer=adamw(decay_groups(self.discriminator, optimizer.weight_decay), optimizer),
                    schedule=schedule,
                    loss=self._discriminator_loss,
                    clip_groups={"discriminator": list(self.discriminator.parameters())},
                    clip_norm=optimizer.clip_norm,
                    active=lambda step: step >= starts,
                    after_step=None if self.lecam is None else self._after_game,
                )
            )
        return phases

    def _after_step(self, step: int) -> None:
        self.tokenizer.quantizer.after_step(self.run.seed, step, self.world.gather)
        for regularizer in self.regularizers:
            regularizer.after_step(step)

    def _after_game(self, step: int) -> None:
        assert self.lecam is not None
        self.lecam.after_step(self.world.average)

    def _discriminator_loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        assert self.discriminator is not None
        real, fake = (self.discriminator(micro[name]).float() for name in ("images", "reconstruction"))
        statistics = {"real_logit": real.detach().mean(), "fake_logit": fake.detach().mean()}
        terms = {"discriminator_loss": hinge_discriminator_loss(real, fake)}
        if self.lecam is not None:
            terms["lecam_loss"] = self.lecam(real, fake)
        return PhaseLoss(terms, statistics)

    def _loss(self, micro: MicroBatch, step: int, game: "_Game | None") -> PhaseLoss:
        """Return the autoencoder's loss: reconstruction terms, regularizers' terms, the adversarial one."""
        noise = Noise(self.run.seed, micro["positions"]) if "positions" in micro else None
        output, compared = self.compare(micro["images"], noise)
        terms, statistics = compared.terms, compared.statistics
        seen = Seen(
            micro["images"], output.reconstruction, output.features, output.bottleneck, output.layout,
            _reconstruction(terms), self.tokenizer.encoding_layer(), self.tokenizer.last_layer(), noise,
        )  # fmt: skip
        for regularizer in self.regularizers:
            loss = regularizer(seen, step)
            terms |= loss.terms
            statistics |= loss.statistics
        if game is not None and step >= game.start:
            terms["adversarial_loss"] = self._adversarial_term(output, terms, statistics, game.weight(step))
        if game is not None and step >= game.discriminator_start:
            micro["reconstruction"] = output.reconstruction.detach()
        return PhaseLoss(terms, statistics, {"latent_variance": output.bottleneck.latents})

    def compare(self, images: Tensor, noise: Noise | None) -> tuple[TokenizerOutput, PhaseLoss]:
        """Return what the tokenizer makes of images, with the terms that compare it with them and the bottleneck's."""
        output = self.tokenizer(images, noise)
        terms = reconstruction_terms(output, images, self.run.losses, self.distances)
        if self.run.trains == "decoder":
            terms = {name: term for name, term in terms.items() if name not in output.bottleneck.losses}
        return output, PhaseLoss(terms, dict(output.bottleneck.statistics))

    def _adversarial_term(
        self,
        output: TokenizerOutput,
        terms: dict[str, torch.Tensor],
        statistics: dict[str, torch.Tensor],
        weight: float,
    ) -> torch.Tensor:
        assert self.discriminator is not None and self.adversarial is not None
        fake = adversarial_loss(self.discriminator(output.reconstruction).float())
        if self.adversarial.adaptive:
            # VQGAN's code adds 10^-4 to the denominator.
            statistics["adaptive_weight"] = norm_ratio(
                _reconstruction(terms), fake, self.tokenizer.last_layer(), self.world.average, least=1e-4
            )
            fake = fake * statistics["adaptive_weight"]
        return weight * fake


def _reconstruction(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the sum of the terms that compare images, or the tokens that stand for them."""
    return torch.stack([terms[name] for name in COMPARED if name in terms]).sum()


def adversarial_stages(config: AdversarialConfig, scale: Scale) -> tuple[int, ...]:
    """Return the steps from which the discriminator learns, and from which it affects the tokenizer."""
    start = config.start.to_steps(scale)
    return max(0, start - config.warmup.to_steps(scale)), start


class _Game:
    """When the discriminator starts, and the weight of its loss for the tokenizer."""

    def __init__(self, config: AdversarialConfig, scale: Scale) -> None:
        self.full = config.weight
        self.start, self.ramp = config.start.to_steps(scale), config.ramp.to_steps(scale)
        self.discriminator_start = self.start - config.warmup.to_steps(scale)

    def weight(self, step: int) -> float:
        return self.full * cosine_ramp(step, self.start, self.ramp)
