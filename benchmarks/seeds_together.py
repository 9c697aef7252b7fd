"""Several seeds of a study: one after the other on all threads, side by side on one thread each, or in one step.

The step is that of fashion_crt. In one step, the convolutions of two seeds would be one with two groups, so those are timed.

python benchmarks/seeds_together.py
"""

from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection

import torch
from common import THREADS, alternate, arguments, end_apart, entry, median, save, start_apart, training_step
from torch.nn import functional as F

from vistok.engine.config import ExecutionConfig
from vistok.engine.device import setup_device
from vistok.recipes import find_recipe
from vistok.verbs import train_tokenizer

STEPS = 20
# Of the recipe: channels in and out, and pixels a side.
CONVOLUTIONS = ((16, 16, 28), (16, 16, 14), (16, 32, 7), (32, 32, 7), (32, 32, 14), (32, 16, 28))


def steps(threads: int):  # noqa: ANN201
    """Return what takes STEPS training steps on so many threads."""
    setup_device(ExecutionConfig(threads=threads))
    run = find_recipe("fashion_crt", "tokenizer")
    step = training_step(train_tokenizer.build_objective(run, torch.device("cpu")), run)
    return lambda: [step() for _ in range(STEPS)]


def all_of(pipes: Sequence[Connection]) -> None:
    """Let all processes work at the same time, and wait for them."""
    for pipe in pipes:
        pipe.send("go")
    for pipe in pipes:
        pipe.recv()


def convolutions(seeds: int, together: bool):  # noqa: ANN201
    """Return what computes the convolutions of so many seeds, forward and backward: with a group for each seed, or one by one."""
    layers = []
    for inputs, outputs, side in CONVOLUTIONS:
        groups, times = (seeds, 1) if together else (1, seeds)
        for _ in range(times):
            x = torch.randn(32, groups * inputs, side, side).to(memory_format=torch.channels_last).requires_grad_()
            weight = torch.randn(groups * outputs, inputs, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
            layers.append((x, weight, groups))

    def work() -> None:
        for x, weight, groups in layers:
            F.conv2d(x, weight, padding=1, groups=groups).sum().backward()

    return work


def main() -> None:
    options = arguments(__doc__)
    seeds = [start_apart(steps, (1,)) for _ in range(THREADS)]
    took = alternate(options.repeats, beside=partial(all_of, [pipe for pipe, _ in seeds]), alone=steps(THREADS))
    end_apart(seeds)
    each = {"beside": median(took["beside"]) / THREADS / STEPS * 1e3, "alone": median(took["alone"]) / STEPS * 1e3}
    results = [
        entry(
            "a step of each seed, side by side, beside one by one on all threads", each["beside"], each["alone"], "ms"
        )
    ]
    torch.set_num_threads(1)
    grouped = alternate(4 * options.repeats, together=convolutions(2, True), apart=convolutions(2, False))
    together, apart = (median(grouped[name]) * 1e3 for name in ("together", "apart"))
    results.append(entry("convolutions of two seeds one by one, beside as groups of one", apart, together, "ms"))
    save("seeds_together", results, f"Seeds of a study, on {THREADS} threads")


if __name__ == "__main__":
    main()
