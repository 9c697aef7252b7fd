"""What a recipe takes and what to expect of it: time and memory measured on this machine, and what its full size would take.

A recipe that trains on a CPU is built as it is, and its training step is timed in a process of its own, beside what that
process takes of memory. Times are CPU seconds of one thread, which neighbours lengthen least, and that of a run is its step's
times the number of steps: without reading images, validations and pictures. Full-size recipes are only planned: steps, FLOPs
and memory, as `vistok recipes NAME` counts them. Scores are read from results/, each beside the run that it is of, or are the
papers', as a recipe quotes them.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ["BENCH_THREADS"] = "1"
from common import RESULTS, machine, training_step
from recipe_scores import SCORES, studies

from vistok.files import write_json

WARM, LEAST, MOST = 2, 5, 40
ENOUGH, LONG = 8.0, 60.0  # CPU seconds after which the least, or any, number of steps is enough
GIB = 2**30
# Which tokenizer's latents a generator's recipe is meant for; a shortcut's are its teacher's.
TOKENIZERS = {
    "debug_ar": "debug_vq", "debug_masked": "debug_vq", "debug_flow": "debug_kl", "debug_mean_flow": "debug_kl",
    "fashion_ar": "fashion_vq", "fashion_demo_ar": "fashion_demo_vq", "fashion_masked": "fashion_vq",
    "fashion_clusters_ar": "fashion_clusters", "fashion_flow": "fashion_kl",
    "fashion_flow_teacher": "fashion_flow_tokenizer", "fashion_mean_flow": "fashion_flow_tokenizer",
    "openmoji_ar": "openmoji_vq", "images64_ar": "images64_vq", "images64_ar_small": "images64_vq", "images64_masked": "images64_vq",
    "images256_ar": "images256_vq", "images64_flow": "images64_kl",
}  # fmt: skip
TEACHERS = {"debug": "debug_flow", "fashion": "fashion_flow_teacher", "images64": "images64_flow"}
FULL_SIZE = ("imagenet", "lsun")


def objective_of(name: str) -> tuple[Any, Any]:
    """Return a recipe's config, and its objective with new networks on the CPU."""
    import torch

    from vistok.recipes import find_recipe
    from vistok.runs.latent_facts import LatentFacts
    from vistok.verbs import train_classifier, train_generator, train_tokenizer

    config, cpu = find_recipe(name), torch.device("cpu")
    if config.kind == "tokenizer":
        return config, train_tokenizer.build_objective(config, cpu)
    if config.kind == "classifier":
        return config, train_classifier.build_objective(config, cpu)
    teacher = TEACHERS[name.partition("_")[0]] if name not in TOKENIZERS else ""
    tokenizer = find_recipe(TOKENIZERS[teacher or name])
    space = train_tokenizer.build_objective(tokenizer, torch.device("meta")).tokenizer.space
    if teacher:
        return config, shortcut_of(config, space)
    return config, train_generator.build_objective(config, LatentFacts(space, 10), cpu)


def shortcut_of(config: Any, space: Any) -> Any:
    """Return a shortcut's objective, with a teacher of the network that its recipe names: one that knows nothing takes as long."""
    import torch

    from vistok.engine.distributed import ALONE
    from vistok.generator.families import build_generator
    from vistok.runs.teacher import without_teacher
    from vistok.shortcut.base import Given
    from vistok.shortcut.config import SHORTCUTS

    given = Given(space, 10, build_generator(config.generator, space, 10), None)
    return SHORTCUTS[config.shortcut.kind].load()(without_teacher(config), given, torch.device("cpu"), ALONE)


def measured(name: str) -> dict[str, float]:
    """Return CPU seconds of the quickest step, and the most memory of the process, in GiB; called in a process of its own."""
    import torch

    from vistok.engine.allocator import keep_freed_memory

    keep_freed_memory()  # as commands that train do
    torch.set_num_threads(1)
    config, objective = objective_of(name)
    step, seconds = training_step(objective, config), []
    while len(seconds) < WARM + MOST:
        started = time.process_time()
        step()
        seconds.append(time.process_time() - started)
        spent = sum(seconds)
        if (len(seconds) >= WARM + LEAST and spent > ENOUGH) or (len(seconds) > WARM and spent > LONG):
            break
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return {"seconds_per_step": min(seconds[WARM:]), "peak_gib": int(peak[1]) * 1024 / GIB}


