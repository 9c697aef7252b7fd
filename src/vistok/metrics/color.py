"""Colour differences as the eye perceives them: CIE Lab of sRGB images, with white point D65."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

# Linear sRGB to XYZ (IEC 61966-2-1), and the XYZ of its white point, D65.
_TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
_WHITE = (0.95047, 1.0, 1.08883)


def to_lab(images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Return L (0...100), a (green to red) and b (blue to yellow) of every pixel."""
    values = images.float() / 255
    linear = torch.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(_TO_XYZ, device=images.device) / torch.tensor(_WHITE, device=images.device)[:, None]
    ratio = torch.einsum("ij,bjhw->bihw", matrix, linear)
    root = torch.where(ratio > (6 / 29) ** 3, ratio.clamp(min=1e-9) ** (1 / 3), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_errors(
    a: UInt8[Tensor, "batch 3 height width"], b: UInt8[Tensor, "batch 3 height width"]
) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
    """Return each image's mean distance in Lab (Delta E 1976; 2.3 is just noticeable), and the same in a and b alone."""
    difference = to_lab(a) - to_lab(b)
    return tuple(part.square().sum(1).sqrt().mean((1, 2)) for part in (difference, difference[:, 1:]))  # type: ignore[return-value]
