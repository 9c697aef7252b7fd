"""Training steps in bfloat16 beside float32, and beside bfloat16 by torch's own operators, on a CPU.

python benchmarks/precision.py          # BENCH_THREADS=1 for one thread, as studies train
"""

from collections.abc import Callable

import torch
from common import alternate, arguments, entry, median, save, training_step, without_kernels
from small_generators import RECIPES, objective_of

from vistok.engine.config import ExecutionConfig
from vistok.engine.device import setup_device
from vistok.nn import gated, norm_silu, rms_norm
from vistok.recipes import find_recipe
from vistok.verbs import train_tokenizer

TOKENIZERS = ("fashion_crt", "images64_crt")


def step_of(name: str, precision: str) -> Callable[[], None]:
    """Return a training step of a recipe at a precision."""
    if name in TOKENIZERS:
        run = find_recipe(name, "tokenizer")
        objective = train_tokenizer.build_objective(run, torch.device("cpu"))
    else:
        run, objective = objective_of(name, "cpu")
    return training_step(objective, run.replace(precision=precision))


def by_torch(step: Callable[[], None]) -> Callable[[], None]:
    """Return the step with torch's norms and gates, in however many operators."""

    def plain() -> None:
        with without_kernels(norm_silu, gated, rms_norm):
            step()

    return plain


def main() -> None:
    options = arguments(__doc__)
    setup_device(ExecutionConfig(threads=torch.get_num_threads()))
    results = []
    for name in (*TOKENIZERS, *RECIPES):
        sixteen = step_of(name, "bfloat16")
        ways = {"ours": sixteen, "float32": step_of(name, "float32"), "torch's norms and gates": by_torch(sixteen)}
        took = {way: median(found) * 1e3 for way, found in alternate(options.repeats, **ways).items()}
        results += [entry(f"{name}, beside {way}", took["ours"], took[way], "ms") for way in took if way != "ours"]
        print(*results[-2:], sep="\n", flush=True)
    save("precision", results, "A training step in bfloat16")


if __name__ == "__main__":
    main()
