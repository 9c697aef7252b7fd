"""Which images a trained tokenizer takes, and where a run keeps what they were encoded to."""

import json
from pathlib import Path

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.images.open import kind_of
from vistok.errors import UserError
from vistok.runs.config import TokenizerRun
from vistok.tokenizer.interface import Tokenizer


def data_of(tokenizer: Tokenizer, root: str | None = None, image_size: int | None = None) -> DataConfig:
    """Return the data a tokenizer was trained on, from its file; `root` where the images lie now."""
    run = TokenizerRun.from_json(json.dumps(tokenizer.info.run_config))
    changes = [f"root={json.dumps(root)}"] if root else []
    if root and "file" in tokenizer.info.imported:  # another project's: its file does not know of images
        changes.append(f'dataset="{kind_of(root)}"')
    if image_size:
        height, width = run.tokenizer.at(image_size).sides
        changes += [f"image_size={height}", *([f"image_width={width}"] if run.data.image_width else [])]
    return override(run.data, changes)


def cache_folder(tokenizer_path: Path, split: str, weights: str = "ema", image_size: int | None = None) -> Path:
    """Return where a run keeps its cache of a split."""
    if not tokenizer_path.is_dir():
        raise UserError(f"{tokenizer_path} is a file; say where the cache is to lie with --out")
    parts = ["tokens", *([weights] if weights != "ema" else []), *([str(image_size)] if image_size else [])]
    return tokenizer_path / "-".join(parts) / split
