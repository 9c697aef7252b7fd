"""Scores and recipes as lines of text, and as JSON."""

import inspect
import json
import math
from typing import Any

from vistok.data.images import imagenet
from vistok.errors import counted
from vistok.generator.families import FAMILIES
from vistok.recipes import all_recipes, find_recipe
from vistok.runs.config import ClassifierRun, GeneratorRun, TokenizerRun
from vistok.runs.health.alarms import FEW_UNSEEN
from vistok.space import Layout, Line, Tokens, Vectors, grid

# Layout, codes, classes and images to count a generator recipe with, as there is no token cache to read them from.
_GENERATOR_EXAMPLE: dict[str, tuple[Layout, int, int, int]] = {
    "fashion": (grid(7, 7), 512, 10, 50_000),
    "debug": (grid(7, 7), 64, 10, 2_000),
    "openmoji": (grid(8, 8), 512, 7, 3_129),
    "images64": (grid(8, 8), 1_024, 10, 10_000),
    "images256": (grid(16, 16), 4_096, 10, 10_000),
    "imagenet256-titok-l32": (Line(length=32), 4_096, 1_000, imagenet.COUNTS["train"]),
    "imagenet256-titok-b64": (Line(length=64), 4_096, 1_000, imagenet.COUNTS["train"]),
    "imagenet256-titok-s128": (Line(length=128), 4_096, 1_000, imagenet.COUNTS["train"]),
}


def score_line(name: str, score: dict[str, Any], digits: int = 3) -> str:
    """Return a line with a score, its interval and its protocol."""
    p = score["protocol"]
    as_text = f"z.{digits}f"  # z: no minus sign on what rounds to zero
    bounds = "too few images for an interval"
    if score["low"] is not None:
        corrected, low, high = (format(score[key], as_text) for key in ("corrected", "low", "high"))
        bounds = f"bias-corrected {corrected}, 95 % {low}...{high}"
    against = (
        f"{p['num_reference']} of {p['reference']}" if p["num_reference"] else f"the statistics in {p['reference']}"
    )
    return (
        f"{name} {format(score['value'], as_text)}  ({bounds}; {p['num_samples']} images against {against}; features of "
        f"{p['extractor']})"
    )


def _kernel_lines(scores: dict[str, Any], prefix: str) -> list[str]:
    names = (prefix + name for name in ("KMD", "KID"))
    return [score_line(name, scores[name.lower()], 5) for name in names if name.lower() in scores]


def _left_out_lines(scores: dict[str, Any]) -> list[str]:
    return [f"not scored: {reason}" for reason in scores.get("left_out", ())]


def tokenizer_lines(scores: dict[str, Any]) -> list[str]:
    """Return what vistok evaluate tokenizer prints."""
    lines = [
        f"{scores['run']}: {counted(scores['num_images'], 'image')} of {scores['split']}, {scores['treatment']['weights']} weights",
        f"PSNR {scores['psnr']['value']:.2f} dB, SSIM {scores['ssim']['value']:.4f}",
    ]
    if codes := scores.get("codebook"):  # vectors have none
        lines.append(
            f"codebook usage {100 * codes['usage']:.1f} %, entropy {codes['entropy']:.2f} bits per token, "
            f"by position {scores['position_entropy']['value']:.2f} bits, skewness {codes['skewness']:.3f}"
        )
        lines.append(f"rate: at most {math.ceil(scores['bits_per_image_upper_bound']):,} bits an image")
    else:
        lines.append("no rate: vectors have no fixed number of bits, and no generator here gives them a likelihood")
    if stable := scores.get("stability"):
        shares = ", ".join(
            f"{100 * score['value']:.1f} % at {name.removeprefix('changed_')} dB" for name, score in stable.items()
        )
        lines.append(f"tokens that noise changes: {shares}")
    lines += [
        score_line({"rfmd": "rFMD", "rfid": "rFID"}[key], scores[key]) for key in ("rfmd", "rfid") if key in scores
    ]
    return lines + _kernel_lines(scores, "r")


def start_lines(done: dict[str, Any]) -> list[str]:
    """Return what vistok start prints at the end."""
    lines = [f"tokenizer {done['tokenizer']}", f"generator {done['generator']}"]
    if "tokenizer_scores" in done:
        tokenizer, generator = done["tokenizer_scores"], done["generator_scores"]
        lines += [
            f"PSNR of held-out pictures {tokenizer['psnr']['value']:.2f} dB, {100 * tokenizer['codebook']['usage']:.0f} % of "
            "the codes in use",
            score_line("gFMD", generator["scores"]["gfmd"] if "scores" in generator else generator["gfmd"]),
        ]
    else:
        lines.append(f"PSNR of the pictures shown {done['psnr']:.2f} dB")
    guided = f" at guidance {done['guidance']:g}" if done["guidance"] != 1.0 else ""
    return [*lines, f"pictures, their reconstructions, and samples{guided}: {done['overview']}"]


