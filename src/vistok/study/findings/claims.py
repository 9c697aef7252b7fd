"""Claims (of the CRT paper, arXiv 2412.16326, on vectors, and on tokens) as estimators, margins and rules on a study's table.

Each claim is judged on the runs of one grid, identified by name; a study is judged by the claims whose grids it has.
"""

from collections.abc import Callable

import pandas as pd

from vistok.study.config import Grid, StudyConfig
from vistok.study.findings import (
    claims_decisive,
    claims_families,
    claims_main,
    claims_prediction,
    claims_sweeps,
    claims_tokens,
    claims_vectors,
)
from vistok.study.findings.claim_data import StudyData
from vistok.study.findings.verdict import Claim

_MAIN = "the study's main grid"
CLAIMS: tuple[tuple[str, Callable[[StudyData, Grid], list[Claim]]], ...] = (
    (_MAIN, claims_main.signature),
    (_MAIN, claims_main.efficiency),
    ("codebooks", claims_sweeps.codebook_size),
    ("tokens", claims_sweeps.token_count),
    ("resolutions", claims_sweeps.resolution),
    ("variants", claims_sweeps.variants),
    ("weights", claims_sweeps.weight),
    ("layers", claims_sweeps.layers),
    (_MAIN, claims_prediction.prediction),
    ("budgets", claims_prediction.budgets),
    ("decisive", claims_decisive.decisive),
    ("decisive-pre", claims_decisive.decisive),
    ("channels", claims_vectors.channels),
    ("aligned", claims_vectors.alignment),
    ("parts", claims_vectors.parts),
    ("ladder", claims_vectors.ladder),
    ("cross-tokens", claims_vectors.cross),
    ("cross-vectors", claims_vectors.cross),
    ("cross-tokens", claims_families.regularizers),
    ("cross-tokens", claims_families.frontier),
    ("lines", claims_tokens.how_many),
    ("kinds", claims_tokens.kinds),
    ("ordered", claims_tokens.ordered),
)


def judge(table: pd.DataFrame, study: StudyConfig) -> list[Claim]:
    """Return the verdict on every claim for which the study has a grid."""
    data = StudyData(table, study)
    grids = {name: data.grid(study.main_grid if name == _MAIN else name) for name, _ in CLAIMS}
    if study.main_grid in grids:  # a main grid with claims of its own is judged by those alone
        grids[_MAIN] = None
    return [claim for name, judge_one in CLAIMS if (grid := grids[name]) for claim in judge_one(data, grid)]
