"""The demo's pictures: test images and their reconstructions, samples by class, and samples beside the nearest training images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images
from vistok.files import data_uri
from vistok.generator.families import default_sampling
from vistok.runs.drawing import sample_batches
from vistok.runs.load import load_generator
from vistok.runs.pictures import display_scale, png_bytes, sheet
from vistok.tokenizer.interface import Tokenizer

RECONSTRUCTIONS = 14
SAMPLE_ROWS = 6


@dataclass(frozen=True)
class Sheet:
    """A picture as a data URI, and the names of its columns."""

    picture: str
    names: tuple[str, ...]


def reconstructions(tokenizers: dict[str, Tokenizer], data: DataConfig) -> Sheet:
    """Return the first test images, below them their reconstructions by each tokenizer in turn."""
    source = open_split(data, "test")
    batch = next(eval_images(source, data, RECONSTRUCTIONS, limit=RECONSTRUCTIONS))
    images, labels = batch["images"], batch["labels"].tolist()
    rows = [to_uint8(images)]
    rows += [to_uint8(tokenizer.decode(tokenizer.encode(images))) for tokenizer in tokenizers.values()]
    return _sheet(torch.cat(rows), [source.class_names[label] for label in labels])


def samples(result: dict[str, Any], tokenizer: Tokenizer, runs: Path) -> Sheet:
    """Return samples with guidance, a column per class."""
    generator = load_generator(runs / result["generator_run"])
    sampling = default_sampling(generator.config).replace(guidance_scale=result["generator"]["guidance"])
    labels = torch.arange(generator.num_classes).repeat(SAMPLE_ROWS)
    drawn = torch.cat(list(sample_batches(generator.sampler(sampling), tokenizer, labels)))
    return _sheet(drawn, generator.info.class_names)


def copies(result: dict[str, Any], tokenizer: Tokenizer, runs: Path, data: DataConfig) -> Sheet:
    """Return the samples nearest to a training image, each above that image."""
    generator = load_generator(runs / result["generator_run"])
    closest = result["generator"]["scores"]["off"]["memorization"]["closest"]
    ids = torch.tensor([pair["sample"] for pair in closest])
    tokens = generator.sample(ids % generator.num_classes, ids)
    train = open_split(data, "train")
    real = torch.stack([torch.from_numpy(train.read(pair["train_image"]).copy()).permute(2, 0, 1) for pair in closest])
    names = [generator.info.class_names[label] for label in (ids % generator.num_classes).tolist()]
    return _sheet(torch.cat([to_uint8(tokenizer.decode(tokens)), real]), names)


def _sheet(images: Tensor, names: list[str] | tuple[str, ...]) -> Sheet:
    picture = sheet(images, len(names), max(1, display_scale(images.shape[-1]) - 1))
    return Sheet(data_uri(png_bytes(picture)), tuple(names))
