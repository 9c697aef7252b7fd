"""What makes a tokenizer of one's own images good at the first try: each suspect alone, on folders of several kinds.

python benchmarks/own_images.py suspects --folders FOLDERS [--only NAME ...] [--steps 100] [--init-from TOKENIZER] [--out results/own_images]
python benchmarks/own_images.py goals --folders FOLDERS --init-from TOKENIZER [--decoder] [--seeds 0 1 2] [--steps 300] \
    [--recipe images128_crt] [--shape 48x88]
python benchmarks/own_images.py table

FOLDERS holds a sub-folder for each set (`benchmarks/own_folders.py` and `benchmarks/free_pictures.py` make some). Runs on
one thread each; a run whose record is there is not repeated. Records are lines of runs.jsonl, which `table` turns into
runs.md.
"""

import argparse
import json
import re
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from own_records import OUT, records_in
from torch import Tensor
from torch.nn import functional as F

from vistok.config import override
from vistok.data.images.open import open_split
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images
from vistok.engine.log import Progress, read_rows
from vistok.engine.run_dir import provenance
from vistok.metrics.codebook import perplexity_share
from vistok.metrics.reconstruction import psnr_per_image
from vistok.recipes import find_recipe
from vistok.rng import stable_choice
from vistok.runs.config import TokenizerRun
from vistok.runs.initial import with_network_of
from vistok.runs.load import load_tokenizer
from vistok.start.look import look_at
from vistok.tokenizer import objective as stage1
from vistok.tokenizer.bottlenecks.vq import VQ
from vistok.verbs import train_tokenizer

BASE = "images64_crt"
FORMER_NETWORK = json.dumps(
    {
        "channels": 24,
        "multipliers": [1, 1, 2, 2],
        "num_res_blocks": 1,
        "attention_resolutions": [8],
        "norm_groups": 8,
    }
)
# images64_vq as it was: random codes, no restarts, no shortcut, everything in percent.
FORMER = (
    f"tokenizer.encoder={FORMER_NETWORK}",
    f"tokenizer.decoder={FORMER_NETWORK}",
    "tokenizer.shortcut=false",
    'tokenizer.quantizer={"kind": "vq", "codebook_size": 1024}',
    "optimizer.lr=5e-4",
    'optimizer.warmup="5 percent"',
    "batch_size=32",
    "crt=null",
)
FORMER_CRT = 'crt={"width": 96, "num_heads": 4, "ffn_multiple": 32, "ramp": "10 percent"}'
PLAIN = ('crt.variant="l2_pre"', "crt.weight=4")
NONE = ("tokenizer.shortcut=false", "tokenizer.quantizer.start_after=null", "tokenizer.quantizer.restart_after=null")
WIDTHS = {width: [f"tokenizer.{side}.channels={width}" for side in ("encoder", "decoder")] for width in (16, 64)}
SCALED = "shortcut scale "
# What is changed of BASE, one thing at a time but for "former" and "network alone".
SUSPECTS: dict[str, tuple[str, ...]] = {
    "base": (),
    "no regularizer": ("crt=null",),
    "former, regularized": (*FORMER, FORMER_CRT),
    "former": FORMER,
    "network alone": (*NONE, "crt=null"),
    "no shortcut": NONE[:1],
    "no k-means start": NONE[1:2],
    "no restarts": NONE[2:],
    "cosine look-up": ('tokenizer.quantizer.lookup="cosine"',),
    "plain l2_pre at 4, at once": (*PLAIN, "crt.start_explained=0"),
    "plain l2_pre at 4, waiting": PLAIN,
    "l2_post at 4, waiting": ('crt.variant="l2_post"', "crt.weight=4"),
    "normalized at 0.05": ("crt.weight=0.05",),
    "normalized at 1": ("crt.weight=1",),
    "ramp and warm-up in percent": ('crt.ramp="10 percent"', "crt.start_explained=0", 'optimizer.warmup="5 percent"'),
    "learning rate 3e-4": ("optimizer.lr=3e-4",),
    "learning rate 3e-3": ("optimizer.lr=3e-3",),
    "half the width": tuple(WIDTHS[16]),
    "twice the width": tuple(WIDTHS[64]),
    "batch 8": ("batch_size=8",),
    "batch 32": ("batch_size=32",),
    "perceptual loss": ('losses.perceptual={"network": "imagenet", "weight": 0.02}',),
    "colour counts four times": (),
    **{f"{SCALED}{scale}": () for scale in (1, 3, 8, 16)},
}
# How the runs of goals are called, and what is changed of BASE.
GOALS: dict[str, tuple[str, tuple[str, ...]]] = {
    "all": ("fine-tuned", ()),
    "nothing": ("from nothing", ()),
    "decoder": ("decoder alone", ("crt=null", 'trains="decoder"')),
}
MEASURES = ("psnr", "psnr_over_mean", "dependence", "codebook_usage", "code_perplexity", "lab_error", "chroma_error")


