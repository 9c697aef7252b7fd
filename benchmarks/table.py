"""Print the table of docs/performance.md and draw its picture, from benchmarks/results: beside peers, and beside limits.

python benchmarks/table.py
"""

import json
from pathlib import Path
from typing import Any

import matplotlib
from common import number

from vistok.page.colours import BASELINE, COMPARED

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

HERE = Path(__file__).resolve().parent / "results"
MACHINES = {"Xeon": HERE, "EPYC": HERE / "amd-epyc"}
PICTURE = HERE.parent.parent / "docs" / "performance.png"
# What a reader asks -> the benchmark and its row.
ROWS: dict[str, tuple[str, str]] = {
    "sampling, 111M, one image": ("sampling", "111m, batch 1"),
    "the same, LlamaGen compiled": ("sampling", "111m, batch 1, against it compiled"),
    "the same with `--int8`, LlamaGen plain": ("sampling", "111m, batch 1, int8 weights"),
    "the same with `--precision bfloat16-weights`": ("sampling", "111m, batch 1, bfloat16 weights"),
    "sampling, 111M, 16 images at once": ("sampling", "111m, batch 16"),
    "sampling, 343M, one image": ("sampling", "343m, batch 1"),
    "the same, LlamaGen compiled ": ("sampling", "343m, batch 1, against it compiled"),
    "sampling, 343M, 16 images at once": ("sampling", "343m, batch 16"),
    "tokenizer's training step, 28x28, 32 images": ("tokenizer_step", "training step, 28x28, batch 32"),
    "tokenizer's training step, 256x256": ("tokenizer_step", "training step, 256x256, batch 1"),
    "the same, LlamaGen keeping freed memory too": (
        "tokenizer_step", "the same, against the peer with freed memory kept too, 256x256",
    ),
    "generator's training step, 111M, 4 images": ("generator_step", "training step, 111M, batch 4"),
    **{
        f"flow generator LightningDiT-{size}, {what}, LightningDiT's code{how}": ("flow_speed", f"{size}, {which}, against {peer}")
        for size in ("S", "B")
        for what, which in (
            ("training step, 4 images", "training step, 4 images"), ("sampling, 4 guided steps", "sampling, 2 images, 4 guided steps"),
        )
        for how, peer in (("", "LightningDiT"), (" compiled", "it compiled"))
    },
    "caching tokens, 256x256, two views": ("caching", "caching, 256x256, two views"),
    "look-up, 16,384 codes, 8,192 vectors": ("quantizer", "forward, 16,384 codes, 8,192 vectors, against LlamaGen"),
    "the same, vector-quantize-pytorch": (
        "quantizer", "forward, 16,384 codes, 8,192 vectors, against vector-quantize-pytorch",
    ),
    "Fréchet distance, 2,048 dimensions, clean-fid": ("frechet", "distance, 2048 dimensions, against clean-fid"),
    "the same, torch-fidelity": ("frechet", "distance, 2048 dimensions, against torch-fidelity"),
}  # fmt: skip
# Rows whose limit is known: bytes or operations.
LIMITED = {name: key for name, key in ROWS.items() if key[0] in ("sampling", "tokenizer_step", "generator_step")}


def row(folder: Path, question: str, name: str) -> dict[str, Any] | None:
    """Return a benchmark's row on a machine, None where it was not run."""
    file = folder / f"{question}.json"
    found = json.loads(file.read_text()) if file.is_file() else []
    return next((one for one in found if one["name"] == name), None)


def share(found: dict[str, Any]) -> float | None:
    """Return which share of the machine's limit, in bytes or operations, our time reaches; None where it is not recorded.

    Many images at once are limited by operations, which earlier runs of the benchmark did not count.
    """
    few = ("share_of_bandwidth_bound",) if found["name"].endswith("batch 1") else ()
    for name in ("share_of_limit", "share_of_matrix_rate", *few):
        if found.get(name) is not None:
            return float(found[name])
    return None


def table() -> str:
    """Return the table: on each machine our figure, the peer's, how many times better, and the share of the limit."""
    heads = [
        f"{machine}: {column}" for machine in MACHINES for column in ("ours", "peer", "times better", "of the limit")
    ]
    lines = [f"| | unit | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for name, key in ROWS.items():
        found = [row(folder, *key) for folder in MACHINES.values()]
        measured = [(one, folder) for one, folder in zip(found, MACHINES.values(), strict=True) if one]
        if not measured:
            continue
        known, folder = measured[0]
        place = folder.relative_to(HERE.parent.parent).as_posix()
        cells = [f"[{name.strip()}](../{place}/{key[0]}.md)", known["unit"]]
        for one in found:
            reached = share(one) if one else None
            limit = "" if reached is None else f"{reached:.0%}"
            figures = [number(one[key]) for key in ("ours", "peer", "ratio")] if one else [""] * 3
            cells += [*figures, limit]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _limited(folder: Path, key: tuple[str, str]) -> dict[str, Any] | None:
    found = row(folder, *key)
    return found if found and share(found) else None


def picture() -> None:
    """Draw times as multiples of the machine's limit: 1 is a machine that does nothing but read, or multiply."""
    names = [name for name, key in LIMITED.items() if any(_limited(folder, key) for folder in MACHINES.values())]
    figure, every = plt.subplots(1, len(MACHINES), figsize=(9, 3.6), sharey=True, layout="constrained")
    for axes, (machine, folder) in zip(every, MACHINES.items(), strict=True):
        for place, name in enumerate(reversed(names)):
            if (one := _limited(folder, LIMITED[name])) is None:
                continue
            ours = 1 / (share(one) or 1)
            axes.barh(place + 0.2, ours, 0.38, color=COMPARED, label="vistok")
            axes.barh(place - 0.2, ours * one["ratio"], 0.38, color=BASELINE, label="LlamaGen")
        axes.axvline(1, color="black", linewidth=1)
        axes.set(title=machine, xlabel="time / what the machine's limit allows", xlim=(0, None))
        axes.set_yticks(range(len(names)), list(reversed(names)))
        axes.tick_params(labelsize=8)
    handles, labels = every[0].get_legend_handles_labels()
    every[0].legend(handles[:2], labels[:2], fontsize=8)
    figure.savefig(PICTURE, dpi=130)


if __name__ == "__main__":
    print(table())
    picture()
