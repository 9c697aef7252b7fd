"""Score a generator: Fréchet distance of samples, precision and recall, memorisation."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.config import science
from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.images.sources import ImageSource
from vistok.data.images.transforms import resize_uint8, to_uint8
from vistok.data.loader import eval_images
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.files import write_json
from vistok.generator.config import SamplingConfig
from vistok.generator.families import default_sampling
from vistok.generator.interface import Generator
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.interval import frechet_replicates
from vistok.metrics.memorization import memorization
from vistok.metrics.protocol import Score, Treatment
from vistok.metrics.variety import Drawn, variety
from vistok.rng import derive_seed, stable_choice
from vistok.runs.drawing import Clock, balanced_labels, cost_of, fitting_batch, sample_batches
from vistok.runs.frozen_networks import perceptual_digest
from vistok.runs.images import data_of
from vistok.runs.load import load_generator, load_tokenizer_of
from vistok.scoring.evaluators import (
    SCHEMA,
    Collected,
    ReferenceSet,
    evaluation_file,
    finished_evaluation,
    frechet_score,
    reference_of_batch,
    reference_set,
    require_images,
    require_reference,
    require_unseen,
    score_key,
)
from vistok.scoring.image_batch import ImageBatch
from vistok.scoring.image_scores import inception_scores, kernel_score, left_out, precision_recall_scores
from vistok.tokenizer.interface import Tokenizer

PRECISION_RECALL_IMAGES = 5_000
MEMORIZATION_SAMPLES = 1_000
MEMORIZATION_TRAIN = 50_000
BALANCED = "balanced: image i has class i mod the number of classes"


@dataclass
class Stage2:
    """A generator with the tokenizer that decodes it, and the data both were trained on."""

    generator: Generator
    tokenizer: Tokenizer
    data: DataConfig

    @property
    def resize(self) -> str:
        """What a protocol says of samples that are larger than the data, before the extractor's own resizing."""
        drawn, wanted = self.tokenizer.config.image_size, self.data.image_size
        return "" if drawn == wanted else f"{drawn} to {wanted} pixels bicubic, antialiased; "

    @property
    def digests(self) -> list[str]:
        """What both networks' outputs depend on."""
        return [self.generator.info["digest"], self.tokenizer.info["digest"]]


def load_stage2(run: Path, weights: str = "ema", tokenizer: str | None = None, root: str | None = None) -> Stage2:
    """Load both stages of a generator's run; raises UserError for a file, beside which scores have no place."""
    if run.is_file():
        raise UserError(f"{run} is a file; give the generator's run directory, where its scores are kept")
    generator = load_generator(run, weights)
    decoder = load_tokenizer_of(generator, tokenizer)
    return Stage2(generator, decoder, data_of(decoder, root))