def _copies_line(memory: dict[str, Any]) -> str:
    """Return what is said of copies; a hundredth of fewer than 100 unseen images is not even one of them."""
    closer = f"copies: {100 * memory['copy_share']:.1f} % of {memory['num_samples']} samples are closer to one of {memory['num_train']} training images than"
    unseen = f"{memory['num_unseen']} {'reconstructions of ' if memory.get('reconstructed') else ''}unseen images are"
    if memory["num_unseen"] < FEW_UNSEEN:
        return f"{closer} nearly all of {unseen}, which are too few to say what is usual"
    return f"{closer} 99 % of {unseen} (for those it is 1 %)"


def generator_lines(scores: dict[str, Any]) -> list[str]:
    """Return what vistok evaluate generator prints."""
    from vistok.metrics.cost import cost_in
    from vistok.metrics.protocol import Treatment  # loads scipy, which listing recipes should not

    key = "gfmd" if "gfmd" in scores else "gfid"
    treatment, memory = Treatment.from_json(json.dumps(scores["treatment"])), scores["memorization"]
    lines = [f"{scores['run']}: {treatment}", score_line({"gfmd": "gFMD", "gfid": "gFID"}[key], scores[key])]
    lines += _kernel_lines(scores, "g") + _inception_lines(scores, "g") + _precision_line(scores)
    lines += _left_out_lines(scores)
    lines.append(_copies_line(memory))
    if "likelihood" in scores:
        lines.append(_likelihood_line(scores["likelihood"]))
    if probe := scores.get("probe"):
        half = f" ± {100 * (probe['score']['high'] - probe['score']['low']) / 2:.1f}" if probe["score"]["low"] else ""
        lines.append(
            f"linear probe: layer {probe['layer']} of {len(probe['by_layer'])} tells the class of "
            f"{100 * probe['score']['value']:.1f}{half} % of held-out images"
        )
    if cost := cost_in(scores):
        lines.append(f"cost: {cost}")
    return lines


def samples_lines(scores: dict[str, Any]) -> list[str]:
    """Return what vistok evaluate samples prints."""
    lines = [f"{scores['samples']}: {counted(scores['num_images'], 'image')}", score_line("FID", scores["fid"])]
    lines += _kernel_lines(scores, "") + _inception_lines(scores, "") + _precision_line(scores)
    return lines + _left_out_lines(scores)


def _inception_lines(scores: dict[str, Any], prefix: str) -> list[str]:
    lines = []
    if f"{prefix}sfid" in scores:
        lines.append(f"{prefix}sFID {scores[f'{prefix}sfid']['value']:z.3f}")
    if "inception_score" in scores:
        inception = scores["inception_score"]
        lines.append(f"Inception score {inception['value']:.2f} ({inception['protocol']['estimator']})")
    return lines


def _precision_line(scores: dict[str, Any]) -> list[str]:
    if "precision" not in scores:
        return []
    p = scores["precision"]["protocol"]
    return [
        f"precision {scores['precision']['value']:.3f}, recall {scores['recall']['value']:.3f} "
        f"({p['num_samples']} samples, {p['num_reference']} images)"
    ]


def _likelihood_line(scores: dict[str, Any]) -> str:
    ema, split = scores["ema"], scores["split"]
    nats, bits, train = ema["nats_per_token"], ema["bits_per_image"], scores["train"]["nats_per_token"]
    raw = f"raw weights {scores['raw']['nats_per_token']['value']:.3f} nats" if "raw" in scores else "no raw weights"
    return (
        f"likelihood of {nats['protocol']['num_samples']} images of {split}: {nats['value']:.3f} nats per token, "
        f"{bits['value']:.1f} bits per image ({raw}, "
        f"training images {train['value']:.3f} nats)"
    )


