"""How many tokens noise in an image changes: the stability of a tokenizer (DiGIT, arXiv 2410.12490, section 4).

A generator learns tokens better that stay where the image is nearly the same. The paper gives signal-to-noise ratios of 30, 20, 10
and 1; we take them for decibels, and an image's variance for its signal.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vistok.data.images.open import open_split
from vistok.data.loader import eval_images
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.metrics.interval import mean_replicates
from vistok.metrics.protocol import Protocol, Score, Treatment
from vistok.rng import derive_seed, normal_grid, stable_choice
from vistok.runs.load import load_tokenizer
from vistok.runs.run_images import data_of
from vistok.scoring.evaluations import SCHEMA, evaluation_file, finished_evaluation, keep_evaluation
from vistok.scoring.scorer import Finished, Scored, Scorer, bounds
from vistok.space import Tokens
from vistok.tokenizer.interface import Tokenizer

LEVELS = (30, 20, 10, 1)
IMAGES, BATCH = 2_000, 250
ESTIMATOR = "share of an image's tokens that Gaussian noise changes, then mean; signal: the image's variance; noisy images clipped"


def noisy(
    images: Float[Tensor, "batch channels height width"], ids: Int[Tensor, "batch"], decibels: float
) -> Float[Tensor, "batch channels height width"]:
    """Return images in [-1, 1] with keyed Gaussian noise, `decibels` below each image's variance, clipped to [-1, 1]."""
    variance = images.flatten(1).var(dim=1, unbiased=False)
    deviation = (variance * 10 ** (-decibels / 10)).sqrt()
    noise = normal_grid(derive_seed(0, "stability", str(decibels)), ids, 0, images.shape[1:])
    return (images + deviation[:, None, None, None] * noise).clamp(-1, 1)


@torch.inference_mode()
def changed_tokens(
    tokenizer: Tokenizer, images: Float[Tensor, "batch channels height width"], ids: Int[Tensor, "batch"]
) -> Float[Tensor, "levels batch"]:
    """Return the share of each image's tokens that noise of each of `LEVELS` changes."""
    tokens = tokenizer.encode(images)
    return torch.stack(
        [(tokenizer.encode(noisy(images, ids, level)) != tokens).float().mean(dim=1) for level in LEVELS]
    )


def evaluate_stability(
    run: Path, progress: Progress, split: str = "test", weights: str = "ema", root: str | None = None,
    image_size: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the scores at each level, over 2,000 random images of a split; an earlier evaluation is read, not repeated.

    Raises UserError for a tokenizer to vectors, which have no tokens that could change.
    """
    tokenizer = load_tokenizer(run, weights)
    if not isinstance(tokenizer.space, Tokens):
        raise UserError(f"{run}: stability counts changed tokens, but its latents are {tokenizer.space}")
    size = None if image_size == tokenizer.config.image_size else image_size
    tokenizer = tokenizer.resized(size) if size else tokenizer
    data = data_of(tokenizer, root, size)
    source = open_split(data, split)
    file = evaluation_file(
        run,
        f"stability-{split}-{weights}",
        tokenizer=tokenizer.info.digest,
        images=source.digest,
        **({"image_size": size} if size else {}),
    )
    if run.is_dir() and (done := finished_evaluation(file, progress)) is not None:
        return done
    chosen = stable_choice(0, "stability", len(source), IMAGES)
    shares = _shares(tokenizer, source.subset(chosen, "stability"), chosen, data, progress, f"noisy images ({weights})")
    reference = f"{data.dataset} {split}" + (f" at {size} pixels" if size else "")
    scores = {
        f"changed_{level}": Score.of(
            mean_replicates(found),
            Protocol(
                metric=f"tokens changed by noise at {level} dB",
                reference=reference,
                reference_digest=source.digest,
                num_reference=len(source),
                num_samples=len(chosen),
                rounding="none",
                estimator=ESTIMATOR,
            ),
            Treatment(weights=weights),  # type: ignore[arg-type]
        ).model_dump(mode="json")
        for level, found in zip(LEVELS, shares, strict=True)
    }
    facts = {"run": run.name, "split": split, "num_images": len(chosen), "tokenizer_digest": tokenizer.info.digest}
    result = {"schema_version": SCHEMA, "kind": "stability", **facts, "scores": scores}
    if run.is_dir() and join_world().main:
        keep_evaluation(file, result)
    return result


def _shares(
    tokenizer: Tokenizer, source: Any, chosen: np.ndarray, data: Any, progress: Progress, name: str
) -> np.ndarray:
    """Return the shares of changed tokens, (levels, images); processes share the batches."""
    world, parts = join_world(), []
    numbers = world.share_of(range(-(-len(source) // BATCH)))
    with progress.task(name, len(source)) as bar:
        for number, batch in zip(numbers, eval_images(source, data, BATCH, batches=numbers), strict=True):
            ids = torch.from_numpy(chosen[number * BATCH : (number + 1) * BATCH])
            images = batch["images"].to(tokenizer.device)
            parts.append(changed_tokens(tokenizer, images, ids.to(tokenizer.device)).T.cpu())
            bar.advance(len(ids) * world.size)
    return world.join(parts).T.numpy()


class Stability(Scorer):
    """The share of tokens that noise changes, for tokenizers to tokens."""

    of = "tokenizer"

    def applies(self, run: Finished) -> bool:
        """Whether latents are tokens."""
        return isinstance(run.tokenizer.space, Tokens)

    def score(self, run: Finished) -> Scored:
        """Score test images at each level."""
        found = evaluate_stability(run.path, run.progress, root=run.root, image_size=run.image_size)
        columns = {
            name: part
            for level in LEVELS
            for name, part in bounds(f"changed_{level}", found["scores"][f"changed_{level}"]).items()
        }
        return Scored(columns, {"stability": found})
