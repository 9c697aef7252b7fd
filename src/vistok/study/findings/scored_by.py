"""By which network a study's images are scored, from the protocol in its records."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from vistok.study.run.record import StudyFolder


@dataclass(frozen=True)
class ScoredBy:
    """The network whose features the scores rest on, and what they compare with."""

    metric: str
    extractor: str
    digest: str
    reference: str

    def sentence(self) -> str:
        """Say what the distances are, and what they can be compared with."""
        if self.metric.endswith("FID"):
            return "gFMD is computed from Inception's features here, so it is gFID under this study's protocol"
        return (
            f"gFMD is a distance in the features of one network, {self.extractor or 'a classifier'}: it is not FID, and compares "
            "runs of this study only"
        )


def scored_by(folder: StudyFolder, table: pd.DataFrame) -> ScoredBy:
    """Return what a study's records say; they agree, or the table would have been refused."""
    kinds = table.sort_values("kind")  # generators come first: of their scores the page speaks
    detail = folder.read(folder.record_file(str(kinds.run.iloc[0])))["detail"]
    scores = detail["gfmd"].values() if "gfmd" in detail else detail["scores"].values()
    found: dict[str, Any] = next(
        (score["protocol"] for score in scores if isinstance(score, dict) and "protocol" in score), {}
    )
    return ScoredBy(*(str(found.get(name, "")) for name in ("metric", "extractor", "extractor_digest", "reference")))
