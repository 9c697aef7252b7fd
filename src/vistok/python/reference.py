"""What scores compare with: the held-out images of a run, as its own scores do, or any images."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.config import science
from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.images.sources import ImageSource
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images
from vistok.errors import UserError
from vistok.metrics.features import FeatureExtractor
from vistok.python.finding import model_path
from vistok.python.given import given
from vistok.python.run import Run
from vistok.runs.load import load_tokenizer, read_model
from vistok.runs.run_images import data_of
from vistok.scoring.evaluators import ReferenceSet, reference_of_batch, reference_set
from vistok.scoring.image_batch import ImageBatch, open_batch
from vistok.scoring.reconstructions import BATCH, pairs_of

ARRAY = "array"  # the name of images from memory in protocols


@dataclass(frozen=True)
class Reference:
    """Real images: a split of a run's data, prepared as for the run, or a batch of any images."""

    split: str
    data: DataConfig | None = None
    source: ImageSource | None = None
    batch: ImageBatch | None = None

    @property
    def name(self) -> str:
        """The name that protocols record."""
        return f"{self.data.dataset} {self.split}" if self.data else self._batch.name

    @property
    def count(self) -> int:
        """How many images; 0 for statistics of images alone."""
        return len(self.source) if self.source is not None else self._batch.count

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.data.sides if self.data else self._batch.shape[:2]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes of a run's data; none for other images."""
        return self.source.class_names if self.source is not None else ()

    def same_as(self, other: "Reference") -> bool:
        """Whether these are the same images of a run's data, prepared alike."""
        if self.source is None or other.source is None or self.data is None or other.data is None:
            return False
        return self.source.digest == other.source.digest and science(self.data) == science(other.data)

    @property
    def _batch(self) -> ImageBatch:
        assert self.batch is not None
        return self.batch

    def features(self, extractor: FeatureExtractor) -> ReferenceSet:
        """Return an extractor's features of the images."""
        if self.source is not None and self.data is not None:
            return reference_set(extractor, self.source, self.data, self.split)
        return reference_of_batch(extractor, self._batch)

    def pairs(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Yield batches of the images as floats in [-1, 1], and as uint8, (batch, channels, height, width)."""
        if self.source is not None and self.data is not None:
            for found in eval_images(self.source, self.data, BATCH):
                yield found["images"], to_uint8(found["images"])
        else:
            yield from pairs_of(torch.cat(list(self._batch.batches(BATCH))))


def reference_of(images: Any, split: str) -> Reference:
    """Return the reference that a user names: a run or a study (their `split`), or images in any form that `vistok.score` takes."""
    if isinstance(images, Run):
        return _of_run(images.path, split)
    if isinstance(images, str | Path):
        return _of_path(images, split)
    return Reference(split, batch=image_batch(images))


def _of_path(text: str | Path, split: str) -> Reference:
    path = Path(text)
    if (path / "records").is_dir():
        path = _tokenizer_of_study(path)
    if path.suffix == ".safetensors" or (path / "config.json").is_file() or not path.exists():
        return _of_run(model_path(path), split)
    return Reference(split, batch=open_batch(path))


def _tokenizer_of_study(folder: Path) -> Path:
    """Return the weights of one of a study's tokenizers: all have the same images."""
    weights = sorted((folder / "tokenizers").glob("*.safetensors"))
    if not weights:
        raise UserError(
            f"study {folder}: holds no tokenizers' weights, which say what its images are; give images, or a run"
        )
    return weights[0]


def _of_run(path: Path, split: str) -> Reference:
    _, header = read_model(path)
    if header["model"] == "classifier":
        raise UserError(f"{path} is a classifier's; as a reference give a tokenizer's or a generator's run, or images")
    tokenizer = load_tokenizer(Path(header["tokenizer"]["path"]) if header["model"] == "generator" else path)
    data = data_of(tokenizer)
    return Reference(split, data, open_split(data, split))


def image_batch(images: Any) -> ImageBatch:
    """Return images as scores read them: of a folder or an .npz file, or from memory. Raises UserError for anything else."""
    if isinstance(images, ImageBatch):
        return images
    if isinstance(images, str | Path):
        return open_batch(Path(images))
    pixels = getattr(images, "pixels", None)
    if isinstance(pixels, Tensor):  # `Images`
        images = pixels
    return ImageBatch.of(given(images).stacked(), ARRAY)
