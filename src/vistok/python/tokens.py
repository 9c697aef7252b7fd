"""`vistok.tokens`: a run's cached latents as a torch Dataset."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from vistok.data.latents.cache import LatentCache
from vistok.python.finding import model_path
from vistok.python.progress import live_progress
from vistok.runs.load import read_model
from vistok.space import Space
from vistok.verbs.cache_latents import cache_tokens

if TYPE_CHECKING:
    from vistok.python.run import Run


class Latents(Dataset[tuple[Tensor, int]]):
    """The latents of a split: `latents[i]` is (latents, label), `len(latents)` images times views.

    Latents of one image have the shape `space.shape`: code numbers, int64, or the means of vectors, float32. The views of an
    image follow each other. They are read from disk when they are asked for.

    Example: `torch.utils.data.DataLoader(vistok.tokens(run), batch_size=64, shuffle=True)`.
    """

    def __init__(self, cache: LatentCache) -> None:
        self.cache = cache

    @property
    def space(self) -> Space:
        """What latents are and how they lie: kind, layout, codebook_size or dim, shape."""
        return self.cache.manifest.space

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by number."""
        return self.cache.manifest.class_names

    @property
    def labels(self) -> np.ndarray:
        """The class number of each item, (len,), int64."""
        return np.asarray(self.cache.labels, dtype=np.int64).repeat(self.cache.num_views)

    def __len__(self) -> int:
        return len(self.cache.latents)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self.__getitems__([index % len(self)])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Return several items, read at once: loaders call this."""
        batch = self.cache.batch(np.asarray(indices, dtype=np.int64))
        return list(zip(batch["latents"], batch["labels"].tolist(), strict=True))

    def __repr__(self) -> str:
        manifest = self.cache.manifest
        views = f" in {self.cache.num_views} views" if self.cache.num_views > 1 else ""
        return f"Latents of {manifest.split}: {manifest.num_images:,} images{views}, {self.space} each, {len(self.classes)} classes"


def tokens(
    run: "Run | str | Path", split: str = "train", views: str | Sequence[str] | None = None, quiet: bool = False
) -> Latents:
    """Return the latents of a tokenizer's images; of a generator's run, those that it learns. They are cached on the first use.

    `split`: "train", "val" or "test". `views`: "center", "flip", "ten-crop" or as in "20-crops"; None: those of the cache that
    is there, else the centre. Items are (latents, label): code numbers (positions,), int64, or vectors (positions, dim),
    float32, and a class number.

    Example: `latents, label = vistok.tokens("latest")[0]`. Raises UserError if there is no such run, if its images are gone,
    or if a cache of other views is there.
    """
    path, image_size = _tokenizer_of(model_path(run))
    chosen: Any = views if views is None else (views,) if isinstance(views, str) else tuple(views)
    with live_progress(quiet) as progress:
        return Latents(cache_tokens(path, split, progress, views=chosen, image_size=image_size))


def _tokenizer_of(path: Path) -> tuple[Path, int | None]:
    """Return a tokenizer's path and its images' size, None for the usual; of a generator's run, what its latents came from."""
    _, header = read_model(path)
    if header["model"] != "generator":
        return path, None
    return Path(header["tokenizer"]["path"]), header["tokenizer"].get("image_size")
