"""The convolutional tokenizer: sizes that its downsampling does not divide."""

import pytest
import torch
from torch.nn import functional as F

from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.loader import eval_images
from vistok.errors import UserError
from vistok.recipes import find_recipe
from vistok.space import grid
from vistok.tokenizer.bottlenecks.config import KLConfig, VQConfig
from vistok.tokenizer.config import ConvNetConfig, ConvTokenizerConfig
from vistok.tokenizer.networks.conv import ConvTokenizer
from vistok.tokenizer.networks.patch_shortcut import lowest_frequencies

NETWORK = ConvNetConfig(channels=4, multipliers=(1, 1, 1, 2), num_res_blocks=1, attention_resolutions=(), norm_groups=2)


def _config(image_size: int) -> ConvTokenizerConfig:
    return ConvTokenizerConfig(
        image_size=image_size,
        in_channels=1,
        latent_channels=4,
        encoder=NETWORK,
        decoder=NETWORK,
        quantizer=VQConfig(codebook_size=16, code_dim=4),
    )


@pytest.fixture(scope="module")
def padding() -> ConvTokenizer:
    """28 pixels, a token for each 8: 4 x 4 tokens."""
    torch.manual_seed(0)
    return ConvTokenizer(_config(28)).eval()


def test_padded_images_give_the_tokens_of_the_larger_image(padding: ConvTokenizer) -> None:
    larger = ConvTokenizer(_config(32)).eval()
    larger.load_state_dict(padding.state_dict())
    images = torch.rand(3, 1, 28, 28) * 2 - 1
    tokens = padding.encode(images)
    assert tokens.shape == (3, 16)
    assert padding.space.layout.positions == padding.config.num_tokens == 16
    assert torch.equal(tokens, larger.encode(F.pad(images, (0, 4, 0, 4), mode="replicate")))
    decoded = padding.decode(tokens)
    assert decoded.shape == images.shape
    assert torch.equal(decoded, larger.decode(tokens)[..., :28, :28])
    assert padding(images).reconstruction.shape == images.shape


def test_padding_tokenizer_still_runs_at_larger_sizes(padding: ConvTokenizer) -> None:
    images = torch.rand(1, 1, 40, 48) * 2 - 1
    tokens = padding.encode(images)
    assert tokens.shape == (1, 30)
    with pytest.raises(UserError, match="30 positions"):
        padding.decode(tokens[:, :16], layout=grid(5, 6))
    assert padding.decode(tokens, layout=grid(5, 6)).shape == images.shape


@pytest.mark.parametrize("size", [32, 27, 30])
def test_sizes_that_could_not_come_back_are_refused(padding: ConvTokenizer, size: int) -> None:
    with pytest.raises(UserError, match="28, or multiples of 8 except 32"):
        padding.encode(torch.zeros(1, 1, size, size))


def test_an_image_of_less_than_a_token_is_refused() -> None:
    with pytest.raises(UserError, match="less than one token"):
        _config(4)


def test_patches_keep_the_grid_and_spare_the_dearest_level() -> None:
    """A quarter of the places at the first level, the same tokens an image, odd sizes padded as ever."""
    from vistok.nn.flops import count_flops

    whole = _config(28).replace(quantizer=VQConfig(codebook_size=16, code_dim=4))
    side = NETWORK.replace(multipliers=(1, 1, 2), patch=2)
    patched = whole.replace(encoder=side, decoder=side)
    assert patched.layout == whole.layout and side.downsample == NETWORK.downsample
    torch.manual_seed(0)
    tokenizer = ConvTokenizer(patched).eval()
    images = torch.rand(2, 1, 28, 28) * 2 - 1
    assert tokenizer.decode(tokenizer.encode(images)).shape == images.shape
    costs = []
    for config in (whole, patched):
        with torch.device("meta"):
            model, given = ConvTokenizer(config), torch.empty(2, 1, 28, 28)
        costs.append(count_flops(lambda model=model, given=given: model(given).reconstruction.sum().backward()))
    assert costs[1] < 0.5 * costs[0]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_shortcut_gives_the_right_colours_before_any_training(channels: int) -> None:
    """Flat patches come back as they are, and the picture as its lowest frequencies: no better linear path is near."""
    side = ConvNetConfig(channels=8, multipliers=(1, 1), num_res_blocks=1, norm_groups=4, patch=2)
    quantizer = VQConfig(codebook_size=16, lookup="euclidean", start_after=5)
    config = ConvTokenizerConfig(
        image_size=8, in_channels=channels, latent_channels=8, encoder=side, decoder=side, quantizer=quantizer,
        shortcut=True,
    )  # fmt: skip
    model = ConvTokenizer(config).train()
    flat = torch.rand(6, channels, 2, 2).mul(2).sub(1).repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(model(flat).reconstruction, flat)
    slope = torch.linspace(-1, 1, 8).expand(1, channels, 8, 8)
    error = (model(slope).reconstruction - slope).square().mean().detach()
    assert float(error) < 0.002


def test_a_shortcut_starts_with_vectors_of_about_unit_variance(photo_folder) -> None:
    """Smaller ones have to grow while they are quantized: a thousand steps gave 1.5 dB less with vectors a fifth as large."""
    data = DataConfig(dataset="folder", root=str(photo_folder), image_size=64, channels=3)
    images = next(eval_images(open_split(data, "train"), data, 50))["images"]
    vectors, _ = ConvTokenizer(find_recipe("images64_crt", "tokenizer").tokenizer).to_latents(images)
    assert 0.2 < float(vectors.detach().var(dim=(0, 1)).mean()) < 5


def test_patterns_of_patches_are_orthonormal_and_run_out() -> None:
    patterns = lowest_frequencies(2, 3, 14)
    torch.testing.assert_close(patterns @ patterns.T, torch.eye(14) * (torch.arange(14) < 12))


@pytest.mark.parametrize("kind", [VQConfig(codebook_size=8), KLConfig(dim=4)])
def test_an_encoder_that_gives_nan_is_refused(kind) -> None:
    """Its tokens were codes like any other, and its vectors ended in "this is a bug in vistok" when they were cached."""
    tokenizer = ConvTokenizer(_config(16).replace(quantizer=kind)).eval()
    with torch.no_grad():
        tokenizer.encoder.conv_out.bias[0] = float("nan")
    with pytest.raises(UserError, match="gives NaN or infinity for 3 of 3 images: its weights are damaged"):
        tokenizer.encode(torch.zeros(3, tokenizer.config.in_channels, 16, 16))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite_are_not_decoded(bad) -> None:
    tokenizer = ConvTokenizer(_config(16).replace(quantizer=KLConfig(dim=4))).eval()
    latents = torch.zeros(3, *tokenizer.space.shape)
    latents[1, 0, 0] = bad
    with pytest.raises(UserError, match="latents hold values that are not finite .*, in 1 of 3 rows"):
        tokenizer.decode(latents)
