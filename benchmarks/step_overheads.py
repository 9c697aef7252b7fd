"""Where a 28x28 training step of the recipe goes, and what each change for speed gives: the step with one of them undone."""

from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from common import alternate, arguments, entry, median, save, without_kernels
from tokenizer_step import our_step
from torch import nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from vistok.engine.config import ExecutionConfig
from vistok.engine.device import setup_device
from vistok.nn import gated, norm_silu
from vistok.nn.rope import turn_even_and_odd
from vistok.recipes import find_recipe
from vistok.tokenizer.bottlenecks import vq


def _torch_adamw(groups, config):  # noqa: ANN001, ANN202
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def _whole_argmax(z: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    return (z @ codebook.T).argmax(dim=-1)


def _torch_rms_norm(norm, x: torch.Tensor) -> torch.Tensor:  # noqa: ANN001
    return F.rms_norm(x, x.shape[-1:], norm.weight, 1e-5)


@contextmanager
def _rows_first():  # noqa: ANN202
    """Leave networks in torch's own layout: channels before rows."""
    move = nn.Module.to

    def to(module: nn.Module, *args: object, **more: object) -> nn.Module:
        return module if "memory_format" in more else move(module, *args, **more)

    with patch.object(nn.Module, "to", to):
        yield


# change -> what undoes it
UNDONE = {
    "norm and SiLU as one kernel": lambda: without_kernels(norm_silu),
    "AdamW as one kernel": lambda: patch("vistok.tokenizer.objective.adamw", _torch_adamw),
    "channels last": _rows_first,
    "look-up by groups of codes": lambda: patch.object(vq, "nearest_codes", _whole_argmax),
    "gated layer's middle as one kernel": lambda: without_kernels(gated),
    "RMS norm as one kernel": lambda: patch("vistok.nn.rms_norm.RMSNorm.forward", _torch_rms_norm),
    "rotary turn as one product": lambda: patch("vistok.nn.mixers.softmax.apply_rotary", turn_even_and_odd),
}


def step_without(*changes: str):  # noqa: ANN201
    """Return a step of fashion_crt with some changes undone."""
    run = find_recipe("fashion_crt", "tokenizer")

    def undo() -> ExitStack:
        stack = ExitStack()
        for change in changes:
            stack.enter_context(UNDONE[change]())
        return stack

    with undo():
        step, _, _ = our_step(run)

    def undone() -> None:
        with undo():
            step()

    return undone


def operators(step, rounds: int = 10) -> list[tuple[str, float, float]]:  # noqa: ANN001
    """Return (operator, milliseconds a step, calls a step) by torch's profiler, longest first."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(rounds):
            step()
    rows = [(row.key, row.self_cpu_time_total / rounds / 1e3, row.count / rounds) for row in found.key_averages()]
    return sorted(rows, key=lambda row: -row[1])


def main() -> None:
    options = arguments(__doc__)
    setup_device(ExecutionConfig())
    steps = {
        "ours": step_without(),
        "all undone": step_without(*UNDONE),
        **{name: step_without(name) for name in UNDONE},
    }
    seconds = {name: median(found) * 1e3 for name, found in alternate(8 * options.repeats, **steps).items()}
    results = [
        entry(f"28x28 step without: {name}", seconds["ours"], seconds[name], "ms") for name in seconds if name != "ours"
    ]
    run = find_recipe("fashion_crt", "tokenizer")
    plain, _, _ = our_step(run.replace(regularizers=()))
    kinds = {"with the regularizer": operators(steps["ours"]), "without": operators(plain)}
    lines = []
    for kind, rows in kinds.items():
        total, calls = sum(row[1] for row in rows), sum(row[2] for row in rows)
        lines.append(f"Profile {kind}: {total:.0f} ms in {calls:,.0f} calls of operators. " + ", ".join(
            f"{name.removeprefix('aten::')} {ms:.1f} ms ({count:.0f})" for name, ms, count in rows[:12]
        ))  # fmt: skip
    results[0]["profiles"] = {kind: rows[:40] for kind, rows in kinds.items()}
    save("step_overheads", results, "The 28x28 training step, changes undone one at a time", "  \n".join(lines))


if __name__ == "__main__":
    main()
