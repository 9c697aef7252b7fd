"""An imported network as a run directory: every verb takes it as if it had been trained here."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from vistok.data.config import DataConfig
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import save_weights
from vistok.errors import UserError, some
from vistok.files import sha256_of
from vistok.interop.aside import Marks, built_aside, entries
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.space import former_space
from vistok.tokenizer.config import ConvTokenizerConfig, LossConfig

# Where a run directory keeps the tokenizer that came with a generator.
TOKENIZER = "tokenizer"
# The published checkpoints are of ImageNet, whose classes they know by number.
IMAGENET_CLASSES = tuple(str(number) for number in range(1000))
# What else than the config an imported network depends on.
_FACTS = ("space", "num_classes", "tokenizer")
RUNS: dict[str, type[TokenizerRun | GeneratorRun]] = {"tokenizer": TokenizerRun, "generator": GeneratorRun}
_MARKS = Marks(first="resolved.json", last="finished.json")


def tokenizer_run(name: str, config: ConvTokenizerConfig) -> TokenizerRun:
    """Return the run that an imported tokenizer stands for; its images are those of --data FOLDER."""
    data = DataConfig(
        dataset="folder",
        root="images",
        image_size=config.image_size,
        image_width=config.image_width,
        channels=config.in_channels,
    )
    return TokenizerRun(name=name, data=data, tokenizer=config, losses=LossConfig(perceptual=None))


def write_run(
    out: Path, kind: str, run: TokenizerRun | GeneratorRun, state: dict[str, Tensor], source: Path, **header: Any
) -> str:
    """Write a network from another project's file as the finished run directory `out`; return its weights' digest.

    The same can be imported twice; see `run_written_aside`.
    """
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
    imported = {"file": source.name, "sha256": sha256_of(source)}
    with run_written_aside(out, imported) as folder:
        return write_finished(folder, run, state, imported, metadata)


def write_finished(
    folder: Path,
    run: TokenizerRun | GeneratorRun,
    state: dict[str, Tensor],
    imported: dict[str, str],
    metadata: dict[str, Any],
) -> str:
    """Make a folder a finished run directory; return the digest of its weights. `imported` says what they were."""
    found = RunDir(folder)
    told = former_space(metadata)
    facts = {name: told[name] for name in _FACTS if name in told}
    with found:
        found.start(run, {"imported": imported, "params": sum(value.numel() for value in state.values()), **facts})
        weights = metadata.get("weights", "ema")
        digest = save_weights(found.export(weights), state, {**metadata, "imported": imported})
        training = metadata["training"]
        spent = {name: training.get(name, 0) for name in ("steps", "seconds", "train_flops")}
        found.finish(**spent, digests={weights: digest})
    (folder / "lock").unlink()
    return digest


@contextmanager
def run_written_aside(out: Path, imported: dict[str, str]) -> Iterator[Path]:
    """Give a folder for a run directory that is in `out` when the block ends, whole or not at all.

    What a killed import left, and the same import, are written again. Raises UserError where `out` holds anything else,
    but for a tokenizer of its own, or the same file imported in another way.
    """
    require_free(out, imported)
    with built_aside(out, _MARKS) as folder:
        require_free(out, imported)  # now that nobody else writes it
        yield folder
        for inner in ("", TOKENIZER):
            _require_same(folder / inner, out / inner)


def require_free(out: Path, imported: dict[str, str]) -> None:
    """Raise UserError where `out` holds anything else than this import, but for a tokenizer of its own."""
    found = entries(out)
    same = _content((RunDir(out).read(_MARKS.first) or {}).get("imported")) == _content(imported)
    if any(path.name != TOKENIZER for path in found) and not same:
        raise UserError(f"{out} holds something else already; give an empty or a new folder with --out")


def _content(imported: Any) -> Any:
    """Return the digest of what was imported, whatever its name: of the weights, or of another project's file."""
    return (imported.get("digest") or imported.get("sha256")) if isinstance(imported, dict) else None


def _require_same(new: Path, old: Path) -> None:
    """Raise UserError where a run directory that will be replaced was made of the same file in another way."""
    if not (new / _MARKS.first).is_file():
        return
    theirs, ours = _settings(old), _settings(new)
    # What a kill left has fewer, and so have runs of earlier versions.
    other = sorted(key for key in theirs.keys() & ours.keys() if theirs[key] != ours[key])
    if other:
        raise UserError(
            f"{old} holds the same weights, imported with other settings ({', '.join(other)}); give another folder with "
            "--out"
        )


def _settings(folder: Path) -> dict[str, Any]:
    """Return what an imported run depends on beside its weights."""
    run, resolved = RunDir(folder), RunDir(folder).read(_MARKS.first) or {}
    resolved = former_space(resolved)
    found = {name: resolved[name] for name in _FACTS if name in resolved}
    if isinstance(found.get("tokenizer"), dict):
        found["tokenizer"] = found["tokenizer"].get("digest")
    if (folder / "config.json").is_file():
        config = run.read_config()
        kind = RUNS.get(str(config.get("kind")), TokenizerRun)
        found["config"] = kind.from_json(json.dumps(config))
    return found


def check_fits(state: dict[str, Tensor], expected: dict[str, tuple[int, ...]], what: str) -> None:
    """Raise UserError naming what is missing, too much or of another shape."""
    missing, extra = sorted(set(expected) - set(state)), sorted(set(state) - set(expected))
    shapes = [
        f"{name} {tuple(state[name].shape)} instead of {expected[name]}"
        for name in sorted(set(state) & set(expected))
        if tuple(state[name].shape) != expected[name]
    ]
    wrong = [
        f"{label}: {some(names)}"
        for label, names in (("missing", missing), ("not part of it", extra), ("of another shape", shapes))
        if names
    ]
    if wrong:
        raise UserError(f"the checkpoint does not fit {what}; {'; '.join(wrong)}")
