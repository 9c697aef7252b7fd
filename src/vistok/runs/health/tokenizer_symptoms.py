"""What can go wrong in a tokenizer's training: blind reconstructions, latents and codes that die, a discriminator that wins."""

from functools import partial

from vistok.engine.log import Alarm, Row
from vistok.runs.config import TokenizerRun
from vistok.runs.health import advice
from vistok.runs.health.advice import Advice, Judged, first_advice
from vistok.runs.health.alarms import GRACE, LOGGED, TRIAL, Alarms, History
from vistok.tokenizer.config import VQConfig

Run = Judged[TokenizerRun]
DEPENDENCE, GAIN = 0.05, 0.5  # below which reconstructions are blind; the second in dB
VARIANCE = 1e-3  # of latents; those of sound tokenizers with eight dimensions have about 0.12
USED = 0.05  # of the codes that could be in use
FALLEN = 0.5  # of the highest usage so far
WON = 0.1  # of the hinge loss, which is 1 where the discriminator knows nothing

_LATENTS: tuple[Advice[TokenizerRun], ...] = (
    advice.usual_rate, advice.short_warmup, advice.at_least(100, 1000), advice.normalized_regularizer,
    advice.waiting_regularizer, advice.weaker_regularizer, advice.no_regularizer, advice.shortcut,
    advice.codes_from_latents, advice.longer, advice.trained_weights,
)  # fmt: skip
# Where the latents are sound and time may be all that lacks.
_SLOW: tuple[Advice[TokenizerRun], ...] = (
    advice.usual_rate, advice.short_warmup, advice.shortcut, advice.at_least(100, 1000), advice.longer,
    advice.codes_from_latents, advice.normalized_regularizer, advice.waiting_regularizer, advice.weaker_regularizer,
    advice.no_regularizer, advice.trained_weights,
)  # fmt: skip
_CODES: tuple[Advice[TokenizerRun], ...] = (
    advice.restarted_codes, advice.codes_from_latents, advice.usual_rate, advice.normalized_regularizer,
    advice.weaker_regularizer, advice.lower_rate, advice.fewer_codes,
)  # fmt: skip
_DISCRIMINATOR: tuple[Advice[TokenizerRun], ...] = (
    advice.later_discriminator, advice.weaker_discriminator, advice.smaller_discriminator,
)  # fmt: skip
LOOK = "Look at the pictures in the run's samples/: images that are all different need more of them, or more tokens"
NO_GAN = 'Train it again without: --set "losses.adversarial=null"'


def tokenizer_alarms(config: TokenizerRun, total_steps: int) -> Alarms:
    """Return what watches a tokenizer's rows."""
    run = Judged(config, total_steps)
    return Alarms([partial(symptom, run) for symptom in (blind, latents_collapse, codes_unused, usage_falls, won)])


def begins(run: Run) -> int:
    """Return the step at which the codes begin."""
    return getattr(run.config.tokenizer.quantizer, "start_after", None) or 0


def judged(run: Run, row: Row) -> bool:
    """Whether a row is late enough to be judged: some time after the codes began, or at the end."""
    return bool(row["step"] >= min(begins(run) + GRACE, run.total_steps) and row["step"] > 0)


def blind(run: Run, history: History) -> Alarm | None:
    """Reconstructions do not depend on the image."""
    row = history.validations[-1] if history.validations else {}
    if "dependence" not in row or "psnr_over_mean" not in row or not judged(run, row):
        return None
    dependence, gain = row["dependence"], row["psnr_over_mean"]
    if dependence < DEPENDENCE:
        value, advices = dependence, _LATENTS
        found = (
            f"reconstructions do not depend on the image: they vary {dependence:.3f} times as much as the images do, all are "
            "nearly the same picture"
        )
    elif gain < GAIN:
        value, advices = gain, _SLOW
        found = f"reconstructions are hardly nearer to the image than the mean of all images is ({gain:+.2f} dB)"
    else:
        return None
    return Alarm("blind", value, found, first_advice(advices, run, LOOK), dead=run.total_steps >= TRIAL)


def latents_collapse(run: Run, history: History) -> Alarm | None:
    """The encoder maps all images to the same place."""
    quantizer = run.config.tokenizer.quantizer
    # Codes that are compared by distance may lie close to zero, and so may their latents.
    if isinstance(quantizer, VQConfig) and quantizer.lookup == "euclidean":
        return None
    key = "autoencoder/latent_variance"
    found = [row[key] for row in history.train if key in row and judged(run, row)]
    if not found or max(found) >= VARIANCE or found[-1] > found[0]:
        return None
    text = f"latents collapse: their variance is {found[-1]:.1e}, so that codes cannot tell images apart"
    return Alarm("latents_collapse", found[-1], text, first_advice(_LATENTS, run, LOOK))


def _usages(run: Run, history: History) -> list[tuple[float, float]]:
    """Return usage, and the most that the tokens of the held-out images can reach, of each validation with codes."""
    rows = [row for row in history.validations if "codebook_usage" in row and row["step"] > begins(run)]
    return [(row["codebook_usage"], min(1.0, row.get("tokens_per_code", 1.0))) for row in rows]


def codes_unused(run: Run, history: History) -> Alarm | None:
    """Hardly any code is in use."""
    usages = _usages(run, history)
    if not usages or not judged(run, history.validations[-1]) or usages[-1][0] > USED * usages[-1][1]:
        return None
    found = f"only {usages[-1][0]:.1%} of the codes are in use: the tokenizer wastes its codebook"
    # Codes that are restarted do not bring latents apart that all lie together.
    alike = latents_collapse(run, history) or blind(run, history)
    return Alarm("codes_unused", usages[-1][0], found, alike.advice if alike else first_advice(_CODES, run, LOOK))


def usage_falls(run: Run, history: History) -> Alarm | None:
    """Codes die. Before training most are in use by chance: that is nothing to fall from."""
    usages = [usage for usage, _ in _usages(run, history)]
    if len(usages) < 2 or not judged(run, history.validations[-1]) or usages[-1] > FALLEN * max(usages):
        return None
    found = f"codebook usage fell to {usages[-1]:.1%}, from {max(usages):.1%}: codes die"
    return Alarm("usage_falls", usages[-1], found, first_advice(_CODES, run, LOOK))


def won(run: Run, history: History) -> Alarm | None:
    """The discriminator tells reconstructions from images with ease."""
    # Missing in a row where the discriminator did not train.
    losses = [row.get("discriminator/discriminator_loss", 1.0) for row in history.train if "discriminator/loss" in row]
    if len(losses) < LOGGED or max(losses) > WON:
        return None
    found = (
        f"the discriminator wins (loss {losses[-1]:.3f} over {LOGGED} rows; 1 means that it knows nothing): its gradient "
        "teaches little and may tear the reconstructions apart"
    )
    return Alarm("discriminator_wins", losses[-1], found, first_advice(_DISCRIMINATOR, run, NO_GAN))
