"""TiTok's tokenizer for training in two stages (arXiv 2406.07550, section 3.3): its decoder predicts a grid tokenizer's tokens.

The grid tokenizer, the proxy, turns these into pixels: at each place its decoder gets the mean of all codes, weighted by the
predicted probabilities. So the first stage, which learns the tokens alone, already ends with a whole tokenizer.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.config import make
from vistok.space import Grid
from vistok.tokenizer.bottlenecks.base import Quantizer
from vistok.tokenizer.config import GRIDS, ProxyLineTokenizerConfig
from vistok.tokenizer.interface import Tokenizer, TokenizerOutput
from vistok.tokenizer.networks.line import LineTokenizer
from vistok.tokenizer.networks.patch_transformer import LatentDecoder, init_linear
from vistok.tokenizer.noise import Noise


@dataclass
class ProxyOutput(TokenizerOutput):
    """The result for a training batch, with the logits of the proxy's tokens (batch places codes).

    Where pixels were not asked for, `reconstruction` holds no images.
    """

    logits: Tensor


class ProxyDecoder(LatentDecoder):
    """Each place of the proxy's grid becomes logits of its codes, and these become images by the proxy's decoder."""

    def __init__(self, config: ProxyLineTokenizerConfig, code_dim: int) -> None:
        layout, width = config.proxy.layout, config.decoder.width
        assert isinstance(layout, Grid)
        super().__init__(config.decoder, layout, config.num_latents, code_dim)
        # What the proxy needs for decoding; its encoder is left out.
        self.grid: Tokenizer = make(GRIDS, config.proxy).decoding_half()
        assert isinstance(self.grid.quantizer, Quantizer)
        self.layout, self.num_codes = layout, self.grid.quantizer.codebook_size
        self.to_codes = nn.Sequential(nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, self.num_codes))
        for part in (self.embed, self.blocks, self.to_codes):
            init_linear(part)

    def forward(
        self, codes: Float[Tensor, "batch given code_dim"], lengths: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Return images, near [-1, 1] and not clipped, from the first codes of each line."""
        return self.pixels(self.logits(codes, lengths))

    def logits(
        self, codes: Float[Tensor, "batch given code_dim"], lengths: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch places proxy_codes"]:
        """Return the logits of the proxy's codes at each place of its grid, from the first codes of each line."""
        return self.to_codes(self.at_places(codes, lengths))

    def pixels(self, logits: Float[Tensor, "batch places proxy_codes"]) -> Float[Tensor, "batch channels height width"]:
        """Decode the expected code at each place."""
        codebook = self.grid.quantizer.to_decoder(torch.arange(self.num_codes, device=logits.device))
        return self.grid.to_images(logits.float().softmax(-1) @ codebook, self.layout)

    def last_layer(self) -> Tensor:
        """Return the last layer of the proxy's decoder."""
        return self.grid.last_layer()

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded individually."""
        return [*self.blocks, *self.grid.spread_units()]


class ProxyLineTokenizer(LineTokenizer):
    """A line whose decoder predicts tokens of a grid, and has that grid's decoder make the pixels."""

    config: ProxyLineTokenizerConfig
    decoder: ProxyDecoder

    def _decoder(self, config: Any) -> ProxyDecoder:
        return ProxyDecoder(config, self.quantizer.code_dim)

    def forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        noise: Noise | None = None,
        pixels: bool = True,
    ) -> ProxyOutput:
        """Encode, quantize and decode a training batch, or with `pixels` false only predict the proxy's tokens."""
        z_e = self.to_latents(images)
        bottleneck = self.quantizer(z_e, noise)
        logits = self.decoder.logits(bottleneck.decoded, self.kept(len(images), noise))
        reconstruction = self.decoder.pixels(logits) if pixels else images[:0]
        return ProxyOutput(reconstruction, z_e, bottleneck, self.space.layout, logits)
