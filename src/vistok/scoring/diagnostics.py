"""What a tokenizer's latents say of the generators to come, before any is trained."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistok.data.images.open import open_split
from vistok.data.images.sources import ImageSource
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.metrics.codebook import codebook_statistics, unigram_nats
from vistok.metrics.interval import frechet_replicates
from vistok.metrics.neighbours import neighbour_nats
from vistok.rng import stable_choice
from vistok.runs.load import load_tokenizer
from vistok.runs.run_images import data_of
from vistok.scoring.evaluators import choose_evaluator, reference_set
from vistok.scoring.stability import LEVELS, changed_tokens
from vistok.space import Grid, Tokens
from vistok.tokenizer.interface import Tokenizer

TRAIN, HELD_OUT, BATCH = 10_000, 2_000, 250
# Name of a diagnostic -> what it is; those of entropies are in nats per token.
MEANING = {
    "rfmd": "Frechet distance of reconstructions to held-out images",
    "unigram": "nats of code frequencies alone",
    "position": "nats of code frequencies at each position",
    "neighbours": "nats of counts of neighbours",
    "gain": "what neighbours tell: unigram less neighbours",
    "smoothness": "squared difference of neighbouring codes, of that of any two",
    "changed": "share of tokens that noise 10 dB below an image changes",
}


def diagnose(run: Path, root: str | None = None, progress: Progress | None = None) -> dict[str, float]:
    """Return the diagnostics of a tokenizer by name (`MEANING`), from 10,000 training images and 2,000 held out of them.

    Raises UserError for tokenizers to vectors, and for data sets that have no evaluator.
    """
    tokenizer = load_tokenizer(run)
    if not isinstance(tokenizer.space, Tokens):
        raise UserError(f"{run} makes {tokenizer.space}; diagnostics are of tokens")
    data = data_of(tokenizer, root)
    train, held_out = (open_split(data, split) for split in ("train", "val"))
    quiet = progress or Progress(quiet=True)
    known = _tokens(tokenizer, train, data, TRAIN, quiet, "tokens of training images")[0]
    unknown, images, ids = _tokens(tokenizer, held_out, data, HELD_OUT, quiet, "tokens of held-out images")
    layout, codes = tokenizer.space.layout, tokenizer.space.codebook_size
    statistics = codebook_statistics(known, codes)
    counts = [np.bincount(part.ravel(), minlength=codes) for part in (known, unknown)]
    unigram = unigram_nats(*counts)
    neighbours = neighbour_nats(known, unknown, codes, layout.width if isinstance(layout, Grid) else 1)
    return {
        "rfmd": _distance(tokenizer, held_out, data, torch.from_numpy(unknown)),
        "unigram": unigram,
        "position": float(np.mean(statistics.position_entropy)) * float(np.log(2)),
        "neighbours": neighbours,
        "gain": unigram - neighbours,
        "smoothness": _smoothness(tokenizer, torch.from_numpy(unknown)),
        "changed": _changed(tokenizer, images, ids),
    }  # fmt: skip


def _tokens(
    tokenizer: Tokenizer, source: ImageSource, data: Any, count: int, progress: Progress, name: str
) -> tuple[np.ndarray, Tensor, Tensor]:
    """Return the tokens of some images (images, positions), the same ones every time, the images and their numbers."""
    chosen = stable_choice(0, "diagnostics", len(source), min(count, len(source)))
    tokens, images = [], []
    with progress.task(name, len(chosen)) as bar:
        for batch in eval_images(source.subset(chosen, name), data, BATCH):
            tokens.append(tokenizer.encode(batch["images"].to(tokenizer.device)).flatten(1).cpu())
            images.append(batch["images"])
            bar.advance(len(batch["images"]))
    return torch.cat(tokens).numpy(), torch.cat(images), torch.arange(len(chosen))


@torch.inference_mode()
def _distance(tokenizer: Tokenizer, source: ImageSource, data: Any, tokens: Tensor) -> float:
    """Return the bias-corrected Frechet distance of reconstructions to the held-out split."""
    extractor = choose_evaluator(data, None, None, source.class_names)
    reference = reference_set(extractor, source, data, "val")
    rebuilt = [to_uint8(tokenizer.decode(part.to(tokenizer.device))) for part in tokens.split(BATCH)]
    features = torch.cat([extractor.everything(part).pooled.cpu() for part in rebuilt])
    found = frechet_replicates(features.numpy(), reference.moments)
    return float(found.value if found.interval is None else found.interval.corrected)


def _changed(tokenizer: Tokenizer, images: Tensor, ids: Tensor) -> float:
    """Return the share of tokens that noise 10 dB below each image changes."""
    batches = zip(images.split(BATCH), ids.split(BATCH), strict=True)
    level = LEVELS.index(10)
    return float(torch.cat([changed_tokens(tokenizer, part, keys)[level] for part, keys in batches]).mean())


@torch.inference_mode()
def _smoothness(tokenizer: Tokenizer, tokens: Tensor) -> float:
    """Return the mean squared difference of neighbouring codes over that of two codes of any images and places."""
    codes = torch.cat(
        [tokenizer.quantizer.to_decoder(part.to(tokenizer.device)).float() for part in tokens.split(BATCH)]
    )
    layout = tokenizer.space.layout
    lying = codes.unflatten(1, layout.sides) if isinstance(layout, Grid) else codes[:, None]
    near = [lying.diff(dim=dim).square().sum(-1).mean() for dim in (1, 2) if lying.shape[dim] > 1]
    apart = 2 * codes.flatten(0, 1).var(dim=0).sum()
    return float(torch.stack(near).mean() / apart)
