"""What can go wrong in a generator's training: it learns nothing, or it memorises its images."""

import math
from functools import partial

from vistok.data.latents.views import random_crops
from vistok.engine.log import Alarm, Row
from vistok.runs.config import GeneratorRun
from vistok.runs.health import advice
from vistok.runs.health.advice import Advice, Judged, first_advice, train_again
from vistok.runs.health.alarms import GRACE, IN_NATS, TRIAL, Alarms, History

Run = Judged[GeneratorRun]
RISEN, NATS = 1.02, 0.01  # rise over the best validation loss: as a ratio, and in nats
# With many crops of each image. Of ten folders (results/own_images/samples.md) four rose by 1.04 to 1.09, and 1 to 7 % of their samples
# were copies by `memorization`, where unseen pictures have 1 %; one rose by 1.35, and had 17 %.
MANY_CROPS = 10
RISEN_OF_CROPS = 1.2
# Nats, of those of code frequencies: above this it has learned nothing. Noise had 0.98; of 400 recorded runs the worst has 0.82.
LEARNED = 0.95
# A flow's matching loss, of that of a network that knows no more than mean and variance, and of its own before the first step: above
# this it has learned nothing. Flows of emoji have 0.5 of the former after 900 steps; one of drawings had 0.8 after 60.
MATCHED, MOVED = 0.95, 0.99
EMPTY = 0.1  # nats per token: below this there is nothing to learn

# Deviation of samples, of the held-out latents' own: too little, and next to none; too much, and noise alone.
VARIED, DEAD, WILD, CHAOS = 0.5, 0.1, 2.0, 5.0

SOON = 0.1  # share of the run: if validation was best before this, the run's length is not the problem
FEWEST = 300  # steps: so few are not advised, as of less no generator learns anything

_LEARN: tuple[Advice[GeneratorRun], ...] = (
    advice.usual_rate, advice.at_least(FEWEST, 1000), advice.short_warmup, advice.less_dropout, advice.longer,
)  # fmt: skip
_BY_HEART: tuple[Advice[GeneratorRun], ...] = (advice.more_dropout, advice.smaller_generator)
MORE_IMAGES = "Train both stages on more images"
FLIP = (
    "Unless left and right matter, give it mirrored images too: remove TOKENIZER/tokens/train, then run vistok cache TOKENIZER --split train --view "
    "center --view flip"
)
TOKENIZER = "Fix the tokenizer first: train it again until its validation reports a higher code_perplexity"


def generator_alarms(config: GeneratorRun, total_steps: int, views: tuple[str, ...] = ("center",)) -> Alarms:
    """Return the alarms that watch a generator's rows; `views`: the views of the images in its token cache."""
    run = Judged(config, total_steps)
    symptoms = (partial(learned_nothing, run, views), partial(matches_nothing, run), partial(memorises, run, views))
    return Alarms([*symptoms, partial(collapsed, run), partial(scattered, run)])


def learned_nothing(run: Run, views: tuple[str, ...], history: History) -> Alarm | None:
    """Held-out tokens are hardly more likely under the model than under code frequencies alone."""
    row = history.validations[-1] if history.validations else {}
    nats, unigram = _nats(row), row.get("unigram_nats_per_token")
    if nats is None or unigram is None:
        return None
    late = row["step"] > 0 and row["step"] >= min(GRACE, run.total_steps)
    margin = LEARNED if "nats_per_token" in row else 1.0  # where most tokens are masked, others tell little of them
    if not late or nats < margin * unigram + _smoothing_price(run.config) or memorises(run, views, history):
        return None
    symptom = f"it learned nothing: {nats:.3f} nats per held-out token, while code frequencies alone give {unigram:.3f}"
    remedy = TOKENIZER if unigram < EMPTY else first_advice(_LEARN, run, MORE_IMAGES)
    return Alarm("learned_nothing", nats, symptom, remedy, dead=run.total_steps >= TRIAL)