def evaluate_generator(
    run: Path,
    extractor: FeatureExtractor,
    progress: Progress,
    sampling: SamplingConfig | None = None,
    num_samples: int = 10_000,
    split: str = "test",
    weights: str = "ema",
    tokenizer: str | None = None,
    root: str | None = None,
    second: FeatureExtractor | None = None,
    reference: ImageBatch | None = None,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Score samples against a split and return the scores; done before, it only reads them.

    `second` adds a distance in another network's features. `reference`: images of a file in place of the split's, such
    as ADM's reference batch; memorisation is still asked of the split.
    """
    extractors = [extractor] if second is None else [extractor, second]
    stage2 = load_stage2(run, weights, tokenizer, root)
    sampling = sampling or default_sampling(stage2.generator.config)
    source = check_scoring(stage2, extractors, num_samples, split, reference)
    train = open_split(stage2.data, "train")
    file = evaluation_file(
        run,
        f"generator-{split}-{weights}",
        models=stage2.digests,
        images=[source.digest, train.digest],
        extractors=[found.digest for found in extractors],
        sampling=science(sampling),
        num_samples=num_samples,
        **({"reference": reference.digest()} if reference else {}),
    )
    done = finished_evaluation(file)
    if done is None:
        drawing = Drawing(
            sampling, num_samples, f"samples, guidance {sampling.guidance_scale:g} ({weights})", batch_size
        )
        references = [
            reference_of_batch(found, reference) if reference else reference_set(found, source, stage2.data, split)
            for found in extractors
        ]
        about = {"run": run.name, "split": split}
        done = about | _scores(stage2, drawing, extractors, references, (source, train), weights, progress)
        if join_world().main:
            write_json(file, done)
    return done


def _scores(
    stage2: Stage2,
    drawing: "Drawing",
    extractors: Sequence[FeatureExtractor],
    references: Sequence[ReferenceSet],
    images: tuple[ImageSource, ImageSource],
    weights: str,
    progress: Progress,
) -> dict[str, Any]:
    """Draw and score; `images`: those not seen in training, and those of training."""
    started = time.monotonic()
    collected, first = _draw(stage2, drawing, extractors, progress)
    treatment = treatment_of(drawing.sampling, weights)
    return {
        "schema_version": SCHEMA,
        "kind": "generator",
        "generator_digest": stage2.digests[0],
        "tokenizer_digest": stage2.digests[1],
        "num_images": drawing.count,
        "treatment": treatment.model_dump(),
        **_image_scores(stage2, extractors, collected, references, treatment),
        "cost": cost_of(stage2.generator, stage2.tokenizer, drawing.sampling, drawing.clock).to_json(),
        "variety": asdict(variety(join_world().collect(drawing.drawn))),
        "memorization": _memorization(first, stage2.data, *images, progress),
        "seconds": round(time.monotonic() - started, 1),
    }


def check_scoring(
    stage2: Stage2,
    extractors: Sequence[FeatureExtractor],
    num_samples: int,
    split: str,
    reference: ImageBatch | None = None,
) -> ImageSource:
    """Return the split. Raises UserError for all that would else be found out after the sampling."""
    for found in extractors:
        require_unseen(found, perceptual_digest(stage2.tokenizer.info))
    require_images(num_samples, "the sample")
    source = open_split(stage2.data, split)
    require_images(len(source), f"split {split!r} of {stage2.data.dataset}", 1 if reference else 2)
    size = stage2.data.image_size
    if reference is None:
        return source
    for found in extractors:
        require_reference(found, reference)
    if reference.count and reference.shape[:2] != (size, size):
        raise UserError(
            f"{reference.name} has images of {reference.shape[:2]} (height, width), samples are scored at {(size, size)}: "
            "resize them yourself, the way counts"
        )
    return source


def _image_scores(
    stage2: Stage2,
    extractors: Sequence[FeatureExtractor],
    collected: Sequence[Collected],
    references: Sequence[ReferenceSet],
    treatment: Treatment,
) -> dict[str, Any]:
    """Return the Fréchet distance in each extractor's features, and what the first one's features say besides."""
    scores = {}
    for found, drawn, against, suffix in zip(extractors, collected, references, ("", "_second"), strict=False):
        distance = frechet_replicates(drawn.features.numpy(), against.moments)
        count = len(drawn.features)
        score = frechet_score("g", distance, count, against, found, treatment, BALANCED, resize=stage2.resize)
        scores[score_key("g", found) + suffix] = score.model_dump(mode="json")
    first, drawn, against = extractors[0], collected[0], references[0]
    scores |= kernel_score("g", drawn.features.numpy(), against, first, treatment, BALANCED, stage2.resize)
    scores |= inception_scores("g", drawn, against, first, treatment, BALANCED, stage2.resize)
    # ADM's evaluator takes all images of its file; 5,000 suffice for a split of one's own.
    limit = PRECISION_RECALL_IMAGES if against.of_split else None
    scores |= precision_recall_scores(drawn.features, against, first, treatment, BALANCED, limit, stage2.resize)
    return scores | left_out(scores, against, first)


@dataclass
class Drawing:
    """Which samples are drawn, and what was counted and measured meanwhile."""

    sampling: SamplingConfig
    count: int
    name: str
    batch_size: int | None = None
    drawn: Drawn = field(default_factory=Drawn)
    clock: Clock = field(default_factory=Clock)


def _draw(
    stage2: Stage2, drawing: Drawing, extractors: Sequence[FeatureExtractor], progress: Progress
) -> tuple[list[Collected], Tensor]:
    """Draw samples, shared among processes, and count them; return their features by each extractor, and the first images."""
    labels = balanced_labels(drawing.count, stage2.generator.num_classes)
    features = [Collected() for _ in extractors]
    images: list[Tensor] = []
    world = join_world()
    sampler = stage2.generator.sampler(drawing.sampling)
    for images_drawn in sample_batches(
        sampler,
        stage2.tokenizer,
        labels,
        progress,
        drawing.name,
        fitting_batch(stage2.generator, drawing.sampling, drawing.batch_size),
        world,
        drawing.drawn,
        drawing.clock,
    ):
        batch = resize_uint8(images_drawn, stage2.data.image_size)
        for extractor, kept in zip(extractors, features, strict=True):
            kept.add(extractor.everything(batch))
        if sum(map(len, images)) < MEMORIZATION_SAMPLES:
            images.append(batch)
    return [kept.joined(world) for kept in features], world.join(images)[:MEMORIZATION_SAMPLES]


def treatment_of(sampling: SamplingConfig, weights: str) -> Treatment:
    """Return what a protocol records of how samples were made."""
    return Treatment(weights=weights, sampling=science(sampling))  # type: ignore[arg-type]


def choose_guidance(
    run: Path,
    extractor: FeatureExtractor,
    progress: Progress,
    scales: Sequence[float],
    num_samples: int,
    sampling: SamplingConfig | None = None,
    weights: str = "ema",
    tokenizer: str | None = None,
    root: str | None = None,
) -> dict[str, Any]:
    """Return the guidance scale of least distance to `val`, images held out of train: never the test set.

    All else of `sampling` is as it will be in scoring, but for the noise, which is of a seed of its own.
    """
    stage2 = load_stage2(run, weights, tokenizer, root)
    source = check_scoring(stage2, [extractor], num_samples, "val")
    for scale in scales:
        stage2.generator.check_guidance(scale)
    sampling = sampling or default_sampling(stage2.generator.config)
    sampling = sampling.replace(seed=derive_seed(sampling.seed, "guidance search") % 2**31)
    file = evaluation_file(
        run,
        f"guidance-{weights}",
        models=stage2.digests,
        images=source.digest,
        extractor=extractor.digest,
        sampling=science(sampling),
        scales=list(scales),
        num_samples=num_samples,
    )
    done = finished_evaluation(file)
    if done is not None:
        return done
    started = time.monotonic()
    found = {}
    candidates = [sampling.replace(guidance_scale=scale) for scale in scales]
    for scale, candidate in zip(scales, candidates, strict=True):
        name = f"choosing guidance: {scale:g}"
        drawing = Drawing(candidate, num_samples, name)
        score = _distance(stage2, drawing, extractor, (source, "val"), weights, progress)
        found[f"{scale:g}"] = score.model_dump(mode="json")
    best = min(scales, key=lambda scale: found[f"{scale:g}"]["value"])
    result = {
        "schema_version": SCHEMA,
        "kind": "guidance",
        "guidance_scale": best,
        "at_the_edge": best == max(scales),
        "num_samples": num_samples,
        "scores": found,
        "seconds": round(time.monotonic() - started, 1),
    }
    if join_world().main:
        write_json(file, result)
    return result


def sample_distance(
    run: Path,
    extractor: FeatureExtractor,
    progress: Progress,
    sampling: SamplingConfig,
    num_samples: int,
    split: str = "test",
    weights: str = "ema",
    root: str | None = None,
    clock: Clock | None = None,
) -> Score:
    """Return the Fréchet distance of samples to a split, and nothing else: what a study asks of every run.

    `clock` measures the drawing.
    """
    name = f"samples, guidance {sampling.guidance_scale:g} ({weights})"
    stage2 = load_stage2(run, weights, root=root)
    source = check_scoring(stage2, [extractor], num_samples, split)
    drawing = Drawing(sampling, num_samples, name, clock=clock or Clock())
    return _distance(stage2, drawing, extractor, (source, split), weights, progress)


def _distance(
    stage2: Stage2,
    drawing: Drawing,
    extractor: FeatureExtractor,
    against: tuple[ImageSource, str],
    weights: str,
    progress: Progress,
) -> Score:
    source, split = against
    reference = reference_set(extractor, source, stage2.data, split)
    ((drawn,), _) = _draw(stage2, drawing, [extractor], progress)
    distance = frechet_replicates(drawn.features.numpy(), reference.moments)
    treatment = treatment_of(drawing.sampling, weights)
    return frechet_score("g", distance, drawing.count, reference, extractor, treatment, BALANCED, resize=stage2.resize)


def _memorization(
    samples: Tensor, data: DataConfig, unseen: ImageSource, train: ImageSource, progress: Progress
) -> dict[str, Any]:
    """Compare samples' nearest training images with those of unseen images (pixels, RMS on 0...1)."""
    searched = stable_choice(0, "memorization train", len(train), MEMORIZATION_TRAIN)
    compared = stable_choice(0, "memorization unseen", len(unseen), MEMORIZATION_SAMPLES)
    others = [to_uint8(batch["images"]) for batch in eval_images(unseen.subset(compared, "compared"), data, 1000)]
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
        "num_train": result.searched,
        "sample_median": result.sample_median,
        "real_median": result.real_median,
        "copy_share": result.copy_share,
        "closest": [
            {"sample": int(i), "train_image": int(searched[result.nearest[i]]), "distance": float(result.distance[i])}
            for i in closest
        ],
    }
