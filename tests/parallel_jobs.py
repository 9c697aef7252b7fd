"""What test_parallel.py runs, alone and by torchrun: jobs that train one after the other, some of which die."""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from processes import GAN, tokenizer_config
from vistok.config import override
from vistok.data.latents.cache import LatentCache
from vistok.engine import step as one_step
from vistok.engine.distributed import join_world, leave_world
from vistok.engine.log import Progress
from vistok.recipes import find_recipe
from vistok.runs.teacher import with_teacher
from vistok.verbs import train_generator, train_tokenizer

# A quarter of the batch at a time, by one process or by four. The low rate: see processes.py.
COMMON = ["execution.log_every=1", "execution.tensorboard=false", "execution.micro_batch_size=4", "optimizer.lr=3e-5"]
LENGTH = 6
# Else a finished run keeps no checkpoint.
KEPT = f"execution.milestones=[{LENGTH}]"


def job(kind: str, root: Path, tokenizer: Path, out: Path, *settings: str):
    settings = (f"length={LENGTH} steps", *COMMON, KEPT, *settings)
    if kind == "tokenizer":
        return train_tokenizer.prepare(tokenizer_config(root, *GAN, *settings), out)
    if kind == "clusters":
        data = [f'data.root="{root}"', "data.max_images=200", "tokenizer.quantizer.image_fraction=0.5"]
        return train_tokenizer.prepare(override(find_recipe("debug_clusters"), [*data, *settings]), out)
    caches = [LatentCache(tokenizer / "tokens" / split) for split in ("train", "val")]
    if kind.startswith("debug_"):  # a shortcut; the last of the settings is its teacher
        config = with_teacher(override(find_recipe(kind), list(settings[:-1])), settings[-1])
    elif kind in ("flow", "masked"):
        config = override(find_recipe(f"debug_{kind}"), [*settings, "generator.label_dropout=0"])
    else:
        config = override(find_recipe("debug_ar"), [*settings, "generator.dropout=0.1"])
    return train_generator.prepare(config, *caches, tokenizer, out)


def die_at(step: int, rank: int, marker: Path, monkeypatched=one_step) -> None:
    """Let one process be killed when it comes to a step for the first time."""
    before = monkeypatched.reseed_global

    def reseed(seed, name, at, number):
        if at == step and join_world().rank == rank and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        before(seed, name, at, number)

    monkeypatched.reseed_global = reseed


def sharded_share(training) -> list[float]:
    """Return the share of a network's weights that this process holds, for each phase."""
    shares = []
    for phase in training.phases:
        weights = [p for module in phase.modules for p in module.parameters()]
        own = sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in weights)
        shares.append(own / sum(p.numel() for p in weights))
    return shares


def trace_only() -> None:
    """Let torch.compile trace blocks and their gradients, and run the graphs as they are.

    Generating C++ for them takes longer than all of these jobs; take this out to see that it gives the same.
    """
    compiled = torch.nn.Module.compile
    torch.nn.Module.compile = lambda self: compiled(self, backend="aot_eager")


def main() -> None:
    torch.set_num_threads(1)
    trace_only()
    world = join_world()
    order = json.loads(sys.argv[1])
    places = [Path(order[name]) for name in ("root", "tokenizer")]
    for name, one in order["jobs"].items():
        if one.get("dies"):
            die_at(one["dies"], world.size - 1, Path(order["out"]) / f"{name}.died")
        ready = job(one["kind"], *places, Path(order["out"]) / name, *one["settings"])
        build = ready.training

        def reporting(world, objective=None, *, build=build, name=name):
            training = build(world, objective)
            shares = world.collect(sharded_share(training))
            if world.main:
                (Path(order["out"]) / f"{name}.shares").write_text(json.dumps(shares))
            return training

        ready.training = reporting
        ready.train(Progress(quiet=True))
    leave_world()


if __name__ == "__main__":
    main()
