"""A training step of generators with 49 positions, changes undone one at a time, and its share of the matrix rate.

python benchmarks/small_generators.py          # BENCH_THREADS=1 for one thread, as studies train
"""

from contextlib import AbstractContextManager, ExitStack
from unittest.mock import patch

import torch
from common import alternate, arguments, entry, matrix_rate, median, save, training_step, without_kernels

from vistok.engine.config import ExecutionConfig
from vistok.engine.device import setup_device
from vistok.nn import gated, linear, rms_norm
from vistok.recipes import find_recipe
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.plan import step_flops
from vistok.units import Scale
from vistok.verbs import train_generator, train_tokenizer

# Recipe -> that of its tokenizer.
RECIPES = {"fashion_ar": "fashion_vq", "fashion_masked": "fashion_vq", "fashion_flow": "fashion_kl"}
# change -> what undoes it
UNDONE = {
    "large products by oneDNN": lambda: patch.object(linear, "LARGE", 2**62),
    "RMS norm as one kernel": lambda: without_kernels(rms_norm),
    "the gated layer's middle as one kernel": lambda: without_kernels(gated),
}


def objective_of(name: str, device: str):  # noqa: ANN201
    """Return a recipe's run and its objective."""
    run, tokenizer = find_recipe(name), find_recipe(RECIPES[name])
    space = train_tokenizer.build_objective(tokenizer, torch.device("meta")).tokenizer.space
    return run, train_generator.build_objective(run, LatentFacts(space, 10), torch.device(device))


def flops_of(name: str) -> float:
    """Return the floating-point operations of a step's networks, forward and backward."""
    run, objective = objective_of(name, "meta")
    phases = objective.phases(Scale(run.batch_size, 1, 1, (), 1000))
    return step_flops(phases, objective.example(run.batch_size, torch.device("meta")), 0)


def undoing(*changes: str) -> AbstractContextManager[ExitStack]:
    """Undo changes inside a `with`."""
    stack = ExitStack()
    for change in changes:
        stack.enter_context(UNDONE[change]())
    return stack


def main() -> None:
    options = arguments(__doc__)
    setup_device(ExecutionConfig(threads=torch.get_num_threads()))
    rate, results = matrix_rate(), []
    for name in RECIPES:
        run, objective = objective_of(name, "cpu")
        step = training_step(objective, run)

        def without(*changes: str, step=step) -> None:  # noqa: ANN001
            with undoing(*changes):
                step()

        ways = {"ours": without, "all undone": lambda without=without: without(*UNDONE)}
        ways |= {change: lambda without=without, change=change: without(change) for change in UNDONE}
        took = {way: median(found) * 1e3 for way, found in alternate(4 * options.repeats, **ways).items()}
        share = flops_of(name) / rate / took["ours"] * 1e3
        results += [
            entry(f"{name} without: {way}", took["ours"], took[way], "ms", share_of_matrix_rate=share)
            for way in took
            if way != "ours"
        ]
        print(*results[-len(UNDONE) - 1 :], sep="\n", flush=True)
    note = f"Matrix rate of this run: {rate / 1e9:.0f} GFLOP/s."
    save("small_generators", results, "A training step of generators with 49 positions, changes undone", note)


if __name__ == "__main__":
    main()
