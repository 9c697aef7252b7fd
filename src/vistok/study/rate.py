"""The rate by which a budget in hours is turned into FLOPs."""

import json

from vistok.errors import UserError
from vistok.study.record import StudyFolder
from vistok.tasks.config import GeneratorRun
from vistok.tasks.rate import training_rate


def measured_rate(folder: StudyFolder) -> float:
    """Return training FLOPs per second of the study's largest recorded generator, measured now on this machine.

    Raises UserError where the study's records are not there.
    """
    records = [record for record in folder.records() if record["row"]["kind"] == "generator"]
    if not records:
        raise UserError(f"{folder.path} holds no records of generators: a budget in hours needs one; give it in FLOPs")
    record = max(records, key=lambda found: found["row"]["params"])
    config = GeneratorRun.from_json(json.dumps(record["config"]))
    side = round(record["row"]["num_tokens"] ** 0.5)
    return training_rate(config, (side, side), record["row"]["codebook_size"])
