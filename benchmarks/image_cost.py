"""What an image costs: network calls, FLOPs and milliseconds, for both families and the switches of sampling.

Networks are the recipes' own with new weights, since a cost does not depend on what they have learned. Calls and FLOPs are
counted; milliseconds are CPU time of one thread, which neighbours lengthen least: the quickest of some draws, decoding
included, of as many images at once as the table says.
"""

import json
import os
import time
from typing import Any

os.environ["BENCH_THREADS"] = "1"
from common import RESULTS, arguments, machine

FEW, MANY = 1, 32
# Name, recipe of the generator, recipe of its tokenizer, values of the sampling.
WAYS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("autoregressive, plain", "fashion_ar", "fashion_vq", {}),
    ("guidance 1.5", "fashion_ar", "fashion_vq", {"guidance_scale": 1.5}),
    ("`--int8`", "fashion_ar", "fashion_vq", {"int8": True}),
    ("`--precision bfloat16`", "fashion_ar", "fashion_vq", {"precision": "bfloat16"}),
    ("flow, 20 steps (multistep)", "fashion_flow", "fashion_kl", {}),
    ("`--steps 50`", "fashion_flow", "fashion_kl", {"steps": 50}),
    ("`--solver euler`", "fashion_flow", "fashion_kl", {"solver": "euler"}),
    ("`--solver heun`", "fashion_flow", "fashion_kl", {"solver": "heun"}),
    ("20 steps, guidance 1.5", "fashion_flow", "fashion_kl", {"guidance_scale": 1.5}),
    (
        "the same, guided between times 0.25 and 0.75 only", "fashion_flow", "fashion_kl",
        {"guidance_scale": 1.5, "guidance_from": 0.25, "guidance_until": 0.75},
    ),
)  # fmt: skip


def networks(generator_recipe: str, tokenizer_recipe: str) -> tuple[Any, Any]:
    """Return a generator and a tokenizer with new weights, in evaluation mode."""
    from vistok.config import make
    from vistok.generator.families import build_generator
    from vistok.recipes import find_recipe
    from vistok.tokenizer.config import NETWORKS

    tokenizer = make(NETWORKS, find_recipe(tokenizer_recipe).tokenizer).eval()
    return build_generator(find_recipe(generator_recipe).generator, tokenizer.space, 10).eval(), tokenizer


def cost(generator: Any, tokenizer: Any, changes: dict[str, Any], batch: int, repeats: int) -> Any:
    """Return the cost of an image, drawn so many at once; its milliseconds are those of the quickest draw."""
    import torch

    from vistok.generator.families import default_sampling
    from vistok.runs.drawing import Clock, balanced_labels, cost_of, make_sampler

    sampling = default_sampling(generator.config).replace(**changes)
    sampler, labels, quickest = make_sampler(generator, sampling), balanced_labels(batch, 10), float("inf")
    for _ in range(repeats + 1):
        started = time.process_time()
        tokenizer.decode(sampler(labels, torch.arange(batch)))
        quickest = min(quickest, time.process_time() - started)
    return cost_of(generator, tokenizer, sampling, Clock(batch, batch, quickest))


def main() -> None:
    options = arguments(__doc__)
    import torch

    lines = [
        "# What an image costs",
        "",
        "28x28 pixels. The generators are those of `fashion_ar` (0.9 M parameters, 49 tokens) and `fashion_flow` (1.2 M, 49 vectors), "
        "with new weights. A call is one pass of the network, and guidance makes it two.",
        "",
        f"| how | calls | MFLOPs, generator | MFLOPs, decoder | ms an image, {FEW} at once | {MANY} at once |",
        "|---|---|---|---|---|---|",
    ]
    rows = []
    for name, generator_recipe, tokenizer_recipe, changes in WAYS:
        pair = networks(generator_recipe, tokenizer_recipe)
        with torch.inference_mode():
            few, many = (cost(*pair, changes, batch, options.repeats) for batch in (FEW, MANY))
        rows.append({"name": name, **{str(found.batch): found.to_json() for found in (few, many)}})
        lines.append(
            f"| {name} | {few.calls:g} | {few.flops / 1e6:.1f} | {few.decoder_flops / 1e6:.1f} | {few.milliseconds:.1f} "
            f"| {many.milliseconds:.1f} |"
        )
        print(lines[-1], flush=True)
    about = machine()
    lines += [
        "",
        f"{about['hardware']['cpu']}, one thread, CPU time, torch {about['versions']['torch']}; `python benchmarks/image_cost.py`",
    ]
    (RESULTS / "image_cost.json").write_text(json.dumps({"about": about, "rows": rows}, indent=1))
    (RESULTS / "image_cost.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
