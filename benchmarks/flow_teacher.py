"""Train the shipped flow generator, fashion-flow, from which shortcuts start, and write its pair of files.

python benchmarks/flow_teacher.py --out src/vistok/weights [--runs RUNS] [--threads 1]

A tokenizer to vectors (recipe fashion_flow_tokenizer), its latents in two views, the generator (fashion_flow_teacher), the guidance and the
number of steps that are best on held-out images, and gFMD to the test set at these. About an hour of one idle core, and half of one
for the scores. A stopped run goes on where it was.
"""

import argparse
from pathlib import Path
from typing import Any

import torch

from vistok.config import override
from vistok.engine.log import Progress
from vistok.engine.weights import load_weights, save_weights
from vistok.recipes import find_recipe
from vistok.scoring.evaluate_generator import (
    Against,
    Drawing,
    evaluate_generator,
    load_stage2,
    sample_distance,
)
from vistok.scoring.evaluators import choose_evaluator
from vistok.scoring.guidance import choose_guidance
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

NAME = "fashion_flow"
VIEWS = {"train": ("center", "flip"), "val": ("center",)}
SCALES, STEPS, SEARCHED, SAMPLES = (1.0, 1.5, 1.75, 2.0, 2.5), 20, 1_000, 10_000
# Of which the best on held-out images is chosen too, at the guidance chosen with STEPS.
FEWER = (4, 6, 8, 12, 20)


def main() -> None:
    """Train both, score them, and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    progress, threads = Progress(), [f"execution.threads={given.threads}"]
    config = override(find_recipe("fashion_flow_tokenizer", "tokenizer"), threads)
    tokenizer = train_tokenizer.prepare(config, given.runs).train(progress).path
    train, val = (cache_tokens(tokenizer, split, progress, views=views) for split, views in VIEWS.items())
    config = override(find_recipe("fashion_flow_teacher", "generator"), threads)
    generator = train_generator.prepare(config, train, val, tokenizer, given.runs).train(progress).path
    scores = scores_of(generator, progress)
    for kind, run in (("tokenizer", tokenizer), ("generator", generator)):
        state, header = load_weights(run / "export" / "model.safetensors")
        kept = {key: value for key, value in header.items() if key not in ("digest", "schema_version")}
        kept |= {"made_by": {"command": "python benchmarks/flow_teacher.py"}}
        if kind == "generator":
            kept |= {"scores": scores, "tokenizer": {**header["tokenizer"], "path": f"{NAME}_tokenizer.safetensors"}}
        save_weights(given.out / f"{NAME}_{kind}.safetensors", state, kept)


def scores_of(generator: Path, progress: Progress) -> dict[str, Any]:
    """Return the scores that the generator's file states, and their protocols."""
    stage2 = load_stage2(generator)
    extractor = choose_evaluator(stage2.data, None, None, stage2.generator.info.class_names)
    search = Drawing(stage2.sampling(steps=STEPS), SEARCHED)
    scale = choose_guidance(stage2, extractor, SCALES, search, progress)["guidance_scale"]
    held_out = {
        steps: sample_distance(
            stage2,
            extractor,
            Drawing(stage2.sampling(steps=steps, guidance_scale=scale), 2 * SEARCHED),
            progress,
            "val",
        ).value
        for steps in FEWER
    }
    steps = min(held_out, key=held_out.__getitem__)
    drawing = Drawing(stage2.sampling(steps=steps, guidance_scale=scale), SAMPLES)
    found = evaluate_generator(stage2, Against((extractor,)), drawing, progress)["gfmd"]
    return {
        "guidance_scale": scale, "sampling_steps": steps, "gfmd": found["value"], "gfmd_low": found["low"], "gfmd_high": found["high"],
        "protocols": {"gfmd": found["protocol"]},
    }  # fmt: skip


if __name__ == "__main__":
    main()
