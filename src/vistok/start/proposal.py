"""The plan that `vistok start` proposes: which recipes suit a folder, and how long to train them on this machine."""

import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from vistok.engine.device import has_bfloat16, setup_device
from vistok.engine.processors import others
from vistok.recipes import find_recipe
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.space import Space
from vistok.start.look import Look, limited
from vistok.start.plan import FEW, SHORT, SKIP, Stage, StartPlan
from vistok.verbs import step_time as rate
from vistok.verbs.train_tokenizer import plan as plan_tokenizer

SIDES = (32, 64, 128, 256)
# Shares of the time; the rest goes to opening the folder, caching tokens, sampling and scoring.
TOKENIZER, GENERATOR = 0.35, 0.45
# A decoder that trains alone is done by then; the generator needs the time more (results/own_images).
DECODER_STEPS = 300
# Steps that each stage needs for a size to be worth taking. With fewer, the next smaller size gives better pictures.
ENOUGH_TOKENIZER, ENOUGH_GENERATOR = 500, 1_000
# With fewer steps than this, the smaller of two generators is better.
MANY_STEPS = 4_000
# How many times as fast a step in bfloat16 must be for it to be proposed.
WORTH = 1.2
# Beyond this many passes over the data a generator starts to memorise pictures; of random crops it may see more
# (results/own_images).
EPOCHS, EPOCHS_OF_CROPS = 50, 200
# With FEW pictures a generator memorises them within minutes. So it gets random crops, this many in all, and learns
# the tokens of the general tokenizer, which a general generator already knows.
CROPS, MOST_CROPS = 20_000, 60
# Training tokens per code: with fewer, a code ends up describing one spot in one picture.
TOKENS_PER_CODE = 16
SMALLEST_CODEBOOK = 64
# Image size that the shipped tokenizer was trained on.
GENERAL_SIDE = 64
# Threads of other programs for each processor from which the machine counts as busy.
BUSY = 0.5


# (image size, "tokenizer" or "generator") -> name of weights that it may start from, or None.
InitFrom = Callable[[int, str], str | None]


def plan_start(look: Look, seconds: float, init_from: InitFrom) -> StartPlan:
    """Return the plan for a folder and a time: the largest image size that both stages have time to learn.

    Times a few steps of each stage at the sizes that come into question.
    """
    plan = None
    for side in _sides(look, seconds, init_from):
        # Larger pictures would have to be learned from nothing, for which they are too few, or the time too short.
        if plan is not None and (side > look.side or plan.generator_from is not None):
            break
        larger = _plan_at(side, look, seconds, init_from, plan)
        if larger is None:
            break
        plan = larger
    assert plan is not None
    return plan


def _sides(look: Look, seconds: float, init_from: InitFrom) -> tuple[int, ...]:
    """Return the sizes to try: none below one whose images both stages know already, to which smaller pictures are enlarged."""
    known = [side for side in SIDES if _drafted(side, look, seconds, init_from).generator_from is not None]
    return tuple(side for side in SIDES if not known or side >= max(known))


def _plan_at(side: int, look: Look, seconds: float, init_from: InitFrom, smaller: StartPlan | None) -> StartPlan | None:
    """Return the plan for images of this size; None if there is a smaller one, and no time to learn larger images."""
    draft = _drafted(side, look, seconds, init_from)
    tokenizer, first_stage = draft.tokenizer_config(), seconds * TOKENIZER
    needed = ENOUGH_TOKENIZER if smaller is not None and not draft.generator_from else 0
    if smaller is not None and _least_seconds(smaller, tokenizer) * needed > first_stage:
        return None  # found without timing it, which takes longest where there is least time
    first = rate.tokenizer_step_seconds(tokenizer) * rate.OVERHEAD
    steps = _rounded(first_stage / first)
    if steps < needed:
        return None
    spared = 0.0
    if tokenizer.trains == "decoder" and steps > DECODER_STEPS:
        spared, steps = (steps - DECODER_STEPS) * first, DECODER_STEPS
    draft = replace(
        draft,
        tokens=tokenizer.tokenizer.num_tokens,
        codes=codes_of(tokenizer),
        tokenizer=replace(draft.tokenizer, steps=steps, seconds=steps * first),
    )
    plan = _with_generator(draft, tokenizer.tokenizer.space, look, seconds * GENERATOR + spared)
    # Larger images with no more tokens cost the generator nothing extra.
    modelled = plan.generator_steps_paid >= ENOUGH_GENERATOR or (smaller is not None and plan.tokens <= smaller.tokens)
    return plan if smaller is None or plan.generator_from or modelled else None


def _least_seconds(smaller: StartPlan, larger: TokenizerRun) -> float:
    """Return the least that a step of larger images can take: by its FLOPs, and at twice the speed of the smaller ones'."""
    one, other = (plan_tokenizer(config, 1).flops_per_step[-1][1] for config in (smaller.tokenizer_config(), larger))
    return smaller.tokenizer.seconds / smaller.tokenizer.steps * other / one / 2


