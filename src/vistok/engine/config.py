"""How a run is optimised (science) and executed (not science)."""

from typing import Literal

from pydantic import Field, model_validator

from vistok.config import Config
from vistok.units import Duration, percent, steps


class OptimizerConfig(Config):
    """AdamW with warm-up; `constant`, `cosine` (to zero) or `wsd` (warm-up, stable, decay to zero)."""

    lr: float = Field(default=1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.1, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    schedule: Literal["constant", "cosine", "wsd"] = "constant"
    warmup: Duration = steps(3000)
    # Learning rate at step 0, as a share of `lr`.
    warmup_start: float = Field(default=0.1, ge=0, le=1)
    # Length of the final decay of `wsd`.
    decay: Duration = percent(20)

    @model_validator(mode="after")
    def _betas(self) -> "OptimizerConfig":
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), found {self.betas}")
        return self


class ExecutionConfig(Config):
    """Settings that do not change the result: devices, threads, micro-batches, logging, checkpoints.

    `parallel`, with several processes: each holds all weights (`replicate`, DistributedDataParallel) or a part of them
    (`shard`, torch's fully_shard). `recompute` stores fewer activations and recomputes them in the backward pass;
    `compile` compiles blocks.
    """

    device: str = "auto"
    threads: int | None = Field(default=None, ge=1)
    parallel: Literal["replicate", "shard"] = "replicate"
    recompute: bool = False
    compile: bool = False
    micro_batch_size: int | None = Field(default=None, ge=1)
    num_workers: int = Field(default=0, ge=0)
    log_every: int = Field(default=20, ge=1)
    evaluate_every: int = Field(default=500, ge=1)
    checkpoint_minutes: float = Field(default=10.0, gt=0)
    keep_checkpoints: int = Field(default=2, ge=1)
    # Steps whose checkpoints are saved and kept in addition to the newest ones, so that shorter runs can branch off.
    milestones: tuple[int, ...] = ()
    tensorboard: bool = True
    # A tracker of experiments that also gets all numbers and pictures; its own variables say where it keeps them.
    logger: Literal["trackio", "wandb"] | None = None
