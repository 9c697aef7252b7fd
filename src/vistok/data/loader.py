"""Batches by position: the same batch at the same step, whatever the workers and the starting point."""

import signal
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vistok.data.config import DataConfig
from vistok.data.images.sources import ArraySource, ImageSource
from vistok.data.images.transforms import prepare, to_float
from vistok.data.latents.cache import LatentCache
from vistok.data.sampler import ShuffledStream
from vistok.errors import UserError
from vistok.rng import normal_grid, numpy_generator

Batch = dict[str, Tensor]


class _Images(Dataset[Batch]):
    """Positions of the stream -> a batch of prepared images."""

    def __init__(self, source: ImageSource, config: DataConfig, seed: int, train: bool) -> None:
        self.source, self.config, self.seed, self.train = source, config, seed, train
        self.stream = ShuffledStream(len(source), seed) if train else None
        augmented = train and (config.crop_scale < 1.0 or config.horizontal_flip)
        ready = isinstance(source, ArraySource) and source.images.shape[1:3] == config.sides
        self.ready = ready and not augmented and config.framing != "close"

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        indices = np.array([self.stream[p] if self.stream else p for p in positions])
        if self.ready:
            images = self.source.images[indices]  # type: ignore[attr-defined]
        else:
            images = np.stack([self._prepared(p, i) for p, i in zip(positions, indices.tolist(), strict=True)])
        batch = {"images": _tensor(images), "labels": torch.from_numpy(self.source.labels[indices])}
        return {**batch, "positions": torch.tensor(positions)} if self.train else batch

    def _prepared(self, position: int, index: int) -> np.ndarray:
        generator = numpy_generator(self.seed, "augment", position) if self.train else None
        return prepare(self.source.read(index), self.config, generator)


def _tensor(images: np.ndarray) -> Tensor:
    """Return uint8 images (batch height width channels) as training tensors."""
    return to_float(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())


class _Crops(Dataset[Batch]):
    """Images by number -> several crops of each, read once; crop 0 is the centre."""

    def __init__(self, source: ImageSource, config: DataConfig, crops: Sequence[int]) -> None:
        self.source, self.config, self.crops = source, config, crops

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        images = np.stack([crop for index in indices for crop in self._of(index)])
        return {"images": _tensor(images)}

    def _of(self, index: int) -> Iterator[np.ndarray]:
        image = self.source.read(index)
        for number in self.crops:
            generator = numpy_generator(0, "crop", index, number) if number else None
            yield prepare(image, self.config, generator)


class _Latents(Dataset[Batch]):
    """Positions of the stream -> a batch of latents; each pass draws one of an image's views, and samples its posterior."""

    def __init__(self, cache: LatentCache, seed: int, features: LatentCache | None = None) -> None:
        self.cache, self.seed, self.features = cache, seed, features
        self.stream = ShuffledStream(cache.num_images, seed)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        images = np.array([self.stream[p] for p in positions])
        rows = images * self.cache.num_views + self._views(positions)
        batch = self.cache.batch(rows)
        if self.features is not None:
            batch["features"] = self.features.batch(rows)["latents"]
        if "deviations" in batch:
            means, deviations = batch["latents"], batch.pop("deviations")
            noise = normal_grid(self.seed, torch.from_numpy(images), torch.tensor(positions), means[0].shape)
            batch["latents"] = means + deviations * noise
        batch["positions"] = torch.tensor(positions)
        return batch

    def _views(self, positions: Sequence[int]) -> np.ndarray:
        if self.cache.num_views == 1:
            return np.zeros(len(positions), dtype=np.int64)
        return np.array([numpy_generator(self.seed, "view", p).integers(self.cache.num_views) for p in positions])


def train_images(
    source: ImageSource,
    config: DataConfig,
    seed: int,
    batch_size: int,
    steps: range,
    workers: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield one batch per step of `steps`: "images" (batch channels height width, [-1, 1]), "labels" and "positions".

    "positions" number the images of all steps: keys for noise that does not depend on batches or processes.
    part: (number, how many parts): the part of each batch that this process gets.
    """
    return _load(_Images(source, config, seed, train=True), _Positions(batch_size, steps, part=part), workers)


def eval_images(
    source: ImageSource,
    config: DataConfig,
    batch_size: int,
    workers: int = 0,
    limit: int | None = None,
    batches: Sequence[int] | None = None,
) -> Iterator[Batch]:
    """Yield the images once, in order and framed without chance; the last batch may be smaller.

    `batches` selects batches by number, so that processes can share the work without changing any batch.
    """
    count = len(source) if limit is None else min(limit, len(source))
    chosen = range(-(-count // batch_size)) if batches is None else batches
    return _load(_Images(source, config, 0, train=False), _Positions(batch_size, chosen, count), workers)


def cropped_images(
    source: ImageSource,
    config: DataConfig,
    batch_size: int,
    crops: Sequence[int],
    workers: int,
    batches: Sequence[int],
) -> Iterator[Batch]:
    """Yield "images" only: `batch_size` images times these crops, all crops of an image in a row.

    Crop 0 is the centre, others are drawn as in training, each by its number and the image's; `batches` as above.
    """
    return _load(_Crops(source, config, crops), _Positions(batch_size, batches, len(source)), workers)


def train_latents(
    cache: LatentCache, seed: int, batch_size: int, steps: range, workers: int = 0, part: tuple[int, int] = (0, 1),
    features: LatentCache | None = None,
) -> Iterator[Batch]:  # fmt: skip
    """Yield one batch per step of `steps`: "latents" (tokens, int64, or vectors, float32), "labels" and "positions", as above.

    `features`: a frozen network's, of the same images and views, which become the batch's "features".
    """
    return _load(_Latents(cache, seed, features), _Positions(batch_size, steps, part=part), workers)


class _Positions(Sampler[list[int]]):
    """The positions of each step's batch, or of one part of it, computed on demand."""

    def __init__(
        self, batch_size: int, steps: Sequence[int], count: int | None = None, part: tuple[int, int] = (0, 1)
    ) -> None:
        self.batch_size, self.steps, self.count = batch_size, steps, count
        number, parts = part
        self.start, self.end = number * batch_size // parts, (number + 1) * batch_size // parts

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            first = step * self.batch_size
            end = first + self.end
            yield list(range(first + self.start, end if self.count is None else min(end, self.count)))


def _load(dataset: Dataset[Batch], positions: _Positions, workers: int) -> Iterator[Batch]:
    loader = DataLoader(
        _Errors(dataset),
        batch_sampler=positions,
        num_workers=workers,
        collate_fn=_as_is,
        # A separate generator: by default the loader draws from the global one, which dropout uses.
        generator=torch.Generator().manual_seed(0),
        worker_init_fn=_leave_signals_to_the_parent,
    )
    for batch in loader:
        if isinstance(batch, str):
            raise UserError(batch)
        yield batch


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ignore Ctrl-C, which reaches every process: the parent finishes its step and stops the workers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _Errors(Dataset[Any]):
    """Passes a user's mistake, or a machine failure, on as text: a worker process would wrap it in a traceback."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitems__(self, positions: Sequence[int]) -> Any:
        try:
            return self.dataset.__getitems__(positions)
        except UserError as error:
            return str(error)
        except OSError as error:
            return f"{error.filename or 'an image'}: {error.strerror or error}"


def _as_is(batch: Any) -> Any:
    return batch
