"""Train a generator of any family on a latent cache."""

import json
from collections.abc import Callable, Iterator
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vistok.data.latents.cache import LatentCache
from vistok.data.loader import train_latents
from vistok.engine.distributed import ALONE, World, join_world
from vistok.engine.log import Progress
from vistok.engine.objective import Objective
from vistok.engine.parallel import Weights
from vistok.engine.phase import MicroBatch
from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.generator.families import FAMILIES, default_sampling
from vistok.generator.interface import HasHeldOut, HasNats
from vistok.metrics.codebook import unigram_nats
from vistok.overview.page import RunPage
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.runs.drawing import class_samples
from vistok.runs.frozen_networks import frozen_features
from vistok.runs.health.generator_symptoms import generator_alarms
from vistok.runs.identity import features_digest, without_features_file
from vistok.runs.initial import initial_weights, load_initial
from vistok.runs.job import Evaluate, Job, config_json, require_whole_parts, run_directory
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.load import load_tokenizer_at, read_model
from vistok.runs.pictures import display_scale, save_png, sheet
from vistok.runs.plan import Plan, plan_of, sizes_fit
from vistok.runs.teacher import require_what_it_draws, settled, teacher_of
from vistok.scoring.drift import drift
from vistok.scoring.nats import code_counts, held_out_losses, held_out_rows, validation_likelihood
from vistok.space import Grid, Space, Tokens
from vistok.tokenizer.interface import Tokenizer
from vistok.verbs.cache_latents import cache_features
from vistok.verbs.shorten import require_replicated, shortcut_facts, shortcut_objective

EVAL_IMAGES = 2000
# Of a sheet of samples: the first classes.
SHEET_COLUMNS = 10


def build_objective(
    config: GeneratorRun,
    facts: LatentFacts,
    device: torch.device,
    world: World = ALONE,
    tokenizer: Callable[[], Tokenizer] | None = None,
) -> Objective:
    """Return the objective of the generator's family, or of a shortcut, with a new network.

    `tokenizer`: decodes for a shortcut's reward, which is left out without it.
    """
    if config.shortcut is not None:
        return shortcut_objective(config, facts, device, world, tokenizer)
    build = FAMILIES[config.generator.kind].load_objective()
    aligned = config.generator.aligned
    if aligned is None:
        return build(config, facts.space, facts.num_classes, device, world)  # type: ignore[no-any-return]
    dim = frozen_features(aligned.features, aligned.features_file, torch.device("meta")).dim
    return build(config, facts.space, facts.num_classes, device, world, feature_dim=dim)  # type: ignore[no-any-return]


@sizes_fit()
def plan(
    config: GeneratorRun, facts: LatentFacts, num_images: int, tokenizer: Callable[[], Tokenizer] | None = None
) -> Plan:
    """Return the run's derived numbers, from a build on the meta device; `tokenizer`: see `build_objective`."""
    objective = build_objective(config, facts, torch.device("meta"), tokenizer=tokenizer)
    return plan_of(config, objective, num_images, facts.space.layout.positions)


def require_fits(config: GeneratorRun, tokenizer_path: Path, image_size: int | None = None) -> None:
    """Raise UserError if a generator cannot learn this tokenizer's latents: before they are cached, which may take hours."""
    decoder = partial(load_tokenizer_at, tokenizer_path, image_size)
    config = settled(config)
    tokenizer, teacher = decoder(), teacher_of(config)
    names = tokenizer.info.class_names if teacher is None else teacher.header.class_names
    facts = LatentFacts(tokenizer.space, len(names))
    build_objective(config, facts, torch.device("meta"), tokenizer=decoder)


def prepare(
    config: GeneratorRun, cache: LatentCache, validation: LatentCache, tokenizer_path: Path, runs: Path,
    root: str | None = None, progress: Progress | None = None,
) -> Job:  # fmt: skip
    """Check that both caches hold this tokenizer's latents, and return the job.

    Frozen features that the config asks for are cached first; `root`: where the images are now, if they moved.
    """
    config = settled(config)
    require_whole_parts(config, join_world())
    _require_latents_of(cache, validation, tokenizer_path)
    facts, image_size, teacher = LatentFacts.of(cache), cache.manifest.image_size, teacher_of(config)
    require_what_it_draws(teacher, tokenizer_path, cache.manifest.class_names)
    decoder = partial(load_tokenizer_at, tokenizer_path, image_size)
    planned = plan(config, facts, cache.num_images, decoder)
    initial = initial_weights(config)
    begun = {"init_from": initial, "teacher": teacher}
    digests = {name: found.digest for name, found in begun.items() if found} | features_digest(config)
    run_dir, naming = run_directory(without_features_file(config), runs, (), tokens=cache.identity(), **digests)
    features = _features(config, digests.get("features", ""), cache, tokenizer_path, root, progress)

    def objective(device: torch.device, world: World) -> Objective:
        for kept in (cache, validation, *([features] if features else [])):
            kept.verify()
        built = build_objective(config, facts, device, world, partial(decoder, device=device))
        if initial:
            load_initial(built.networks["generator"], initial, cache.manifest.class_names)
        _learn_statistics(built.networks["generator"], built.networks.get("teacher"), cache, begun=initial is not None)
        return built

    def evaluate(device: torch.device) -> Evaluate:
        return _evaluation(cache, validation, decoder(device=device), device, run_dir)

    tokenizer_facts = _tokenizer_facts(cache, tokenizer_path)
    return Job(
        config=config,
        plan=planned,
        run_dir=run_dir,
        page=RunPage(run_dir),
        num_images=cache.num_images,
        objective=objective,
        batches=partial(_batches, config, cache, features),
        evaluate=evaluate,
        metadata={
            "config": config_json(config)["generator"],
            "run_config": config_json(config),
            **facts.to_json(),
            "class_names": list(cache.manifest.class_names),
            "dataset": cache.manifest.dataset,
            "tokenizer": tokenizer_facts,
            **shortcut_facts(config, teacher),
        },
        facts={"num_images": cache.num_images, "tokenizer": tokenizer_facts, **facts.to_json(), **digests},
        naming=naming,
        init_option="--init-from",
        check=partial(require_replicated, config),
        alarms=partial(generator_alarms, config, planned.total_steps, cache.manifest.views),
    )