def measured_apart(name: str, repeats: int) -> dict[str, float]:
    """Return the quickest of a few processes' measurements: neighbours only ever make a step slower."""
    command, runs = [sys.executable, __file__, "--measure", name], []
    for _ in range(repeats):
        runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return min(runs, key=lambda run: run["seconds_per_step"])


def planned(name: str) -> dict[str, Any]:
    """Return what `vistok recipes NAME` counts."""
    from vistok.recipes import find_recipe
    from vistok.verbs.show import resolve

    config = find_recipe(name)
    summary, _ = resolve(config)
    return {
        "kind": config.kind,
        "batch_size": config.batch_size,
        "at_once": summary["images_at_once"],
        "parameters": sum(summary["params"].values()),
        **{key: summary[key] for key in ("steps", "train_flops", "memory_gib_estimate")},
    }


def papers_words(name: str) -> str:
    """Return what a recipe's description quotes of its paper's scores."""
    import inspect

    from vistok.recipes import all_recipes

    text = " ".join((inspect.getdoc(all_recipes()[name]) or "").split())
    found = re.search(
        r"(?:[Ee]xpect (?:an )?|states )(.*?)(?:(?<!Fig)\.(?: |$)|, provided|, in TiTok's|, lower VQ| Generators trained)",
        text,
    )
    return found[1] if found else ""


def row_of(name: str, repeats: int) -> dict[str, Any]:
    """Return the row of a recipe of a single network."""
    row: dict[str, Any] = {"recipe": name, **planned(name)}
    return row if name.startswith(FULL_SIZE) else row | measured_apart(name, repeats)


