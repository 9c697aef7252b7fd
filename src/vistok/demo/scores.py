"""The demo's tables: five rows that settle it, all scores, and what each stage took."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vistok.demo.answer import in_digits
from vistok.demo.facts import dig
from vistok.demo.figures import COLOURS, NAMES
from vistok.demo.sizes import ARMS
from vistok.metrics.interval import t_interval
from vistok.page.tables import Table, named


@dataclass(frozen=True)
class Row:
    """A row of the score table: the path of its number in an arm's results, and how it is shown."""

    name: str
    path: tuple[str, ...]
    better: str = ""
    digits: int = 2
    remark: str = ""
    scale: float = 1.0


_TOKENIZER, _GENERATOR, _LIKELIHOOD = ("tokenizer", "scores"), ("generator", "scores"), ("generator", "likelihood")
ROWS = (
    Row("PSNR of reconstructions (dB)", (*_TOKENIZER, "ema", "psnr"), "higher"),
    Row("PSNR, raw weights (up to 1,000 held-out images)", ("tokenizer", "psnr_raw"), "higher"),
    Row("SSIM of reconstructions", (*_TOKENIZER, "ema", "ssim"), "higher", 4),
    Row("rFMD", (*_TOKENIZER, "ema", "rfmd"), "lower", 3, "reconstructed test images against the test images"),
    Row("rFMD, second evaluator", (*_TOKENIZER, "ema", "rfmd_second"), "lower", 3, "a network from another seed: on a different scale, but is the order the same?"),
    Row("spread of latents (variance)", ("tokenizer", "latent_variance"), "", 4, "per dimension, last training batch; 0.125 means unit vectors in all directions, less is easier to predict"),
    Row("codebook usage (%)", (*_TOKENIZER, "ema", "codebook_usage"), "", 1, "share of the codes that occur in the test set", 100),
    Row("entropy of tokens (bits)", (*_TOKENIZER, "ema", "entropy")),
    Row("entropy by position (bits)", (*_TOKENIZER, "ema", "position_entropy"), "", 2, "unigram, mean over positions"),
    Row("held-out nats per token", (*_LIKELIHOOD, "ema", "nats_per_token"), "lower", 3, "a rate, so read it together with the distortion (PSNR)"),
    Row("nats per token, raw weights", (*_LIKELIHOOD, "raw", "nats_per_token"), "lower", 3),
    Row("nats per token on training images", (*_LIKELIHOOD, "train", "nats_per_token"), "", 3, "a large gap to the held-out value means memorisation"),
    Row("bits per image", (*_LIKELIHOOD, "ema", "bits_per_image"), "lower", 1),
    Row("gFMD, guidance off", (*_GENERATOR, "off", "gfmd"), "lower"),
    Row("guidance scale", ("generator", "guidance"), "", 1, "fixed beforehand: the largest that fashion_study tried, and the best of these for such short trainings, on held-out images"),
    Row("gFMD at that guidance", (*_GENERATOR, "guided", "gfmd"), "lower"),
    Row("gFMD, guidance off, second evaluator", (*_GENERATOR, "off", "gfmd_second"), "lower"),
    Row("network calls per image, guidance off", (*_GENERATOR, "off", "cost", "calls"), "lower", 0),
    Row("network calls per image with guidance", (*_GENERATOR, "guided", "cost", "calls"), "lower", 0, "guidance doubles them"),
    Row("millions of FLOPs per image, guidance off", (*_GENERATOR, "off", "cost", "flops_per_image"), "lower", 1, "generator and decoder", 1e-6),
    Row("milliseconds per image, guidance off", (*_GENERATOR, "off", "cost", "ms_per_image"), "lower", 2),
    Row("precision, guidance off", (*_GENERATOR, "off", "precision"), "higher", 3),
    Row("recall, guidance off", (*_GENERATOR, "off", "recall"), "higher", 3),
)  # fmt: skip
# The rows on top, by the name of their difference in the demo's facts.
TOP = {
    "gfmd_guided": Row("gFMD with guidance", (*_GENERATOR, "guided", "gfmd"), "lower"),
    "gfmd_off": Row("gFMD without guidance", (*_GENERATOR, "off", "gfmd"), "lower"),
    "nats_per_token": Row("held-out nats per token", (*_LIKELIHOOD, "ema", "nats_per_token"), "lower", 3),
    "psnr": Row("PSNR of reconstructions (dB)", (*_TOKENIZER, "ema", "psnr"), "higher"),
    "rfmd": Row("rFMD of reconstructions", (*_TOKENIZER, "ema", "rfmd"), "lower", 3),
}


