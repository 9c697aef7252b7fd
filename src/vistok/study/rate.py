"""The rate by which a budget in hours is turned into FLOPs."""

import json

from vistok.errors import UserError
from vistok.study.record import StudyFolder
from vistok.study.table import generators, read_table
from vistok.tasks.config import GeneratorRun
from vistok.tasks.rate import training_rate


def measured_rate(folder: StudyFolder) -> float:
    """Return training FLOPs per second of the largest generator of the study's table, measured now on this machine.

    Raises UserError where its record is not there.
    """
    rows = generators(read_table(folder.table))
    file = folder.record_file(str(rows.run.iloc[int(rows.params.to_numpy(float).argmax())])) if len(rows) else None
    if file is None or not file.is_file():
        raise UserError(f"{folder.path} holds no records of generators: a budget in hours needs one; give it in FLOPs")
    record = folder.read(file)
    config = GeneratorRun.from_json(json.dumps(record["config"]))
    side = round(record["row"]["num_tokens"] ** 0.5)
    return training_rate(config, (side, side), record["row"]["codebook_size"])
