"""Encode and decode image files."""

from pathlib import Path

import torch

from vistok.data.images.image_file import read_image
from vistok.data.images.transforms import prepare, to_float, to_uint8
from vistok.errors import UserError
from vistok.files import owned, replacing
from vistok.metrics.reconstruction import psnr_per_image
from vistok.runs.load import load_tokenizer
from vistok.runs.pictures import SUFFIXES, check_side, display_scale, sheet, write_picture
from vistok.runs.run_images import data_of
from vistok.verbs.output import output_file


def reconstruct_files(
    paths: list[Path], tokenizer_path: Path, out: Path, weights: str = "ema"
) -> tuple[list[float], Path]:
    """Write a sheet of originals above reconstructions; return the PSNR of each (dB), and the sheet's file.

    Images are resized and centre-cropped to the tokenizer's size. Raises UserError for unreadable files, and if the
    sheet would overwrite one of the images.
    """
    place = output_file(out, "reconstruction.png", SUFFIXES)
    if any(place.exists() and path.exists() and place.samefile(path) for path in paths):
        raise UserError(f"--out {place} is one of the images to reconstruct; name another file")
    with owned(place):
        tokenizer = load_tokenizer(tokenizer_path, weights)
        data = data_of(tokenizer)
        pixels = [
            torch.from_numpy(prepare(read_image(path, data.channels, max(data.sides)), data, None)) for path in paths
        ]
        real = torch.stack(pixels).permute(0, 3, 1, 2).contiguous()
        fake = to_uint8(tokenizer.decode(tokenizer.encode(to_float(real)))).cpu()
        picture = sheet(torch.cat([real, fake]), len(paths), display_scale(data.image_size))
        check_side(place, max(picture.size))
        with replacing(place) as file:
            write_picture(file, picture, place.suffix)
    return psnr_per_image(fake, real).tolist(), place
