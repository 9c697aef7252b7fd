"""Encode a split of images once: images -> latent cache."""

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
from vistok.data.latents.cache import AGAIN, LatentCache, LatentManifest, bytes_of_row
from vistok.data.latents.views import data_for, expand_views, random_crops, view
from vistok.data.latents.writer import LatentCacheWriter, is_there, views_at
from vistok.data.loader import cropped_images, eval_images
from vistok.engine.device import best_device
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.nn.frozen_config import require_channels
from vistok.nn.frozen_features import FrozenFeatures
from vistok.rng import stable_choice
from vistok.runs.load import load_tokenizer, load_tokenizer_at
from vistok.runs.run_images import cache_folder, data_of, file_cache_folder, planned_away
from vistok.scoring.changed_images import changed_images_warnings
from vistok.space import Grid, Vectors
from vistok.tokenizer.interface import Tokenizer

BATCH = 250
TRIED = 100  # images that a dry run encodes to measure its rate


def cache_tokens(
    tokenizer_path: Path,
    split: str,
    progress: Progress,
    out: Path | None = None,
    root: str | None = None,
    views: tuple[str, ...] | None = None,
    image_size: int | None = None,
    workers: int | None = None,
    max_images: int | None = None,
) -> LatentCache:
    """Encode a split and return the cache; a finished one is opened, an interrupted one is continued.

    Without `views` an existing cache keeps those it has, and a new one holds the centre crops. `image_size`: of the
    images, if it is not the tokenizer's. `workers`: processes that decode images; eight by default if a GPU encodes.
    `max_images`: fewer than the tokenizer was trained on, evenly spaced. A cache made under an earlier digest of the same
    images is used as it is, with a note to the user.

    Raises UserError if the folder holds a cache for another tokenizer, data set or views.
    """
    asked = _Asked.of(tokenizer_path, split, out, root, views, image_size)
    job = _prepare(asked, split, root, workers, max_images)
    return _open(job, progress) if is_there(job.writer.folder) else _write(job, progress)


# What follows for a cache from pictures that are not those of the tokenizer's training.
OTHERS = "what is cached is of these. If others were meant, name their folder with --data, after removing this cache"


