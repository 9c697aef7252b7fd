"""`vistok.score`: how good are these images, this run, this network?"""

from pathlib import Path
from typing import Any

from torch import nn

from vistok.errors import UserError
from vistok.python.asked import Asked
from vistok.python.finding import model_path
from vistok.python.progress import in_notebook, live_progress
from vistok.python.reference import Reference, image_batch, reference_of
from vistok.python.run import Run
from vistok.python.score_images import score_images
from vistok.python.score_module import RECONSTRUCTIONS, SAMPLES, score_module
from vistok.python.score_run import score_generator, score_tokenizer
from vistok.python.scores import Scores
from vistok.runs.load import read_model


def score(
    samples: Any,
    reference: Any = None,
    evaluator: Any = None,
    *,
    count: int | None = None,
    split: str = "test",
    labels: Any = None,
    of: str | None = None,
    inception: str | Path | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    guidance: float | None = None,
    name: str | None = None,
    quiet: bool = False,
) -> Scores:
    """Score images, a run, or any network, and return the value with its 95 % interval and its protocol.

    `samples` is one of these:
    - images, uint8: an array (count, height, width[, channels]), a tensor (count, channels, height, width), a list, a torch
      Dataset, a folder, or an .npz file in ADM's layout;
    - an `nn.Module` with `sample(labels)`: labels (batch,), int64 -> images (batch, channels, height, width), floats in
      [-1, 1] or uint8; `count` of them are drawn, in classes by turns (None: as many as the reference has, 1,000 to 10,000);
    - an `nn.Module` with `encode(images)` and `decode(latents)`: images as floats in [-1, 1] -> anything -> images; what it
      makes of the reference is scored by PSNR (dB), SSIM and, with an evaluator, a Fréchet distance;
    - a run, its path or a part of its name: as vistok evaluate does, and kept with the run.
    `reference`: images in any of these forms, or a run or a study's folder, whose held-out images are meant (`split`): then the
    protocol is that of its own scores, and `vistok.compare` or `Scores.add_to_study` takes both. A run's default is its own
    images.
    `evaluator`: the network whose features are compared: "imagenet", a classifier's run, its path or name; None: what suits the
    reference. `inception`: the file of Inception's weights. `labels`: class numbers of images given, (count,); or, for a network,
    of the images to draw. `of`: "samples" or "reconstructions", for a network that has both. `batch_size`: images drawn at once.
    `seed`: of the samples. `guidance`: of a generator's run. `name`: what to call it.

    Example: `vistok.score(my_model, reference=run, count=1000).interval`. Raises UserError for bad input, for images of different
    sizes, and where no evaluator can be found.
    """
    if of not in (None, SAMPLES, RECONSTRUCTIONS):
        raise UserError(f"of {of!r}: give {SAMPLES!r} or {RECONSTRUCTIONS!r}")
    if count is not None and count < 2:
        raise UserError(f"count {count}: at least 2 images are needed for a distance")
    against = None if reference is None else reference_of(reference, split)
    with live_progress(quiet) as progress:
        asked = Asked(evaluator, inception, labels, of, count, split, batch_size, seed, guidance, progress)
        found = _score(samples, against, asked)
        for line in () if in_notebook() else found.warnings:  # there they are below the scores
            progress.say(f"warning: {line}")
    return found if name is None else Scores(name, found.all, found.warnings, found.details)


def _score(samples: Any, against: Reference | None, asked: Asked) -> Scores:
    if isinstance(samples, nn.Module):
        return score_module(samples, _needed(against), asked)
    path = _run_path(samples)
    if path is None:
        return score_images(image_batch(samples), _needed(against), asked)
    _, header = read_model(path)
    if header["model"] == "classifier":
        raise UserError(f"{path} is a classifier's: it scores others, as evaluator, and has no score itself")
    return (score_tokenizer if header["model"] == "tokenizer" else score_generator)(path, against, asked)


def _needed(reference: Reference | None) -> Reference:
    if reference is None:
        raise UserError("reference: say what to compare with: images, or a run, whose held-out images are meant")
    return reference


def _run_path(samples: Any) -> Path | None:
    """Return the run or weights file that is meant, or None for images."""
    if isinstance(samples, Run):
        return samples.path
    if not isinstance(samples, str | Path):
        return None
    place = Path(samples)
    is_images = place.suffix == ".npz" or (place.is_dir() and not (place / "config.json").is_file())
    return None if is_images else model_path(samples)
