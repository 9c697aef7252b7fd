"""Where a network's weights come from: the metadata in their file besides the network itself."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from vistok.config import Config

Weights = Literal["ema", "raw"]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Known(Config):
    """Fields read from part of a file; other fields there are ignored."""

    model_config = ConfigDict(extra="ignore")


class Training(Known):
    """The cost of training; unknown for imported networks."""

    steps: int = Field(default=0, ge=0)
    seconds: Amount = 0.0
    train_flops: Amount = 0.0


class AlarmRecord(Known):
    """An alarm that was active when training ended."""

    name: str
    value: float
    found: str
    advice: str
    dead: bool = False


class Health(Known):
    """How a run ended; unknown for imported networks and runs of earlier versions."""

    alarms: tuple[AlarmRecord, ...] = ()
    validation: dict[str, float] = {}


class TokenizerOf(Known):
    """The tokenizer a generator belongs to and where it was stored; `image_size` if it differs from the tokenizer's.

    `latents`: the folder of its latent caches, if it was a file and not a run directory, which holds them.
    """

    digest: str
    path: str
    weights: Weights | None = None
    image_size: int | None = Field(default=None, ge=1, le=2**14)
    latents: str | None = None


class ShortcutOf(Known):
    """How a generator was made from another: the shortcut, the teacher's digest and place, and the calls for an image."""

    kind: str
    teacher: str = ""
    path: str = ""
    calls: int = Field(default=1, ge=1)


class Origin(Known):
    """What a network's `info` says; empty for a new network.

    `digest` identifies the weights, `data_digest` the training images. `run_config`: the full config of the run that trained them, as
    plain values. `scores` and `made_by`: only for networks that come with vistok. `imported`: the other project's file. `tokenizer`: only for
    generators; `shortcut`: only for those that one has made. `decodes`: digests of tokenizers with the same latents, of which only
    the decoder was trained further. `inside`: the configs of the runs of tokenizers that are a part of this one, by their places.
    """

    digest: str = ""
    recipe: str = ""
    dataset: str = ""
    data_digest: str = ""
    class_names: tuple[str, ...] = ()
    run_config: dict[str, Any] = {}
    training: Training = Training()
    weights: Weights = "ema"
    scores: dict[str, Any] = {}
    made_by: dict[str, Any] = {}
    imported: dict[str, str] = {}
    health: Health = Health()
    tokenizer: TokenizerOf | None = None
    shortcut: ShortcutOf | None = None
    decodes: tuple[str, ...] = ()
    inside: dict[str, dict[str, Any]] = {}