def _drafted(side: int, look: Look, seconds: float, init_from: InitFrom) -> StartPlan:
    """Return a plan with its recipes chosen, and lengths still to be filled in."""
    tokenizer_from, generator_from = (init_from(side, kind) for kind in ("tokenizer", "generator"))
    settings = [SKIP] if look.unreadable else []
    if look.framing != "crop":
        settings.append(f'data.framing="{look.framing}"')
    if look.grey and not tokenizer_from:  # weights for colour know more than grey pictures teach in a short time
        settings += ["data.channels=1", "tokenizer.in_channels=1"]
    if general := generator_from is not None and (look.train < FEW or seconds < SHORT):
        settings.append('trains="decoder"')
    recipe = f"images{side}_{'vq' if general else 'crt'}"
    config = find_recipe(recipe, "tokenizer")
    height, width = shape_of(side, look.ratio, config)
    if (tokenizer_from and side != GENERAL_SIDE) or height != side:  # its network handles images of any size
        settings += [f"data.image_size={height}", f"tokenizer.image_size={height}"]
    if height != width:
        settings += [f"data.image_width={width}", f"tokenizer.image_width={width}"]
    codes = min(codes_of(config), codes_for(look.train * config.tokenizer.num_tokens))
    if codes < codes_of(config) and not tokenizer_from:
        settings.append(f"tokenizer.quantizer.codebook_size={codes}")
    return StartPlan(
        look.root, side, config.tokenizer.num_tokens, codes,
        Stage(recipe, tuple(settings), 10_000, 0.0),
        Stage("images64_ar_small", ("generator.dropout=0.1",) if general else (), 10_000, 0.0),
        tokenizer_from, seconds, views=_views(look, math.inf), generator_from=generator_from if general else None,
        pictures=look.count, classes=len(look.classes),
    )  # fmt: skip


def _views(look: Look, passes: float) -> tuple[str, ...]:
    """Return the views of each picture that a generator learns in so many passes: crops that it never sees take time, too."""
    if look.train >= FEW:
        return ("center",)
    return (f"{max(1, min(MOST_CROPS, CROPS // look.train, math.ceil(min(passes, MOST_CROPS))))}-crops",)


def _with_generator(draft: StartPlan, space: Space, look: Look, seconds: float) -> StartPlan:
    """Return the plan with the larger generator if there is time for many steps of it, and the generator's length."""
    larger = "images256_ar" if draft.side == 256 else "images64_ar"
    for recipe in (draft.generator.recipe,) if draft.generator_from else (larger, draft.generator.recipe):
        chosen = replace(draft, generator=replace(draft.generator, recipe=recipe))
        config = chosen.generator_config()
        each = _generator_step_seconds(config, space, len(look.classes)) * rate.OVERHEAD
        paid = _rounded(seconds / each)
        if paid >= MANY_STEPS:
            break
    rounded = _bfloat16_step_seconds(config, space, len(look.classes)) * rate.OVERHEAD
    if rounded * WORTH < each:
        settings = (*chosen.generator.settings, "precision=bfloat16")
        chosen = replace(chosen, generator=replace(chosen.generator, settings=settings))
        each, paid = rounded, _rounded(seconds / rounded)
    passes = EPOCHS if draft.views == ("center",) else EPOCHS_OF_CROPS
    steps = min(paid, _rounded(passes * look.train / config.batch_size))
    stage = replace(chosen.generator, steps=steps, seconds=steps * each)
    return replace(
        chosen, generator=stage, generator_steps_paid=paid, views=_views(look, steps * config.batch_size / look.train)
    )


def shape_of(side: int, ratio: float, config: TokenizerRun) -> tuple[int, int]:
    """Return height and width of about as many pixels as a square's, in whole tokens, two to one at most."""
    layout = config.tokenizer.layout
    assert layout.kind == "grid"
    token, root = side // layout.height, math.sqrt(limited(ratio))
    sides = side / root, side * root
    height, width = (max(1, round(length / token)) * token for length in sides)
    return height, width


def codes_of(config: TokenizerRun) -> int:
    """Return the codebook size of a run's tokenizer."""
    space = config.tokenizer.space
    assert space.kind == "tokens"
    return space.codebook_size


def codes_for(tokens: int) -> int:
    """Return the codebook size, a power of two, that this many training tokens can fill."""
    return int(max(SMALLEST_CODEBOOK, 2 ** math.floor(math.log2(max(1, tokens / TOKENS_PER_CODE)))))


@lru_cache(maxsize=8)  # two image sizes may have the same number of tokens
def _generator_step_seconds(generator: GeneratorRun, space: Space, classes: int) -> float:
    return rate.generator_step_seconds(generator, space, classes)


@lru_cache(maxsize=8)
def _bfloat16_step_seconds(generator: GeneratorRun, space: Space, classes: int) -> float:
    """Return the seconds of a step in bfloat16; endless where the device has no such arithmetic, and is slow at it."""
    if not has_bfloat16(setup_device(generator.execution)):
        return math.inf
    return rate.generator_step_seconds(generator.replace(precision="bfloat16"), space, classes)


def busy() -> str | None:
    """Return a warning if other work is using the processors that the plan counts on, else None."""
    wanting, processors = others(), os.cpu_count() or 1
    if wanting < BUSY * processors:
        return None
    return (
        f"this machine is busy ({wanting} threads of other programs want its {processors} processors), and the plan counts on its present speed. "
        "When idle it could fit in several times as many steps"
    )


def _rounded(steps: float) -> int:
    """Return a number of steps rounded down to two digits, at least 60: codes and learning rate start up before that."""
    if steps < 60:
        return 60
    digit = 10 ** (math.floor(math.log10(steps)) - 1)
    return int(steps // digit * digit)
