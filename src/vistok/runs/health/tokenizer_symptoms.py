"""What can go wrong in training a tokenizer: blind reconstructions, latent collapse, dying codes, a winning GAN."""

from functools import partial

from vistok.engine.log import Alarm, Row
from vistok.runs.config import TokenizerRun
from vistok.runs.health import advice
from vistok.runs.health.advice import Advice, Judged, first_advice
from vistok.runs.health.alarms import ALIKE, GRACE, LOGGED, TRIAL, Alarms, History
from vistok.tokenizer.bottlenecks.config import SimVQConfig, VQConfig

Run = Judged[TokenizerRun]
DEPENDENCE, GAIN = 0.05, 0.5  # below either of these reconstructions are blind; the second is in dB
VARIANCE = 1e-3  # of the latents; a healthy tokenizer with eight dimensions has about 0.12
USED = 0.05  # share of the codes that could be in use
FALLEN = 0.5  # share of the highest usage so far
WORSE = 0.1  # dB below where a run began
WON = 0.1  # hinge loss of the discriminator; 1 is chance level

_LATENTS: tuple[Advice[TokenizerRun], ...] = (
    advice.usual_rate, advice.whole_network, advice.at_least(100, 1000), advice.short_warmup, advice.normalized_regularizer,
    advice.waiting_regularizer, advice.weaker_regularizer, advice.no_regularizer, advice.shortcut,
    advice.codes_from_latents, advice.longer, advice.trained_weights,
)  # fmt: skip
# When the latents are healthy and the run may simply need more time.
_SLOW: tuple[Advice[TokenizerRun], ...] = (
    advice.usual_rate, advice.whole_network, advice.shortcut, advice.at_least(100, 1000), advice.short_warmup, advice.longer,
    advice.codes_from_latents, advice.normalized_regularizer, advice.waiting_regularizer, advice.weaker_regularizer,
    advice.no_regularizer, advice.trained_weights,
)  # fmt: skip
_CODES: tuple[Advice[TokenizerRun], ...] = (
    advice.usual_rate, advice.restarted_codes, advice.codes_from_latents, advice.normalized_regularizer,
    advice.weaker_regularizer, advice.lower_rate, advice.fewer_codes,
)  # fmt: skip
_WORSE: tuple[Advice[TokenizerRun], ...] = (
    advice.usual_rate, advice.at_least(300, 1000), advice.smaller_steps,
)  # fmt: skip
_DISCRIMINATOR: tuple[Advice[TokenizerRun], ...] = (
    advice.later_discriminator, advice.weaker_discriminator, advice.smaller_discriminator,
)  # fmt: skip
LOOK = "Look at the pictures in the run's samples/: images with little in common need a larger data set, or more tokens"
DIFFER = "Give images that differ more, or crop them to what differs: of images so alike, the mean is hard to beat"
KEEP = "Take the weights that it began with: they know these pictures better"
NO_GAN = 'Train it again without the discriminator: --set "losses.adversarial=null"'


def tokenizer_alarms(config: TokenizerRun, total_steps: int) -> Alarms:
    """Return the alarms that watch a tokenizer's rows."""
    run = Judged(config, total_steps)
    return Alarms(
        [partial(symptom, run) for symptom in (blind, worse, latents_collapse, codes_unused, usage_falls, won)]
    )


def begins(run: Run) -> int:
    """Return the step at which quantization begins."""
    return getattr(run.config.tokenizer.quantizer, "start_after", None) or 0


def judged(run: Run, row: Row) -> bool:
    """Whether a row is late enough to be judged: some time after quantization began, or at the end."""
    return bool(row["step"] >= min(begins(run) + GRACE, run.total_steps) and row["step"] > 0)


def blind(run: Run, history: History) -> Alarm | None:
    """Reconstructions do not depend on the image."""
    row = history.validations[-1] if history.validations else {}
    if "dependence" not in row or "psnr_over_mean" not in row or not judged(run, row):
        return None
    dependence, gain = row["dependence"], row["psnr_over_mean"]
    if dependence < DEPENDENCE:
        value, advices = dependence, _LATENTS
        symptom = (
            f"reconstructions do not depend on the image: their variance is {dependence:.3f} times that of the images, so "
            "all are nearly the same picture"
        )
    elif gain < GAIN:
        value, advices = gain, _SLOW
        closer = "hardly closer to the image" if gain >= 0 else "farther from the image"
        symptom = f"reconstructions are {closer} than the mean of all images is ({gain:+.2f} dB)"
    else:
        return None
    look = LOOK
    if (mean := row.get("psnr", 0.0) - gain) > ALIKE:
        symptom, look = f"{symptom}. The images differ little: their mean alone has {mean:.1f} dB", DIFFER
    return Alarm("blind", value, symptom, first_advice(advices, run, look), dead=run.total_steps >= TRIAL)


