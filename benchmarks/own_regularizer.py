"""What the causal regularizer buys a generator of one's own images: `images64_crt` beside `images64_vq`.

python benchmarks/own_regularizer.py FOLDER [--seeds 0 1 2] [--steps 3000] [--generator-steps 1500] [--runs RUNS] [--out results/own_images]

As `vistok start` does with many pictures: both tokenizers are fine-tuned from `pictures64`, and a new generator learns the tokens
of each. Held-out nats, and distances of 1,000 unguided samples to the held-out pictures (`val` and `test`), in ImageNet features.
A row of regularizer.jsonl for each arm and seed; one that is there is not made again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from own_images import configured
from own_records import OUT, records_in
from own_samples import pictures

from vistok.config import override
from vistok.engine.device import best_device
from vistok.engine.log import Progress
from vistok.engine.provenance import provenance
from vistok.metrics.features import ImageNetFeatures
from vistok.metrics.frechet import frechet_distance
from vistok.metrics.kernel_distance import kernel_distance
from vistok.metrics.moments import Moments
from vistok.recipes import find_recipe
from vistok.runs.drawing import balanced_labels, sample_batches
from vistok.scoring.evaluate_generator import load_stage2
from vistok.scoring.evaluate_likelihood import evaluate_likelihood
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.start.look import look_at
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

ARMS = ("images64_vq", "images64_crt")
INIT, SAMPLES = "pictures64", 1_000
CROPS = ("10-crops",)


def measured(folder: Path, arm: str, seed: int, steps: int, generator_steps: int, runs: Path) -> dict[str, Any]:
    """Train both stages and return their scores."""
    progress = Progress(quiet=True)
    framing = f'data.framing="{look_at(str(folder)).framing}"'
    config = configured(folder, (framing,), steps, seed, INIT, arm)
    tokenizer = train_tokenizer.prepare(config, runs).train(progress).path
    train = cache_tokens(tokenizer, "train", progress, views=CROPS)
    val = cache_tokens(tokenizer, "val", progress)
    execution = [f"execution.{part}" for part in ("threads=1", "num_workers=0", "tensorboard=false")]
    settings = [f'length="{generator_steps} steps"', f"seed={seed}", *execution]
    second = override(find_recipe("images64_ar_small", "generator"), settings)
    generator = train_generator.prepare(second, train, val, tokenizer, runs).train(progress).path
    extractor = ImageNetFeatures(best_device())
    scores = evaluate_tokenizer(tokenizer, extractor, progress, split="val")
    likelihood = evaluate_likelihood(generator, train, val, progress)
    return {
        "psnr": scores["psnr"]["value"],
        "held_out_nats": likelihood["ema"]["nats_per_token"]["value"],
        "train_nats": likelihood["train"]["nats_per_token"]["value"],
        **distances(generator, extractor, progress),
    }


@torch.inference_mode()
def distances(generator: Path, extractor: ImageNetFeatures, progress: Progress) -> dict[str, float]:
    """Return the Fréchet and the kernel distance of unguided samples to all held-out pictures."""
    stage2 = load_stage2(generator)
    real = torch.cat([pictures(stage2, split)[0] for split in ("val", "test")])
    asked = balanced_labels(SAMPLES, stage2.generator.num_classes)
    sampler = stage2.generator.sampler(stage2.sampling())
    drawn = torch.cat(list(sample_batches(sampler, stage2.tokenizer, asked, progress)))
    fake, held_out = (torch.cat([extractor(part) for part in images.split(250)]).numpy() for images in (drawn, real))
    return {
        "held_out": len(real),
        "frechet": frechet_distance(Moments.of(fake), Moments.of(held_out)),
        "kernel": kernel_distance(fake, held_out).value,
    }


def main() -> None:
    """Make the rows that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--generator-steps", type=int, default=1_500)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "regularizer.jsonl"
    keys = ("folder", "arm", "seed", "steps", "generator_steps")
    done = {tuple(row[key] for key in keys) for row in records_in(file)}
    for seed in given.seeds:
        for arm in ARMS:
            what = dict(zip(keys, (given.folder.name, arm, seed, given.steps, given.generator_steps), strict=True))
            if tuple(what.values()) in done:
                continue
            lengths = (given.steps, given.generator_steps)
            row = {**what, **measured(given.folder, arm, seed, *lengths, given.runs), "provenance": provenance()}
            with file.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(row, flush=True)


if __name__ == "__main__":
    main()
