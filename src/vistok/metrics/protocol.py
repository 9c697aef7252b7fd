"""Every score has a protocol (what it measures against what) and a treatment (how it was made).

Scores of different protocols must not be compared: `require_same` names the difference. The treatment
is recorded, and free to differ.
"""

import json
import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vistok.config import Config
from vistok.errors import UserError
from vistok.metrics.interval import Replicates

# A stored interval may differ from its replicates' by so much of the largest of them.
ROUNDING = 1e-9
Finite = Annotated[float, Field(allow_inf_nan=False)]

FRECHET = "Frechet distance, float64, unbiased covariances; jackknife over 20 blocks"


class Protocol(Config):
    """All that a score's value depends on beside the model.

    reference_digest is of the reference images (uint8, after resizing); extractor_digest of the weights
    ("" where no network takes part).
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
    """How the scored images were made: which weights, and where images were drawn the sampling's config as it is."""

    weights: Literal["ema", "raw", "none"] = "ema"
    sampling: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _former(cls, found: Any) -> Any:
        """Read what earlier versions wrote, whose samplings were all of one family and lay flat."""
        if not isinstance(found, dict) or found.keys() <= {"weights", "sampling"}:
            return found
        drawn = found.get("guidance_scale") is not None
        sampling = {name: value for name, value in found.items() if name != "weights"}
        return {"weights": found.get("weights", "ema"), "sampling": sampling if drawn else None}

    @property
    def guidance_scale(self) -> float | None:
        """Of drawn images; 1 is no guidance."""
        return None if self.sampling is None else float(self.sampling["guidance_scale"])

    def __str__(self) -> str:
        parts = [f"{self.weights} weights"]
        for name, value in (self.sampling or {}).items():
            if name != "kind" and value != _UNSAID.get(name):
                parts.append(_WORDS.get(name, name.replace("_", " ")) + ("" if value is True else f" {_plain(value)}"))
        return ", ".join(parts)


# What goes without saying, and other words for fields of a sampling's config.
_UNSAID = {"temperature": 1.0, "seed": 0, "int8": False, "precision": "float32"}
_WORDS = {
    "precision": "weights and cache in",
    "guidance_scale": "guidance",
    "int8": "8-bit weights",
    "top_k": "top-k",
    "top_p": "top-p",
}


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


class Score(Config):
    """A value with its 95 % interval (bias-corrected), protocol and treatment.

    `replicates`: the same score without each of 20 blocks of samples, for paired differences; interval
    and replicates are missing where the samples were too few, or the score has none.
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
        """Return a score with its interval; raises UserError for numbers that are not finite."""
        if not all(map(math.isfinite, (found.value, *found.left_out))):
            raise UserError(
                f"{protocol.metric} is {found.value}, which is no score: the images' features or the statistics of "
                f"{protocol.reference} are too large or not finite"
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
        """Return a score from its values in a file; what lies beside its own fields is left out.

        Raises UserError where it is no score, or its interval is not the one that its value and replicates give.
        """
        score = cls.from_json(json.dumps({name: stored[name] for name in cls.model_fields if name in stored}))
        again = cls.of(Replicates(score.value, score.replicates), score.protocol, score.treatment)
        most = ROUNDING * max(map(abs, (score.value, *score.replicates)))
        for name in ("corrected", "low", "high"):
            found, expected = getattr(score, name), getattr(again, name)
            if found != expected and (found is None or expected is None or abs(found - expected) > most):
                raise UserError(
                    f"{score.protocol.metric} {score.value:g}: its {name} is {found}, value and replicates give {expected}"
                )
        return score

    def minus(self, other: "Score") -> Replicates:
        """Return self - other, paired; raises UserError for another protocol."""
        require_same(self.protocol, other.protocol)
        return Replicates(self.value, self.replicates).minus(Replicates(other.value, other.replicates))


def require_same(a: Protocol, b: Protocol) -> None:
    """Raise UserError naming every field in which two protocols differ."""
    found = differences(a, b)
    if found:
        raise UserError(
            "these scores have different protocols and cannot be compared: "
            + "; ".join(found)
            + ". Evaluate both again with the same evaluator, reference and number of samples"
        )


def differences(a: Protocol, b: Protocol) -> list[str]:
    """Return a sentence for every field in which two protocols differ."""
    left: dict[str, Any] = a.model_dump()
    right: dict[str, Any] = b.model_dump()
    return [
        f"{name} is {left[name]!r} in one and {right[name]!r} in the other"
        for name in left
        if left[name] != right[name]
    ]
