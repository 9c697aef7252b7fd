"""Seconds and FLOPs of the demo's stages: as executed for training, from one forward pass per image for the rest."""

from typing import Any

import torch

from vistok.config import make
from vistok.data.latents.cache import LatentCache
from vistok.demo.sizes import DemoSize
from vistok.metrics.protocol import Treatment
from vistok.nn.flops import count_flops, on_meta
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.runs.drawing import decoding_flops
from vistok.runs.latent_facts import LatentFacts
from vistok.tokenizer.config import NETWORKS
from vistok.verbs import train_generator


def stage_costs(
    results: dict[str, Any],
    tokenizer: TokenizerRun,
    generator: GeneratorRun,
    caches: dict[str, LatentCache],
    demo: DemoSize,
) -> list[dict[str, Any]]:
    """Return one arm's stages in order: name, seconds (measured when the stage ran) and FLOPs.

    The evaluators' FLOPs are left out, as they are not part of the method's cost.
    """
    encode, decode = _per_image(tokenizer)
    facts = LatentFacts.of(caches["train"])
    # A training step is a forward pass plus a backward pass, which costs twice as much.
    forward = train_generator.plan(generator, facts, 1).flops_per_step[0][1] / 3 / generator.batch_size
    first, second = results["tokenizer"], results["generator"]
    evaluations = []
    for scores in second["scores"].values():
        if scores not in evaluations:  # if guidance 1 was chosen, "off" and "chosen" are one evaluation
            evaluations.append(scores)
    draws = [
        (scores["num_images"], Treatment.model_validate(scores["treatment"]).guidance_scale) for scores in evaluations
    ]
    searches: list[tuple[int, float | None]] = [(demo.search_samples, scale) for scale in demo.scales]
    likelihood_images = sum(
        second["likelihood"][name]["nats_per_token"]["protocol"]["num_samples"] for name in ("ema", "raw", "train")
    )
    scored = [scores["num_images"] for scores in first["scores"].values()]

    def sampling(drawn: list[tuple[int, float | None]]) -> float:
        return sum(count * ((1 if scale == 1.0 else 2) * forward + decode) for count, scale in drawn)

    rows = (
        ("train tokenizer", first["seconds"], first["train_flops"]),
        (
            "cache tokens",
            sum(cache.seconds for cache in caches.values()),
            encode * sum(cache.num_images for cache in caches.values()),
        ),
        ("score tokenizer", _seconds(first["scores"].values()), sum(scored) * (encode + decode)),
        ("train generator", second["seconds"], second["train_flops"]),
        ("likelihood", second["likelihood"]["seconds"], likelihood_images * forward),
        ("choose guidance", second["guidance"]["seconds"], sampling(searches)),
        ("sample and score", _seconds(evaluations), sampling(draws)),
    )
    return [{"name": name, "seconds": seconds, "flops": flops} for name, seconds, flops in rows]


def _seconds(evaluations: Any) -> float:
    return sum(evaluation["seconds"] for evaluation in evaluations)


def _per_image(config: TokenizerRun) -> tuple[float, float]:
    """Return the FLOPs of encoding and of decoding one image."""
    model = on_meta(lambda: make(NETWORKS, config.tokenizer))
    sides, channels = config.tokenizer.sides, config.tokenizer.in_channels
    encode = count_flops(lambda: model.to_latents(torch.empty(1, channels, *sides, device="meta")))
    return encode, decoding_flops(config.tokenizer)
