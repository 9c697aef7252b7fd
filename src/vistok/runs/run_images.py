"""Which images a trained tokenizer takes, and where a run keeps their encoded latents."""

import hashlib
import json
from pathlib import Path

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.images import imagenet
from vistok.data.images.counted import AS_IMAGENET, count_away
from vistok.data.images.open import kind_of
from vistok.files import user_cache
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


def planned_away(
    tokenizer: Tokenizer, split: str, root: str | None = None, image_size: int | None = None
) -> tuple[int, str] | None:
    """Return how many images a plan counts that are not on this machine, and a note; None if they are here.

    An imported tokenizer trained on ImageNet is planned for ImageNet, unless a folder is named.
    """
    data, info = data_of(tokenizer, root, image_size), tokenizer.info
    if root is None and "file" in info.imported and info.dataset == "imagenet" and not Path(data.root).exists():
        return imagenet.COUNTS[split], AS_IMAGENET
    return count_away(data, split)


def file_cache_folder(tokenizer: Tokenizer, data: DataConfig, split: str, image_size: int | None = None) -> Path:
    """Return where the latents of a tokenizer that is a file lie: in the user's cache folder, as it has no run directory."""
    images = (data.dataset, str(Path(data.root).expanduser().resolve()), image_size)
    key = hashlib.sha256(json.dumps([tokenizer.info.digest, *images]).encode()).hexdigest()[:10]
    return user_cache() / "tokens" / f"{tokenizer.info.recipe.replace('_', '-')}-{key}" / split


def cache_folder(tokenizer_path: Path, split: str, weights: str = "ema", image_size: int | None = None) -> Path:
    """Return where a run keeps its cache of a split."""
    parts = ["tokens", *([weights] if weights != "ema" else []), *([str(image_size)] if image_size else [])]
    return tokenizer_path / "-".join(parts) / split
