"""Encode and decode image files."""

from pathlib import Path

import torch

from vistok.data.image_file import read_image
from vistok.data.transforms import prepare, to_float, to_uint8
from vistok.metrics.reconstruction import psnr_per_image
from vistok.tasks.cache_tokens import data_of
from vistok.tasks.load import load_tokenizer
from vistok.tasks.pictures import display_scale, save_png, sheet


def reconstruct_files(paths: list[Path], tokenizer_path: Path, out: Path, weights: str = "ema") -> list[float]:
    """Write a sheet, originals above reconstructions, and return the PSNR of each (dB).

    Images are resized and centre-cropped to the tokenizer's size. Raises UserError for unreadable files.
    """
    tokenizer = load_tokenizer(tokenizer_path, weights)
    data = data_of(tokenizer)
    pixels = [torch.from_numpy(prepare(read_image(path, data.channels, data.image_size), data, None)) for path in paths]
    real = torch.stack(pixels).permute(0, 3, 1, 2).contiguous()
    fake = to_uint8(tokenizer.decode(tokenizer.encode(to_float(real)))).cpu()
    save_png(out, sheet(torch.cat([real, fake]), len(paths), display_scale(data.image_size)))
    return psnr_per_image(fake, real).tolist()