def configured(
    folder: Path, settings: tuple[str, ...], steps: int, seed: int, init_from: str | None, recipe: str = BASE
) -> TokenizerRun:
    """Return a run of a recipe on a folder, grey where all its pictures are."""
    base = find_recipe(recipe, "tokenizer")
    if init_from:
        base = with_network_of(base, init_from)
    grey = not init_from and look_at(str(folder)).grey
    own = ["data.channels=1", "tokenizer.in_channels=1"] if grey else []
    execution = [
        "threads=1",
        "num_workers=0",
        "tensorboard=false",
        "log_every=10",
        f"evaluate_every={max(50, steps // 4)}",
    ]
    return override(
        base,
        [
            f'data.root="{folder}"', *own, *settings, f'length="{steps} steps"', f"seed={seed}",
            *(f"execution.{part}" for part in execution),
        ],
    )  # fmt: skip


def measured(config: TokenizerRun, what: dict[str, Any]) -> dict[str, Any]:
    """Train, and return the curve of validations with what the steps show, CPU seconds, and the thumbnail's PSNR."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    with tempfile.TemporaryDirectory() as runs:
        run = train_tokenizer.prepare(config, Path(runs)).train(Progress(quiet=True))
        rows = list(read_rows(run.metrics))
        made_by = provenance()
        trained = codes_on_train(run.path, config) if what["part"] == "goals" else {}
    after = resource.getrusage(resource.RUSAGE_SELF)
    steps = {row["step"]: row for row in rows if row["kind"] == "train"}
    curve = [
        {"step": row["step"], **{name: row[name] for name in MEASURES if name in row}, **_of_steps(steps, row["step"])}
        for row in rows
        if row["kind"] == "validation"
    ]
    return {
        **what,
        "curve": curve,
        **trained,
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "thumbnail_psnr": thumbnail_psnr(config),
        "alarms": sorted({row["name"] for row in rows if row["kind"] == "alarm" and "name" in row}),
        "made_by": {name: made_by[name] for name in ("commit", "torch", "cpu") if name in made_by},
    }


def codes_on_train(run: Path, config: TokenizerRun) -> dict[str, float]:
    """Return usage and perplexity, as shares of the codebook, over at most 1,000 training pictures.

    Held-out pictures are too few: 40 of them hold 2,560 tokens.
    """
    source, tokenizer = open_split(config.data, "train"), load_tokenizer(run)
    chosen = source.subset(stable_choice(0, "codes", len(source), 1000), "codes")
    tokens = torch.cat([tokenizer.encode(batch["images"]).flatten() for batch in eval_images(chosen, config.data, 100)])
    counts = torch.bincount(tokens, minlength=tokenizer.space.codebook_size)
    return {
        "train_codebook_usage": float((counts > 0).float().mean()),
        "train_code_perplexity": perplexity_share(counts.numpy()),
    }


def _of_steps(steps: dict[int, dict[str, Any]], step: int) -> dict[str, float]:
    nearest = steps.get(max((at for at in steps if at <= step), default=-1), {})
    wanted = ("autoencoder/latent_variance", "autoencoder/grad_norm_autoencoder", "autoencoder/causal_loss")
    return {name.split("/")[1]: nearest[name] for name in wanted if name in nearest}


def thumbnail_psnr(config: TokenizerRun) -> float:
    """Return the mean PSNR (dB) of bicubic thumbnails of the tokens' bits, of the held-out pictures.

    The best of all sides and bits a value that fit.
    """
    tokenizer = config.tokenizer
    bits = tokenizer.num_tokens * torch.log2(torch.tensor(tokenizer.quantizer.codebook_size)).item()
    source = open_split(config.data, "val")
    images = torch.cat([batch["images"] for batch in eval_images(source, config.data, 250)][:4])
    sizes = [
        (side, depth)
        for side in range(2, 33)
        for depth in range(3, 9)
        if side**2 * depth * config.data.channels <= bits
    ]
    return max(_thumbnail(images, side, depth) for side, depth in sizes)


def _thumbnail(images: Tensor, side: int, depth: int) -> float:
    small = F.interpolate(images, size=(side, side), mode="bicubic", antialias=True).clamp(-1, 1)
    levels = 2**depth - 1
    small = (small / 2 + 0.5).mul(levels).round().div(levels) * 2 - 1
    back = F.interpolate(small, size=images.shape[2:], mode="bicubic").clamp(-1, 1)
    return float(psnr_per_image(to_uint8(back), to_uint8(images)).mean())


@contextmanager
def colour_counts(times: float) -> Iterator[None]:
    """Make the pixel loss count differences between the channels more."""
    before = stage1.reconstruction_terms

    def terms(output: Any, images: Tensor, *others: Any) -> dict[str, Tensor]:
        found = before(output, images, *others)
        error = output.reconstruction.float() - images
        grey = error.mean(dim=1, keepdim=True)
        found["pixel_loss"] = grey.square().mean() + times * (error - grey).square().mean()
        return found

    stage1.reconstruction_terms = terms
    try:
        yield
    finally:
        stage1.reconstruction_terms = before


@contextmanager
def shortcut_scale(scale: float) -> Iterator[None]:
    """Let the linear path begin with vectors of another size."""
    before, VQ.vector_scale = VQ.vector_scale, scale
    try:
        yield
    finally:
        VQ.vector_scale = before


def of_shape(shape: str | None) -> tuple[str, ...]:
    """Return the settings for a height and width, as in 48x88; none without."""
    if shape is None:
        return ()
    height, width = shape.split("x")
    return tuple(
        f"{part}.image_{side}={value}"
        for part in ("data", "tokenizer")
        for side, value in (("size", height), ("width", width))
    )


def work(
    out: Path,
    jobs: list[tuple[dict[str, Any], tuple[str, ...]]],
    folders: Path,
    init_from: str | None,
    recipe: str = BASE,
) -> None:
    """Do what has no record yet."""
    out.mkdir(parents=True, exist_ok=True)
    keys = ("part", "folder", "name", "steps", "seed")
    done = {tuple(record[key] for key in keys) for record in records_in(out / "runs.jsonl")}
    for what, settings in jobs:
        if tuple(what[key] for key in keys) in done:
            continue
        config = configured(folders / what["folder"], settings, what["steps"], what["seed"], init_from, recipe)
        colour = colour_counts(4.0 if what["name"].startswith("colour counts four times") else 1.0)
        found = re.match(rf"{SCALED}(\d+)", what["name"])
        with colour, shortcut_scale(float(found[1]) if found else VQ.vector_scale):
            record = measured(config, what)
        with (out / "runs.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        last = record["curve"][-1]
        print(what["folder"], what["name"], what["steps"], {k: round(v, 3) for k, v in last.items()}, flush=True)


def table(out: Path) -> str:
    """Return the records as Markdown: a table for each part and length, a row for each suspect, a column a folder."""
    found = records_in(out / "runs.jsonl")
    lines = ["# Runs on folders of one's own", "", *judged(found)]
    for part, steps in sorted({(record["part"], record["steps"]) for record in found}):
        here = [record for record in found if (record["part"], record["steps"]) == (part, steps)]
        folders = sorted({record["folder"] for record in here})
        lines += [
            f"## {part}, {steps:,} steps",
            "",
            "dB over the mean picture / % of codes used / perplexity % / latents' variance, at the end; means over seeds",
            "",
            "| | " + " | ".join(folders) + " |",
            "|---|" + "---|" * len(folders),
        ]
        for name in dict.fromkeys(record["name"] for record in here):
            cells = [_cell([r for r in here if (r["name"], r["folder"]) == (name, folder)]) for folder in folders]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def judged(found: list[dict[str, Any]]) -> list[str]:
    """Return the goals (goals.md) as a table: the worst seed of each folder, and whether it meets them."""
    rows = [record for record in found if record["part"] == "goals"]
    lines = [
        "## Goals: the worst seed of each folder",
        "",
        "| folder | how | steps | seeds | dB over the mean picture (8) | dB over a thumbnail (0.5) | codes % (50) | perplexity % (25) | "
        "distance in a, b (8) | CPU s (1,200) | met |",
        "|---|" + "---|" * 10,
    ]
    for key in dict.fromkeys((row["folder"], row["name"], row["steps"]) for row in rows):
        here = [row for row in rows if (row["folder"], row["name"], row["steps"]) == key]
        ends = [row["curve"][-1] for row in here]
        over = min(end["psnr_over_mean"] for end in ends)
        thumbnail = min(end["psnr"] - row["thumbnail_psnr"] for end, row in zip(ends, here, strict=True))
        used, perplexity = (min(row[f"train_code{name}"] for row in here) for name in ("book_usage", "_perplexity"))
        chroma, seconds = max(end.get("chroma_error", 0.0) for end in ends), max(row["cpu_seconds"] for row in here)
        met = over >= 8 and thumbnail >= 0.5 and used >= 0.5 and perplexity >= 0.25 and chroma <= 8 and seconds <= 1200
        verdict = "no" if not met else "yes" if len(here) >= 3 else "open"  # one seed that misses settles it
        lines.append(
            f"| {key[0]} | {key[1]} | {key[2]} | {len(here)} | {over:.1f} | {thumbnail:+.1f} | {100 * used:.0f} | "
            f"{100 * perplexity:.0f} | {chroma:.1f} | {seconds:.0f} | {verdict} |"
        )
    return [*lines, ""]


def _cell(found: list[dict[str, Any]]) -> str:
    if not found:
        return ""
    ends = [record["curve"][-1] for record in found]
    over, used, perplexity, variance = (
        sum(end.get(name, float("nan")) for end in ends) / len(ends)
        for name in ("psnr_over_mean", "codebook_usage", "code_perplexity", "latent_variance")
    )
    return f"{over:.2f} / {100 * used:.0f} / {100 * perplexity:.0f} / {variance:.3f}"


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["suspects", "goals", "table"])
    parser.add_argument("--folders", type=Path)
    parser.add_argument("--sets", nargs="*", help="sub-folders of it; default: all")
    parser.add_argument("--only", nargs="*", default=list(SUSPECTS), choices=list(SUSPECTS))
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--seeds", type=int, nargs="*", default=None)
    parser.add_argument("--init-from")
    parser.add_argument(
        "--decoder",
        action="store_true",
        help="of goals: train the decoder alone, as vistok start does with few pictures",
    )
    parser.add_argument("--recipe", default=BASE, help="of goals: another recipe, as of another size")
    parser.add_argument("--shape", help="of goals: height and width of the pictures, as in 48x88")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    if args.verb != "table":
        sets = args.sets or sorted(path.name for path in args.folders.iterdir() if path.is_dir())
        if args.verb == "suspects":
            steps, seeds, how = args.steps or 100, args.seeds or [0], ", fine-tuned" if args.init_from else ""
            names = [(f"{name}{how}", SUSPECTS[name]) for name in args.only]
        else:
            steps, seeds, names = (
                args.steps or 300,
                args.seeds or [0, 1, 2],
                [GOALS["decoder" if args.decoder else "all" if args.init_from else "nothing"]],
            )
            other = "".join(f", {part}" for part in (args.recipe, args.shape) if part not in (None, BASE))
            names = [(f"{name}{other}", (*settings, *of_shape(args.shape))) for name, settings in names]
        jobs = [
            ({"part": args.verb, "folder": folder, "name": name, "steps": steps, "seed": seed}, settings)
            for name, settings in names
            for folder in sets
            for seed in seeds
        ]
        work(args.out, jobs, args.folders, args.init_from, args.recipe)
    (args.out / "runs.md").write_text(table(args.out) + "\n")


if __name__ == "__main__":
    main()
