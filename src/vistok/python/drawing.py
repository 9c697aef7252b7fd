"""Pictures of a run: samples of its generator, reconstructions of its tokenizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vistok.data.config import DataConfig
from vistok.data.evenly import evenly
from vistok.data.images.open import open_split
from vistok.data.images.transforms import prepare, to_uint8
from vistok.errors import UserError
from vistok.generator.config import SamplingConfig
from vistok.generator.families import FAMILIES
from vistok.metrics.reconstruction import psnr_per_image
from vistok.metrics.variety import Drawn, variety
from vistok.python.folder import folder_images
from vistok.python.given import given
from vistok.python.images import Images, Reconstructions
from vistok.python.pixels import float_images
from vistok.python.progress import live_progress
from vistok.python.told import tell_alarms
from vistok.runs.drawing import fitting_batch, sample_batches, usual_sampling
from vistok.runs.health.sample_warnings import collapse_warnings
from vistok.runs.run_images import data_of
from vistok.verbs.class_choice import chosen_labels
from vistok.verbs.reconstruct import first_latents

OF_ONE_CLASS, OF_ALL = 10, 40  # images, where no count is given
SHOWN = 10


def draw(run: Any, labels: Any, count: int | None, changes: dict[str, Any], weights: str, quiet: bool) -> Images:
    """Draw images from a generator's run."""
    generator, tokenizer = run.generator(weights), run.tokenizer(weights)
    sampling = sampling_of(generator, changes)
    generator.check_guidance(sampling.guidance_scale)
    names = generator.info.class_names
    numbers = label_numbers(labels, names, count)
    drawn = Drawn()
    with live_progress(quiet) as progress:
        tell_alarms(run.path, progress.say)
        batches = sample_batches(
            generator.sampler(sampling),
            tokenizer,
            numbers,
            progress,
            batch_size=fitting_batch(generator, sampling),
            drawn=drawn,
        )
        pixels = torch.cat(list(batches))
        for line in collapse_warnings(variety([drawn]), sampling, tokenizer.info, labels is not None):
            progress.say(f"warning: {line}")
    return Images(pixels, [names[number] for number in numbers.tolist()])


def sampling_of(generator: Any, changes: dict[str, Any]) -> SamplingConfig:
    """Return a generator's sampling with changes, None for its own; raises UserError for fields that its family lacks."""
    kind = generator.config.kind
    chosen = {name: value for name, value in changes.items() if value is not None}
    known = FAMILIES[kind].sampling.model_fields
    if unknown := [name for name in chosen if name not in known]:
        offered = ", ".join(name for name in known if name != "kind")
        raise UserError(f"{unknown[0]}: {kind} generators are drawn from by {offered}, not by this")
    return usual_sampling(generator, chosen)


def label_numbers(labels: Any, names: Sequence[str], count: int | None) -> Tensor:
    """Return class numbers (count,), int64, that go through the chosen classes in turn, or through all. Raises UserError for others."""
    one = isinstance(labels, str | int | np.integer) or (isinstance(labels, Tensor | np.ndarray) and labels.ndim == 0)
    given_labels = [] if labels is None else [labels] if one else list(labels)
    if labels is not None and not given_labels:
        raise UserError("labels: an empty list; give classes, or leave it out for all of them")
    if count is None:
        count = OF_ALL if labels is None else OF_ONE_CLASS if one else len(given_labels)
    if count < 1:
        raise UserError(f"count {count}: give at least 1")
    return chosen_labels([_text(label) for label in given_labels], names, count)


def _text(label: Any) -> str:
    """Return a label as text. A name with commas, or quotes, is looked up whole before it is read as several."""
    value = label.item() if isinstance(label, Tensor | np.ndarray | np.generic) else label
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"label {value!r:.60}: give class names or numbers")
    return str(value)


def reconstruct(run: Any, images: Any, weights: str, tokens: int | None = None) -> Reconstructions:
    """Encode and decode images with a run's tokenizer; `tokens`: so many of the first latents of each line alone."""
    tokenizer = run.tokenizer(weights)
    data = data_of(tokenizer)
    real = _held_out(data) if images is None else prepared(images, data)
    floats = float_images(real)
    latents = first_latents(tokenizer, tokenizer.encode(floats), tokens)
    fake = to_uint8(tokenizer.decode(latents)).cpu()
    originals = to_uint8(floats)
    return Reconstructions(fake, originals, psnr_per_image(fake, originals).numpy())


def prepared(images: Any, data: DataConfig) -> np.ndarray:
    """Return images as a data config wants them: uint8 (count, height, width, channels), cropped and resized."""
    if isinstance(images, str | Path):
        source = folder_images(Path(images), data)
    else:
        if isinstance(images, Image.Image):
            images = [images]
        source = (pixels for pixels, _ in given(images))
    return np.stack([prepare(with_channels(pixels, data.channels), data, None) for pixels in source])


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Return uint8 pixels (height, width, channels) in grey or in colour, converted as files are."""
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return pixels.repeat(3, axis=2)
    return np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None]


def _held_out(data: DataConfig) -> np.ndarray:
    source = open_split(data, "val")
    spread = evenly(len(source), SHOWN)
    return np.stack([prepare(source.read(int(index)), data, None) for index in spread])
