"""Whether samples of `vistok start` can be recognised: a classifier that saw none of them names their classes.

python benchmarks/own_samples.py FOLDER --runs RUNS [--minutes 30] [--out results/own_images]

Judges the run that `vistok start FOLDER --go 30m --runs RUNS` left. The classifier is a logistic regression on
ImageNet features of the folder's training pictures. Its share of right answers is reported for held-out pictures, for
their reconstructions (more cannot be expected of samples) and for samples, each asked for by its class. Adds a line to
samples.jsonl, the sheet to sheets/, and writes samples.md.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from own_records import finished_start, records_in
from torch import Tensor
from torch.nn import functional as F

from vistok.data.images.open import open_split
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images
from vistok.engine.device import best_device
from vistok.engine.log import Progress
from vistok.engine.provenance import provenance
from vistok.files import write_atomic
from vistok.metrics.features import ImageNetFeatures
from vistok.runs.drawing import balanced_labels, sample_batches
from vistok.scoring.evaluate_generator import Stage2, load_stage2

# Samples of each class, and the seed of their noise, which nothing else is drawn with.
PER_CLASS, SEED = 200, 2026
# L2 penalty on the classifier's weights, for features scaled to unit variance.
PENALTY = 1e-3
# What counts as recognised: this share of the way from chance to what the classifier gets of reconstructions.
OF_THE_WAY = 0.5


class Judge:
    """A linear classifier of ImageNet features, trained on pictures and their mirror images."""

    def __init__(self, features: ImageNetFeatures, images: Tensor, labels: Tensor) -> None:
        self.features = features
        found = torch.cat([features(images), features(images.flip(-1))])
        self.mean, self.std = found.mean(0), found.std(0).clamp_min(1e-6)
        self.weight = torch.zeros(found.shape[1], int(labels.max()) + 1, requires_grad=True)
        self.bias = torch.zeros(self.weight.shape[1], requires_grad=True)
        scaled, labels = (found - self.mean) / self.std, labels.repeat(2)
        optimizer = torch.optim.LBFGS([self.weight, self.bias], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.cross_entropy(scaled @ self.weight + self.bias, labels) + PENALTY * self.weight.square().sum()
            value.backward()
            return value

        optimizer.step(loss)

    @torch.no_grad()
    def share(self, images: Tensor, labels: Tensor) -> float:
        """Return the share of images whose class it names."""
        scaled = (self.features(images) - self.mean) / self.std
        return float((torch.mm(scaled, self.weight).add(self.bias).argmax(1) == labels).float().mean())


def pictures(stage2: Stage2, split: str) -> tuple[Tensor, Tensor]:
    """Return a split's pictures (uint8) and labels."""
    batches = list(eval_images(open_split(stage2.data, split), stage2.data, 250))
    return to_uint8(torch.cat([batch["images"] for batch in batches])), torch.cat(
        [batch["labels"] for batch in batches]
    )


@torch.inference_mode()
def judged(generator: Path, guidance: float, progress: Progress) -> dict[str, Any]:
    """Return the shares of right answers for held-out pictures, their reconstructions, and samples."""
    stage2 = load_stage2(generator)
    classes = stage2.generator.num_classes
    if classes < 2:
        return {"classes": 1}
    with torch.inference_mode(False):
        judge = Judge(ImageNetFeatures(best_device()), *pictures(stage2, "train"))
    held_out = [pictures(stage2, split) for split in ("val", "test")]
    real, labels = (torch.cat(parts) for parts in zip(*held_out, strict=True))
    tokenizer = stage2.tokenizer
    decoded = [to_uint8(tokenizer.decode(tokenizer.encode(part.float() / 127.5 - 1))) for part in real.split(250)]
    asked = balanced_labels(PER_CLASS * classes, classes)
    sampler = stage2.generator.sampler(stage2.sampling(guidance_scale=guidance, seed=SEED))
    drawn = torch.cat(list(sample_batches(sampler, tokenizer, asked, progress)))
    return {
        "classes": classes,
        "real": judge.share(real, labels),
        "reconstructions": judge.share(torch.cat(decoded), labels),
        "samples": judge.share(drawn, asked),
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Return the records as Markdown."""
    text = [
        "# Samples of `vistok start`",
        "",
        "Shares of right answers of a classifier that was trained on the folder's own training pictures. Recognised: samples "
        f"are at least {OF_THE_WAY:.0%} of the way from chance to the share for reconstructions. Copies: samples closer to a training picture than 99% of "
        "reconstructions of unseen pictures. Sheets are in sheets/.",
        "",
        "| folder | minutes | pictures | tokens | steps (tokenizer, generator) | guidance | copies | chance | held-out pictures | "
        "reconstructions | samples | recognised |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in lines:
        facts = (
            f"| {row['folder']} | {row['minutes']:g} | {row['pictures']:,} | {row['tokens']} | "
            f"{row['tokenizer_steps']:,}, {row['generator_steps']:,} | {row['guidance']:g} | "
            f"{row['copies']:.1%} | "
        )
        if row["classes"] < 2:
            text.append(facts + "no classes | | | | |")
            continue
        chance = 1 / row["classes"]
        passed = row["samples"] - chance >= OF_THE_WAY * (row["reconstructions"] - chance)
        shares = " | ".join(f"{row[name]:.0%}" for name in ("real", "reconstructions", "samples"))
        text.append(f"{facts}{chance:.0%} | {shares} | {'yes' if passed else 'no'} |")
    return "\n".join(text) + "\n"


def main() -> None:
    """Judge a finished start, and write its line, sheet and the table."""
    progress = Progress(quiet=True)
    start = finished_start(__doc__, 30.0, progress)
    plan, done = start.plan, start.done
    row = {
        "folder": start.name, "minutes": start.minutes, "pictures": start.look.count, "tokens": plan.tokens,
        "codes": plan.codes, "tokenizer_steps": plan.tokenizer.steps, "generator_steps": plan.generator.steps,
        "guidance": done["guidance"], "psnr": done["psnr"],
        **judged(done["generator"], done["guidance"], progress),
        "gfmd": done["generator_scores"]["gfmd"]["value"],
        "copies": done["generator_scores"]["memorization"]["copy_share"], "provenance": provenance(),
    }  # fmt: skip
    file = start.out / "samples.jsonl"
    lines = [
        line for line in records_in(file) if (line["folder"], line["minutes"]) != (row["folder"], row["minutes"])
    ] + [row]
    start.out.joinpath("sheets").mkdir(parents=True, exist_ok=True)
    shutil.copy(done["overview"], start.out / "sheets" / f"{row['folder']}-{start.minutes:g}m.png")
    write_atomic(file, "".join(json.dumps(line) + "\n" for line in lines).encode())
    write_atomic(start.out / "samples.md", table(lines).encode())
    print(table([row]))


if __name__ == "__main__":
    main()