def recipe_lines(name: str) -> list[str]:
    """Return a recipe's docstring, config and derived numbers, and its file's notes on all recipes in it."""
    recipe = recipe_json(name)
    notes = ["", f"About all recipes in this file: {recipe['notes']}"]
    summary = recipe["resolved"]
    if recipe["kind"] == "study":
        counts = [f"grid {grid}: {size}" for grid, size in summary["grids"].items()]
        return [recipe["doc"], "", json.dumps(recipe["config"], indent=2), "", *counts, recipe["counted_with"], *notes]
    parameters = ", ".join(f"{name} {count:,}" for name, count in summary["params"].items())
    return [
        recipe["doc"],
        "",
        json.dumps(recipe["config"], indent=2),
        "",
        f"steps {summary['steps']:,}, parameters {sum(summary['params'].values()):,} ({parameters})",
        f"tokens per image {summary['tokens_per_image']}, images seen {summary['images_seen']:,}",
        f"training FLOPs {summary['train_flops']:.3e} (full: every phase, forward and backward), "
        f"{summary['train_flops_paper']:.3e} (paper: 6 x parameters x steps x tokens per image)",
        f"memory about {summary['memory_gib_estimate']:.2f} GiB for a single process: weights, gradients, AdamW, EMA, and "
        f"{summary['activation_gib_estimate']:.2f} GiB for {summary['images_at_once']} images at a time",
        recipe["counted_with"],
        *notes,
    ]


def recipe_json(name: str) -> dict[str, Any]:
    """Return a recipe's docstring, config and derived numbers."""
    summary, note = resolve(find_recipe(name))
    return {**recipe_facts(name), "resolved": summary, "counted_with": note}


def list_json() -> dict[str, Any]:
    """Return every recipe with its docstring and config; counting their sizes and costs would take a minute."""
    return {name: recipe_facts(name) for name in all_recipes()}


def recipe_facts(name: str) -> dict[str, Any]:
    """Return what a recipe says of itself, without counting anything: kind, docstring, its file's notes, config."""
    config, build = find_recipe(name), all_recipes()[name]
    return {
        "kind": config.kind,
        "doc": inspect.getdoc(build) or "",
        "notes": inspect.getdoc(inspect.getmodule(build)) or "",
        "config": json.loads(config.to_json()),
    }


def resolve(config: Any) -> tuple[dict[str, Any], str]:
    """Return a config's derived numbers without its data, and a note on what was assumed."""
    num_images = imagenet.COUNTS["train"] if "imagenet" in config.name else 50_000
    if isinstance(config, TokenizerRun):
        from vistok.verbs import train_tokenizer

        return train_tokenizer.plan(config, num_images).summary(config), f"counted with {num_images:,} images"
    if isinstance(config, ClassifierRun):
        from vistok.verbs import train_classifier

        return train_classifier.plan(config, num_images).summary(config), f"counted with {num_images:,} images"
    if config.kind == "study":
        return _study_sizes(config), "vistok study run NAME --dry-run counts the work that is left"
    assert isinstance(config, GeneratorRun)
    from vistok.runs.latent_facts import LatentFacts
    from vistok.verbs import train_generator

    layout, codes, classes, images = _example(config.name)
    space: Any = Tokens(layout=layout, codebook_size=codes)
    if FAMILIES[config.generator.kind].writes == "vectors":
        space = Vectors(layout=layout, dim=_example_dim(config.name))
    note = f"counted with {space}, {classes} classes and {images:,} images"
    return train_generator.plan(config, LatentFacts(space, classes), images).summary(config), note


def _study_sizes(config: Any) -> dict[str, Any]:
    """Return how many networks each grid of a study trains."""
    sizes = {}
    for part in config.grids:
        tokenizers = len(part.tokenizers) * len(part.seeds)
        generators = tokenizers * len(part.generators) * len(part.lengths)
        sizes[part.name] = f"{counted(tokenizers, 'tokenizer')}, {counted(generators, 'generator')}"
    return {"grids": sizes}


# Of recipes for SD-VAE's vectors, which is not trained here.
SD = "-sd"


def _example(name: str) -> tuple[Layout, int, int, int]:
    if name.endswith(SD):
        return grid(32, 32), 16_384, 1_000, imagenet.COUNTS["train"]
    for prefix, example in _GENERATOR_EXAMPLE.items():
        if name.startswith(prefix):
            return example
    return grid(16, 16), 16_384, 1_000, imagenet.COUNTS["train"]


def _example_dim(name: str) -> int:
    """Return the numbers of a vector of the tokenizers that a generator's recipe is meant for."""
    if name.endswith(SD):
        return 4
    return next((dim for prefix, dim in (("debug", 4), ("fashion", 8), ("images", 16)) if name.startswith(prefix)), 32)
