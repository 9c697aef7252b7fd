"""Seconds and FLOPs of the demo's stages: as executed for training, from one forward pass per image for the rest."""

from typing import Any

import torch

from vistok.config import make
from vistok.data.latents.cache import LatentCache
from vistok.demo.stages import CACHE, LIKELIHOOD, SCORE, SCORE_TOKENIZER, TRAIN_GENERATOR, TRAIN_TOKENIZER
from vistok.metrics.protocol import Treatment
from vistok.nn.flops import count_flops, on_meta
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.runs.drawing import decoding_flops
from vistok.runs.latent_facts import LatentFacts
from vistok.tokenizer.config import NETWORKS
from vistok.verbs import train_generator


def stage_costs(
    results: dict[str, Any], tokenizer: TokenizerRun, generator: GeneratorRun, caches: dict[str, LatentCache]
) -> list[dict[str, Any]]:
    """Return one arm's stages in order: name, seconds (measured when the stage ran) and FLOPs.

    A stage that was done before vistok was packed is marked `before`. The evaluators' FLOPs are left out, as they are not
    part of the method's cost.
    """
    encode, decode = _per_image(tokenizer)
    facts = LatentFacts.of(caches["train"])
    # A training step is a forward pass plus a backward pass, which costs twice as much.
    forward = train_generator.plan(generator, facts, 1).flops_per_step[0][1] / 3 / generator.batch_size
    first, second = results["tokenizer"], results["generator"]
    scored = [scores for scores in first["scores"].values() if "seconds" in scores]
    likelihood_images = sum(
        second["likelihood"][name]["nats_per_token"]["protocol"]["num_samples"] for name in ("ema", "raw", "train")
    )
    drawn = [
        (scores["num_images"], Treatment.model_validate(scores["treatment"]).guidance_scale)
        for scores in second["scores"].values()
    ]
    encoded = sum(cache.num_images for cache in caches.values())
    of_scores = sum(scores["num_images"] for scores in scored) * (encode + decode)
    sampling = sum(count * ((1 if scale == 1.0 else 2) * forward + decode) for count, scale in drawn)
    rows = [
        (TRAIN_TOKENIZER, first["seconds"], first["train_flops"]),
        (CACHE, sum(cache.seconds for cache in caches.values()), encode * encoded),
        *([(SCORE_TOKENIZER, _seconds(scored), of_scores)] if scored else []),
        (TRAIN_GENERATOR, second["seconds"], second["train_flops"]),
        (LIKELIHOOD, second["likelihood"]["seconds"], likelihood_images * forward),
        (SCORE, _seconds(second["scores"].values()), sampling),
    ]
    return [
        {"name": name, "seconds": seconds, "flops": flops, "before": name == TRAIN_TOKENIZER and not first["rows"]}
        for name, seconds, flops in rows
    ]


def _seconds(evaluations: Any) -> float:
    return float(sum(evaluation["seconds"] for evaluation in evaluations))


def _per_image(config: TokenizerRun) -> tuple[float, float]:
    """Return the FLOPs of encoding and of decoding one image."""
    model = on_meta(lambda: make(NETWORKS, config.tokenizer))
    sides, channels = config.tokenizer.sides, config.tokenizer.in_channels
    encode = count_flops(lambda: model.to_latents(torch.empty(1, channels, *sides, device="meta")))
    return encode, decoding_flops(config.tokenizer)
