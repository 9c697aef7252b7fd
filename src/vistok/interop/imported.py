"""An imported network as a run directory: every verb takes it as if it had been trained here."""

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from vistok.data.config import DataConfig
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import save_weights
from vistok.errors import UserError
from vistok.tasks.config import GeneratorRun, TokenizerRun
from vistok.tokenizer.config import LossConfig, TokenizerConfig

# Where a run directory keeps the tokenizer that came with a generator.
TOKENIZER = "tokenizer"
# The published checkpoints are of ImageNet, whose classes they know by number.
IMAGENET_CLASSES = tuple(str(number) for number in range(1000))


def tokenizer_run(name: str, config: TokenizerConfig) -> TokenizerRun:
    """Return the run that an imported tokenizer stands for; its images are those of --data FOLDER."""
    data = DataConfig(dataset="folder", root="images", image_size=config.image_size, channels=config.in_channels)
    return TokenizerRun(name=name, data=data, tokenizer=config, losses=LossConfig(perceptual=None))


def write_run(
    out: Path, kind: str, run: TokenizerRun | GeneratorRun, state: dict[str, Tensor], source: Path, **header: Any
) -> str:
    """Write a network from another project's file as the finished run directory `out`; return its weights' digest."""
    config = json.loads(run.to_json())
    metadata = {
        "model": kind,
        "recipe": run.name,
        "config": config[kind],
        "run_config": config,
        "training": {},
        "weights": "ema",
        **header,
    }
    imported = {"file": source.name, "sha256": file_digest(source)}
    return write_finished(out, run, state, imported, metadata)


def write_finished(
    out: Path,
    run: TokenizerRun | GeneratorRun,
    state: dict[str, Tensor],
    imported: dict[str, str],
    metadata: dict[str, Any],
) -> str:
    """Write the finished run directory `out`; return the digest of its weights. `imported` says what they were.

    The same can be imported twice; see `require_free`.
    """
    require_free(out, imported)
    found = RunDir(out)
    with found:
        found.start(run, {"imported": imported, "params": sum(value.numel() for value in state.values())})
        digest = save_weights(found.export(), state, {**metadata, "imported": imported})
        spent = {"steps": 0, "seconds": 0.0, "train_flops": 0.0} | metadata["training"]
        found.finish(**spent, digests={"ema": digest})
    return digest


def require_free(out: Path, imported: dict[str, str]) -> None:
    """Raise UserError where `out` holds anything else than this import, but for a tokenizer of its own."""
    same = (RunDir(out).read("resolved.json") or {}).get("imported") == imported
    if out.exists() and any(path.name != TOKENIZER for path in out.iterdir()) and not same:
        raise UserError(f"{out} holds something else already; give an empty or a new folder with --out")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_fits(state: dict[str, Tensor], expected: dict[str, tuple[int, ...]], what: str) -> None:
    """Raise UserError naming what is missing, too much or of another shape."""
    missing, extra = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {expected[name]}"
        for name in sorted(set(state) & set(expected))
        if tuple(state[name].shape) != expected[name]
    ]
    wrong = [
        f"{label}: {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
        for label, names in (("missing", missing), ("not part of it", extra), ("of another shape", shapes))
        if names
    ]
    if wrong:
        raise UserError(f"the checkpoint does not fit {what}; {'; '.join(wrong)}")
