"""Encode a split of images once: images -> latent cache."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.images.sources import ImageSource
from vistok.data.latents.cache import LatentCache, LatentManifest
from vistok.data.latents.writer import LatentCacheWriter, is_there, views_at
from vistok.data.loader import eval_images
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.rng import stable_choice
from vistok.runs.load import load_tokenizer
from vistok.runs.run_images import cache_folder, data_of
from vistok.tokenizer.interface import Tokenizer

BATCH = 250
TRIED = 100  # images that a dry run encodes to measure its rate
View = Callable[[Tensor], Tensor]
# Views of the centre crop at the tokenizer's size.
VIEWS: dict[str, View] = {"center": lambda images: images, "flip": lambda images: images.flip(-1)}
# Corners and centre of an image a tenth larger, and their flips (LlamaGen; CRT paper A.2), like torchvision's TenCrop.
CROPS = ("top-left", "top-right", "bottom-left", "bottom-right", "middle")
TEN_CROP = (*CROPS, *(f"{name}-flip" for name in CROPS))
LARGER = 1.1


def expand_views(views: Sequence[str]) -> tuple[str, ...]:
    """Return views with `ten-crop` spelled out. Raises UserError for unknown views and for a mixture of both kinds."""
    names = tuple(name for view in views for name in (TEN_CROP if view == "ten-crop" else (view,)))
    unknown = [name for name in names if name not in (*VIEWS, *TEN_CROP)]
    if unknown or not names:
        raise UserError(f"views {', '.join(unknown) or 'none'}: allowed are {', '.join(VIEWS)}, ten-crop")
    if len({name in VIEWS for name in names}) > 1:
        raise UserError(
            "views: ten-crop needs larger images, so it cannot be mixed with center or flip; choose one kind"
        )
    return names


def _view(name: str, sides: tuple[int, int]) -> View:
    """Return the function that extracts a view from images."""
    if name in VIEWS:
        return VIEWS[name]
    crop = name.removesuffix("-flip")

    def take(images: Tensor) -> Tensor:
        # As in torchvision, the flipped crops are crops of the flipped image.
        images = images.flip(-1) if name.endswith("-flip") else images
        height, width = images.shape[-2:]
        top, left = height - sides[0], width - sides[1]
        if crop == "middle":
            top, left = round(top / 2), round(left / 2)
        elif "top" in crop:
            top = 0
        if "left" in crop:
            left = 0
        return images[..., top : top + sides[0], left : left + sides[1]]

    return take


def cache_tokens(
    tokenizer_path: Path,
    split: str,
    progress: Progress,
    out: Path | None = None,
    root: str | None = None,
    views: tuple[str, ...] | None = None,
    image_size: int | None = None,
    workers: int | None = None,
) -> LatentCache:
    """Encode a split and return the cache; a finished one is opened, an interrupted one is continued.

    Without `views` an existing cache keeps those it has, and a new one holds the centre crops. `image_size`: of the
    images, if it is not the tokenizer's. `workers`: processes that decode images; eight by default if a GPU encodes. A
    cache made under an earlier digest of the same images is used as it is, with a note to the user.

    Raises UserError if the folder holds a cache for another tokenizer, data set or views.
    """
    job = _prepare(tokenizer_path, split, out, root, views, image_size, workers)
    return _open(job, progress) if is_there(job.writer.folder) else _write(job, progress)


@dataclass
class _Caching:
    """Everything needed to encode a split."""

    writer: LatentCacheWriter
    tokenizer: Tokenizer
    source: ImageSource
    data: DataConfig
    workers: int

    def batches(self, numbers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield (number, latents of all views of all images, in the cache's format) for each of these batches."""
        sides = self.tokenizer.config.sides
        views = [_view(name, sides) for name in self.writer.manifest.views]
        batches = eval_images(self.source, self.data, BATCH, self.workers, batches=numbers)
        for number, batch in zip(numbers, batches, strict=True):
            images = batch["images"]
            yield number, torch.stack([self.tokenizer.stored(view(images)) for view in views], dim=1).flatten(0, 1)