@dataclass
class _Caching:
    """Everything needed to encode a split."""

    writer: LatentCacheWriter
    # Makes what is stored of images at the tokenizer's size: latents, or a frozen network's features.
    encode: Callable[[Tensor], Tensor]
    sides: tuple[int, int]
    source: ImageSource
    data: DataConfig
    workers: int
    # What to know of images that are not those of the tokenizer's training.
    warnings: Sequence[str] = ()

    @property
    def batch(self) -> int:
        """Images in a piece."""
        return self.writer.piece_rows // len(self.writer.manifest.views)

    @property
    def num_batches(self) -> int:
        """Number of pieces."""
        return -(-len(self.source) // self.batch)

    def batches(self, numbers: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Yield (number, latents of all views of all images, in the cache's format) for each of these batches."""
        names = self.writer.manifest.views
        if crops := random_crops(names):
            batches = cropped_images(self.source, self.data, self.batch, crops, self.workers, numbers)
            views = [view("center", self.sides)]
        else:
            batches = eval_images(self.source, self.data, self.batch, self.workers, batches=numbers)
            views = [view(name, self.sides) for name in names]
        for number, batch in zip(numbers, batches, strict=True):
            images = batch["images"]
            yield number, torch.stack([self.encode(take(images)) for take in views], dim=1).flatten(0, 1)


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


@dataclass(frozen=True)
class _Asked:
    """What is to be cached: the latents that a tokenizer gives images, and in which folder. `image_size`: if it is not the tokenizer's."""

    tokenizer: Tokenizer
    data: DataConfig
    views: tuple[str, ...]
    folder: Path
    image_size: int | None

    @classmethod
    def of(
        cls, tokenizer_path: Path, split: str, out: Path | None, root: str | None, views: tuple[str, ...] | None,
        image_size: int | None,
    ) -> "_Asked":  # fmt: skip
        tokenizer = load_tokenizer(tokenizer_path)
        if image_size == tokenizer.config.image_size:
            image_size = None
        if image_size:
            tokenizer = tokenizer.resized(image_size)
        data = data_of(tokenizer, root, image_size)
        if out is None and tokenizer_path.is_dir():
            out = cache_folder(tokenizer_path, split, image_size=image_size)
        folder = out or file_cache_folder(tokenizer, data, split, image_size)
        if views is None:
            views = views_at(folder) or ("center",)
        views = expand_views(views)
        return cls(tokenizer, data_for(views, data), views, folder, image_size)


def _prepare(
    asked: _Asked, split: str, root: str | None, workers: int | None, max_images: int | None = None
) -> _Caching:
    tokenizer, data = asked.tokenizer, asked.data
    if max_images is not None:
        data = data.replace(max_images=min(max_images, data.max_images or max_images))
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
        views=asked.views,
        class_names=source.class_names,
        image_size=asked.image_size,
    )
    writer = LatentCacheWriter(asked.folder, manifest, _piece_rows(asked.views))
    warnings = () if root else changed_images_warnings(data, tokenizer.info, OTHERS)
    return _Caching(writer, tokenizer.stored, tokenizer.config.sides, source, data, workers, warnings)


def _piece_rows(views: Sequence[str]) -> int:
    """Return the rows of a piece: random crops of an image are encoded together, other views one after the other."""
    return max(1, BATCH // len(views)) * len(views) if random_crops(views) else BATCH * len(views)


def cache_features(
    latents: LatentCache, tokenizer_path: Path, frozen: FrozenFeatures, name: str, coarse: Grid, progress: Progress,
    root: str | None = None,
) -> LatentCache:  # fmt: skip
    """Keep a frozen network's features of a cache's images and views beside it, and return them as a cache; see `cache_tokens`.

    `name`: of the network; `coarse`: the grid of its features. Raises UserError if the images have changed since.
    """
    manifest, device = latents.manifest, best_device()
    tokenizer = load_tokenizer_at(tokenizer_path, manifest.image_size, "cpu")
    try:
        require_channels("features", name, tokenizer.config.in_channels)
    except ValueError as error:
        raise UserError(str(error)) from None
    data = data_for(manifest.views, data_of(tokenizer, root, manifest.image_size))
    source = open_split(data, manifest.split)
    if manifest.data_digest not in (source.digest, *source.former_digests):
        raise UserError(
            f"token cache {latents.folder}: its images have changed since, so their features would be others'; {AGAIN}"
        )
    folder = latents.folder.with_name(f"{latents.folder.name}-{name}-{coarse.height}x{coarse.width}")
    ours = manifest.replace(space=Vectors(layout=coarse, dim=frozen.dim), features=name, data_digest=source.digest)
    frozen = frozen.to(device)
    job = _Caching(
        LatentCacheWriter(folder, ours, _piece_rows(manifest.views)),
        lambda images: frozen(images.to(device), *coarse.sides),
        tokenizer.config.sides,
        source,
        data,
        8 if device.type == "cuda" else 0,
    )
    return _open(job, progress) if is_there(folder) else _write(job, progress)


def plan_cache(
    tokenizer_path: Path,
    split: str,
    root: str | None = None,
    views: tuple[str, ...] | None = None,
    image_size: int | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Return what a cache would take: bytes, and hours at the rate measured here on a few images. Writes nothing.

    Of a data set that is not on this machine, the bytes follow from its known number of images; `absent` says so, and there is no rate.
    """
    asked = _Asked.of(tokenizer_path, split, None, root, views, image_size)
    space, world = asked.tokenizer.space, join_world()
    rate: float | None = None
    if away := planned_away(asked.tokenizer, split, root, asked.image_size):
        count, absent = away
    else:
        job = _prepare(asked, split, root, workers)
        count, absent, rate = len(job.source), "", world.size * _rate(job)
    size = count * len(asked.views) * bytes_of_row(space)
    return {
        "split": split,
        "images": count,
        **({"absent": absent} if absent else {}),
        "views": list(asked.views),
        "tokens_per_view": space.layout.positions,
        "bytes": size,
        "bytes_while_joining": 2 * size,
        "processes": world.size,
        "images_per_second": rate and round(rate, 3),
        "hours": rate and float(f"{count / rate / 3600:.3g}"),
    }


def _rate(job: _Caching) -> float:
    """Return how many images a second this process encodes."""
    images = job.source.subset(stable_choice(0, "cache plan", len(job.source), TRIED), "tried")
    trial = replace(job, source=images)
    started = time.monotonic()
    for _ in trial.batches(range(trial.num_batches)):
        pass
    return len(images) / (time.monotonic() - started)


def _write(job: _Caching, progress: Progress) -> LatentCache:
    """Encode what is missing. Several processes share out the batches, which do not change."""
    world, writer, source = join_world(), job.writer, job.source
    for line in job.warnings if world.main else ():
        progress.say(f"warning: {line}")
    try:
        if not world.agree(writer.prepare(source.labels, progress.say) if world.main else None):
            return _open(job, progress)
        missing = world.agree(writer.missing() if world.main else None)
        mine = missing[world.rank :: world.size]
        with progress.task(
            f"{writer.manifest.features or writer.manifest.space.kind} of {writer.manifest.split}", len(source)
        ) as bar:
            bar.advance(len(source) - min(job.batch * len(missing), len(source)))
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
