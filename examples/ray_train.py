"""Train on a Ray cluster: the workers are what torchrun's processes are elsewhere.

    pip install 'vistok[ray]'
    python examples/ray_train.py 8 train tokenizer imagenet256_crt --data /shared/imagenet --runs /shared/runs

The first argument is the number of workers, the rest a vistok command. All workers must see the same runs folder.
A worker that dies ends the job, Ray starts it again (three times here), and the run resumes from its newest checkpoint.
"""

import sys
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer


def work(order: dict[str, Any]) -> None:
    """Run one vistok command in this worker, as the process of its rank."""
    import os

    from vistok.cli import app

    os.chdir(order["folder"])
    app(order["command"], standalone_mode=False)


if __name__ == "__main__":
    workers, *command = sys.argv[1:]
    ray.init()
    gpus = ray.cluster_resources().get("GPU", 0) > 0
    TorchTrainer(
        work,
        train_loop_config={"command": command, "folder": str(Path.cwd())},
        # Objects are exchanged on the CPU, gradients on the GPUs.
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo", timeout_s=6 * 3600),
        scaling_config=ScalingConfig(num_workers=int(workers), use_gpu=gpus),
        run_config=RunConfig(failure_config=FailureConfig(max_failures=3)),
    ).fit()