def matches_nothing(run: Run, history: History) -> Alarm | None:
    """A flow predicts held-out velocities as if data were noise, or no better than before its first step."""
    rows = [row for row in history.validations if "matching_loss" in row]
    if run.config.shortcut is not None or not rows or not 0 < min(GRACE, run.total_steps) <= rows[-1]["step"]:
        return None
    last, first = rows[-1]["matching_loss"], rows[0]["matching_loss"]
    blind = rows[-1].get("blind_matching_loss")  # earlier versions did not measure it
    if blind is not None and last >= MATCHED * blind:
        why = f"a network that takes data for noise has {blind:.4f}"
    elif not run.config.init_from and rows[0]["step"] == 0 and last >= MOVED * first:
        why = f"was {first:.4f} before the first step"
    else:
        return None
    symptom = f"it learned nothing: its held-out matching loss is {last:.4f}, and {why}"
    return Alarm(
        "learned_nothing", last, symptom, first_advice(_LEARN, run, MORE_IMAGES), dead=run.total_steps >= TRIAL
    )


def memorises(run: Run, views: tuple[str, ...], history: History) -> Alarm | None:
    """Held-out tokens become less likely while training tokens become more likely."""
    rows = list(zip(history.validations, history.train_nats, strict=True))
    measured = [(nats, row, train) for row, train in rows if (nats := _nats(row)) is not None]
    if not measured:
        return None
    (nats, _, train), (least, best, train_then) = measured[-1], min(measured, key=lambda found: found[0])
    if best["step"] == 0:  # no training loss is logged yet, and an untrained network does equally well on both
        train_then = least
    risen = RISEN_OF_CROPS if max(random_crops(views) or (0,)) >= MANY_CROPS else RISEN
    if nats <= risen * least or nats <= least + NATS or train is None or train_then is None or train >= train_then:
        return None
    since = (
        "in the weights that it began with" if run.config.init_from and not best["step"] else f"at step {best['step']}"
    )
    symptom = (
        f"it memorises its training images: {nats:.3f} nats per held-out token, up from {least:.3f} {since}, while the "
        "training loss keeps falling"
    )
    return Alarm("memorises", nats, symptom, against_memory(run, views, best["step"]))


def collapsed(run: Run, history: History) -> Alarm | None:
    """A shortened generator draws nearly the same picture again and again."""
    row = history.validations[-1] if history.validations else {}
    found = row.get("sample_spread")
    if found is None or found >= VARIED or row["step"] < min(GRACE, run.total_steps):
        return None
    symptom = f"its samples are alike: they vary {found:.0%} as much as held-out latents"
    remedy = first_advice(
        (advice.gentler_rate, advice.short_warmup), run, "Begin from a teacher whose own samples vary"
    )
    return Alarm("collapsed", found, symptom, remedy, dead=found < DEAD and run.total_steps >= TRIAL)


def scattered(run: Run, history: History) -> Alarm | None:
    """A shortened generator's samples are far from anything that its tokenizer writes."""
    row = history.validations[-1] if history.validations else {}
    found = row.get("sample_spread")
    if found is None or found <= WILD or row["step"] < min(GRACE, run.total_steps):
        return None
    symptom = f"its samples are noise: they vary {found:.3g} times as much as held-out latents"
    remedy = first_advice(
        (advice.at_least(FEWEST, 1000), advice.gentler_rate, advice.short_warmup), run,
        "Begin from a teacher whose own samples are good",
    )  # fmt: skip
    return Alarm("scattered", found, symptom, remedy, dead=found > CHAOS and run.total_steps >= TRIAL)


def _nats(row: Row) -> float | None:
    """Return a validation's nats per held-out token, of whichever kind the family has."""
    return next((row[name] for name in IN_NATS if name in row), None)


def _smoothing_price(config: GeneratorRun) -> float:
    """Return the most that label smoothing adds to the nats of a network that predicts as it was trained to."""
    return -math.log1p(-getattr(config.generator, "label_smoothing", 0.0))


def against_memory(run: Run, views: tuple[str, ...] | None = None, best_step: int | None = None) -> str:
    """Return what to do about memorisation; `best_step`: of the best validation; both it and `views` if known."""
    if best_step is not None and best_step >= max(FEWEST, SOON * run.total_steps):
        return train_again(f'"length={best_step} steps"', "its held-out loss was lowest there")
    if views is not None and not any("flip" in view for view in views) and not random_crops(views):
        return FLIP
    return first_advice(_BY_HEART, run, MORE_IMAGES)
