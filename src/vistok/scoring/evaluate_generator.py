"""Score a generator: Fréchet distance of its samples, precision and recall, memorisation."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistok.config import science
from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.images.sources import ImageSource
from vistok.data.images.transforms import resize_uint8, to_float, to_uint8
from vistok.data.loader import eval_images
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.generator.config import SamplingConfig
from vistok.generator.interface import Generator
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.memorization import memorization
from vistok.metrics.protocol import Score, Treatment
from vistok.metrics.variety import Drawn, variety
from vistok.rng import stable_choice
from vistok.runs.drawing import Clock, balanced_labels, cost_of, fitting_batch, sample_batches, usual_sampling
from vistok.runs.frozen_networks import digests_in_losses
from vistok.runs.load import load_generator, load_tokenizer_of
from vistok.runs.run_images import data_of
from vistok.scoring.evaluators import (
    SCHEMA,
    Collected,
    ReferenceSet,
    evaluation_file,
    finished_evaluation,
    keep_evaluation,
    reference_of_batch,
    reference_set,
    require_images,
    require_reference,
    require_unseen,
    score_key,
)
from vistok.scoring.image_batch import ImageBatch
from vistok.scoring.image_scores import all_image_scores
from vistok.scoring.measured import Measured
from vistok.tokenizer.interface import Tokenizer

PRECISION_RECALL_IMAGES = 5_000
MEMORIZATION_SAMPLES = 1_000
MEMORIZATION_TRAIN = 50_000
RECONSTRUCTED = 100  # images at a time
BALANCED = "balanced: image i has class i mod the number of classes"


@dataclass(frozen=True)
class Stage2:
    """A run's generator with the tokenizer that decodes it, and their training data: loaded once, scored often."""

    run: Path
    weights: str
    generator: Generator
    tokenizer: Tokenizer
    data: DataConfig

    @property
    def resize(self) -> str:
        """The protocol's note on samples of another size than the data, resized before the extractor's own resizing."""
        drawn, wanted = self.tokenizer.config.sides, self.data.sides
        return "" if drawn == wanted else f"{drawn[0]} to {wanted[0]} pixels bicubic, antialiased; "

    @property
    def digests(self) -> list[str]:
        """The digests of both networks' weights."""
        return [self.generator.info.digest, self.tokenizer.info.digest]

    def sampling(self, **changes: Any) -> SamplingConfig:
        """Return the generator's usual sampling, with changes."""
        return usual_sampling(self.generator, changes)

    def treatment(self, sampling: SamplingConfig) -> Treatment:
        """Return the record of how samples were made that goes into a score."""
        return Treatment(weights=self.weights, sampling=science(sampling))  # type: ignore[arg-type]

    def file(self, name: str, **parts: Any) -> Path:
        """Return the file for an evaluation that depends on these weights and on `parts`."""
        return evaluation_file(self.run, f"{name}-{self.weights}", models=self.digests, **parts)


def load_stage2(
    run: Path, weights: str = "ema", tokenizer: str | Path | None = None, root: str | None = None
) -> Stage2:
    """Load both stages of a generator's run. Raises UserError for a file, since scores need a run directory."""
    if run.is_file():
        raise UserError(f"{run} is a file; give the generator's run directory, where its scores are kept")
    generator = load_generator(run, weights)
    decoder = load_tokenizer_of(generator, tokenizer)
    return Stage2(run, weights, generator, decoder, data_of(decoder, root))


@dataclass(frozen=True)
class Against:
    """What samples are compared with: a split, or a file's images instead, in the features of one or two networks.

    The second network is used for the Fréchet distance alone. Memorisation is always judged by the split, or by `val` where that is
    the training images.
    """

    extractors: tuple[FeatureExtractor, ...]
    split: str = "test"
    reference: ImageBatch | None = None


LEAST, MOST = 1_000, 10_000


def usual_count(references: int) -> int:
    """Return how many samples to compare with so many images: as many, but 1,000 to 10,000; 10,000 if their number is unknown (0)."""
    return min(MOST, max(LEAST, references)) if references else MOST


@dataclass
class Drawing:
    """Which samples to draw, and what is counted and measured on the way."""

    sampling: SamplingConfig
    count: int = MOST
    batch_size: int | None = None
    drawn: Drawn = field(default_factory=Drawn)
    clock: Clock = field(default_factory=Clock)


