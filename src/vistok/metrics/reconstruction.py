"""PSNR and SSIM of uint8 images, computed per image by torchmetrics and averaged by the caller."""

from jaxtyping import Float, UInt8
from torch import Tensor

IDENTICAL_DB = 100.0


def psnr_per_image(
    a: UInt8[Tensor, "batch channels height width"], b: UInt8[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch"]:
    """Return peak signal-to-noise ratios in dB; identical images, whose ratio is infinite, count as 100 dB."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    ratio = peak_signal_noise_ratio(a.float(), b.float(), data_range=255.0, reduction="none", dim=(1, 2, 3))
    return ratio.clamp(max=IDENTICAL_DB)


def ssim_per_image(
    a: UInt8[Tensor, "batch channels height width"], b: UInt8[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch"]:
    """Return structural similarities (11x11 Gaussian window, standard deviation 1.5)."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    value = structural_similarity_index_measure(a.float(), b.float(), data_range=255.0, reduction="none")
    assert isinstance(value, Tensor)
    return value
