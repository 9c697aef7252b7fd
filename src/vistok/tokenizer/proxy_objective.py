"""What the first of TiTok's two stages minimises (arXiv 2406.07550, section 3.3): the cross-entropy of a grid's tokens."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vistok.engine.distributed import ALONE, World
from vistok.engine.phase import PhaseLoss
from vistok.nn.frozen_features import FrozenFeatures
from vistok.tokenizer.interface import Tokenizer, TokenizerOutput
from vistok.tokenizer.networks.proxy_line import ProxyLineTokenizer
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.objective import Autoencoder, TokenizerTraining


class ProxyTokens(Autoencoder):
    """The autoencoder's phase with tokens of a frozen proxy in place of pixels. The proxy's decoder is not trained.

    `proxy`: a trained tokenizer to a grid, whose decoder the network has.
    """

    tokenizer: ProxyLineTokenizer

    def __init__(
        self,
        run: TokenizerTraining,
        proxy: Tokenizer,
        device: torch.device,
        world: World = ALONE,
        features: Mapping[str, FrozenFeatures] = MappingProxyType({}),
    ) -> None:
        super().__init__(run, {}, device, world, features)
        self.proxy = proxy.eval().requires_grad_(False)
        self.tokenizer.decoder.grid.requires_grad_(False)

    @torch.no_grad()
    def targets(self, images: Float[Tensor, "batch channels height width"]) -> Int[Tensor, "batch places"]:
        """Return the proxy's tokens."""
        return self.proxy.from_images(images)

    def compare(self, images: Tensor, noise: Noise | None) -> tuple[TokenizerOutput, PhaseLoss]:
        """Return what the tokenizer makes of images, with the cross-entropy of the proxy's tokens and the bottleneck's terms."""
        targets = self.targets(images)
        output = self.tokenizer(images, noise, pixels=False)
        loss = F.cross_entropy(output.logits.flatten(0, 1).float(), targets.flatten())
        weight = self.run.losses.quantizer_weight
        terms = {name: weight * term for name, term in output.bottleneck.losses.items()}
        hits = (output.logits.detach().argmax(-1) == targets).float().mean()
        statistics = {**output.bottleneck.statistics, "proxy_accuracy": hits}
        return output, PhaseLoss({"proxy_loss": loss, **terms}, statistics)
