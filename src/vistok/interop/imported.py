"""An imported network as a run directory: every command treats it as if it had been trained here."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.data.config import DataConfig
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import save_weights
from vistok.errors import UserError, some
from vistok.files import sha256_of
from vistok.interop.aside import Marks, built_aside, entries
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.space import former_space
from vistok.tokenizer.config import LossConfig, TokenizerConfig

# Sub-folder of a run directory for the tokenizer that came with a generator.
TOKENIZER = "tokenizer"
IMAGENET_CLASSES = 1000
# Facts on which an imported network depends, besides its config.
_FACTS = ("space", "num_classes", "tokenizer")
RUNS: dict[str, type[TokenizerRun | GeneratorRun]] = {"tokenizer": TokenizerRun, "generator": GeneratorRun}
_MARKS = Marks(first="resolved.json", last="finished.json")


def imagenet_facts(classes: int = IMAGENET_CLASSES) -> dict[str, Any]:
    """Return what headers say of published checkpoints, which were trained on ImageNet and know its classes by number."""
    return {"class_names": [str(number) for number in range(classes)], "dataset": "imagenet"}


def tokenizer_run(name: str, config: TokenizerConfig) -> TokenizerRun:
    """Return a run config for an imported tokenizer; its images come from --data FOLDER."""
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

    Importing the same network again is fine; see `run_written_aside`.
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


def with_row_for_none(table: Tensor) -> Tensor:
    """Return a table of classes with one more row: ours have one for "no class", which is never read without label dropout."""
    return torch.cat([table, torch.zeros_like(table[:1])])


def write_finished(
    folder: Path,
    run: TokenizerRun | GeneratorRun,
    state: dict[str, Tensor],
    imported: dict[str, str],
    metadata: dict[str, Any],
) -> str:
    """Make a folder a finished run directory; return the digest of its weights. `imported` states their origin."""
    run_dir = RunDir(folder)
    fields = former_space(metadata)
    facts = {name: fields[name] for name in _FACTS if name in fields}
    with run_dir:
        params = {run.kind: sum(value.numel() for value in state.values())}
        run_dir.start(run, {"imported": imported, "params": params, **facts})
        weights = metadata.get("weights", "ema")
        digest = save_weights(run_dir.export(weights), state, {**metadata, "imported": imported})
        training = metadata["training"]
        spent = {name: training.get(name, 0) for name in ("steps", "seconds", "train_flops")}
        run_dir.finish(**spent, digests={weights: digest})
    (folder / "lock").unlink()
    return digest


@contextmanager
def run_written_aside(out: Path, imported: dict[str, str]) -> Iterator[Path]:
    """Yield a folder for a run directory, which is moved to `out` when the block ends: whole, or not at all.

    Leftovers of a killed import, and the same import, are overwritten. Raises UserError where `out` holds anything else
    (a tokenizer's sub-folder is fine), or the same file imported with other settings.
    """
    require_free(out, imported)
    with built_aside(out, _MARKS) as folder:
        require_free(out, imported)  # checked again, now that no other process writes it
        yield folder
        for inner in ("", TOKENIZER):
            _require_same(folder / inner, out / inner)


def require_free(out: Path, imported: dict[str, str]) -> None:
    """Raise UserError where `out` holds anything but this import; a tokenizer's sub-folder is fine."""
    paths = entries(out)
    same = _content((RunDir(out).read(_MARKS.first) or {}).get("imported")) == _content(imported)
    if any(path.name != TOKENIZER for path in paths) and not same:
        raise UserError(f"{out} already holds something else; give a new or empty folder with --out")


def _content(imported: Any) -> Any:
    """Return the digest of the imported weights or of the imported file, under whichever key it is stored."""
    return (imported.get("digest") or imported.get("sha256")) if isinstance(imported, dict) else None


def _require_same(new: Path, old: Path) -> None:
    """Raise UserError where the run directory to be replaced was made from the same file with other settings."""
    if not (new / _MARKS.first).is_file():
        return
    theirs, ours = _settings(old), _settings(new)
    # Leftovers of a killed import, and runs of earlier versions, have fewer keys.
    other = sorted(key for key in theirs.keys() & ours.keys() if theirs[key] != ours[key])
    if other:
        raise UserError(
            f"{old} already holds the same weights, imported with other settings ({', '.join(other)}); give another folder "
            "with --out"
        )


def _settings(folder: Path) -> dict[str, Any]:
    """Return the settings on which an imported run depends, besides its weights."""
    run, resolved = RunDir(folder), RunDir(folder).read(_MARKS.first) or {}
    resolved = former_space(resolved)
    settings = {name: resolved[name] for name in _FACTS if name in resolved}
    if isinstance(settings.get("tokenizer"), dict):
        settings["tokenizer"] = settings["tokenizer"].get("digest")
    if (folder / "config.json").is_file():
        config = run.read_config()
        kind = RUNS.get(str(config.get("kind")), TokenizerRun)
        settings["config"] = kind.from_json(json.dumps(config))
    return settings


def check_fits(state: dict[str, Tensor], expected: dict[str, tuple[int, ...]], what: str) -> None:
    """Raise UserError naming weights that are missing, superfluous or of the wrong shape."""
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
