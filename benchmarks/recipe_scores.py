"""Scores of finished runs, read from results/, for the table of recipes: (what was scored, in which run)."""

import csv
import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results"
Score = tuple[str, str]


@cache
def _rows(study: str) -> list[dict[str, str]]:
    with (RESULTS / study / "runs.csv").open() as file:
        return list(csv.DictReader(file))


def _band(values: list[float], digits: int = 2) -> str:
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count > 1)}"


def tokenizer(choice: str, *names: str) -> Score:
    """Return rFMD and PSNR of studies' tokenizers, which differ in their seeds alone."""
    found = [r for name in names for r in _rows(name) if r["kind"] == "tokenizer" and r["choice"] == choice]
    rfmd, psnr = ([float(row[key]) for row in found] for key in ("rfmd", "psnr"))
    where = ", ".join(f"[results/{name}](../../results/{name}/README.md)" for name in names)
    steps = f"{int(found[0]['steps']):,} steps, {_seeds(len(found))}"
    return f"rFMD {_band(rfmd)}, PSNR {_band(psnr, 1)} dB", f"{steps}: {where}"


def generator(study: str, choice: str, steps: int, tokenizers: tuple[str, ...]) -> Score:
    """Return gFMD of a study's generators of one size and length, for each kind of tokenizer."""
    bands, count = [], 0
    for name in tokenizers:
        key = ("generator", choice, str(steps), name)
        found = [r for r in _rows(study) if (r["kind"], r["choice"], r["steps"], r["tokenizer_choice"]) == key]
        count = len(found)
        guided = sorted({float(row["guidance_scale"]) for row in found})
        scale = f"{guided[0]:g}" if len(guided) == 1 else f"{guided[0]:g} to {guided[-1]:g}"
        bands.append(f"gFMD {_band([float(row['gfmd']) for row in found])} on tokens of `{name}`, guidance {scale}")
    return "; ".join(bands), f"{steps:,} steps, {_seeds(count)}: [results/{study}](../../results/{study}/README.md)"


def demo(side: str, stage: str, of: str = "") -> Score:
    """Return a score of the recorded demo."""
    results = json.loads((RESULTS / "demo/short/demo.json").read_text())["results"]
    found = [result[side][stage] for result in results]
    name, treatment = {"tokenizer": ("rfmd", "ema"), "generator": ("gfmd", "guided")}[stage]
    values = [one["scores"][treatment][name]["value"] for one in found]
    where = f"{_seeds(len(found))}: [results/demo](../../results/demo/README.md)"
    return f"{name[0]}FMD {_band(values)}{of}", f"{found[0]['steps']:,} steps, {where}"


def own(name: str, steps: int) -> Score:
    """Return PSNR and the gain over the mean picture on folders of one's own, trained from nothing."""
    lines = (RESULTS / "own_images/runs.jsonl").read_text().splitlines()
    found: list[dict[str, Any]] = [json.loads(line) for line in lines]
    ours = [r for r in found if (r["part"], r["name"], r["steps"]) == ("suspects", name, steps)]
    ends = [run["curve"][-1] for run in ours]
    gain, psnr = ([end[key] for end in ends] for key in ("psnr_over_mean", "psnr"))
    where = f"{steps:,} steps, {len(ours)} folders, 1 seed: [results/own_images](../../results/own_images/README.md)"
    return f"PSNR {_band(psnr, 1)} dB, {_band(gain, 1)} dB over the mean picture", where


def started() -> Score:
    """Return how often samples of `vistok start --go 10m` are recognised."""
    lines = (RESULTS / "own_images/samples.jsonl").read_text().splitlines()
    found = [run for run in map(json.loads, lines) if run.get("samples") is not None]  # those with classes
    shares = [100 * run["samples"] for run in found]
    steps = [run["generator_steps"] for run in found]
    where = f"{min(steps):,} to {max(steps):,} steps from the shipped generator: [samples](../../results/own_images/samples.md)"
    return f"a classifier recognises {_band(shares, 0)} % of samples", where


def studies() -> list[str]:
    """Return a table of what the studies took."""
    lines = ["| study | runs | hours of one thread, summed | recorded in |", "|---|---|---|---|"]
    for study, name in STUDIES.items():
        # A tokenizer at another image size shares another one's training.
        trained = [row for row in _rows(name) if row["kind"] == "generator" or not row["choice"].endswith("px")]
        hours = sum(float(row["seconds"]) for row in trained) / 3600
        lines.append(f"| `{study}` | {len(trained)} | {hours:.1f} | [results/{name}](../../results/{name}/README.md) |")
    return lines


# Studies that have run -> the folder of their results.
STUDIES = {
    "fashion_study": "fashion", "fashion_decisive_study": "decisive", "openmoji_study": "openmoji", "tokens_study": "tokens",
    "continuous_study": "continuous",
}  # fmt: skip
_FASHION = ("none", "l2-post-4")
SCORES: dict[str, Callable[[], Score]] = {
    "fashion_demo_vq": partial(demo, "baseline", "tokenizer"),
    "fashion_demo_crt": partial(demo, "crt", "tokenizer"),
    "fashion_demo_ar": partial(demo, "crt", "generator", " on tokens of `fashion_demo_crt`, guidance 3"),
    "fashion_vq": partial(tokenizer, "none", "fashion", "decisive"),
    "fashion_crt": partial(tokenizer, "l2-post-4", "fashion", "decisive"),
    "fashion_ar": partial(generator, "fashion", "l", 500, _FASHION),
    "openmoji_vq": partial(tokenizer, "none", "openmoji"),
    "openmoji_crt": partial(tokenizer, "l2-pre-1", "openmoji"),
    "openmoji_ar": partial(generator, "openmoji", "m", 1000, ("none", "l2-pre-1")),
    "images64_vq": partial(own, "no regularizer", 300),
    "images64_crt": partial(own, "base", 300),
    "images64_ar_small": started,
}
