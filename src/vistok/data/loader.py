"""Batches by position: the same batch at the same step, whatever the workers and wherever it starts."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vistok.data.config import DataConfig
from vistok.data.sampler import ShuffledStream
from vistok.data.sources import ArraySource, ImageSource
from vistok.data.token_cache import TokenCache
from vistok.data.transforms import prepare, to_float
from vistok.rng import numpy_generator

Batch = dict[str, Tensor]


class _Images(Dataset[Batch]):
    """Positions of the stream -> a batch of prepared images."""

    def __init__(self, source: ImageSource, config: DataConfig, seed: int, train: bool) -> None:
        self.source, self.config, self.seed, self.train = source, config, seed, train
        self.stream = ShuffledStream(len(source), seed) if train else None
        augmented = train and (config.crop_scale < 1.0 or config.horizontal_flip)
        size = (config.image_size, config.image_size)
        self.ready = isinstance(source, ArraySource) and source.images.shape[1:3] == size and not augmented

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        indices = np.array([self.stream[p] if self.stream else p for p in positions])
        if self.ready:
            images = self.source.images[indices]  # type: ignore[attr-defined]
        else:
            images = np.stack([self._prepared(p, i) for p, i in zip(positions, indices.tolist(), strict=True)])
        return {
            "images": to_float(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()),
            "labels": torch.from_numpy(self.source.labels[indices]),
        }

    def _prepared(self, position: int, index: int) -> np.ndarray:
        generator = numpy_generator(self.seed, "augment", position) if self.train else None
        return prepare(self.source.read(index), self.config, generator)


class _Tokens(Dataset[Batch]):
    """Positions of the stream -> a batch of token rows; one of an image's views is drawn per pass."""

    def __init__(self, cache: TokenCache, seed: int) -> None:
        self.cache, self.seed = cache, seed
        self.stream = ShuffledStream(cache.num_images, seed)

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        images = np.array([self.stream[p] for p in positions])
        rows = images * self.cache.num_views + self._views(positions)
        return self.cache.batch(rows)

    def _views(self, positions: Sequence[int]) -> np.ndarray:
        if self.cache.num_views == 1:
            return np.zeros(len(positions), dtype=np.int64)
        return np.array([numpy_generator(self.seed, "view", p).integers(self.cache.num_views) for p in positions])


def train_images(
    source: ImageSource, config: DataConfig, seed: int, batch_size: int, steps: range, workers: int = 0
) -> Iterator[Batch]:
    """Yield one batch per step of `steps`: "images" (batch channels height width, [-1, 1]) and "labels"."""
    return _loader(_Images(source, config, seed, train=True), batch_size, steps, workers)


def eval_images(
    source: ImageSource, config: DataConfig, batch_size: int, workers: int = 0, limit: int | None = None
) -> Iterator[Batch]:
    """Yield the images once, in order and centre-cropped; the last batch may be smaller."""
    count = len(source) if limit is None else min(limit, len(source))
    positions = [list(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]
    return _load(_Images(source, config, 0, train=False), positions, workers)


def train_tokens(cache: TokenCache, seed: int, batch_size: int, steps: range, workers: int = 0) -> Iterator[Batch]:
    """Yield one batch per step of `steps`: "tokens" (batch positions, int64) and "labels"."""
    return _loader(_Tokens(cache, seed), batch_size, steps, workers)


def _loader(dataset: Dataset[Batch], batch_size: int, steps: range, workers: int) -> Iterator[Batch]:
    return _load(dataset, [list(range(s * batch_size, (s + 1) * batch_size)) for s in steps], workers)


def _load(dataset: Dataset[Batch], positions: list[list[int]], workers: int) -> Iterator[Batch]:
    loader = DataLoader(
        dataset,
        batch_sampler=positions,
        num_workers=workers,
        collate_fn=_as_is,
        # An own generator: by default the loader draws from the global one, which dropout reads.
        generator=torch.Generator().manual_seed(0),
    )
    return iter(loader)


def _as_is(batch: Any) -> Any:
    return batch
