"""Every score carries a protocol (what was measured, against what) and a treatment (how the images were made).

Scores with different protocols must not be compared: `require_same` names the differences. Treatments are
recorded and may differ.
"""

import json
import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vistok.config import Config
from vistok.errors import UserError
from vistok.metrics.interval import Replicates

# A stored interval may differ from the one that its replicates give by this share of the largest replicate.
ROUNDING = 1e-9
Finite = Annotated[float, Field(allow_inf_nan=False)]

FRECHET = "Frechet distance, float64, unbiased covariances; jackknife over 20 blocks"


class Protocol(Config):
    """Everything that a score depends on besides the model.

    `reference_digest` covers the reference images (uint8, after resizing), `extractor_digest` the extractor's
    weights ("" where no network is involved).
    """

    metric: str
    extractor: str = "none"
    extractor_digest: str = ""
    reference: str
    reference_digest: str
    num_reference: int
    num_samples: int
    resize: str = "none"
    rounding: str = "uint8, round(127.5 (x + 1)), clipped"
    labels: str = "not used"
    estimator: str


class Treatment(Config):
    """How the scored images were made: which weights were used and, for generated images, the sampling config."""

    weights: Literal["ema", "raw", "none"] = "ema"
    sampling: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _former(cls, values: Any) -> Any:
        """Read the format of earlier versions, which had one family of samplers and stored its fields at the top level."""
        if not isinstance(values, dict) or values.keys() <= {"weights", "sampling"}:
            return values
        drawn = values.get("guidance_scale") is not None
        sampling = {name: value for name, value in values.items() if name != "weights"}
        return {"weights": values.get("weights", "ema"), "sampling": sampling if drawn else None}

    @property
    def guidance_scale(self) -> float | None:
        """The guidance scale of generated images (1 is no guidance), else None."""
        return None if self.sampling is None else float(self.sampling["guidance_scale"])

    def __str__(self) -> str:
        parts = [f"{self.weights} weights"]
        for name, value in (self.sampling or {}).items():
            if name != "kind" and value != _UNSAID.get(name):
                words = _WORDS.get(name, name.replace("_", " ")) + ("" if value is True else f" {_plain(value)}")
                parts.append(_WHOLE.get((name, value), words))
        return ", ".join(parts)


# Default values, which are not mentioned, and readable names for fields of a sampling config.
_UNSAID = {"temperature": 1.0, "seed": 0, "int8": False, "precision": "float32"}
_WORDS = {
    "precision": "weights and cache in",
    "guidance_scale": "guidance",
    "int8": "8-bit weights",
    "top_k": "top-k",
    "top_p": "top-p",
}
_WHOLE = {("precision", "bfloat16-weights"): "weights in bfloat16"}


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


class Score(Config):
    """A value with its 95 % interval (bias-corrected), protocol and treatment.

    `replicates`: the score recomputed with each of 20 blocks of samples left out, for paired differences. Interval
    and replicates are missing where there were too few samples, or where the kind of score has none.
    """

    value: Finite
    corrected: Finite | None = None
    low: Finite | None = None
    high: Finite | None = None
    replicates: tuple[Finite, ...] = ()
    protocol: Protocol
    treatment: Treatment

    @classmethod
    def of(cls, found: Replicates, protocol: Protocol, treatment: Treatment) -> "Score":
        """Return a score with its interval; raises UserError where a number is not finite."""
        if not all(map(math.isfinite, (found.value, *found.left_out))):
            raise UserError(
                f"{protocol.metric} is {found.value}, not a usable score: the features of the images, or the statistics of "
                f"{protocol.reference}, are too large or not finite"
            )
        bounds = found.interval
        return cls(
            value=found.value,
            corrected=bounds.corrected if bounds else None,
            low=bounds.low if bounds else None,
            high=bounds.high if bounds else None,
            replicates=found.left_out,
            protocol=protocol,
            treatment=treatment,
        )

    @classmethod
    def read(cls, stored: dict[str, Any]) -> "Score":
        """Return a score from its stored fields, ignoring any others.

        Raises UserError where a field is missing or invalid, or where the stored interval is not the one that the value
        and replicates give.
        """
        score = cls.from_json(json.dumps({name: stored[name] for name in cls.model_fields if name in stored}))
        again = cls.of(Replicates(score.value, score.replicates), score.protocol, score.treatment)
        most = ROUNDING * max(map(abs, (score.value, *score.replicates)))
        for name in ("corrected", "low", "high"):
            stored_value, expected = getattr(score, name), getattr(again, name)
            if stored_value != expected and (
                stored_value is None or expected is None or abs(stored_value - expected) > most
            ):
                raise UserError(
                    f"{score.protocol.metric} {score.value:g}: its {name} is {stored_value}, but value and replicates give {expected}"
                )
        return score

    def minus(self, other: "Score") -> Replicates:
        """Return the paired difference self - other; raises UserError where their protocols differ."""
        require_same(self.protocol, other.protocol)
        return Replicates(self.value, self.replicates).minus(Replicates(other.value, other.replicates))


def require_same(a: Protocol, b: Protocol) -> None:
    """Raise UserError naming every field in which two protocols differ."""
    differing = differences(a, b)
    if differing:
        raise UserError(
            "these scores have different protocols and cannot be compared: "
            + "; ".join(differing)
            + ". Evaluate both again with the same evaluator, reference and number of samples"
        )


def differences(a: Protocol, b: Protocol) -> list[str]:
    """Describe each field in which two protocols differ."""
    left: dict[str, Any] = a.model_dump()
    right: dict[str, Any] = b.model_dump()
    return [
        f"{name} is {left[name]!r} in one and {right[name]!r} in the other"
        for name in left
        if left[name] != right[name]
    ]