def evaluate_generator(stage2: Stage2, against: Against, drawing: Drawing, progress: Progress) -> dict[str, Any]:
    """Score samples and return the scores; an earlier evaluation is read, not repeated."""
    source, train = check_scoring(stage2, against, drawing.count), open_split(stage2.data, "train")
    # Training images lie at no distance from themselves: beside them nothing would be a copy.
    unseen = open_split(stage2.data, "val") if against.split == "train" else source
    reference, sampling = against.reference, drawing.sampling
    file = stage2.file(
        f"generator-{against.split}",
        images=[source.digest, train.digest, *([] if unseen is source else [unseen.digest])],
        extractors=[extractor.digest for extractor in against.extractors],
        sampling=science(sampling),
        num_samples=drawing.count,
        unseen="reconstructed",  # with which samples are compared for copies
        **({"reference": reference.digest()} if reference else {}),
    )
    done = finished_evaluation(file, progress)
    if done is None:
        started = time.monotonic()
        references = [
            reference_of_batch(extractor, reference)
            if reference
            else reference_set(extractor, source, stage2.data, against.split)
            for extractor in against.extractors
        ]
        name = f"samples, guidance {sampling.guidance_scale:g} ({stage2.weights})"
        collected, images = _draw(stage2, drawing, against.extractors, progress, name)
        done = {
            "schema_version": SCHEMA,
            "kind": "generator",
            "run": stage2.run.name,
            "generator_digest": stage2.digests[0],
            "tokenizer_digest": stage2.digests[1],
            "split": against.split,
            "num_images": drawing.count,
            "treatment": stage2.treatment(sampling).model_dump(),
            **_image_scores(stage2, against.extractors, collected, references, sampling),
            "cost": cost_of(stage2.generator, stage2.tokenizer, sampling, drawing.clock).to_json(),
            "variety": asdict(variety(join_world().collect(drawing.drawn))),
            "memorization": _memorization(images, stage2, unseen, train, progress),
            "seconds": round(time.monotonic() - started, 1),
        }
        if join_world().main:
            keep_evaluation(file, done)
    return done


def check_scoring(stage2: Stage2, against: Against, num_samples: int) -> ImageSource:
    """Return the split. Raises UserError for anything that would otherwise fail only after hours of sampling."""
    reference, sides = against.reference, stage2.data.sides
    for extractor in against.extractors:
        require_unseen(extractor, digests_in_losses(stage2.tokenizer.info) | digests_in_losses(stage2.generator.info))
    require_images(num_samples, "the sample")
    source = open_split(stage2.data, against.split)
    require_images(len(source), f"split {against.split!r} of {stage2.data.dataset}", 1 if reference else 2)
    if reference is None:
        return source
    for extractor in against.extractors:
        require_reference(extractor, reference)
    if reference.count and reference.shape[:2] != sides:
        raise UserError(
            f"{reference.name} has images of {reference.shape[:2]} (height, width), but samples are scored at "
            f"{sides}; resize the images yourself, since the resizing method affects scores"
        )
    return source


def _image_scores(
    stage2: Stage2,
    extractors: Sequence[FeatureExtractor],
    collected: Sequence[Collected],
    references: Sequence[ReferenceSet],
    sampling: SamplingConfig,
) -> dict[str, Any]:
    """Return the Fréchet distance in each extractor's features, and all other scores in the first one's."""
    measured = [
        _measured(stage2, extractor, reference, len(drawn.features), sampling)
        for extractor, reference, drawn in zip(extractors, references, collected, strict=True)
    ]
    # ADM's evaluator uses all images of its file; for a split 5,000 are enough.
    limit = PRECISION_RECALL_IMAGES if references[0].of_split else None
    scores = all_image_scores(measured[0], collected[0], limit)
    for one, drawn in zip(measured[1:], collected[1:], strict=True):
        scores[score_key("g", one.extractor) + "_second"] = one.frechet_of(drawn.features.numpy()).model_dump(
            mode="json"
        )
    return scores


def _measured(
    stage2: Stage2, extractor: FeatureExtractor, reference: ReferenceSet, count: int, sampling: SamplingConfig
) -> Measured:
    return Measured("g", extractor, reference, stage2.treatment(sampling), count, BALANCED, stage2.resize)


