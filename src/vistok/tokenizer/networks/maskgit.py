"""MaskGIT's VQGAN (Chang et al. 2022, arXiv 2202.04200), which TiTok's two stages take their proxy tokens from."""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from vistok.config import make
from vistok.nn.norm_silu import NormSiLU
from vistok.tokenizer.bottlenecks.config import BOTTLENECKS
from vistok.tokenizer.config import ConvNetConfig
from vistok.tokenizer.networks.conv import ConvTokenizer
from vistok.tokenizer.networks.convnet import EPS, Upsample


class MaskgitBlock(nn.Module):
    """Two 3x3 convolutions without biases. Where channels change, the sum is with the result itself, as in the original code."""

    def __init__(self, in_channels: int, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (NormSiLU(norm_groups, count, eps=EPS) for count in (in_channels, channels))
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.skip = nn.Conv2d(channels, channels, 1, bias=False) if in_channels != channels else None

    def forward(self, x: Float[Tensor, "batch _ height width"]) -> Float[Tensor, "batch _ height width"]:
        """Map to the block's channels."""
        y = self.conv2(self.norm2(self.conv1(self.norm1(x))))
        return y + (x if self.skip is None else self.skip(y))


def _middle(channels: int, config: ConvNetConfig) -> nn.Sequential:
    return nn.Sequential(*(MaskgitBlock(channels, channels, config.norm_groups) for _ in range(config.num_res_blocks)))


class MaskgitEncoder(nn.Module):
    """Maps images to a grid of latents, 1 / downsample of their size."""

    def __init__(self, config: ConvNetConfig, in_channels: int, latent_channels: int) -> None:
        super().__init__()
        channels = config.channels
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.levels = nn.ModuleList()
        for i, multiplier in enumerate(config.multipliers):
            level: list[nn.Module] = []
            for _ in range(config.num_res_blocks):
                level.append(MaskgitBlock(channels, config.channels * multiplier, config.norm_groups))
                channels = config.channels * multiplier
            if i < len(config.multipliers) - 1:
                level.append(nn.AvgPool2d(2))
            self.levels.append(nn.Sequential(*level))
        self.middle = _middle(channels, config)
        self.norm_out = NormSiLU(config.norm_groups, channels, eps=EPS)
        self.conv_out = nn.Conv2d(channels, latent_channels, 1)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch latent rows columns"]:
        """Return latents (batch, latent_channels, height / f, width / f) of images in [-1, 1]; inside, they lie in [0, 1]."""
        x = self.conv_in((images + 1) / 2)
        for level in self.levels:
            x = level(x)
        return self.conv_out(self.norm_out(self.middle(x)))


class MaskgitDecoder(nn.Module):
    """Maps a grid of codes to images."""

    def __init__(self, config: ConvNetConfig, out_channels: int, code_dim: int) -> None:
        super().__init__()
        channels = config.channels * config.multipliers[-1]
        self.conv_in = nn.Conv2d(code_dim, channels, 3, padding=1)
        self.middle = _middle(channels, config)
        self.levels = nn.ModuleList()
        for i, multiplier in reversed(list(enumerate(config.multipliers))):
            level: list[nn.Module] = []
            for _ in range(config.num_res_blocks):
                level.append(MaskgitBlock(channels, config.channels * multiplier, config.norm_groups))
                channels = config.channels * multiplier
            if i > 0:
                level.append(Upsample(channels))
            self.levels.append(nn.Sequential(*level))
        self.norm_out = NormSiLU(config.norm_groups, channels, eps=EPS)
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(
        self, codes: Float[Tensor, "batch code_dim rows columns"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return images, near [-1, 1] and not clipped; inside, they lie in [0, 1]."""
        x = self.middle(self.conv_in(codes))
        for level in self.levels:
            x = level(x)
        return 2 * self.conv_out(self.norm_out(x)) - 1


class MaskgitTokenizer(ConvTokenizer):
    """A convolutional tokenizer with MaskGIT's encoder and decoder."""

    def make_networks(self, config: Any) -> None:
        """Make the parts; the encoder's outputs go to the quantizer as they are, and the codes to the decoder."""
        self.quantizer = make(BOTTLENECKS, config.quantizer)
        self.encoder = MaskgitEncoder(config.encoder, config.in_channels, self.quantizer.in_dim)
        self.decoder = MaskgitDecoder(config.decoder, config.in_channels, self.quantizer.code_dim)
        self.pre_quantizer, self.post_quantizer = nn.Identity(), nn.Identity()

    def leading_layer(self) -> nn.Module:
        """Return the encoder's last convolution."""
        return self.encoder.conv_out  # type: ignore[no-any-return]
