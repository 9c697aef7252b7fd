"""How fast this machine trains: FLOPs per second of a few steps, measured now."""

import json
import statistics
import time
from typing import Any

import torch

from vistok.errors import UserError
from vistok.study.record import StudyFolder
from vistok.tasks import train_generator
from vistok.tasks.config import GeneratorRun
from vistok.units import Scale

STEPS = 5


def training_rate(folder: StudyFolder, threads: int | None = None) -> float:
    """Return training FLOPs per second of the study's largest recorded generator, median of a few steps.

    Raises UserError where the study's records are not there.
    """
    records = [record for record in folder.records() if record["row"]["kind"] == "generator"]
    if not records:
        raise UserError(f"{folder.path} holds no records of generators: a budget in hours needs one; give it in FLOPs")
    record: dict[str, Any] = max(records, key=lambda found: found["row"]["params"])
    row = record["row"]
    config = GeneratorRun.from_json(json.dumps(record["config"]))
    if threads is not None:
        torch.set_num_threads(threads)
    side = round(row["num_tokens"] ** 0.5)
    manifest = {"grid": (side, side), "codebook_size": row["codebook_size"], "num_classes": 10}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    (phase,) = train_generator.build_phases(config, manifest, device, Scale(config.batch_size, 1, 1, (), row["steps"]))
    micro = {
        "tokens": torch.randint(row["codebook_size"], (config.batch_size, row["num_tokens"]), device=device),
        "labels": torch.zeros(config.batch_size, dtype=torch.int64, device=device),
    }
    seconds = []
    for _ in range(STEPS + 2):
        started = time.perf_counter()
        phase.loss(micro, 0).total.backward()
        phase.optimizer.step()
        phase.optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return float(row["train_flops"] / row["steps"] / statistics.median(seconds[2:]))