def top_table(facts: dict[str, Any]) -> Table:
    """Return the five rows that settle the demo, with how the arms compare."""
    rows: list[Sequence[str | Markup]] = []
    for name, row in TOP.items():
        cells = [_cell([dig(result[arm], row.path) for result in facts["results"]], row) for arm in ARMS]
        found, shown = facts["comparisons"].get(name), Markup("")
        if found:
            shown = Markup('{} <span class="quiet">{} to {}</span>').format(*in_digits(found, row.digits))
        rows.append([row.name, *cells, shown, row.better])
    return Table(
        ["score", *(named(COLOURS[arm], NAMES[arm]) for arm in ARMS), "with / without, or difference", "better"],
        rows,
        words=(0, 4),
    )


def score_table(facts: dict[str, Any]) -> Table:
    """Return all scores: a cell per arm, which direction is better, and remarks in small print."""
    rows: list[Sequence[str | Markup]] = []
    for row in ROWS:
        scores = [[dig(result[arm], row.path) for result in facts["results"]] for arm in ARMS]
        if any(value is None for values in scores for value in values):
            continue  # not scored at this size of the demo
        remark = _hardware(facts) if row.path[-1] == "ms_per_image" else row.remark
        rows.append([_remarked(row.name, remark), *(_cell(values, row) for values in scores), row.better])
    count = facts["floor"]["protocol"]["num_samples"]
    remark = f"{count:,} training images against the test set: what a perfect generator would score"
    rows.append([_remarked("floor: FMD of real images", remark), *[f"{facts['floor']['value']:.3f}"] * 2, ""])
    return Table(["score", *(named(COLOURS[arm], NAMES[arm]) for arm in ARMS), "better"], rows, words=(0, 3))


def _remarked(name: str, remark: str) -> Markup:
    return Markup("{}{}").format(name, Markup('<span class="quiet">{}</span>').format(remark) if remark else "")


def _hardware(facts: dict[str, Any]) -> str:
    cost = dig(facts["results"][0]["baseline"], (*_GENERATOR, "off", "cost")) or {}
    return f"{cost['hardware']}, {cost['batch']} at a time" if cost else ""


def _cell(scores: list[Any], row: Row) -> str:
    """Return a number with half of its interval: over seeds, or the score's own interval for a single seed."""
    values = [row.scale * (score["value"] if isinstance(score, dict) else score) for score in scores]
    if len(values) > 1:
        interval = t_interval(values)
        return f"{interval.value:.{row.digits}f} ± {interval.half_width:.{row.digits}f}"
    if isinstance(scores[0], dict) and scores[0]["high"] is not None:
        half = row.scale * (scores[0]["high"] - scores[0]["low"]) / 2
        return f"{values[0]:.{row.digits}f} ± {half:.{row.digits}f}"
    return f"{values[0]:.{row.digits}f}"


def stage_table(facts: dict[str, Any]) -> Table:
    """Return seconds and FLOPs by stage, then sizes of the models; first seed only."""
    first = facts["results"][0]
    rows: list[Sequence[str | Markup]] = [
        [_stage_name(pair[0]), *(f"{stage['seconds']:.0f} s, {stage['flops']:.3g} FLOPs" for stage in pair)]
        for pair in zip(*(first[arm]["stages"] for arm in ARMS), strict=True)
    ]
    totals = [sum(stage["seconds"] for stage in first[arm]["stages"] if not stage["before"]) for arm in ARMS]
    rows.append(["all stages of this demo", *(f"{total:.0f} s" for total in totals)])
    for stage in ("tokenizer", "generator"):
        cells = [
            f"{first[arm][stage]['steps']:,} steps, {sum(first[arm][stage]['params'].values()):,} parameters"
            for arm in ARMS
        ]
        rows.append([f"size of {stage}", *cells])
    head = [f"stage (seed {facts['seeds'][0]})", *(named(COLOURS[arm], NAMES[arm]) for arm in ARMS)]
    return Table(head, rows)


def _stage_name(stage: dict[str, Any]) -> str:
    return f"{stage['name']} (when it was made)" if stage["before"] else str(stage["name"])


def spread_sentence(results: list[dict[str, Any]]) -> str:
    """Say how the regularizer changed the spread of the latents: narrow latents are easy to predict in themselves."""
    spread = [sum(r[arm]["tokenizer"]["latent_variance"] for r in results) / len(results) for arm in ARMS]
    sentence = f"Spread of the latents (variance per dimension): {spread[0]:.4f} without, {spread[1]:.4f} with the regularizer."
    if spread[1] < 0.8 * spread[0]:
        sentence += (
            " The plain loss also falls when latents move closer together, which a cosine look-up does not notice."
            " Part of the gain here may come from that narrowing: check codebook usage and PSNR as well."
            " The variant l2_pre_normalized closes this loophole (--set crt.variant=l2_pre_normalized)."
        )
    return sentence
