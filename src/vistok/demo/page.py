"""The demo's page: one self-contained HTML file."""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import torch
from torch import Tensor

from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images
from vistok.demo.facts import dig
from vistok.demo.figures import NAMES, per_position, position_maps, training_curves
from vistok.files import data_uri
from vistok.generator.families import default_sampling
from vistok.metrics.interval import t_interval
from vistok.runs.config import TokenizerRun
from vistok.runs.drawing import sample_batches
from vistok.runs.load import load_generator, load_tokenizer
from vistok.runs.pictures import display_scale, png_bytes, sheet
from vistok.tokenizer.interface import Tokenizer

ARMS = ("baseline", "crt")
RECONSTRUCTIONS = 14
SAMPLE_ROWS = 6


def render(facts: dict[str, Any], runs: Path, data: DataConfig) -> str:
    """Return the page for a demo's numbers."""
    template = jinja2.Template(
        (files("vistok") / "demo" / "demo.html.j2").read_text(), autoescape=True, undefined=jinja2.StrictUndefined
    )
    results = facts["results"]
    tokenizers = {arm: load_tokenizer(runs / results[0][arm]["tokenizer_run"]) for arm in ARMS}
    return template.render(
        facts=facts,
        names=NAMES,
        data=data,
        classes=open_split(data, "test").class_names,
        table=score_table(facts),
        stages=stage_table(facts),
        reconstructions=_reconstructions(tokenizers, data),
        samples={arm: _samples(results[0][arm], tokenizers[arm], runs) for arm in ARMS},
        copies={arm: _copies(results[0][arm], tokenizers[arm], runs, data) for arm in ARMS},
        memory={arm: results[0][arm]["generator"]["scores"]["off"]["memorization"] for arm in ARMS},
        spread=spread_sentence(results),
        per_position=per_position(results),
        position_maps=position_maps(results, _sides(tokenizers["baseline"])),
        training_curves=training_curves(results),
        protocol=results[0]["baseline"]["generator"]["scores"]["off"]["gfmd"]["protocol"],
        regularizer=TokenizerRun.from_json(json.dumps(tokenizers["crt"].info.run_config)).regularizer("causal"),
    )


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
    Row("rFMD, raw weights", (*_TOKENIZER, "raw", "rfmd"), "lower", 3, "without averaging"),
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
    Row("guidance scale chosen on held-out train images", ("generator", "guidance", "guidance_scale")),
    Row("gFMD at that guidance", (*_GENERATOR, "chosen", "gfmd"), "lower"),
    Row("gFMD, guidance off, raw weights", (*_GENERATOR, "raw", "gfmd"), "lower"),
    Row("gFMD, guidance off, second evaluator", (*_GENERATOR, "off", "gfmd_second"), "lower"),
    Row("network calls per image, guidance off", (*_GENERATOR, "off", "cost", "calls"), "lower", 0),
    Row("network calls per image at the chosen guidance", (*_GENERATOR, "chosen", "cost", "calls"), "lower", 0, "guidance doubles them"),
    Row("millions of FLOPs per image, guidance off", (*_GENERATOR, "off", "cost", "flops_per_image"), "lower", 1, "generator and decoder", 1e-6),
    Row("milliseconds per image, guidance off", (*_GENERATOR, "off", "cost", "ms_per_image"), "lower", 2),
    Row("precision, guidance off", (*_GENERATOR, "off", "precision"), "higher", 3),
    Row("recall, guidance off", (*_GENERATOR, "off", "recall"), "higher", 3),
)  # fmt: skip


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


def score_table(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows: a name, a cell per arm, which direction is better, and a remark."""
    rows = []
    for row in ROWS:
        scores = [[dig(result[arm], row.path) for result in facts["results"]] for arm in ARMS]
        if any(value is None for values in scores for value in values):
            continue  # not scored at this size of the demo
        searches = [result[arm]["generator"]["guidance"] for result in facts["results"] for arm in ARMS]
        edge = (
            "the highest scale tried; an even higher one may be better"
            if any(s["at_the_edge"] for s in searches)
            else ""
        )
        cells = [_cell(values, row) for values in scores]
        rows.append(
            {
                "name": row.name,
                "better": row.better,
                "cells": cells,
                "remark": {"guidance_scale": edge, "ms_per_image": _hardware(facts)}.get(row.path[-1], row.remark),
            }
        )
    count = facts["floor"]["protocol"]["num_samples"]
    remark = f"{count:,} training images against the test set: what a perfect generator would score"
    cells = [f"{facts['floor']['value']:.3f}"] * 2
    return [*rows, {"name": "floor: FMD of real images", "better": "", "cells": cells, "remark": remark}]


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


def stage_table(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return rows of seconds and FLOPs by stage, then of model sizes; first seed only."""
    first = facts["results"][0]
    rows = [
        {"name": pair[0]["name"], "cells": [f"{stage['seconds']:.0f} s, {stage['flops']:.3g} FLOPs" for stage in pair]}
        for pair in zip(*(first[arm]["stages"] for arm in ARMS), strict=True)
    ]
    totals = [sum(stage["seconds"] for stage in first[arm]["stages"]) for arm in ARMS]
    rows.append({"name": "all stages", "cells": [f"{total:.0f} s" for total in totals]})
    for stage in ("tokenizer", "generator"):
        cells = [
            f"{first[arm][stage]['steps']:,} steps, {sum(first[arm][stage]['params'].values()):,} parameters"
            for arm in ARMS
        ]
        rows.append({"name": f"size of {stage}", "cells": cells})
    return rows


def _reconstructions(tokenizers: dict[str, Tokenizer], data: DataConfig) -> str:
    images = next(eval_images(open_split(data, "test"), data, RECONSTRUCTIONS, limit=RECONSTRUCTIONS))["images"]
    rows = [to_uint8(images)]
    rows += [to_uint8(tokenizers[arm].decode(tokenizers[arm].encode(images))) for arm in ARMS]
    return _picture(torch.cat(rows), RECONSTRUCTIONS)


def _sides(tokenizer: Tokenizer) -> tuple[int, int]:
    layout = tokenizer.space.layout
    assert layout.kind == "grid"
    return layout.sides


def _samples(result: dict[str, Any], tokenizer: Tokenizer, runs: Path) -> str:
    generator = load_generator(runs / result["generator_run"])
    sampling = default_sampling(generator.config).replace(
        guidance_scale=result["generator"]["guidance"]["guidance_scale"]
    )
    labels = torch.arange(generator.num_classes).repeat(SAMPLE_ROWS)
    return _picture(
        torch.cat(list(sample_batches(generator.sampler(sampling), tokenizer, labels))), generator.num_classes
    )


def _copies(result: dict[str, Any], tokenizer: Tokenizer, runs: Path, data: DataConfig) -> str:
    """Return a picture of the samples nearest to a training image, each above that image."""
    generator = load_generator(runs / result["generator_run"])
    closest = result["generator"]["scores"]["off"]["memorization"]["closest"]
    ids = torch.tensor([pair["sample"] for pair in closest])
    tokens = generator.sample(ids % generator.num_classes, ids)
    train = open_split(data, "train")
    real = torch.stack([_nchw(torch.from_numpy(train.read(pair["train_image"]).copy())) for pair in closest])
    return _picture(torch.cat([to_uint8(tokenizer.decode(tokens)), real]), len(closest))


def _nchw(image: Tensor) -> Tensor:
    return image.permute(2, 0, 1)


def _picture(images: Tensor, columns: int) -> str:
    return data_uri(png_bytes(sheet(images, columns, max(1, display_scale(images.shape[-1]) - 1))))
