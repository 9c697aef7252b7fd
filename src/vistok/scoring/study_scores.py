"""What a study measures on a run in addition to its scores: the spread of latents, and the cost of a wrong token."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from vistok.data.images.open import open_split
from vistok.data.images.transforms import resize_uint8, to_uint8
from vistok.data.loader import eval_images
from vistok.metrics.features import FeatureExtractor
from vistok.rng import numpy_generator, stable_choice
from vistok.runs.load import load_generator, load_tokenizer, load_tokenizer_of
from vistok.runs.run_images import data_of
from vistok.tokenizer.interface import Tokenizer
from vistok.tokenizer.latent_variance import batch_variance

IMAGES = 2_000
SWAPS = 1_000
BATCH = 250


@torch.inference_mode()
def latent_statistics(tokenizer_path: Path, root: str, image_size: int | None = None) -> dict[str, float]:
    """Return the variance of latents about their mean, per dimension, and their mean squared distance to the codes.

    Over 2,000 random held-out train images, at `image_size` if given, else at the tokenizer's size; the latents are as
    the quantizer sees them.
    """
    tokenizer = load_tokenizer(tokenizer_path)
    if image_size is not None:
        tokenizer = tokenizer.resized(image_size)
    latents, error = [], []
    for images in _held_out(tokenizer, IMAGES, root):
        output = tokenizer(images["images"].to(tokenizer.device))
        latents.append(output.bottleneck.latents)
        distance = output.bottleneck.latents - output.bottleneck.decoded
        error.append(distance.square().sum(dim=-1).flatten())
    return {
        "latent_variance": float(batch_variance(torch.cat(latents))),
        "quantization_error": float(torch.cat(error).mean()),
    }


@runtime_checkable
class HasLogits(Protocol):
    """A generator that predicts each code's probability at a position, given the true tokens before it."""

    def logits(self, tokens: Tensor, labels: Tensor) -> Tensor:
        """Return logits, (batch positions codes)."""
        ...


@torch.inference_mode()
def swap_cost(run: Path, extractor: FeatureExtractor, root: str) -> dict[str, float]:
    """Return the cost of one wrong token at the data's size: in pixels (mean squared, 0...1), in features (squared).

    In each of 1,000 held-out train images, one random token is replaced by the most likely other token, as predicted by
    the generator from the true tokens before it; both token grids are decoded and compared.
    """
    generator = load_generator(run)
    assert isinstance(generator, HasLogits)
    tokenizer = load_tokenizer_of(generator)
    sides = data_of(tokenizer, root).sides
    pixels, features = [], []
    rng = numpy_generator(0, "swap")
    for batch in _held_out(tokenizer, SWAPS, root):
        tokens = tokenizer.encode(batch["images"])
        labels = batch["labels"].to(tokens.device)
        rows, places = torch.arange(len(tokens)), torch.from_numpy(rng.integers(tokens.shape[1], size=len(tokens)))
        logits = generator.logits(tokens, labels)[rows, places]
        logits[rows, tokens[rows, places]] = -torch.inf
        swapped = tokens.clone()
        swapped[rows, places] = logits.argmax(dim=-1)
        decoded = (to_uint8(tokenizer.decode(grid)).cpu() for grid in (tokens, swapped))
        right, wrong = (resize_uint8(images, sides) for images in decoded)
        pixels.append(((right.float() - wrong.float()) / 255).square().mean(dim=(1, 2, 3)).numpy())
        features.append((extractor(right) - extractor(wrong)).square().sum(dim=-1).numpy())
    return {
        "swap_pixels": float(np.concatenate(pixels).mean()),
        "swap_features": float(np.concatenate(features).mean()),
    }


def _held_out(tokenizer: Tokenizer, count: int, root: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    data = data_of(tokenizer, root, tokenizer.config.image_size)
    source = open_split(data, "val")
    chosen = stable_choice(0, "study analysis", len(source), count)
    return eval_images(source.subset(chosen, "analysed"), data, BATCH)
