"""What a tokenizer keeps of a picture: its reconstruction, the difference, PSNR, and the latents in between."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vistok.errors import UserError

# Differences are shown this many times as large, so that small ones can be seen.
LOUDER = 4
MOST_CHANNELS = 16


@dataclass(frozen=True)
class Kept:
    """A picture as a tokenizer takes it and what it keeps: uint8 (1, channels, height, width), PSNR in dB, latents (1, ...)."""

    name: str
    real: Any
    fake: Any
    psnr: float
    latents: Any
    space: Any

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of latents; one row for a line."""
        layout = self.space.layout
        if layout.kind == "grid":
            return layout.frames * layout.height, layout.width
        return 1, layout.length

    def difference(self) -> Any:
        """Return how far the reconstruction is off, `LOUDER` times as bright: uint8 (1, channels, height, width)."""
        off = (self.fake.float() - self.real.float()).abs() * LOUDER
        return off.clamp(0, 255).round().to(self.real.dtype)


def keep(name: str, picture: Path, tokenizer: Any) -> Kept:
    """Encode and decode a picture, framed and resized as `vistok reconstruct` does. Raises UserError if it is none."""
    import torch

    from vistok.data.images.image_file import read_image
    from vistok.data.images.transforms import prepare, to_float
    from vistok.runs.run_images import data_of

    data = data_of(tokenizer)
    pixels = prepare(read_image(picture, data.channels, data.least_side), data, None)
    real = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].contiguous()
    with torch.inference_mode():
        latents = tokenizer.encode(to_float(real).to(tokenizer.device))
    return decoded(Kept(name, real, real, 0.0, latents, tokenizer.space), tokenizer)


def decoded(kept: Kept, tokenizer: Any) -> Kept:
    """Return the same picture with its latents decoded anew."""
    import torch

    from vistok.data.images.transforms import to_uint8
    from vistok.metrics.reconstruction import psnr_per_image

    with torch.inference_mode():
        fake = to_uint8(tokenizer.decode(kept.latents)).cpu()
    return replace(kept, fake=fake, psnr=float(psnr_per_image(fake, kept.real)[0]))


def with_token(kept: Kept, position: int, token: int, tokenizer: Any) -> Kept:
    """Return the picture with another token at a position, decoded anew. Raises UserError for a token that there is not."""
    codes = kept.space.codebook_size
    if not 0 <= token < codes:
        raise UserError(f"token {token}: {kept.name} has the tokens 0 to {codes - 1:,}")
    latents = kept.latents.clone()
    latents[0, position] = token
    return decoded(replace(kept, latents=latents), tokenizer)


def mean_maps(kept: Kept) -> list[Any]:
    """Return maps of a tokenizer's vectors, uint8 (1, 1, rows, columns): the mean over all channels, then single channels."""
    import torch

    rows, columns = kept.grid
    channels = kept.latents[0].float().cpu().T.reshape(-1, rows, columns)
    maps = [channels.mean(0), *channels[:MOST_CHANNELS]]
    grey = []
    for values in maps:
        low, high = values.min(), values.max()
        grey.append(((values - low) / (high - low).clamp(min=1e-12) * 255).round().to(torch.uint8)[None, None])
    return grey
