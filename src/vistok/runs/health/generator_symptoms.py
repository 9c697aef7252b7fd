"""What can go wrong in a generator's training: it learns nothing, or its images by heart."""

from functools import partial

from vistok.engine.log import Alarm
from vistok.runs.config import GeneratorRun
from vistok.runs.health import advice
from vistok.runs.health.advice import Advice, Judged, first_advice, train_again
from vistok.runs.health.alarms import GRACE, TRIAL, Alarms, History

Run = Judged[GeneratorRun]
RISEN, NATS = 1.02, 0.01  # over the best validation loss: as a share, and at least so many nats
EMPTY = 0.1  # nats per token, below which there is nothing to learn

SOON = 0.1  # of the run, before which a best validation says that its length is not what is wrong

_LEARN: tuple[Advice[GeneratorRun], ...] = (
    advice.usual_rate, advice.short_warmup, advice.at_least(300, 1000), advice.less_dropout, advice.longer,
)  # fmt: skip
_BY_HEART: tuple[Advice[GeneratorRun], ...] = (advice.more_dropout, advice.smaller_generator)
MORE_IMAGES = "Train both stages on more images"
FLIP = (
    "Give it mirrored images too: remove TOKENIZER/tokens/train, and vistok cache TOKENIZER --split train --view center "
    "--view flip"
)
TOKENIZER = "Mend the tokenizer first: train it again until its validation shows more code_perplexity"


def generator_alarms(config: GeneratorRun, total_steps: int, views: tuple[str, ...] = ("center",)) -> Alarms:
    """Return what watches a generator's rows; `views`: those of the images whose tokens it learns."""
    run = Judged(config, total_steps)
    return Alarms([partial(learned_nothing, run, views), partial(memorises, run, views)])


def learned_nothing(run: Run, views: tuple[str, ...], history: History) -> Alarm | None:
    """Held-out tokens are no likelier than by how often each code occurs."""
    row = history.validations[-1] if history.validations else {}
    if "nats_per_token" not in row or "unigram_nats_per_token" not in row:
        return None
    nats, unigram = row["nats_per_token"], row["unigram_nats_per_token"]
    late = row["step"] > 0 and row["step"] >= min(GRACE, run.total_steps)
    if not late or nats < unigram or memorises(run, views, history):
        return None
    found = f"it learned nothing: {nats:.3f} nats per held-out token, and how often each code occurs gives {unigram:.3f} already"
    text = TOKENIZER if unigram < EMPTY else first_advice(_LEARN, run, MORE_IMAGES)
    return Alarm("learned_nothing", nats, found, text, dead=run.total_steps >= TRIAL)


def memorises(run: Run, views: tuple[str, ...], history: History) -> Alarm | None:
    """Held-out tokens become less likely while those of training become likelier."""
    rows = list(zip(history.validations, history.train_nats, strict=True))
    rows = [(row, train) for row, train in rows if "nats_per_token" in row]
    if not rows:
        return None
    (row, train), (best, train_then) = rows[-1], min(rows, key=lambda pair: pair[0]["nats_per_token"])
    nats, least = row["nats_per_token"], best["nats_per_token"]
    if best["step"] == 0:  # nothing is logged of training then, and an untrained network knows both alike
        train_then = least
    if nats <= RISEN * least or nats <= least + NATS or train is None or train_then is None or train >= train_then:
        return None
    found = (
        f"it learns its images by heart: {nats:.3f} nats per held-out token, after {least:.3f} at step {best['step']}, while "
        "the training loss falls on"
    )
    return Alarm("memorises", nats, found, against_memory(run, views, best["step"]))


def against_memory(run: Run, views: tuple[str, ...] | None = None, best_step: int | None = None) -> str:
    """Return what to do against learning by heart; `best_step`: of the best validation, `views`: where they are known."""
    if best_step is not None and best_step >= SOON * run.total_steps:
        return train_again(f'"length={best_step} steps"', "it was best there; it is shorter, too")
    if views is not None and not any("flip" in view for view in views):
        return FLIP
    return first_advice(_BY_HEART, run, MORE_IMAGES)
