"""The convolutional encoder and decoder of the taming / LlamaGen family (CRT paper A.1)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.attention import attend
from vistok.nn.norm_silu import NormSiLU
from vistok.tokenizer.config import ConvNetConfig

EPS = 1e-6


class ResBlock(nn.Module):
    """Two (norm, swish, 3x3 conv) units and a skip connection, a 1x1 conv if the number of channels changes."""

    def __init__(self, in_channels: int, out_channels: int, norm_groups: int) -> None:
        super().__init__()
        self.norm1 = NormSiLU(norm_groups, in_channels, eps=EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = NormSiLU(norm_groups, out_channels, eps=EPS)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, in_channels, h, w) to (batch, out_channels, h, w)."""
        h = self.conv1(self.norm1(x))
        h = self.conv2(self.norm2(h))
        return self.skip(x) + h


class SpatialAttention(nn.Module):
    """Single-head attention over all pixels, with a skip connection."""

    def __init__(self, channels: int, norm_groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels, eps=EPS)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape."""
        h = self.norm(x)
        query, key, value = (p(h).flatten(2).transpose(1, 2) for p in (self.query, self.key, self.value))
        mixed = attend(query[:, None], key[:, None], value[:, None])[:, 0]
        return x + self.out(mixed.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """A 3x3 conv of stride 2, padded at the bottom and on the right."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Halve height and width."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour upsampling, then a 3x3 conv."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Double height and width."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Encoder(nn.Module):
    """Maps images to a grid of latents, 1 / downsample of their size."""

    def __init__(self, config: ConvNetConfig, image_size: int, in_channels: int, latent_channels: int) -> None:
        super().__init__()
        channels, resolution, self.patch = config.channels, image_size // config.patch, config.patch
        self.conv_in = nn.Conv2d(in_channels * config.patch**2, channels, 3, padding=1)
        self.levels = nn.ModuleList()
        for i, multiplier in enumerate(config.multipliers):
            level, out_channels = [], config.channels * multiplier
            for _ in range(config.num_res_blocks):
                level += _block(channels, out_channels, resolution, config)
                channels = out_channels
            if i < len(config.multipliers) - 1:
                level.append(Downsample(channels))
                resolution //= 2
            self.levels.append(nn.Sequential(*level))
        self.middle = _middle(channels, config)
        self.norm_out = NormSiLU(config.norm_groups, channels, eps=EPS)
        self.conv_out = nn.Conv2d(channels, latent_channels, 3, padding=1)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch latent rows columns"]:
        """Return latents (batch, latent_channels, height / f, width / f)."""
        x = self.conv_in(F.pixel_unshuffle(images, self.patch))
        for level in self.levels:
            x = level(x)
        return self.conv_out(self.norm_out(self.middle(x)))


class Decoder(nn.Module):
    """Maps a grid of latents to images; has one more residual block per level than the encoder."""

    def __init__(self, config: ConvNetConfig, image_size: int, out_channels: int, latent_channels: int) -> None:
        super().__init__()
        channels, self.patch = config.channels * config.multipliers[-1], config.patch
        resolution = image_size // config.downsample
        self.conv_in = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.middle = _middle(channels, config)
        self.levels = nn.ModuleList()
        for i, multiplier in reversed(list(enumerate(config.multipliers))):
            level, level_channels = [], config.channels * multiplier
            for _ in range(config.num_res_blocks + 1):
                level += _block(channels, level_channels, resolution, config)
                channels = level_channels
            if i > 0:
                level.append(Upsample(channels))
                resolution *= 2
            self.levels.append(nn.Sequential(*level))
        self.norm_out = NormSiLU(config.norm_groups, channels, eps=EPS)
        self.conv_out = nn.Conv2d(channels, out_channels * config.patch**2, 3, padding=1)

    def forward(
        self, latents: Float[Tensor, "batch latent rows columns"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return images, near [-1, 1] and not clipped."""
        x = self.middle(self.conv_in(latents))
        for level in self.levels:
            x = level(x)
        return F.pixel_shuffle(self.conv_out(self.norm_out(x)), self.patch)


def _block(in_channels: int, out_channels: int, resolution: int, config: ConvNetConfig) -> list[nn.Module]:
    layers: list[nn.Module] = [ResBlock(in_channels, out_channels, config.norm_groups)]
    if resolution in config.attention_resolutions:
        layers.append(SpatialAttention(out_channels, config.norm_groups))
    return layers


def _middle(channels: int, config: ConvNetConfig) -> nn.Sequential:
    # Built in the order of use, since each draws its weights from where the previous one left the random generator.
    layers: list[nn.Module] = [ResBlock(channels, channels, config.norm_groups)]
    if config.middle_attention:
        layers.append(SpatialAttention(channels, config.norm_groups))
    layers.append(ResBlock(channels, channels, config.norm_groups))
    return nn.Sequential(*layers)
