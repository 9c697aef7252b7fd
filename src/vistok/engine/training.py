"""What the training loop is given: a run, prepared."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from vistok.engine.config import ExecutionConfig
from vistok.engine.distributed import ALONE, World
from vistok.engine.ema import EMA
from vistok.engine.log import Ringing, Row
from vistok.engine.parallel import Weights, Whole
from vistok.engine.phase import MicroBatch, Phase


@dataclass
class Training:
    """Everything the loop needs to know about a run.

    `batches` yields this process's part of every batch; `evaluate` receives the step and the networks from `whole`;
    `alarms` receives the rows so far, the last of which is new. `init_option` is the command's option that starts a run
    from a checkpoint's weights, if it has one.
    """

    name: str
    phases: Sequence[Phase]
    emas: dict[str, EMA]
    whole: Whole
    batches: Callable[[range], Iterator[MicroBatch]]
    evaluate: Callable[[int, Weights], dict[str, float]]
    total_steps: int
    batch_size: int
    flops_per_step: Sequence[tuple[int, float]]
    lr: float
    seed: int
    precision: str
    device: torch.device
    execution: ExecutionConfig
    world: World = ALONE
    alarms: Callable[[Sequence[Row]], Ringing] = lambda rows: Ringing()
    init_option: str = ""
    # What the rows so far say in a few figures, and what is told of the run whenever it was validated.
    headline: Callable[[Sequence[Row]], str] = lambda rows: ""
    report: Callable[[], None] = lambda: None