def _draw(
    stage2: Stage2, drawing: Drawing, extractors: Sequence[FeatureExtractor], progress: Progress, name: str
) -> tuple[list[Collected], Tensor]:
    """Draw samples, shared among processes; return their features by each extractor, and the first images."""
    labels = balanced_labels(drawing.count, stage2.generator.num_classes)
    features = [Collected() for _ in extractors]
    images: list[Tensor] = []
    world = join_world()
    sampler = stage2.generator.sampler(drawing.sampling)
    at_once = fitting_batch(stage2.generator, drawing.sampling, drawing.batch_size, world)
    for images_drawn in sample_batches(
        sampler, stage2.tokenizer, labels, progress, name, at_once, world, drawing.drawn, drawing.clock
    ):
        batch = resize_uint8(images_drawn, stage2.data.sides)
        for extractor, kept in zip(extractors, features, strict=True):
            kept.add(extractor.everything(batch))
        if sum(map(len, images)) < MEMORIZATION_SAMPLES:
            images.append(batch)
    return [kept.joined(world) for kept in features], world.join(images)[:MEMORIZATION_SAMPLES]


def sample_distance(
    stage2: Stage2, extractor: FeatureExtractor, drawing: Drawing, progress: Progress, split: str = "test"
) -> Score:
    """Return the Fréchet distance of samples to a split and nothing else, as studies need for every run."""
    check_scoring(stage2, Against((extractor,), split), drawing.count)
    return distances(stage2, [(extractor, split)], drawing, progress)[0]


def distances(
    stage2: Stage2,
    against: Sequence[tuple[FeatureExtractor, str]],
    drawing: Drawing,
    progress: Progress,
    name: str = "",
) -> list[Score]:
    """Return the Fréchet distances of one set of samples to splits, each in a network's features."""
    return [measured.frechet_of(features) for measured, features in compared(stage2, against, drawing, progress, name)]


def compared(
    stage2: Stage2,
    against: Sequence[tuple[FeatureExtractor, str]],
    drawing: Drawing,
    progress: Progress,
    name: str,
) -> list[tuple[Measured, np.ndarray]]:
    """Draw one set of samples; return what each score is of, and the samples' features in that network."""
    references = [
        reference_set(extractor, open_split(stage2.data, split), stage2.data, split) for extractor, split in against
    ]
    extractors = list(dict.fromkeys(extractor for extractor, _ in against))
    name = name or f"samples, guidance {drawing.sampling.guidance_scale:g} ({stage2.weights})"
    collected, _ = _draw(stage2, drawing, extractors, progress, name)
    drawn = {extractor: kept.features.numpy() for extractor, kept in zip(extractors, collected, strict=True)}
    return [
        (_measured(stage2, extractor, reference, drawing.count, drawing.sampling), drawn[extractor])
        for (extractor, _), reference in zip(against, references, strict=True)
    ]


def _reconstructed(stage2: Stage2, images: Tensor) -> Tensor:
    """Return what a tokenizer makes of images (uint8), which are resized where it draws larger ones, as its samples are."""
    tokenizer = stage2.tokenizer
    given = to_float(resize_uint8(images, tokenizer.config.sides)).to(tokenizer.device)
    return resize_uint8(to_uint8(tokenizer.decode(tokenizer.encode(given))), stage2.data.sides).cpu()


def _memorization(
    samples: Tensor, stage2: Stage2, unseen: ImageSource, train: ImageSource, progress: Progress
) -> dict[str, Any]:
    """Compare samples' distances to the nearest training images with those of unseen images (pixels, RMS on 0...1).

    The unseen images are reconstructed: samples are decoded, and what the tokenizer leaves out brings them nearer to any image.
    """
    data = stage2.data
    searched = stable_choice(0, "memorization train", len(train), MEMORIZATION_TRAIN)
    compared = stable_choice(0, "memorization unseen", len(unseen), MEMORIZATION_SAMPLES)
    others = [
        _reconstructed(stage2, to_uint8(batch["images"]))
        for batch in eval_images(unseen.subset(compared, "compared"), data, RECONSTRUCTED)
    ]
    with progress.task("nearest training images", len(searched)) as bar:

        def pixels() -> Any:
            for batch in eval_images(train.subset(searched, "searched"), data, 1000):
                yield to_uint8(batch["images"])
                bar.advance(len(batch["labels"]))

        result = memorization(samples, torch.cat(others), pixels())
    closest = result.distance.argsort()[:10]
    return {
        "num_samples": len(samples),
        "num_unseen": len(compared),
        "reconstructed": True,
        "num_train": result.searched,
        "sample_median": result.sample_median,
        "real_median": result.real_median,
        "copy_share": result.copy_share,
        "closest": [
            {"sample": int(i), "train_image": int(searched[result.nearest[i]]), "distance": float(result.distance[i])}
            for i in closest
        ],
    }
