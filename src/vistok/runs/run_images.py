"""Which images a trained tokenizer takes, and where a run keeps their encoded latents."""

import json
from pathlib import Path

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.images.open import kind_of
from vistok.errors import UserError
from vistok.runs.config import TokenizerRun
from vistok.tokenizer.interface import Tokenizer


def data_of(tokenizer: Tokenizer, root: str | None = None, image_size: int | None = None) -> DataConfig:
    """Return the config of a tokenizer's training data; `root`: where the images are now, if they moved."""
    run = TokenizerRun.from_json(json.dumps(tokenizer.info.run_config))
    changes = [f"root={json.dumps(root)}"] if root else []
    if root and "file" in tokenizer.info.imported:  # from another project, whose file knows nothing of our data
        changes.append(f'dataset="{kind_of(root)}"')
    if image_size:
        height, width = run.tokenizer.at(image_size).sides
        changes += [f"image_size={height}", *([f"image_width={width}"] if run.data.image_width else [])]
    return override(run.data, changes)


def cache_folder(tokenizer_path: Path, split: str, weights: str = "ema", image_size: int | None = None) -> Path:
    """Return where a run keeps its cache of a split."""
    if not tokenizer_path.is_dir():
        raise UserError(f"{tokenizer_path} is a file, not a run directory; say where to put the cache with --out")
    parts = ["tokens", *([weights] if weights != "ema" else []), *([str(image_size)] if image_size else [])]
    return tokenizer_path / "-".join(parts) / split
