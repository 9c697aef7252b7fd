"""Encode and decode image files."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from vistok.data.evenly import evenly
from vistok.data.images.image_file import read_image
from vistok.data.images.transforms import prepare, to_float, to_uint8
from vistok.data.images.walking import list_images
from vistok.errors import UserError, counted
from vistok.files import owned, replacing
from vistok.metrics.reconstruction import psnr_per_image
from vistok.runs.load import load_tokenizer
from vistok.runs.pictures import SUFFIXES, check_side, display_scale, sheet, write_picture
from vistok.runs.run_images import data_of
from vistok.tokenizer.interface import Tokenizer
from vistok.verbs.output import output_file

# Of a folder at most so many images are shown, in rows of at most so many.
MOST, COLUMNS = 40, 10
SMALL = 16  # the size at which it is tried whether a file can be read


def chosen_images(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return image files, a folder replaced by images from all over it, and notes: what else it holds, what cannot be read.

    Raises UserError for a folder without images that can be read.
    """
    files, notes = [], []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        names = list_images(path).images
        if not names:
            raise UserError(f"folder {path} holds no images; name image files, or a folder of them")
        places = evenly(len(names), MOST).tolist()
        broken = {place: why for place in places if (why := _unreadable(path / names[place]))}
        if len(broken) == len(places):
            raise UserError(f"folder {path}: none of its images can be read; the first: {broken[places[0]]}")
        files += [path / names[place] for place in places if place not in broken]
        notes += [f"left out: {why}" for why in broken.values()]
        if len(names) > MOST:
            notes.append(f"{MOST} of {counted(len(names), 'image')} in {path}, spread over it")
    return files, notes


def _unreadable(file: Path) -> str:
    """Return why a file of a folder cannot be read; empty if it can. One that was named itself is an error instead."""
    try:
        read_image(file, 3, SMALL)
    except UserError as error:
        return str(error)
    return ""


def quality_lines(files: Sequence[Path], quality: Sequence[float]) -> list[str]:
    """Return each image's PSNR; of more than ten the mean, the lowest and the highest."""
    if len(files) <= COLUMNS:
        return [f"{file}: PSNR {psnr:.2f} dB" for file, psnr in zip(files, quality, strict=True)]
    ranked = sorted(zip(quality, files, strict=True))
    ends = [f"{word} {psnr:.2f} dB ({file})" for word, (psnr, file) in (("lowest", ranked[0]), ("highest", ranked[-1]))]
    return [f"{len(files)} images: PSNR {sum(quality) / len(quality):.2f} dB on average, {', '.join(ends)}"]


class Reconstructed(NamedTuple):
    """Each image's PSNR (dB), a list for each number of latents; the sheet's file; what else there is to say."""

    quality: list[list[float]]
    place: Path
    notes: list[str]


def reconstruct_files(
    paths: Sequence[Path], tokenizer_path: Path, out: Path, weights: str = "ema", tokens: Sequence[int | None] = (None,)
) -> Reconstructed:
    """Write a sheet of originals, each above its reconstructions.

    Images are framed and resized as the tokenizer's data are for scores. `tokens`: how many of the first latents of each line are
    decoded (None: all); of several numbers each has its row, and its list of what each image reaches. Raises UserError for unreadable files, for a number of latents that the tokenizer cannot decode,
    and if the sheet would overwrite one of the images.
    """
    place = output_file(out, "reconstruction.png", SUFFIXES)
    if any(place.exists() and path.exists() and place.samefile(path) for path in paths):
        raise UserError(f"--out {place} is one of the images to reconstruct; name another file")
    with owned(place):
        tokenizer = load_tokenizer(tokenizer_path, weights)
        data = data_of(tokenizer)
        pixels = [
            torch.from_numpy(prepare(read_image(path, data.channels, data.least_side), data, None)) for path in paths
        ]
        real = torch.stack(pixels).permute(0, 3, 1, 2).contiguous()
        latents = tokenizer.encode(to_float(real))
        parts = [first_latents(tokenizer, latents, count) for count in tokens]  # all are checked before any is decoded
        fakes = [to_uint8(tokenizer.decode(part)).cpu() for part in parts]
        picture = sheet(_below_each_other(real, *fakes), min(len(paths), COLUMNS), display_scale(data.image_size))
        check_side(place, max(picture.size))
        with replacing(place) as file:
            write_picture(file, picture, place.suffix)
    quality = [psnr_per_image(fake, real).tolist() for fake in fakes]
    return Reconstructed(quality, place, _turned_grey(paths) if data.channels == 1 else [])


def _turned_grey(paths: Sequence[Path]) -> list[str]:
    """Say how many images had colours, which a tokenizer of grey images does not see."""
    small = (read_image(path, 3, SMALL) for path in paths)
    coloured = sum(bool((pixels != pixels[..., :1]).any()) for pixels in small)
    if not coloured:
        return []
    return [f"{coloured} of {counted(len(paths), 'image')} turned to grey first: the tokenizer is one of grey images"]


def first_latents(tokenizer: Tokenizer, latents: Tensor, tokens: int | None) -> Tensor:
    """Return each image's first latents; None: all. Raises UserError for a number that the tokenizer cannot decode."""
    whole = latents.shape[1]
    if tokens is None or tokens == whole:
        return latents
    if not getattr(tokenizer.config, "prefixes", False):
        kind = "lie on a grid" if tokenizer.space.layout.kind == "grid" else "are a line that was trained as a whole"
        raise UserError(
            f"tokens {tokens}: this tokenizer's {whole} {kind}, so it decodes all of them; for beginnings train a line with --set "
            "tokenizer.prefixes=true, as in vistok train tokenizer fashion_line"
        )
    if not 1 <= tokens <= whole:
        raise UserError(f"tokens {tokens}: this tokenizer makes {whole} of an image; give 1 to {whole}")
    return latents[:, :tokens]


def _below_each_other(*kinds: Tensor) -> Tensor:
    """Return rows of originals, each followed by rows of their reconstructions; the last rows are filled up with white."""
    columns = min(len(kinds[0]), COLUMNS)
    rows = []
    for first in range(0, len(kinds[0]), columns):
        for images in kinds:
            row = images[first : first + columns]
            blank = row.new_full((columns - len(row), *row.shape[1:]), 255)
            rows.append(torch.cat([row, blank]))
    return torch.cat(rows)
