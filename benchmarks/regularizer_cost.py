"""What each regularizer adds to a training step of a tokenizer, alone and together: FLOPs, counted, and time, measured.

Steps of all ways alternate, and each way's time is its quickest step, in CPU seconds of one thread: neighbours lengthen that
least.
"""

import json
import os
import time
from collections.abc import Callable
from typing import Any

os.environ["BENCH_THREADS"] = "1"
from common import RESULTS, arguments, machine, training_step

CAUSAL = 'regularizers.causal={"kind": "causal", "width": 32, "num_heads": 2, "ffn_multiple": 32}'
ALIGNMENT = 'regularizers.alignment={"kind": "alignment", "features": "fashion"}'
FIXED = 'regularizers.alignment={"kind": "alignment", "features": "fashion", "adaptive": false}'
NOISING = "regularizers.noising.weight=1"
EQUIVARIANCE = "regularizers.equivariance.weight=0.5"
# Name, recipe of the tokenizer, settings.
WAYS = (
    ("tokens, none", "fashion_vq", ()),
    ("tokens, causal (as `fashion_crt`)", "fashion_crt", ()),
    ("tokens, alignment", "fashion_vq", (ALIGNMENT,)),
    ("tokens, causal and alignment", "fashion_crt", (ALIGNMENT,)),
    ("vectors, none", "fashion_kl", ()),
    ("vectors, causal", "fashion_kl", (CAUSAL,)),
    ("vectors, alignment (as `fashion_aligned`)", "fashion_kl", (ALIGNMENT,)),
    ("vectors, alignment with a fixed weight", "fashion_kl", (FIXED,)),
    ("vectors, noising", "fashion_kl", (NOISING,)),
    ("vectors, equivariance", "fashion_kl", (EQUIVARIANCE,)),
    ("vectors, causal and alignment", "fashion_kl", (CAUSAL, ALIGNMENT)),
    ("vectors, all four", "fashion_kl", (CAUSAL, ALIGNMENT, NOISING, EQUIVARIANCE)),
)


def run_of(recipe: str, settings: tuple[str, ...]) -> Any:
    """Return a recipe's run with these settings."""
    from vistok.config import override
    from vistok.recipes import find_recipe

    return override(find_recipe(recipe), list(settings))


def quickest(repeats: int, steps: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the CPU seconds of each way's quickest step, after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            started = time.process_time()
            step()
            seconds[name].append(time.process_time() - started)
    return {name: min(times[1:]) for name, times in seconds.items()}


def main() -> None:
    options = arguments(__doc__)
    import torch

    from vistok.verbs import train_tokenizer

    runs = {name: run_of(recipe, settings) for name, recipe, settings in WAYS}
    flops = {name: train_tokenizer.plan(run, 50_000).flops_per_step[-1][1] for name, run in runs.items()}
    steps = {}
    for name, run in runs.items():
        steps[name] = training_step(train_tokenizer.build_objective(run, torch.device("cpu")), run)
    seconds = quickest(options.repeats, steps)
    lines = [
        "# What regularizers cost",
        "",
        "A training step of Fashion-MNIST's tokenizer, 32 images: 7x7 tokens of 512 codes, or 7x7 vectors of 8 numbers. Aligned with "
        "the small network of the perceptual loss. Shares are of a step with none.",
        "",
        "| latents, regularizers | GFLOPs a step | more FLOPs | ms a step | more time |",
        "|---|---|---|---|---|",
    ]
    for name in runs:
        plain = name.split(",")[0] + ", none"
        more, longer = (100 * (found[name] / found[plain] - 1) for found in (flops, seconds))
        shares = ("", "") if name == plain else (f"{more:.0f} %", f"{longer:.0f} %")
        lines.append(f"| {name} | {flops[name] / 1e9:.2f} | {shares[0]} | {1000 * seconds[name]:.0f} | {shares[1]} |")
    about = machine()
    lines += ["", f"{about['hardware']['cpu']}, one thread, torch {about['versions']['torch']}, CPU time of the quickest of {options.repeats} "
        "steps each; `python benchmarks/regularizer_cost.py --repeats 25`"]  # fmt: skip
    print("\n".join(lines))
    rows = [{"name": name, "flops": flops[name], "seconds": seconds[name]} for name in runs]
    (RESULTS / "regularizer_cost.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1))
    (RESULTS / "regularizer_cost.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
