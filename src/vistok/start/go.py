"""From a folder of images to samples: look, plan for the time available on this machine, and train if asked to."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vistok.config import make
from vistok.data.images.open import open_split
from vistok.data.images.transforms import to_uint8
from vistok.data.latents.cache import LatentCache
from vistok.data.latents.views import expand_views
from vistok.data.latents.writer import views_at
from vistok.data.loader import eval_images
from vistok.engine.device import best_device
from vistok.engine.log import Progress
from vistok.errors import UserError, counted
from vistok.files import alone, lock_place, read_json, write_json
from vistok.generator.config import SamplingConfig
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.reconstruction import psnr_per_image
from vistok.metrics.variety import Drawn, variety
from vistok.nn.efficientnet_lite import is_installed
from vistok.nn.frozen_config import INSTALL
from vistok.rng import stable_choice
from vistok.runs.drawing import balanced_labels, sample_batches
from vistok.runs.health.gate import require_alive
from vistok.runs.health.reconstruction_quality import baseline_of, reconstruction_quality
from vistok.runs.health.sample_warnings import collapse_warnings, score_warnings
from vistok.runs.initial import initial_weights, load_initial
from vistok.runs.pictures import display_scale, save_png, sheet
from vistok.runs.run_images import cache_folder
from vistok.runs.shipped import shipped_networks
from vistok.scoring.evaluate_generator import (
    Against,
    Drawing,
    Stage2,
    evaluate_generator,
    load_stage2,
)
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.scoring.evaluations import unkept_warnings
from vistok.scoring.evaluators import IMAGENET, choose_evaluator
from vistok.scoring.few_images import few_images_warnings
from vistok.scoring.guidance import choose_guidance
from vistok.start.expect import AsItComes
from vistok.start.look import Look, look_at
from vistok.start.plan import GUIDANCE, GUIDANCE_SAMPLES, StartPlan, plan_file
from vistok.start.proposal import busy, plan_start
from vistok.tokenizer.config import NETWORKS
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

GENERAL = "pictures64"
COLUMNS = 12
SAMPLE_ROWS = 3
SCORED_SAMPLES = 1_000
# Held-out pictures, at most, that a plan is told by.
EXPECTED_OF = 100
# A distance between fewer pictures has no covariance.
LEAST_SCORED = 2


def prepare_start(
    root: str,
    seconds: float,
    runs: Path,
    say: Callable[[str], None],
    progress: Progress | None = None,
    mirror: bool = True,
) -> tuple[StartPlan, Look]:
    """Return the plan for a folder and a time: the one made earlier, or a new one, which is saved.

    A folder that holds more or fewer pictures than before gets a new one. `say` takes what to know of it: that the machine is
    busy, that it was made earlier.
    """
    doing = progress.doing if progress is not None else _silently
    with doing(f"looking at the pictures in {root}"):
        look = look_at(root)
    file = plan_file(runs, root, seconds, mirror)
    place = str(Path(root).resolve())
    with alone(lock_place(file)):  # of two commands at once, the second takes the first one's plan
        if file.is_file():
            plan = replace(_kept(file), root=root, place=place)
            if look.unreadable:  # files may have broken since
                plan = plan.leaving_out_broken()
            made = f"made on {datetime.fromtimestamp(file.stat().st_mtime):%Y-%m-%d at %H:%M}"
            if plan.pictures in (0, look.count):
                say(f"This plan was {made}. For a new one, delete {file} and repeat the command")
                return _completed(plan, look), look
            say(
                f"The plan {made} was for {counted(plan.pictures, 'picture')}, and there are {look.count:,} now: here is a new one, whose runs begin anew"
            )
        if busy_with := busy():
            say(f"warning: {busy_with}")
        with doing("timing a few training steps on this machine"):
            plan = replace(plan_start(look, seconds, general_weights), place=place)
        plan = plan if mirror else plan.unmirrored()
        with doing("looking at what the general tokenizer makes of the pictures"):
            plan = _completed(plan, look)
        write_json(file, plan.to_json(), make_folder=True)
    return plan, look


def _completed(plan: StartPlan, look: Look) -> StartPlan:
    """Return the plan with what those of earlier versions do not say; it changes no run."""
    return replace(plan, classes=len(look.classes), as_it_comes=plan.as_it_comes or as_it_comes(plan))


def _kept(file: Path) -> StartPlan:
    """Read a plan back. Raises UserError if it is damaged."""
    advice = "delete the file and repeat the command"
    try:
        return StartPlan.from_json(read_json(file, f"plan {file}", advice))
    except ValueError as error:
        raise UserError(f"plan {file}: damaged ({error}); {advice}") from None


@contextmanager
def _silently(what: str) -> Iterator[None]:
    yield


def general_weights(side: int, kind: str) -> str | None:
    """Return the shipped network of a kind to start from at this size, or None.

    The tokenizer is for colour, with 8x8 pixels per token; the generator knows its tokens of 64x64 pixels.
    """
    sides = (64, 128) if kind == "tokenizer" else (64,)
    return GENERAL if side in sides and GENERAL in shipped_networks(kind) else None


def as_it_comes(plan: StartPlan) -> AsItComes | None:
    """Return what the tokenizer that a plan starts from makes of held-out pictures, before it has learned from any.

    None where the plan starts from nothing, or where held-out pictures do not differ.
    """
    config, device = plan.tokenizer_config(), best_device()
    initial = initial_weights(config)
    if initial is None:
        return None
    held_out = open_split(config.data, "val")
    if len(held_out) < LEAST_SCORED:
        return None
    shown = held_out.subset(stable_choice(0, "as it comes", len(held_out), EXPECTED_OF), "looked at")
    tokenizer = make(NETWORKS, config.tokenizer)
    load_initial(tokenizer, initial)
    found = reconstruction_quality(tokenizer.to(device), shown, config.data, device, baseline_of(shown, config.data))
    if math.isnan(found["psnr_over_mean"]):
        return None
    return AsItComes(len(shown), found["psnr"], found["psnr_over_mean"])


def run_start(plan: StartPlan, runs: Path, progress: Progress, anyway: bool = False) -> dict[str, Any]:
    """Train both stages, draw samples and score them; whatever is already done is left alone.

    Returns the two runs, the overview and the scores. `overview.png` shows held-out pictures, their reconstructions,
    and samples, which are guided if there are classes. `warnings`: what is wrong with samples. Raises DeadRun, with advice,
    if a stage ends dead: nothing is built on it, unless `anyway` is set.
    """
    progress.say("[1/4] tokenizer")
    tokenizer = train_tokenizer.prepare(plan.tokenizer_config(), runs).train(progress)
    require_alive(tokenizer.path, anyway, progress.say)
    progress.say("[2/4] generator")
    train = _cached(tokenizer.path, plan.views, progress)
    val = cache_tokens(tokenizer.path, "val", progress)  # of an earlier start it may hold other views than the centre
    generator = train_generator.prepare(plan.generator_config(), train, val, tokenizer.path, runs).train(progress)
    require_alive(generator.path, anyway, progress.say)
    progress.say("[3/4] samples")
    overview = plan_file(runs, plan.place or plan.root, plan.seconds, plan.mirrors).with_name("overview.png")
    stage2 = load_stage2(generator.path)
    extractor = choose_evaluator(stage2.data, IMAGENET) if is_installed() else None
    if missing := _unscored(stage2, extractor):
        extractor = None
    sampling = _guided(stage2, extractor, progress)
    drawn = Drawn()
    psnr = draw_overview(stage2, sampling, overview, progress, drawn)
    progress.say("[4/4] scores")
    scores: dict[str, Any] = {}
    if extractor is None:
        progress.say(f"no scores: {missing}")
        told = alarming = collapse_warnings(variety([drawn]), sampling, stage2.tokenizer.info)
    else:
        scores = _scores(tokenizer.path, stage2, sampling, extractor, progress)
        found = scores["generator_scores"]
        alarming = score_warnings(found, stage2.generator.info, stage2.tokenizer.info)
        told = [*unkept_warnings(scores), *few_images_warnings(found, extractor.num_features), *alarming]
    for line in told:
        progress.say(f"warning: {line}")
    made = {"overview": overview, "psnr": psnr, "guidance": sampling.guidance_scale, "warnings": alarming}
    return {"tokenizer": tokenizer.path, "generator": generator.path, **made, **scores}


def _cached(tokenizer: Path, views: tuple[str, ...], progress: Progress) -> LatentCache:
    """Return the cache of training pictures; where that of another plan holds other views, one of its own beside it."""
    place = cache_folder(tokenizer, "train")
    if views_at(place) not in (None, expand_views(views)):
        place = place.with_name("-".join((place.name, *views)))
    return cache_tokens(tokenizer, "train", progress, place, views=views)


def _guided(stage2: Stage2, extractor: FeatureExtractor | None, progress: Progress) -> SamplingConfig:
    """Return how to sample: if there are classes, at the guidance whose samples come closest to held-out pictures."""
    if stage2.generator.num_classes < 2 or extractor is None:
        return stage2.sampling()
    search = Drawing(stage2.sampling(), GUIDANCE_SAMPLES)
    found = choose_guidance(stage2, extractor, GUIDANCE, search, progress)
    return stage2.sampling(guidance_scale=found["guidance_scale"])


def _unscored(stage2: Stage2, extractor: FeatureExtractor | None) -> str:
    """Return why there are no distances; empty if there are."""
    if extractor is None:
        return f"they need a network for their features: {INSTALL}"
    fewest = min(len(open_split(stage2.data, split)) for split in ("train", "val"))
    few = f"they need at least {LEAST_SCORED} pictures that are held out, found {fewest}"
    return few if fewest < LEAST_SCORED else ""


def _scores(
    tokenizer: Path, stage2: Stage2, sampling: SamplingConfig, extractor: FeatureExtractor, progress: Progress
) -> dict[str, Any]:
    """Score both stages with the extractor."""
    count = min(SCORED_SAMPLES, 2 * len(open_split(stage2.data, "train")))
    return {
        "tokenizer_scores": evaluate_tokenizer(tokenizer, extractor, progress, split="val"),
        "generator_scores": evaluate_generator(
            stage2, Against((extractor,), "train"), Drawing(sampling, count), progress
        ),
    }


@torch.inference_mode()
def draw_overview(
    stage2: Stage2, sampling: SamplingConfig, file: Path, progress: Progress, drawn: Drawn | None = None
) -> float:
    """Write a picture of held-out images, their reconstructions and samples; return the reconstructions' PSNR (dB).

    `drawn` notes the samples.
    """
    tokenizer, generator, data, device = stage2.tokenizer, stage2.generator, stage2.data, best_device()
    held_out = open_split(data, "val")
    shown = held_out.subset(stable_choice(0, "overview", len(held_out), COLUMNS), "shown")
    images = next(eval_images(shown, data, COLUMNS))["images"].to(device)
    reconstructions = tokenizer.decode(tokenizer.encode(images))
    labels = balanced_labels(SAMPLE_ROWS * COLUMNS, generator.num_classes).sort().values
    sampler = generator.sampler(sampling)
    samples = torch.cat(list(sample_batches(sampler, tokenizer, labels.to(device), progress, drawn=drawn)))
    real, fake, scale = to_uint8(images).cpu(), to_uint8(reconstructions).cpu(), display_scale(data.image_size)
    save_png(file, _above([sheet(torch.cat([real, fake]), len(real), scale), sheet(samples, COLUMNS, scale)]))
    return float(psnr_per_image(fake, real).mean())


def _above(pictures: list[Image.Image], gap: int = 12) -> Image.Image:
    """Stack pictures on white, the first at the top."""
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGB", (max(picture.width for picture in pictures), height), "white")
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height + gap
    return whole
