"""Score a generator: Fréchet distance of samples, precision and recall, memorisation."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.loader import eval_images
from vistok.data.open import open_split
from vistok.data.sources import ImageSource
from vistok.data.transforms import resize_uint8, to_uint8
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.files import write_json
from vistok.generator.autoregressive.config import SamplingConfig
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.generator.autoregressive.sampling import check_guidance
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.interval import frechet_replicates
from vistok.metrics.memorization import memorization
from vistok.metrics.protocol import Score, Treatment
from vistok.metrics.variety import Drawn, variety
from vistok.rng import derive_seed, stable_choice
from vistok.runs.drawing import balanced_labels, sample_batches
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
from vistok.tokenizer.model import ConvTokenizer

PRECISION_RECALL_IMAGES = 5_000
MEMORIZATION_SAMPLES = 1_000
MEMORIZATION_TRAIN = 50_000
BALANCED = "balanced: image i has class i mod the number of classes"


@dataclass
class Stage2:
    """A generator with the tokenizer that decodes it, and the data both were trained on."""

    generator: AutoregressiveGenerator
    tokenizer: ConvTokenizer
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
    sampling: SamplingConfig,
    num_samples: int = 10_000,
    split: str = "test",
    weights: str = "ema",
    tokenizer: str | None = None,
    root: str | None = None,
    second: FeatureExtractor | None = None,
    reference: ImageBatch | None = None,
) -> dict[str, Any]:
    """Score samples against a split and return the scores; done before, it only reads them.

    `second` adds a distance in another network's features. `reference`: images of a file in place of the split's, such
    as ADM's reference batch; memorisation is still asked of the split.
    """
    extractors = [extractor] if second is None else [extractor, second]
    stage2 = load_stage2(run, weights, tokenizer, root)
    source = check_scoring(stage2, extractors, num_samples, split, reference)
    train = open_split(stage2.data, "train")
    file = evaluation_file(
        run,
        f"generator-{split}-{weights}",
        models=stage2.digests,
        images=[source.digest, train.digest],
        extractors=[found.digest for found in extractors],
        sampling=sampling.model_dump(),
        num_samples=num_samples,
        **({"reference": reference.digest()} if reference else {}),
    )
    done = finished_evaluation(file)
    if done is not None:
        return done
    started = time.monotonic()
    references = [
        reference_of_batch(found, reference) if reference else reference_set(found, source, stage2.data, split)
        for found in extractors
    ]
    name = f"samples, guidance {sampling.guidance_scale:g} ({weights})"
    collected, images = _draw(stage2, sampling, num_samples, extractors, progress, name, drawn := Drawn())
    treatment = treatment_of(sampling, weights)
    scores: dict[str, Any] = {
        "schema_version": SCHEMA,
        "kind": "generator",
        "run": run.name,
        "generator_digest": stage2.digests[0],
        "tokenizer_digest": stage2.digests[1],
        "split": split,
        "num_images": num_samples,
        "treatment": treatment.model_dump(),
    }
    scores |= _image_scores(stage2, extractors, collected, references, treatment)
    scores["variety"] = asdict(variety(join_world().collect(drawn)))
    scores["memorization"] = _memorization(images, stage2.data, source, train, progress)
    scores["seconds"] = round(time.monotonic() - started, 1)
    if join_world().main:
        write_json(file, scores)
    return scores


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


def _draw(
    stage2: Stage2,
    sampling: SamplingConfig,
    count: int,
    extractors: Sequence[FeatureExtractor],
    progress: Progress,
    name: str,
    drawn: Drawn | None = None,
) -> tuple[list[Collected], Tensor]:
    """Draw samples, shared among processes, and count them; return their features by each extractor, and the first images."""
    labels = balanced_labels(count, stage2.generator.num_classes)
    features = [Collected() for _ in extractors]
    images: list[Tensor] = []
    world = join_world()
    sampler = stage2.generator.sampler(sampling)
    for images_drawn in sample_batches(sampler, stage2.tokenizer, labels, progress, name, world=world, drawn=drawn):
        batch = resize_uint8(images_drawn, stage2.data.image_size)
        for extractor, kept in zip(extractors, features, strict=True):
            kept.add(extractor.everything(batch))
        if sum(map(len, images)) < MEMORIZATION_SAMPLES:
            images.append(batch)
    return [kept.joined(world) for kept in features], world.join(images)[:MEMORIZATION_SAMPLES]


def treatment_of(sampling: SamplingConfig, weights: str) -> Treatment:
    """Return what a protocol records of how samples were made."""
    return Treatment(weights=weights, **sampling.model_dump())  # type: ignore[arg-type]


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
        check_guidance(stage2.generator, scale)
    sampling = sampling or SamplingConfig()
    sampling = sampling.replace(seed=derive_seed(sampling.seed, "guidance search") % 2**31)
    file = evaluation_file(
        run,
        f"guidance-{weights}",
        models=stage2.digests,
        images=source.digest,
        extractor=extractor.digest,
        sampling=sampling.model_dump(),
        scales=list(scales),
        num_samples=num_samples,
    )
    done = finished_evaluation(file)
    if done is not None:
        return done
    started = time.monotonic()
    found = {}
    candidates = [override(sampling, [f"guidance_scale={scale}"]) for scale in scales]
    for scale, candidate in zip(scales, candidates, strict=True):
        name = f"choosing guidance: {scale:g}"
        score = _distance(stage2, candidate, num_samples, extractor, (source, "val"), weights, progress, name)
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
    run: Path, extractor: FeatureExtractor, progress: Progress, sampling: SamplingConfig, num_samples: int,
    split: str = "test", weights: str = "ema", root: str | None = None,
) -> Score:  # fmt: skip
    """Return the Fréchet distance of samples to a split, and nothing else: what a study asks of every run."""
    name = f"samples, guidance {sampling.guidance_scale:g} ({weights})"
    stage2 = load_stage2(run, weights, root=root)
    source = check_scoring(stage2, [extractor], num_samples, split)
    return _distance(stage2, sampling, num_samples, extractor, (source, split), weights, progress, name)


def _distance(
    stage2: Stage2, sampling: SamplingConfig, num_samples: int, extractor: FeatureExtractor,
    against: tuple[ImageSource, str], weights: str, progress: Progress, name: str,
) -> Score:  # fmt: skip
    source, split = against
    reference = reference_set(extractor, source, stage2.data, split)
    ((drawn,), _) = _draw(stage2, sampling, num_samples, [extractor], progress, name)
    distance = frechet_replicates(drawn.features.numpy(), reference.moments)
    treatment = treatment_of(sampling, weights)
    return frechet_score("g", distance, num_samples, reference, extractor, treatment, BALANCED, resize=stage2.resize)


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
