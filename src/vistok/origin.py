"""Where a network's weights come from: what their file says beside the network itself."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from vistok.config import Config

Weights = Literal["ema", "raw"]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Known(Config):
    """What is read of a part of a file, among fields that are not."""

    model_config = ConfigDict(extra="ignore")


class Training(Known):
    """What training cost; imported networks do not know."""

    steps: int = Field(default=0, ge=0)
    seconds: Amount = 0.0
    train_flops: Amount = 0.0


class AlarmRecord(Known):
    """An alarm that stood when training ended."""

    name: str
    value: float
    found: str
    advice: str
    dead: bool = False


class Health(Known):
    """How a run ended; imported networks and runs of earlier versions do not know."""

    alarms: tuple[AlarmRecord, ...] = ()
    validation: dict[str, float] = {}


class TokenizerOf(Known):
    """Which tokenizer a generator belongs to, and where it was; `image_size` where it is not the tokenizer's own."""

    digest: str
    path: str
    weights: Weights | None = None
    image_size: int | None = Field(default=None, ge=1, le=2**14)


class Origin(Known):
    """What a network's `info` says; of a new network nothing.

    `digest` names the weights. `run_config`: the whole config of the run that made them, as plain values. `scores` and
    `made_by`: of networks that come with vistok. `imported`: the file of another project. `tokenizer`: a generator's.
    """

    digest: str = ""
    recipe: str = ""
    dataset: str = ""
    class_names: tuple[str, ...] = ()
    run_config: dict[str, Any] = {}
    training: Training = Training()
    weights: Weights = "ema"
    scores: dict[str, Any] = {}
    made_by: dict[str, Any] = {}
    imported: dict[str, str] = {}
    health: Health = Health()
    tokenizer: TokenizerOf | None = None
