"""Every score has a protocol (what it measures against what) and a treatment (how it was made).

Scores of different protocols must not be compared: `require_same` names the difference. The treatment
is recorded, and free to differ.
"""

from typing import Any, Literal

from vistok.config import Config
from vistok.errors import UserError


class Protocol(Config):
    """All that a score's value depends on beside the model.

    reference_digest is of the reference images (uint8, after resizing); extractor_digest of the weights.
    """

    metric: str
    extractor: str
    extractor_digest: str
    reference: str
    reference_digest: str
    num_samples: int
    resize: str = "none"
    rounding: str = "uint8, round(127.5 (x + 1)), clipped"
    labels: str = "not used"
    estimator: str = "Frechet distance, float64, unbiased covariances"


class Treatment(Config):
    """How the scored images were made."""

    weights: Literal["ema", "raw"] = "ema"
    guidance_scale: float | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None


class Score(Config):
    """A value with its 95 % interval (bias-corrected), protocol and treatment."""

    value: float
    corrected: float | None = None
    low: float | None = None
    high: float | None = None
    protocol: Protocol
    treatment: Treatment = Treatment()


def require_same(a: Protocol, b: Protocol) -> None:
    """Raise UserError naming every field in which two protocols differ."""
    differences = _differences(a.model_dump(), b.model_dump())
    if differences:
        raise UserError(
            "these scores have different protocols and cannot be compared: "
            + "; ".join(differences)
            + ". Evaluate both again with the same evaluator, reference and number of samples"
        )


def _differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    return [f"{name} is {a[name]!r} in one and {b[name]!r} in the other" for name in a if a[name] != b[name]]
