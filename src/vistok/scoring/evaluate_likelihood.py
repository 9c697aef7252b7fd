"""Score a generator's likelihood of held-out tokens, by position, and the gap to its training images."""

import math
import time
from pathlib import Path
from typing import Any

from vistok.data.latents.cache import LatentCache
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.engine.run_dir import RunDir
from vistok.generator.interface import Generator
from vistok.metrics.interval import Replicates, mean_replicates
from vistok.metrics.protocol import Protocol, Score, Treatment
from vistok.runs.load import load_generator
from vistok.runs.run_images import cache_folder
from vistok.scoring.evaluators import SCHEMA, evaluation_file, finished_evaluation, keep_evaluation
from vistok.scoring.nats import validation_likelihood

IMAGES = 5_000


def evaluate_likelihood(
    run: Path, train: LatentCache, held_out: LatentCache, progress: Progress, loaded: Generator | None = None
) -> dict[str, Any]:
    """Return nats per token, by position, and bits per image of both caches; an earlier evaluation is not repeated.

    EMA and raw weights are both scored, on the same 5,000 random images of a cache; a run without raw weights, such as
    an imported one, is scored with EMA weights alone. `loaded`: the generator with EMA weights, if already loaded.
    """
    ema = loaded or load_generator(run, "ema")
    raw = load_generator(run, "raw") if RunDir(run).export("raw").is_file() else None
    _require_same_tokenizer(ema, train, held_out)
    split = held_out.manifest.split
    models = [model.info.digest for model in (ema, raw) if model is not None]
    caches = [cache.identity() for cache in (train, held_out)]
    # Without this part the name means the first view, which is what earlier versions scored.
    views = [cache.central_view for cache in (train, held_out)]
    parts = {"views": views} if any(views) else {}
    file = evaluation_file(run, f"likelihood-{split}", models=models, caches=caches, images=IMAGES, **parts)
    done = finished_evaluation(file, progress)
    if done is not None:
        return done
    train.verify(), held_out.verify()
    started = time.monotonic()
    result: dict[str, Any] = {"schema_version": SCHEMA, "kind": "likelihood", "run": run.name, "split": split}
    asked = [("ema", ema, held_out, "ema"), ("raw", raw, held_out, "raw"), ("train", ema, train, "ema")]
    with progress.task("likelihood of held-out tokens", len(asked)) as bar:
        for name, model, cache, weights in asked:
            if model is not None:
                result[name] = _scores(model, cache, weights)
            bar.advance()
    result["seconds"] = round(time.monotonic() - started, 1)
    if join_world().main:
        keep_evaluation(file, result)
    return result


def caches_of(
    generator: Generator, split: str, tokenizer: str | Path | None = None
) -> tuple[LatentCache, LatentCache] | None:
    """Return a generator's caches of train and of a split, beside its tokenizer or where it was trained from; None without.

    Raises UserError for caches of another tokenizer and for damaged ones.
    """
    facts = generator.info.tokenizer
    assert facts is not None
    place = Path(tokenizer or facts.path)
    names = ("train", split)
    if place.is_dir():
        folders = [cache_folder(place, name, image_size=facts.image_size) for name in names]
    elif facts.latents is not None:
        folders = [Path(facts.latents) / name for name in names]
    else:
        return None
    if not all((folder / "manifest.json").is_file() for folder in folders):
        return None
    train, held_out = (LatentCache(folder) for folder in folders)
    _require_same_tokenizer(generator, train, held_out)
    return train, held_out


def _require_same_tokenizer(generator: Generator, *caches: LatentCache) -> None:
    """Raise UserError for caches whose tokens come from another tokenizer than the generator's."""
    tokenizer = generator.info.tokenizer
    for cache in caches:
        cache.require(tokenizer_digest=tokenizer.digest if tokenizer else "")


def _scores(model: Any, cache: LatentCache, weights: str) -> dict[str, Any]:
    likelihood = validation_likelihood(model, cache, next(model.parameters()).device, IMAGES)
    manifest, per_image = cache.manifest, mean_replicates(likelihood.per_image)
    bits = len(likelihood.position_nats) / math.log(2)

    def score(metric: str, scale: float) -> dict[str, Any]:
        protocol = Protocol(
            metric=metric,
            reference=f"{manifest.dataset} {manifest.split}, {manifest.views[cache.central_view]}",
            reference_digest=manifest.data_digest,
            num_reference=manifest.num_images,
            num_samples=len(likelihood.per_image),
            rounding="none (tokens)",
            labels="given",
            estimator="mean over images, evaluation mode",
        )
        values = Replicates(per_image.value * scale, tuple(value * scale for value in per_image.left_out))
        return Score.of(values, protocol, Treatment(weights=weights)).model_dump(mode="json")  # type: ignore[arg-type]

    return {
        "nats_per_token": score("nats per token", 1.0),
        "bits_per_image": score("bits per image", bits),
        "position_nats": likelihood.position_nats.tolist(),
    }