def _tokenizer_facts(cache: LatentCache, tokenizer_path: Path) -> dict[str, Any]:
    """Return how a generator's record names its tokenizer, and what `TokenizerOf` says of some of them."""
    size = {"image_size": cache.manifest.image_size} if cache.manifest.image_size else {}
    latents = {"latents": str(cache.folder.parent.resolve())} if tokenizer_path.is_file() else {}
    return {"digest": cache.manifest.tokenizer_digest, "path": str(tokenizer_path.resolve()), **size, **latents}


def _learn_statistics(model: Any, teacher: Any, cache: LatentCache, begun: bool) -> None:
    """Tell a generator what its latents are like: as its teacher sees them, or as its initial weights do, if it has begun with any."""
    if teacher is not None:
        model.normalise_by(teacher.mean, teacher.deviation)
    elif cache.manifest.space.kind == "vectors" and not begun:
        model.normalise_by(*cache.channel_statistics)
    if model.needs_places:
        model.learn_places(*cache.place_statistics())


def _batches(
    config: GeneratorRun, cache: LatentCache, features: LatentCache | None, steps: range, world: World
) -> Iterator[MicroBatch]:
    """Yield this process's share of each step's latents."""
    part, workers = (world.rank, world.size), config.execution.num_workers
    return train_latents(cache, config.seed, config.batch_size, steps, workers, part, features)


def _features(
    config: GeneratorRun,
    digest: str,
    cache: LatentCache,
    tokenizer_path: Path,
    root: str | None,
    progress: Progress | None,
) -> LatentCache | None:
    """Return the frozen features of a cache's images that a config asks for, making them where they are not there yet.

    `digest`: of the file of the frozen network; "" for one that comes with a package.
    """
    aligned = config.generator.aligned
    if aligned is None:
        return None
    coarse = feature_grid(config, cache.manifest.space)
    frozen = frozen_features(aligned.features, aligned.features_file, torch.device("cpu"))
    name = "-".join(part for part in (aligned.features, digest[:10]) if part)
    return cache_features(cache, tokenizer_path, frozen, name, coarse, progress or Progress(quiet=True), root)


def feature_grid(config: GeneratorRun, space: Space) -> Grid:
    """Return the grid of the features that an inner layer is aligned with. Raises UserError for latents on a line."""
    coarse = config.generator.positions(space.layout)
    if not isinstance(coarse, Grid):
        raise UserError(
            f"generator.representation needs latents on a grid, but these lie on {space.layout}; leave it out"
        )
    return coarse


def _require_latents_of(cache: LatentCache, validation: LatentCache, tokenizer_path: Path) -> None:
    """Raise UserError if a cache comes from another tokenizer: samples would decode to the wrong pictures."""
    same = ("tokenizer_digest", "class_names", "space", "image_size")
    validation.require(**{name: getattr(cache.manifest, name) for name in same})
    _, header = read_model(tokenizer_path, "tokenizer")
    manifest = cache.manifest
    if manifest.tokenizer_digest != header["digest"]:
        raise UserError(
            f"token cache {cache.folder} holds the tokens of another tokenizer (digest {manifest.tokenizer_digest[:12]}) "
            f"than {tokenizer_path} (digest {header['digest'][:12]}); make a cache for this one with vistok cache, or name "
            "the tokenizer that the cache was made with"
        )
    network = TokenizerRun.from_json(json.dumps(header["run_config"])).tokenizer
    network = network.at(manifest.image_size) if manifest.image_size else network
    cache.require(space=network.space)


def _evaluation(
    cache: LatentCache, validation: LatentCache, tokenizer: Tokenizer, device: torch.device, run_dir: RunDir
) -> Evaluate:
    """Return the validation function: a sheet of samples, and the held-out likelihood or losses that the family has."""
    unigram = once(
        lambda: unigram_nats(code_counts(cache), code_counts(validation, held_out_rows(validation, EVAL_IMAGES)))
    )

    def evaluate(step: int, networks: Weights) -> dict[str, float]:
        values = {}
        for suffix, weights in (("", "ema"), ("_raw", "raw")):
            model = networks[weights]["generator"]
            if weights == "ema":
                save_samples(model, tokenizer, run_dir, step)
            if isinstance(cache.manifest.space, Tokens):
                values["unigram_nats_per_token"] = unigram()
            if isinstance(model, HasNats):
                held_out = validation_likelihood(model, validation, device, EVAL_IMAGES)
                values[f"nats_per_token{suffix}"] = held_out.nats_per_token
            if isinstance(model, HasHeldOut):
                losses = held_out_losses(model, validation, device, EVAL_IMAGES)
                values |= {f"{name}{suffix}": loss for name, loss in losses.items()}
        return values or drift(networks["ema"]["generator"], validation, device)

    return evaluate


def save_samples(model: Any, tokenizer: Tokenizer, run_dir: RunDir, step: int) -> None:
    """Write a sheet of the same samples every time."""
    images, columns = class_samples(model, tokenizer, default_sampling(model.config), SHEET_COLUMNS)
    path = run_dir.samples / f"samples-{step:08d}.png"
    with run_dir.writing(path.parent):
        save_png(path, sheet(images, columns, display_scale(images.shape[-1])), make_folder=False)
