"""Draw images: a generator's tokens through its tokenizer's decoder."""

from pathlib import Path

import torch

from vistok.generator.config import SamplingConfig
from vistok.runs.drawing import sample_batches
from vistok.runs.pictures import save_png, sheet


def save_sheet(run: Path, sampling: SamplingConfig, file: Path, columns: int = 10, rows: int = 4) -> None:
    """Write a generator's samples as one PNG: a column per class (the first ten), with the same noise every time."""
    from vistok.runs.load import load_generator, load_tokenizer_of

    generator = load_generator(run)
    columns = min(generator.num_classes, columns)
    labels = torch.arange(columns).repeat(rows)
    images = list(sample_batches(generator.sampler(sampling), load_tokenizer_of(generator), labels))
    save_png(file, sheet(torch.cat(images), columns))
