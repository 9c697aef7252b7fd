"""The networks of runs, by whatever names a run."""

from typing import Any

import torch

from vistok.generator.interface import Generator
from vistok.python.finding import model_path
from vistok.runs import load
from vistok.tokenizer.interface import Tokenizer


def load_tokenizer(path: Any, weights: str | None = None, device: str | torch.device | None = None) -> Tokenizer:
    """Return a tokenizer's network, in evaluation mode, on the best device.

    `path`: a `Run`, a run's directory, an exported file, a part of a run's name in the folder `runs`, `"latest"`, or a name that
    comes with vistok (`"pictures64"`). `encode` maps images (batch, channels, height, width), floats in [-1, 1], to latents,
    `decode` latents to images. `weights`: "ema" (averaged) or "raw"; None means a run's averaged ones, or whatever a file holds.
    Its `info` is the file's header: class names, data set, training, digest.

    Example: `tokens = vistok.load_tokenizer("images64-vq").encode(images)`. Raises UserError if nothing fits, or more than one
    run does, for another kind of network, and for a damaged file.
    """
    return load.load_tokenizer(model_path(path, "tokenizer"), weights, device)


def load_generator(path: Any, weights: str | None = None, device: str | torch.device | None = None) -> Generator:
    """Return a generator's network, in evaluation mode, on the best device.

    `path` and `weights` as for `load_tokenizer`. `sample` maps labels (batch,), class numbers or names, to latents
    (batch, *space.shape), which its tokenizer decodes. Its `info` is the file's header: class names, the tokenizer it belongs to,
    training, digest.

    Example: `latents = vistok.load_generator("images64-ar").sample([0, 1])`. Raises UserError as `load_tokenizer` does.
    """
    return load.load_generator(model_path(path, "generator"), weights, device)
