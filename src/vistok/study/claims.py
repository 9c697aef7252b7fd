"""The paper's claims (CRT, arXiv 2412.16326) as estimators, margins and rules over a study's table.

A claim reads the table of runs and the study's grids by name: `main` (C1, C2, C7), `weights` and `layers` (C6),
`codebooks` (C3), `tokens` (C4), `variants` (C5). A grid that a study lacks leaves its claims open.
"""

from collections.abc import Callable

import pandas as pd

from vistok.study import claims_main, claims_sweeps
from vistok.study.claim_data import StudyData
from vistok.study.config import StudyConfig
from vistok.study.verdict import Claim

CLAIMS: tuple[Callable[[StudyData], list[Claim]], ...] = (
    claims_main.signature,
    claims_main.efficiency,
    claims_sweeps.codebook_size,
    claims_sweeps.token_count,
    claims_sweeps.variants,
    claims_sweeps.weight,
    claims_sweeps.layers,
    claims_main.prediction,
)


def judge(table: pd.DataFrame, study: StudyConfig) -> list[Claim]:
    """Return every claim with its verdict."""
    data = StudyData(table, study)
    return [claim for judge_one in CLAIMS for claim in judge_one(data)]
