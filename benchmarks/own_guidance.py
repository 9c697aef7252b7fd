"""Which distance finds the best guidance when there are few held-out pictures: Fréchet or kernel.

python benchmarks/own_guidance.py FOLDER --runs RUNS [--minutes 10] [--out results/own_images]

Reads what `vistok start FOLDER --go 10m --runs RUNS` left. At each scale, with two seeds, it draws as many samples as `vistok start`
does when it chooses, and records both distances to `val`, the kernel distance to `test`, and the share of samples whose class the
classifier of own_samples.py names. Replaces the folder's lines in guidance.jsonl, and writes
guidance.md.
"""

import json
from typing import Any

import torch
from own_records import finished_start, records_in
from own_samples import Judge, pictures

from vistok.engine.device import best_device
from vistok.engine.log import Progress
from vistok.engine.provenance import provenance
from vistok.files import write_atomic
from vistok.metrics.features import ImageNetFeatures
from vistok.metrics.frechet import frechet_distance
from vistok.metrics.kernel_distance import kernel_distance
from vistok.metrics.moments import Moments
from vistok.runs.drawing import balanced_labels, sample_batches
from vistok.scoring.evaluate_generator import Stage2, load_stage2
from vistok.start.plan import GUIDANCE, GUIDANCE_SAMPLES

SCALES, SEEDS = (1.0, 1.5, 2.0, 3.0, 4.0), (0, 77)


@torch.inference_mode()
def compared(stage2: Stage2, progress: Progress) -> list[dict[str, Any]]:
    """Return a row for each scale and seed."""
    classes, features = stage2.generator.num_classes, ImageNetFeatures(best_device())
    with torch.inference_mode(False):
        judge = Judge(features, *pictures(stage2, "train"))
    val, test = (features(pictures(stage2, split)[0]).numpy() for split in ("val", "test"))
    asked = balanced_labels(GUIDANCE_SAMPLES, classes)
    rows = []
    for scale in SCALES:
        for seed in SEEDS:
            sampler = stage2.generator.sampler(stage2.sampling(guidance_scale=scale, seed=seed))
            drawn = torch.cat(list(sample_batches(sampler, stage2.tokenizer, asked, progress)))
            found = features(drawn).numpy()
            rows.append(
                {
                    "guidance": scale, "seed": seed, "held_out": len(val),
                    "frechet_val": frechet_distance(Moments.of(found), Moments.of(val)),
                    "kernel_val": kernel_distance(found, val).value,
                    "kernel_test": kernel_distance(found, test).value,
                    "recognised": judge.share(drawn, asked),
                }
            )  # fmt: skip
    return rows


def summary(rows: list[dict[str, Any]]) -> str:
    """Return what each distance chooses among the scales of `vistok start`, judged by the samples of the other seed, as Markdown."""
    found: dict[tuple[str, int], dict[float, dict[str, Any]]] = {}
    for row in rows:
        if row["guidance"] in GUIDANCE:
            found.setdefault((row["folder"], row["seed"]), {})[row["guidance"]] = row
    lines = [
        "# Guidance chosen by few held-out pictures",
        "",
        "Chosen by one seed's samples, judged by the other's: the scale, its kernel distance to `test`, and the share that is recognised. Best: the "
        "scale with the least kernel distance to `test`.",
        "",
        "| folder | held out | seed | by Fréchet | | | by kernel | | | best |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (folder, seed), at in found.items():
        (other,) = (value for (name, drawn), value in found.items() if name == folder and drawn != seed)
        cells = [folder, str(at[1.0]["held_out"]), str(seed)]
        for distance in ("frechet_val", "kernel_val"):
            scale = min(at, key=lambda scale, distance=distance: at[scale][distance])
            cells += [f"{scale:g}", f"{other[scale]['kernel_test']:.4f}", f"{other[scale]['recognised']:.1%}"]
        best = min(other, key=lambda scale: other[scale]["kernel_test"])
        lines.append(f"| {' | '.join([*cells, f'{best:g}'])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compare at every scale, and write the folder's lines."""
    progress = Progress(quiet=True)
    start = finished_start(__doc__, 10.0, progress)
    stage2 = load_stage2(start.done["generator"])
    rows = [{"folder": start.name, **row, "provenance": provenance()} for row in compared(stage2, progress)]
    file = start.out / "guidance.jsonl"
    lines = [line for line in records_in(file) if line["folder"] != start.name] + rows
    write_atomic(file, "".join(json.dumps(line) + "\n" for line in lines).encode())
    write_atomic(start.out / "guidance.md", summary(lines).encode())


if __name__ == "__main__":
    main()
