"""What to do about an alarm: the first suggestion in an ordered list that the run's config does not follow yet."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vistok.runs.config import GeneratorRun, RunConfig, TokenizerRun
from vistok.runs.health.alarms import LONG
from vistok.tokenizer.bottlenecks.config import SimVQConfig, VQConfig
from vistok.tokenizer.regularizers.config import CausalConfig

C = TypeVar("C", bound=RunConfig)
LOW_RATE, HIGH_RATE, USUAL_RATE = 5e-5, 4e-3, 5e-4  # of the recipes, the lines of Fashion-MNIST have the highest
RESTART = 50


@dataclass(frozen=True)
class Judged(Generic[C]):
    """The run under diagnosis: its config and its length in steps."""

    config: C
    total_steps: int


# Returns the advice as a sentence, or None if the run already follows it.
Advice = Callable[[Judged[C]], str | None]


def first_advice(advices: Sequence[Advice[C]], run: Judged[C], otherwise: str) -> str:
    """Return the first piece of advice that the run does not follow yet, or `otherwise` if it follows them all."""
    return next((text for advice in advices if (text := advice(run)) is not None), otherwise)


def train_again(setting: str, why: str) -> str:
    """Return a sentence that recommends a setting."""
    return f"Train it again with --set {setting} ({why})"


def _steps(value: int) -> str:
    return f'"length={value} steps"'


def usual_rate(run: Judged[C]) -> str | None:
    """The learning rate is far outside the range in which these networks learn."""
    rate = run.config.optimizer.lr
    if LOW_RATE <= rate <= HIGH_RATE:
        return None
    return train_again(
        f"optimizer.lr={USUAL_RATE}", f"{rate:g} is far {'below' if rate < LOW_RATE else 'above'} the usual range"
    )


def short_warmup(run: Judged[C]) -> str | None:
    """The warm-up takes up most of the run, so the full learning rate is hardly used."""
    warmup = run.config.optimizer.warmup
    share = {"steps": 100 * warmup.value / run.total_steps, "percent": warmup.value}.get(warmup.unit, 0.0)
    if share <= 50:
        return None
    return train_again(
        '"optimizer.warmup=5 percent"', f"its warm-up of {warmup} takes up most of its {run.total_steps} steps"
    )


def at_least(steps: int, usual: int) -> Advice[C]:
    """Return advice for a run that is too short to have learned anything: fewer than `steps`."""

    def advice(run: Judged[C]) -> str | None:
        return None if run.total_steps >= steps else train_again(_steps(usual), f"{run.total_steps} steps are too few")

    return advice


def longer(run: Judged[C]) -> str | None:
    """The run may not have converged yet."""
    return None if run.total_steps >= LONG else train_again(_steps(3 * run.total_steps), "it may need more steps")


def _crushing(crt: CausalConfig | None) -> CausalConfig | None:
    """Return the regularizer if it is a variant whose error falls when the latents shrink."""
    return crt if crt is not None and crt.full_weight > 0 and crt.variant in ("l2_pre", "l2_post") else None


def normalized_regularizer(run: Judged[TokenizerRun]) -> str | None:
    """Use the variant that shrinking the latents cannot satisfy."""
    micro = run.config.execution.micro_batch_size
    if not _crushing(run.config.regularizer("causal")) or (micro is not None and micro < run.config.batch_size):
        return None
    return train_again("crt.variant=l2_pre_normalized", "making all latents alike also satisfies the plain regularizer")


def waiting_regularizer(run: Judged[TokenizerRun]) -> str | None:
    """Hold the regularizer back until the latents carry information."""
    crt = run.config.regularizer("causal")
    if crt is None or crt.full_weight == 0 or crt.start_explained > 0:
        return None
    return train_again(
        "crt.start_explained=0.5", "the regularizer then waits until reconstructions resemble the images"
    )


def shortcut(run: Judged[TokenizerRun]) -> str | None:
    """Add a linear shortcut, part of the network, which conveys colours and coarse shapes from the first steps."""
    if getattr(run.config.tokenizer, "shortcut", True) or run.config.init_from:
        return None
    return train_again(
        "tokenizer.shortcut=true", "a linear path conveys colours and coarse shapes from the first steps"
    )


def weaker_regularizer(run: Judged[TokenizerRun]) -> str | None:
    """The regularizer outweighs the reconstruction losses."""
    crt = run.config.regularizer("causal")
    if crt is None or crt.full_weight <= {"ce_post": 0.01}.get(crt.variant, 0.5):
        return None
    return train_again(
        f"crt.weight={crt.full_weight / 8:g}", f"a weight of {crt.full_weight:g} outweighs the other losses"
    )


def no_regularizer(run: Judged[TokenizerRun]) -> str | None:
    """Switch the regularizer off."""
    crt = run.config.regularizer("causal")
    return (
        train_again("crt=null", "to find out whether the regularizer is the cause")
        if crt and crt.full_weight > 0
        else None
    )


def _movable_codes(config: TokenizerRun) -> VQConfig | None:
    """Return the quantizer if the run may move its codes to where the latents are: a learned codebook, not sharded."""
    quantizer = config.tokenizer.quantizer
    return quantizer if isinstance(quantizer, VQConfig) and config.execution.parallel != "shard" else None


def codes_from_latents(run: Judged[TokenizerRun]) -> str | None:
    """Initialize the codes from the latents."""
    codes, start = _movable_codes(run.config), min(200, max(1, run.total_steps // 10))
    if codes is None or codes.start_after is not None or run.config.init_from or start >= run.total_steps:
        return None
    return train_again(f"tokenizer.quantizer.start_after={start}", "to start the codes where the latents are")


def restarted_codes(run: Judged[TokenizerRun]) -> str | None:
    """Restart dead codes, and soon enough for the run's length."""
    codes, after = _movable_codes(run.config), min(RESTART, max(1, run.total_steps // 5))
    if codes is None or (codes.restart_after is not None and codes.restart_after <= max(after, run.total_steps // 5)):
        return None
    return train_again(f"tokenizer.quantizer.restart_after={after}", "to bring dead codes back into use")


def fewer_codes(run: Judged[TokenizerRun]) -> str | None:
    """Use a smaller codebook; with --init-from the codebook's size is fixed."""
    quantizer = run.config.tokenizer.quantizer
    if not isinstance(quantizer, VQConfig | SimVQConfig) or quantizer.codebook_size < 64 or run.config.init_from:
        return None
    return train_again(
        f"tokenizer.quantizer.codebook_size={quantizer.codebook_size // 4}", "a smaller codebook fills up sooner"
    )


def _quarter_rate(run: Judged[Any], above: float, why: str) -> str | None:
    """Take a quarter of a learning rate that is above a value."""
    rate = run.config.optimizer.lr
    return None if rate <= above else train_again(f"optimizer.lr={rate / 4:g}", why)


def lower_rate(run: Judged[C]) -> str | None:
    """Lower a learning rate that is at the upper end of the usual range."""
    return _quarter_rate(run, 2e-4, "codes cannot keep up with a fast-moving encoder")


def smaller_steps(run: Judged[C]) -> str | None:
    """Lower the rate at which weights that were trained before are changed."""
    return _quarter_rate(run, 2e-4, "smaller steps keep more of what it knew")


def gentler_rate(run: Judged[GeneratorRun]) -> str | None:
    """Lower the rate of a generator that is trained against other networks."""
    return _quarter_rate(run, 2e-5, "fast steps run ahead of what judges the samples")


def whole_network(run: Judged[TokenizerRun]) -> str | None:
    """Train encoder and codes, too: a decoder cannot bring back what the tokens leave out."""
    if run.config.trains != "decoder":
        return None
    return train_again("trains=all", "the decoder alone cannot bring back what its tokens leave out")


def trained_weights(run: Judged[TokenizerRun]) -> str | None:
    """Start from weights that have already been trained on images."""
    if run.config.init_from:
        return None
    tokenizer = run.config.tokenizer
    fits = tokenizer.kind == "conv" and tokenizer.in_channels == 3 and run.config.losses.perceptual is None
    own = "pictures64, which knows colour pictures, or a run of yours" if fits else "RUN"
    return f"Start from a trained tokenizer: --init-from {own}"


def later_discriminator(run: Judged[TokenizerRun]) -> str | None:
    """Start the discriminator once there is something to judge."""
    adversarial = run.config.losses.adversarial
    if adversarial is None or adversarial.start.unit != "percent" or adversarial.start.value >= 50:
        return None
    return train_again('"losses.adversarial.start=50 percent"', f"it started too early, at {adversarial.start}")


def smaller_discriminator(run: Judged[TokenizerRun]) -> str | None:
    """Use a discriminator that does not overpower the decoder."""
    adversarial = run.config.losses.adversarial
    if adversarial is None or adversarial.channels < 16:
        return None
    return train_again(
        f"losses.adversarial.channels={adversarial.channels // 2}", "a smaller discriminator wins less easily"
    )


def weaker_discriminator(run: Judged[TokenizerRun]) -> str | None:
    """Give the adversarial loss less weight."""
    adversarial = run.config.losses.adversarial
    if adversarial is None or adversarial.weight <= 0.01:
        return None
    return train_again(
        f"losses.adversarial.weight={adversarial.weight / 4:g}", "so that it distorts the reconstructions less"
    )


def less_dropout(run: Judged[GeneratorRun]) -> str | None:
    """Reduce dropout, which a network that learns too little does not need."""
    rate = getattr(run.config.generator, "dropout", None)
    return (
        None
        if rate is None or rate <= 0.1
        else train_again("generator.dropout=0.1", f"a dropout of {rate:g} hides too much")
    )


def more_dropout(run: Judged[GeneratorRun]) -> str | None:
    """Raise dropout, to counter memorisation."""
    rate = getattr(run.config.generator, "dropout", None)
    return None if rate is None or rate >= 0.3 else train_again("generator.dropout=0.3", f"it is only {rate:g}")


def smaller_generator(run: Judged[GeneratorRun]) -> str | None:
    """Use a network too small to memorise every image; one that begins with given weights has their size."""
    depth = getattr(run.config.generator, "depth", 0)
    return (
        None
        if depth < 4 or run.config.init_from
        else train_again(f"generator.depth={depth // 2}", "a smaller network memorises less")
    )
