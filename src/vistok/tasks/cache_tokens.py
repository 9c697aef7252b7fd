"""Encode a split of images once: images -> token cache."""

import json
import time
from pathlib import Path

import torch

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.loader import eval_images
from vistok.data.open import open_split
from vistok.data.sources import ImageSource
from vistok.data.token_cache import TokenCache, TokenManifest
from vistok.data.token_writer import TokenCacheWriter
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.tasks.config import TokenizerRun
from vistok.tasks.load import load_tokenizer
from vistok.tokenizer.model import ConvTokenizer

BATCH = 250
VIEWS = {"center": lambda images: images, "flip": lambda images: images.flip(-1)}


def data_of(tokenizer: ConvTokenizer, root: str | None = None) -> DataConfig:
    """Return the data a tokenizer was trained on, from its file; `root` where the images lie now."""
    run = TokenizerRun.from_json(json.dumps(tokenizer.info["run_config"]))
    return override(run.data, [f"root={json.dumps(root)}"]) if root else run.data


def cache_folder(tokenizer_path: Path, split: str, weights: str = "ema") -> Path:
    """Return where a run keeps its cache of a split."""
    if not tokenizer_path.is_dir():
        raise UserError(f"{tokenizer_path} is a file; say where the cache is to lie with --out")
    return tokenizer_path / ("tokens" if weights == "ema" else f"tokens-{weights}") / split


def cache_tokens(
    tokenizer_path: Path,
    split: str,
    progress: Progress,
    out: Path | None = None,
    root: str | None = None,
    views: tuple[str, ...] | None = None,
    device: torch.device | None = None,
) -> TokenCache:
    """Encode a split and return the cache; a finished one is opened, a stopped one goes on.

    Without `views` a finished cache keeps those it has, and a new one holds the centre crops.

    Raises UserError where the folder holds the cache of another tokenizer, data set or views.
    """
    tokenizer = load_tokenizer(tokenizer_path, device=device or torch.device("cpu"))
    data = data_of(tokenizer, root)
    source = open_split(data, split)
    folder = out or cache_folder(tokenizer_path, split)
    if views is None:
        views = TokenCache(folder).manifest.views if folder.exists() else ("center",)
    unknown = [view for view in views if view not in VIEWS]
    if unknown or not views:
        raise UserError(f"views {unknown or views}: allowed are {', '.join(VIEWS)}")
    manifest = TokenManifest(
        tokenizer_digest=tokenizer.info["digest"],
        grid=(tokenizer.token_grid.height, tokenizer.token_grid.width),
        codebook_size=tokenizer.codebook_size,
        dataset=data.dataset,
        data_digest=source.digest,
        split=split,
        num_images=len(source),
        views=views,
        class_names=source.class_names,
    )
    if folder.exists():
        cache = TokenCache(folder)
        cache.require(**{name: getattr(manifest, name) for name in TokenManifest.model_fields})
        return cache
    return _write(TokenCacheWriter(folder, manifest, BATCH * len(views)), tokenizer, source, data, progress)


def _write(
    writer: TokenCacheWriter, tokenizer: ConvTokenizer, source: ImageSource, data: DataConfig, progress: Progress
) -> TokenCache:
    """Encode what is missing; several processes share the batches, which stay the same."""
    world, views = join_world(), writer.manifest.views
    device = next(tokenizer.parameters()).device
    try:
        if world.main:
            writer.prepare(source.labels)
        missing = world.agree(writer.missing() if world.main else None)
        mine = missing[world.rank :: world.size]
        with progress.task(f"tokens of {writer.manifest.split}", len(source)) as bar:
            bar.advance(len(source) - min(BATCH * len(missing), len(source)))
            started = time.monotonic()
            for number, batch in zip(mine, eval_images(source, data, BATCH, batches=mine), strict=True):
                images = batch["images"].to(device)
                tokens = torch.stack([tokenizer.encode(VIEWS[view](images)) for view in views], dim=1)
                now = time.monotonic()
                writer.write(number, tokens.flatten(0, 1), now - started)
                started = now
                bar.advance(len(images) * world.size)
        world.wait()
        if world.main:
            writer.finish()
        world.wait()
    finally:
        writer.close()
    return TokenCache(writer.folder)