def worse(run: Run, history: History) -> Alarm | None:
    """Reconstructions are worse than those of the weights that it began with.

    Judged where pixels are all that is learned: other losses, regularizers and vectors may ask for less.
    """
    rows = [row for row in history.validations if "psnr" in row]
    losses = run.config.losses
    asked = losses.adversarial or losses.perceptual or run.config.regularizers
    other = bool(asked) or not isinstance(run.config.tokenizer.quantizer, VQConfig | SimVQConfig)
    if not run.config.init_from or other or len(rows) < 2 or rows[0]["step"] > 0 or run.total_steps < TRIAL:
        return None
    first, last = rows[0]["psnr"], rows[-1]["psnr"]
    if rows[-1]["step"] < run.total_steps / 2 or last >= first - WORSE:
        return None
    symptom = f"reconstructions got worse: {last:.2f} dB, and {first:.2f} dB before the first step"
    return Alarm("worse", last - first, symptom, first_advice(_WORSE, run, KEEP))


def latents_collapse(run: Run, history: History) -> Alarm | None:
    """The encoder maps all images to the same place."""
    quantizer = run.config.tokenizer.quantizer
    if quantizer.fitted:  # to features that training does not move
        return None
    # With a look-up by distance, codes and their latents may legitimately lie close to zero.
    if isinstance(quantizer, SimVQConfig) or (isinstance(quantizer, VQConfig) and quantizer.lookup == "euclidean"):
        return None
    key = "autoencoder/latent_variance"
    variances = [row[key] for row in history.train if key in row and judged(run, row)]
    if not variances or max(variances) >= VARIANCE or variances[-1] > variances[0]:
        return None
    symptom = f"latents collapse: their variance is {variances[-1]:.1e}, too small for codes to tell images apart"
    return Alarm("latents_collapse", variances[-1], symptom, first_advice(_LATENTS, run, LOOK))


def _usages(run: Run, history: History) -> list[tuple[float, float]]:
    """Return (codebook usage, highest usage that the held-out tokens allow) for each validation with quantization.

    None where training moves neither encoder nor codes: how many are used then depends on the pictures alone.
    """
    if run.config.trains == "decoder" or run.config.tokenizer.quantizer.fitted:
        return []
    rows = [row for row in history.validations if "codebook_usage" in row and row["step"] > begins(run)]
    return [(row["codebook_usage"], min(1.0, row.get("tokens_per_code", 1.0))) for row in rows]


def codes_unused(run: Run, history: History) -> Alarm | None:
    """Hardly any code is in use."""
    usages = _usages(run, history)
    if not usages or not judged(run, history.validations[-1]) or usages[-1][0] > USED * usages[-1][1]:
        return None
    symptom = f"only {usages[-1][0]:.1%} of the codes are in use: the tokenizer wastes its codebook"
    # Restarting codes cannot separate latents that all lie together.
    alike = latents_collapse(run, history) or blind(run, history)
    return Alarm("codes_unused", usages[-1][0], symptom, alike.advice if alike else first_advice(_CODES, run, LOOK))


def usage_falls(run: Run, history: History) -> Alarm | None:
    """Codes die. Most are in use by chance before training, so that usage does not count as a peak."""
    usages = [usage for usage, _ in _usages(run, history)]
    if len(usages) < 2 or not judged(run, history.validations[-1]) or usages[-1] > FALLEN * max(usages):
        return None
    symptom = f"codebook usage fell to {usages[-1]:.1%}, from {max(usages):.1%}: codes are dying"
    return Alarm("usage_falls", usages[-1], symptom, first_advice(_CODES, run, LOOK))


def won(run: Run, history: History) -> Alarm | None:
    """The discriminator easily tells reconstructions from images."""
    # Missing from a row if the discriminator did not train.
    losses = [row.get("discriminator/discriminator_loss", 1.0) for row in history.train if "discriminator/loss" in row]
    if len(losses) < LOGGED or max(losses) > WON:
        return None
    symptom = (
        f"the discriminator wins (loss {losses[-1]:.3f}, low for {LOGGED} rows; 1 is chance level): its gradient teaches "
        "the decoder little and may ruin the reconstructions"
    )
    return Alarm("discriminator_wins", losses[-1], symptom, first_advice(_DISCRIMINATOR, run, NO_GAN))