def _open(job: _Caching, progress: Progress) -> LatentCache:
    """Return the finished cache. Raises UserError if it is for another tokenizer, data set or views."""
    cache = LatentCache(job.writer.folder)
    expected = {name: getattr(job.writer.manifest, name) for name in LatentManifest.model_fields}
    if cache.manifest.data_digest in job.source.former_digests:
        progress.say(
            f"token cache {cache.folder} was made by an earlier vistok, whose digest did not cover all of these images: it "
            "is used as it is. If images have changed since, delete the folder and run vistok cache again"
        )
        expected["data_digest"] = cache.manifest.data_digest
    cache.require(**expected)
    job.writer.clear()
    return cache


def _prepare(
    tokenizer_path: Path,
    split: str,
    out: Path | None,
    root: str | None,
    views: tuple[str, ...] | None,
    image_size: int | None,
    workers: int | None,
) -> _Caching:
    tokenizer = load_tokenizer(tokenizer_path)
    if image_size == tokenizer.config.image_size:
        image_size = None
    if image_size:
        tokenizer = tokenizer.resized(image_size)
    data = data_of(tokenizer, root, image_size)
    folder = out or cache_folder(tokenizer_path, split, image_size=image_size)
    if views is None:
        views = views_at(folder) or ("center",)
    views = expand_views(views)
    if views[0] in TEN_CROP:
        data = _larger(data)
    source = open_split(data, split)
    if workers is None:
        workers = 8 if tokenizer.device.type == "cuda" else 0
    manifest = LatentManifest(
        tokenizer_digest=tokenizer.info.digest,
        space=tokenizer.space,
        dataset=data.dataset,
        data_digest=source.digest,
        split=split,
        num_images=len(source),
        views=views,
        class_names=source.class_names,
        image_size=image_size,
    )
    return _Caching(LatentCacheWriter(folder, manifest, BATCH * len(views)), tokenizer, source, data, workers)


def _larger(data: DataConfig) -> DataConfig:
    try:
        width = data.image_width and int(data.image_width * LARGER)
        return data.replace(image_size=int(data.image_size * LARGER), image_width=width)
    except ValueError:
        raise UserError(
            f"ten-crop crops images a tenth larger, but {data.dataset} comes only at {data.image_size} pixels; "
            "use --view center --view flip"
        ) from None


def plan_cache(
    tokenizer_path: Path,
    split: str,
    root: str | None = None,
    views: tuple[str, ...] | None = None,
    image_size: int | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Return what a cache would take: bytes, and hours at the rate measured here on a few images. Writes nothing."""
    job = _prepare(tokenizer_path, split, None, root, views, image_size, workers)
    manifest, world = job.writer.manifest, join_world()
    rows = manifest.num_images * len(manifest.views)
    size = manifest.dtype.itemsize * math.prod(manifest.row)
    images = job.source.subset(stable_choice(0, "cache plan", len(job.source), TRIED), "tried")
    trial = replace(job, source=images)
    started = time.monotonic()
    for _ in trial.batches(range(-(-len(images) // BATCH))):
        pass
    rate = len(images) * world.size / (time.monotonic() - started)
    return {
        "split": split,
        "images": manifest.num_images,
        "views": list(manifest.views),
        "tokens_per_view": manifest.num_tokens,
        "bytes": rows * size,
        "bytes_while_joining": 2 * rows * size,
        "processes": world.size,
        "images_per_second": round(rate, 3),
        "hours": float(f"{manifest.num_images / rate / 3600:.3g}"),
    }


def _write(job: _Caching, progress: Progress) -> LatentCache:
    """Encode what is missing. Several processes share out the batches, which do not change."""
    world, writer, source = join_world(), job.writer, job.source
    try:
        if not world.agree(writer.prepare(source.labels, progress.say) if world.main else None):
            return _open(job, progress)
        missing = world.agree(writer.missing() if world.main else None)
        mine = missing[world.rank :: world.size]
        with progress.task(f"tokens of {writer.manifest.split}", len(source)) as bar:
            bar.advance(len(source) - min(BATCH * len(missing), len(source)))
            started = time.monotonic()
            for number, tokens in job.batches(mine):
                now = time.monotonic()
                writer.write(number, tokens, now - started)
                started = now
                bar.advance(len(tokens) // len(writer.manifest.views) * world.size)
        world.wait()
        if world.main:
            writer.finish()
        world.wait()
    finally:
        writer.close()
    return LatentCache(writer.folder)
