"""Rows and scores as tables."""

from collections.abc import Sequence

import pandas as pd

from vistok.engine.log import Row
from vistok.errors import UserError
from vistok.metrics.protocol import Protocol, Score

ROW_KINDS = ("train", "validation", "alarm")
SCORE_COLUMNS = (
    "metric", "value", "low", "high", "evaluator", "reference", "num_reference", "num_samples", "how", "resize", "estimator",
)  # fmt: skip


def curve_frame(rows: Sequence[Row], kind: str | None) -> pd.DataFrame:
    """Return rows of a metrics file as a table, those of one kind or all. Raises UserError for an unknown kind."""
    if kind is not None and kind not in ROW_KINDS:
        raise UserError(f"kind {kind!r}: rows are of the kinds {', '.join(ROW_KINDS)}; leave it out for all")
    frame = pd.DataFrame([row for row in rows if kind in (None, row["kind"])])
    return frame if len(frame) else pd.DataFrame(columns=["kind", "step"])


def score_frame(scores: Sequence[Score]) -> pd.DataFrame:
    """Return a row for each score."""
    rows = [
        {
            "metric": score.protocol.metric,
            "value": score.value,
            "low": score.low,
            "high": score.high,
            "evaluator": score.protocol.extractor,
            "reference": score.protocol.reference,
            "num_reference": score.protocol.num_reference,
            "num_samples": score.protocol.num_samples,
            "how": how(score),
            "resize": score.protocol.resize,
            "estimator": score.protocol.estimator,
        }
        for score in scores
    ]
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def how(score: Score) -> str:
    """Return how the scored images were made, without what is usual: averaged weights, no guidance."""
    treatment = score.treatment
    parts = [part for part in str(treatment).split(", ") if part not in ("ema weights", "none weights", "guidance 1")]
    return ", ".join(parts)


def protocol_labels(protocols: Sequence[Protocol]) -> list[str]:
    """Return a short text for each different protocol: evaluator, reference, samples; more where that leaves two alike."""
    short = [_short(protocol) for protocol in protocols]
    return [
        text
        if short.count(text) == 1
        else f"{text}, {_rest(protocol, [p for p, t in zip(protocols, short, strict=True) if t == text])}"
        for protocol, text in zip(protocols, short, strict=True)
    ]


def _short(protocol: Protocol) -> str:
    network = [] if protocol.extractor == "none" else [protocol.extractor]
    against = [] if protocol.reference == "none" else [f"{protocol.num_reference:,} of {protocol.reference}"]
    return ", ".join([*network, *against, f"{protocol.num_samples:,} samples"])


def _rest(protocol: Protocol, others: Sequence[Protocol]) -> str:
    """Return the fields in which protocols of one short text differ, with this protocol's values."""
    fields = [
        name
        for name in Protocol.model_fields
        if name != "metric" and len({getattr(other, name) for other in others}) > 1
    ]
    values = {name: getattr(protocol, name) for name in fields}
    return ", ".join(
        f"{name} {str(value)[:10] if name.endswith('digest') else value}" for name, value in values.items()
    )
