"""What to do about an alarm: the first of an ordered list of advices that the run's config does not follow yet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vistok.runs.config import GeneratorRun, RunConfig, TokenizerRun
from vistok.tokenizer.bottlenecks.config import VQConfig
from vistok.tokenizer.regularizers.config import CausalConfig

C = TypeVar("C", bound=RunConfig)
LOW_RATE, HIGH_RATE, USUAL_RATE = 5e-5, 2e-3, 5e-4
RESTART = 50


@dataclass(frozen=True)
class Judged(Generic[C]):
    """A run that is judged: its config and its length in steps."""

    config: C
    total_steps: int


# The advice in words, None where the run follows it.
Advice = Callable[[Judged[C]], str | None]


def first_advice(advices: Sequence[Advice[C]], run: Judged[C], otherwise: str) -> str:
    """Return the first advice that the run does not follow yet."""
    return next((text for advice in advices if (text := advice(run)) is not None), otherwise)


def train_again(setting: str, why: str) -> str:
    """Return the sentence that advises a setting."""
    return f"Train it again with --set {setting} ({why})"


def _steps(value: int) -> str:
    return f'"length={value} steps"'


def usual_rate(run: Judged[C]) -> str | None:
    """A learning rate that is far from what such networks learn at."""
    rate = run.config.optimizer.lr
    if LOW_RATE <= rate <= HIGH_RATE:
        return None
    return train_again(
        f"optimizer.lr={USUAL_RATE}", f"{rate:g} is far {'below' if rate < LOW_RATE else 'above'} the usual"
    )


def short_warmup(run: Judged[C]) -> str | None:
    """A warm-up that takes most of the run, of which the learning rate is then never reached."""
    warmup = run.config.optimizer.warmup
    share = {"steps": 100 * warmup.value / run.total_steps, "percent": warmup.value}.get(warmup.unit, 0.0)
    if share <= 50:
        return None
    return train_again(
        '"optimizer.warmup=5 percent"', f"its warm-up of {warmup} takes most of its {run.total_steps} steps"
    )


def at_least(steps: int, usual: int) -> Advice[C]:
    """A run that is too short to have learned anything."""

    def advice(run: Judged[C]) -> str | None:
        return None if run.total_steps >= steps else train_again(_steps(usual), f"{run.total_steps} steps are few")

    return advice


def longer(run: Judged[C]) -> str | None:
    """A run that may not be at its end yet."""
    return None if run.total_steps >= 3000 else train_again(_steps(3 * run.total_steps), "it may need more time")


def _crushing(crt: CausalConfig | None) -> CausalConfig | None:
    """Return a regularizer whose error falls when the latents shrink."""
    return crt if crt is not None and crt.full_weight > 0 and crt.variant in ("l2_pre", "l2_post") else None


def normalized_regularizer(run: Judged[TokenizerRun]) -> str | None:
    """A regularizer that cannot be had by shrinking the latents."""
    micro = run.config.execution.micro_batch_size
    if not _crushing(run.config.regularizer("causal")) or (micro is not None and micro < run.config.batch_size):
        return None
    return train_again("crt.variant=l2_pre_normalized", "the plain regularizer is also met by making all latents alike")


def waiting_regularizer(run: Judged[TokenizerRun]) -> str | None:
    """A regularizer that waits until there is something in the latents that it could spoil."""
    crt = run.config.regularizer("causal")
    if crt is None or crt.full_weight == 0 or crt.start_explained > 0:
        return None
    return train_again("crt.start_explained=0.5", "the regularizer then waits until reconstructions show the images")


def shortcut(run: Judged[TokenizerRun]) -> str | None:
    """A linear path, which shows colours and coarse shapes from the first steps on; it is a part of a network."""
    if getattr(run.config.tokenizer, "shortcut", True) or run.config.init_from:
        return None
    return train_again(
        "tokenizer.shortcut=true", "a linear path shows colours and coarse shapes from the first steps on"
    )


def weaker_regularizer(run: Judged[TokenizerRun]) -> str | None:
    """A regularizer that outweighs the reconstruction."""
    crt = run.config.regularizer("causal")
    if crt is None or crt.full_weight <= {"ce_post": 0.01}.get(crt.variant, 0.5):
        return None
    return train_again(
        f"crt.weight={crt.full_weight / 8:g}", f"the regularizer's {crt.full_weight:g} outweighs the rest"
    )


def no_regularizer(run: Judged[TokenizerRun]) -> str | None:
    """Without the regularizer."""
    crt = run.config.regularizer("causal")
    return train_again("crt=null", "to see whether it is the regularizer") if crt and crt.full_weight > 0 else None


def _own_codes(config: TokenizerRun) -> VQConfig | None:
    """Return the quantizer whose codes a run may place where the latents are."""
    quantizer = config.tokenizer.quantizer
    return quantizer if isinstance(quantizer, VQConfig) and config.execution.parallel != "shard" else None


def codes_from_latents(run: Judged[TokenizerRun]) -> str | None:
    """Codes that begin where the latents are."""
    codes, start = _own_codes(run.config), min(200, max(1, run.total_steps // 10))
    if codes is None or codes.start_after is not None or run.config.init_from or start >= run.total_steps:
        return None
    return train_again(f"tokenizer.quantizer.start_after={start}", "so that the codes begin where the latents are")


def restarted_codes(run: Judged[TokenizerRun]) -> str | None:
    """Dead codes that are used again, and soon enough for the run's length."""
    codes, after = _own_codes(run.config), min(RESTART, max(1, run.total_steps // 5))
    if codes is None or (codes.restart_after is not None and codes.restart_after <= max(after, run.total_steps // 5)):
        return None
    return train_again(f"tokenizer.quantizer.restart_after={after}", "so that dead codes are used again")


def fewer_codes(run: Judged[TokenizerRun]) -> str | None:
    """A smaller codebook; one that training begins with has its size."""
    quantizer = run.config.tokenizer.quantizer
    if not isinstance(quantizer, VQConfig) or quantizer.codebook_size < 64 or run.config.init_from:
        return None
    return train_again(
        f"tokenizer.quantizer.codebook_size={quantizer.codebook_size // 4}", "fewer codes are all used sooner"
    )


def lower_rate(run: Judged[C]) -> str | None:
    """A learning rate that is at the upper end of the usual."""
    rate = run.config.optimizer.lr
    return (
        None
        if rate <= 2e-4
        else train_again(f"optimizer.lr={rate / 4:g}", "codes cannot follow an encoder that moves fast")
    )


def trained_weights(run: Judged[TokenizerRun]) -> str | None:
    """Weights that know of images already."""
    return None if run.config.init_from else "Begin with a trained tokenizer: --init-from RUN"


def later_discriminator(run: Judged[TokenizerRun]) -> str | None:
    """A discriminator that begins when there is something to judge."""
    adversarial = run.config.losses.adversarial
    if adversarial is None or adversarial.start.unit != "percent" or adversarial.start.value >= 50:
        return None
    return train_again('"losses.adversarial.start=50 percent"', f"it began at {adversarial.start}, too early")


def smaller_discriminator(run: Judged[TokenizerRun]) -> str | None:
    """A discriminator that is no match for the decoder."""
    adversarial = run.config.losses.adversarial
    if adversarial is None or adversarial.channels < 16:
        return None
    return train_again(f"losses.adversarial.channels={adversarial.channels // 2}", "a smaller one wins less easily")


def weaker_discriminator(run: Judged[TokenizerRun]) -> str | None:
    """An adversarial loss that matters less."""
    adversarial = run.config.losses.adversarial
    if adversarial is None or adversarial.weight <= 0.01:
        return None
    return train_again(
        f"losses.adversarial.weight={adversarial.weight / 4:g}", "so that it tears less at the reconstructions"
    )


def less_dropout(run: Judged[GeneratorRun]) -> str | None:
    """Dropout that a network which learns too little does not need."""
    rate = getattr(run.config.generator, "dropout", None)
    return (
        None
        if rate is None or rate <= 0.1
        else train_again("generator.dropout=0.1", f"a dropout of {rate:g} hides much")
    )


def more_dropout(run: Judged[GeneratorRun]) -> str | None:
    """Dropout, against learning by heart."""
    rate = getattr(run.config.generator, "dropout", None)
    return None if rate is None or rate >= 0.3 else train_again("generator.dropout=0.3", f"it is {rate:g}")


def smaller_generator(run: Judged[GeneratorRun]) -> str | None:
    """A network that cannot hold all images."""
    depth = getattr(run.config.generator, "depth", 0)
    return None if depth < 4 else train_again(f"generator.depth={depth // 2}", "a smaller network learns less by heart")
