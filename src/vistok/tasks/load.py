"""Load a trained model from a run directory or an exported file."""

import json
from pathlib import Path
from typing import Any

import torch

from vistok.engine.device import best_device
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import load_weights
from vistok.errors import UserError
from vistok.generator.autoregressive import AutoregressiveGenerator
from vistok.generator.config import AutoregressiveConfig
from vistok.tokenizer.config import TokenizerConfig
from vistok.tokenizer.model import ConvTokenizer


def weights_file(path: str | Path, weights: str = "ema") -> Path:
    """Return the weights file of a run directory, or the file itself.

    Raises UserError where there is nothing, or a run that is not finished.
    """
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: neither a run directory nor a weights file")
    run = RunDir(path)
    run.read_config()
    if not run.finished:
        raise UserError(f"run {path} is not finished; repeat its vistok train command, which goes on where it stopped")
    return run.export(weights)


def read_model(path: str | Path, kind: str, weights: str = "ema") -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return weights and header of a model of this kind; raises UserError for another."""
    file = weights_file(path, weights)
    state, header = load_weights(file)
    if header.get("model") != kind:
        raise UserError(f"{path} holds a {header.get('model')}, not a {kind}")
    return state, header


def load_tokenizer(path: str | Path, weights: str = "ema", device: str | torch.device | None = None) -> ConvTokenizer:
    """Return a tokenizer in evaluation mode, on the best device; `weights` is "ema" or "raw".

    Its `info` is the file's header: class names, data set, training, digest.
    """
    state, header = read_model(path, "tokenizer", weights)
    model = ConvTokenizer(TokenizerConfig.from_json(json.dumps(header["config"])))
    # Faster convolutions; the values are the same.
    return _ready(model, state, header, device).to(memory_format=torch.channels_last)


def load_generator(
    path: str | Path, weights: str = "ema", device: str | torch.device | None = None
) -> AutoregressiveGenerator:
    """Return a generator in evaluation mode, on the best device; `weights` is "ema" or "raw".

    Its `info` is the file's header: class names, the tokenizer it belongs to, training, digest.
    """
    state, header = read_model(path, "generator", weights)
    model = AutoregressiveGenerator(
        AutoregressiveConfig.from_json(json.dumps(header["config"])),
        (header["grid"][0], header["grid"][1]),
        header["codebook_size"],
        header["num_classes"],
    )
    return _ready(model, state, header, device)


def load_tokenizer_of(generator: AutoregressiveGenerator, path: str | Path | None = None) -> ConvTokenizer:
    """Return the tokenizer whose tokens a generator writes, from `path` or from where it was in training.

    It decodes the generator's grid: where that is larger than its own, larger images.

    Raises UserError where it is gone, or is another.
    """
    wanted = generator.info["tokenizer"]
    place = Path(path or wanted["path"])
    if not place.exists():
        raise UserError(
            f"the generator's tokenizer is not at {place} any more; name its run directory or exported file "
            "with --tokenizer"
        )
    tokenizer = load_tokenizer(place, wanted.get("weights", "ema"))
    if tokenizer.info["digest"] != wanted["digest"]:
        raise UserError(
            f"tokenizer {place} (digest {tokenizer.info['digest'][:12]}) is not the one whose tokens this generator "
            f"learned (digest {wanted['digest'][:12]}); name the right one with --tokenizer"
        )
    tokenizer = tokenizer.to(next(generator.parameters()).device)
    if tuple(tokenizer.token_grid) == tuple(generator.grid):
        return tokenizer
    return tokenizer.resized(generator.grid[0] * tokenizer.config.decoder.downsample)


def _ready(
    model: Any, state: dict[str, torch.Tensor], header: dict[str, Any], device: str | torch.device | None
) -> Any:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"weights do not fit their own config: {str(error).splitlines()[-1].strip()}") from None
    model.info = header
    return model.to(device or best_device()).eval()
