"""The rate that converts a budget in hours into FLOPs."""

import json

from vistok.errors import UserError
from vistok.runs.config import GeneratorRun
from vistok.space import token_grid
from vistok.study.findings.table import generators, read_table
from vistok.study.run.record import StudyFolder


def measured_rate(folder: StudyFolder) -> float:
    """Measure, on this machine, the training FLOPs per second of the largest generator in the study's table.

    Raises UserError if its record is missing.
    """
    from vistok.verbs.step_time import training_rate

    rows = generators(read_table(folder.table))
    file = folder.record_file(str(rows.run.iloc[int(rows.params.to_numpy(float).argmax())])) if len(rows) else None
    if file is None or not file.is_file():
        raise UserError(
            f"{folder.path} holds no records of generators, which a budget in hours needs; give the budget in FLOPs"
        )
    record = folder.read(file)
    if record["row"]["codebook_size"] is None:
        raise UserError(
            f"{folder.path}: its largest generator writes vectors, whose training this command cannot time yet; give the budget in "
            "FLOPs (vistok train generator ... --dry-run counts those of a run)"
        )
    config = GeneratorRun.from_json(json.dumps(record["config"]))
    side = round(record["row"]["num_tokens"] ** 0.5)
    return training_rate(config, token_grid(side, side, record["row"]["codebook_size"]))