def is_quicker(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a recipe was measured with a quicker step: fewer neighbours, not another recipe."""
    same = all(row[key] == other[key] for key in ("steps", "parameters", "train_flops"))
    return same and row.get("seconds_per_step", 0.0) < other.get("seconds_per_step", 0.0)


def minutes(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def page(found: list[dict[str, Any]], about: dict[str, Any], load: float) -> str:
    """Return the tables: of what was measured here, and of what is only planned."""
    small = [row for row in found if "seconds_per_step" in row]
    large = [row for row in found if "seconds_per_step" not in row]
    lines = ["# Recipes: time, memory and score to expect", "", "## On two cores", "", on_two_cores(about, load), ""]
    lines += ["| recipe | kind | parameters | steps | ms a step | one thread | GiB |", "|---|---|---|---|---|---|---|"]
    for row in small:
        step = row["seconds_per_step"]
        lines.append(
            f"| `{row['recipe']}` | {row['kind']} | {millions(row['parameters'])} | {row['steps']:,} | {1000 * step:,.0f} "
            f"| {minutes(step * row['steps'])} | {row['peak_gib']:.1f} |"
        )
    lines += ["", "### Scores", "", SCORED, ""]
    lines += ["| recipe | score | measured in |", "|---|---|---|"]
    scored = [(row["recipe"], *SCORES[row["recipe"]]()) for row in small if row["recipe"] in SCORES]
    lines += [f"| `{recipe}` | {score} | {of} |" for recipe, score, of in scored]
    lines += ["", "### Studies", "", *studies(), "", "## Full size, planned", "", PLANNED, ""]
    lines += ["| recipe | parameters | steps | batch | at a time | FLOPs | GiB |", "|---|---|---|---|---|---|---|"]
    for row in large:
        lines.append(
            f"| `{row['recipe']}` | {millions(row['parameters'])} | {row['steps']:,} | {row['batch_size']:,} "
            f"| {row['at_once']:,} | {row['train_flops']:.1e} | {row['memory_gib_estimate']:.0f} |"
        )
    lines += ["", "### The papers' scores", "", "| recipe | score |", "|---|---|"]
    lines += [f"| `{row['recipe']}` | {papers_words(row['recipe'])} |" for row in large]
    return "\n".join([*lines, "", f"Commit {str(about['commit'])[:7]}; `python benchmarks/recipe_table.py`"]) + "\n"


SCORED = (
    "Of finished runs, each with its length, which need not be the recipe's. Recipes of lines, vectors, masked generators, clusters and "
    "shortcuts have theirs in [results/tokens](../../results/tokens/README.md), [clusters](../../results/clusters/README.md) and "
    "[shortcuts](../../results/shortcuts/README.md)."
)
PLANNED = (
    "Nobody has trained these with vistok. Steps, FLOPs and memory are counted by `vistok recipes NAME`, without running "
    "anything. Memory is that of weights, gradients, AdamW's moments, averages and activations, of one process with as many "
    "images at a time as the table says; `--set execution.micro_batch_size=N` changes them, and of several processes each has a "
    "part of the batch. No time is given, because none was measured; `vistok recipes NAME` quotes the authors' hardware."
)


def on_two_cores(about: dict[str, Any], load: float) -> str:
    """Return how the times were measured; `load`: other processes that were busy meanwhile."""
    others = (
        f", since the machine did other work meanwhile (load {load:.0f}): a quiet one is quicker" if load >= 0.5 else ""
    )
    return (
        f"Measured on {about['hardware']['cpu']} with two cores, torch {about['versions']['torch']}: steps of each recipe at its "
        f"full batch, in a process of its own with one thread. A step is the quickest of five or more, in CPU time{others}. "
        "A run's time is that of a step times its steps, without reading images, validations and pictures. Two such runs at once fill two cores, "
        "as in a study, and take 0.7 times as long as one after the other with two threads each "
        "([table](amd-epyc/seeds_together.md)). Memory is the most that the process held; what trains next to nothing "
        "(`debug_classifier`) shows how much of it is Python and torch."
    )


def millions(count: int) -> str:
    """Return a count of parameters in millions."""
    return f"{count / 1e6:.1f} M" if count < 1e7 else f"{count / 1e6:.0f} M"


def measure(
    names: list[str], everything: list[str], file: Path, saved: dict[str, Any], repeats: int, *, keep: bool
) -> None:
    """Measure recipes and save each as it comes; those that this commit has measured already are left out, unless named.

    `keep`: a row keeps its quickest step.
    """
    about, known = machine(), {row["recipe"]: row for row in saved["rows"] if row["recipe"] in everything}
    for name in names:
        old = known.get(name, {})
        if not keep and old.get("commit") == about["commit"]:
            continue
        new = row_of(name, repeats) | {"commit": about["commit"]}
        known[name] = old if keep and old and is_quicker(old, new) else new
        print(known[name], flush=True)
        if not name.startswith(FULL_SIZE) or "about" not in saved:  # those are counted, and say nothing of the machine
            # One of the busy processes was ours.
            saved |= {"about": about, "load": max(0.0, os.getloadavg()[0] - 1)}
        saved["rows"] = [known[each] for each in everything if each in known]
        write_json(file, saved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", help="time this recipe in this process, and print JSON")
    parser.add_argument("--only", nargs="*", help="recipes to measure again, which keep their quickest step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="write the page anew from what was saved")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measured(options.measure)))
        return
    from vistok.recipes import all_recipes, find_recipe

    file = RESULTS / "recipe_table.json"
    saved = json.loads(file.read_text()) if file.is_file() else {"rows": []}
    everything = [name for name in all_recipes() if find_recipe(name).kind != "study"]
    if not options.page:
        measure(options.only or everything, everything, file, saved, options.repeats, keep=options.only is not None)
    (RESULTS / "recipe_table.md").write_text(page(saved["rows"], saved["about"], saved["load"]))


if __name__ == "__main__":
    main()
