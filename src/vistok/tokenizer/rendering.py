"""What a renderer minimises: the cross-entropy of the tokens that belong to an image's clusters."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import nn

from vistok.config import make
from vistok.engine.distributed import ALONE, World
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.schedule import make_schedule
from vistok.nn.frozen_features import FrozenFeatures
from vistok.rng import seeded_init
from vistok.tokenizer.config import NETWORKS
from vistok.tokenizer.networks.rendered import RenderedTokenizer
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.objective import OfTokenizer, TokenizerTraining
from vistok.units import Scale


class Rendering(OfTokenizer):
    """Trains the renderer of a tokenizer whose other parts are frozen."""

    tokenizer: RenderedTokenizer

    def __init__(
        self,
        run: TokenizerTraining,
        distances: Mapping[str, nn.Module],
        device: torch.device,
        world: World = ALONE,
        features: Mapping[str, FrozenFeatures] = MappingProxyType({}),
    ) -> None:
        self.run = run
        with device, seeded_init(run.seed, "init", "tokenizer"):
            self.tokenizer = make(NETWORKS, run.tokenizer)
        # As where these networks were trained: kernels round differently by layout.
        self.tokenizer.codes.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.tokenizer.features.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.networks = {"tokenizer": self.tokenizer}

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the only phase."""
        optimizer, renderer = self.run.optimizer, self.tokenizer.renderer
        return [
            Phase(
                name="renderer",
                modules=[self.tokenizer],
                optimizer=adamw(decay_groups(renderer, optimizer.weight_decay), optimizer),
                schedule=make_schedule(optimizer, scale),
                loss=self._loss,
                clip_groups={"renderer": list(renderer.parameters())},
                clip_norm=optimizer.clip_norm,
            )
        ]

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        return PhaseLoss(self.tokenizer.rendering_terms(micro["images"], Noise(self.run.seed, micro["positions"])))
