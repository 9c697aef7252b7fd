"""A run as an object: its facts, curves, scores and networks, and the pictures that they make."""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vistok.errors import UserError
from vistok.overview.page import PAGE
from vistok.overview.record import MainScore, RunRecord, Standing
from vistok.python.frames import curve_frame, score_frame
from vistok.python.stored import stored_scores
from vistok.python.summary import facts_html, shown
from vistok.runs.config import AnyRun, ClassifierRun, GeneratorRun, TokenizerRun

if TYPE_CHECKING:
    from torch import nn

    from vistok.generator.interface import Generator
    from vistok.python.images import Images, Reconstructions
    from vistok.tokenizer.interface import Tokenizer

CONFIGS: dict[str, type[Any]] = {"tokenizer": TokenizerRun, "generator": GeneratorRun, "classifier": ClassifierRun}


class Run:
    """A run directory. Everything is read when it is asked for, so that a run that is training can be looked at.

    A notebook shows its facts and its newest pictures.

    Example: `vistok.run("latest").curves("validation").plot(x="step", y="psnr")`.
    """

    def __init__(self, path: Path) -> None:
        """Raises UserError if the path is not a run directory."""
        if path.is_file():
            raise UserError(f"{path} is a file of weights, not a run; vistok.load_tokenizer and load_generator read it")
        self.path = path.absolute()  # a notebook may change its folder
        self._networks: dict[tuple[str, str], Any] = {}
        self.kind = self._record.kind
        if self.kind not in CONFIGS:
            raise UserError(
                f"run {path}: its config.json is of kind {self.kind!r:.40}, not one of {', '.join(CONFIGS)}"
            )

    @property
    def name(self) -> str:
        """The directory's name, `<recipe>-<fingerprint>`."""
        return self.path.name

    @property
    def _record(self) -> RunRecord:
        """What the directory holds now."""
        return RunRecord(self.path)

    @cached_property
    def config(self) -> AnyRun:
        """The whole config, as in `run.config.optimizer.lr`. Raises UserError if another version wrote it."""
        config: AnyRun = CONFIGS[self.kind].from_json(json.dumps(self._record.config))
        return config

    @property
    def state(self) -> str:
        """One of "finished", "training" (by any process), "stopped" and "not begun"."""
        return self._record.state

    @property
    def step(self) -> int:
        """How far it is, in optimizer steps."""
        return self._record.step

    @property
    def main_score(self) -> MainScore | None:
        """The score that stands for the run: the newest Fréchet distance, else what the last validation found; None for none."""
        return self._record.main_score

    @property
    def alarms(self) -> list[Standing]:
        """What goes or went wrong: `name`, `value`, `words` with advice, `dead`; empty if nothing did."""
        return self._record.alarms

    @property
    def page(self) -> Path | None:
        """The run's page, or None if it has none."""
        page = self.path / PAGE
        return page if page.is_file() else None

    def curves(self, kind: str | None = None) -> pd.DataFrame:
        """Return the rows of metrics.jsonl, in order: what training and validations measured, by step.

        `kind`: "train", "validation" or "alarm"; None: all of them. Columns are those that occur: step, images, flops (of
        training), seconds, losses, psnr (dB), nats_per_token and so on; what a row lacks is NaN.

        Example: `run.curves("train").plot(x="step", y="tokenizer/loss")`. Raises UserError for an unknown kind.
        """
        return curve_frame(self._record.rows, kind)

    def scores(self) -> pd.DataFrame:
        """Return all evaluations, a row for each score: its 95 % interval, evaluator, reference, and how images were made.

        Empty before `vistok.score(run)` or vistok evaluate.
        """
        return score_frame(stored_scores(self.path))

    def load(self, weights: str = "ema") -> "nn.Module":
        """Return the run's network in evaluation mode; `weights`: "ema" (averaged) or "raw".

        Raises UserError if the run is not finished.
        """
        from vistok.runs.load import load_generator, load_tokenizer, network_of, read_model

        if (self.kind, weights) not in self._networks:
            loading: dict[str, Any] = {"tokenizer": load_tokenizer, "generator": load_generator}
            load = loading.get(
                self.kind, lambda path, weights: network_of(read_model(path, "classifier", weights), path)
            )
            self._networks[self.kind, weights] = load(self.path, weights)
        network: nn.Module = self._networks[self.kind, weights]
        return network

    def generator(self, weights: str = "ema") -> "Generator":
        """Return the generator: labels (batch,) -> latents. Raises UserError if this is no generator's run."""
        self._require("generator")
        return self.load(weights)  # type: ignore[return-value]

    def tokenizer(self, weights: str = "ema") -> "Tokenizer":
        """Return the tokenizer, of a generator's run the one that decodes its latents.

        It maps images (batch, channels, height, width), floats in [-1, 1], to latents and back. Raises UserError for a
        classifier's run, and if the tokenizer was moved.
        """
        from vistok.runs.load import load_tokenizer_of

        if self.kind == "tokenizer":
            return self.load(weights)  # type: ignore[return-value]
        if ("tokenizer", weights) not in self._networks:
            self._networks["tokenizer", weights] = load_tokenizer_of(self.generator(weights))
        tokenizer: Tokenizer = self._networks["tokenizer", weights]
        return tokenizer

    def sample(
        self,
        labels: Any = None,
        count: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        weights: str = "ema",
        quiet: bool = False,
        **sampling: Any,
    ) -> "Images":
        """Draw images from a generator's run.

        `labels`: a class by name or number, or a list or array of these; None: all classes in turn. `count`: how many
        images, which go through the labels in turn; by default one for each label, 10 of a single class, 40 of all.
        `guidance`: classifier-free guidance scale, 1 is off. `sampling`: further fields of the family, such as
        temperature=0.9 and top_k=100 for tokens, steps=20 and solver="euler" for flows, steps=12 and
        order="random" for masked generators. The same seed gives the same images.

        Example: `run.sample(["cat", "dog"], count=8, guidance=1.5)`. Raises UserError for unknown classes and fields, and if
        this is no finished generator's run.
        """
        from vistok.python.drawing import draw

        self._require("generator")
        return draw(self, labels, count, {"guidance_scale": guidance, "seed": seed, **sampling}, weights, quiet)

    def reconstruct(self, images: Any = None, weights: str = "ema", tokens: int | None = None) -> "Reconstructions":
        """Encode and decode images with the run's tokenizer; the sheet shows the originals above.

        `images`: uint8 arrays or tensors, pictures, a data set or a folder, as for `vistok.train`; None: 10 of the held-out
        ones. They are cropped and resized as in training. `tokens`: decode only so many of the first latents of a line, if the
        tokenizer was trained with prefixes.

        Example: `run.reconstruct(photos[:5]).psnr`. Raises UserError for anything else than images, and for a number of latents that
        the tokenizer cannot decode.
        """
        from vistok.python.drawing import reconstruct

        return reconstruct(self, images, weights, tokens)

    def _require(self, kind: str) -> None:
        if self.kind != kind:
            raise UserError(
                f"run {self.name} is a {self.kind}'s, but this needs a {kind}'s; vistok.runs() lists the runs"
            )

    def _newest_sheet(self) -> bytes | None:
        pictures = self._record.pictures
        return pictures[-1].read_bytes() if pictures else None

    def _repr_png_(self) -> bytes | None:
        return self._newest_sheet()

    def _repr_html_(self) -> str:
        return facts_html(self._record, self._newest_sheet(), self.page)

    def __repr__(self) -> str:
        record = self._record
        parts = [record.kind, record.state, f"step {record.step:,}" + (f" of {record.steps:,}" if record.steps else "")]
        parts += [str(record.main_score)] if record.main_score else []
        parts += [f"alarms: {', '.join(alarm.name for alarm in record.alarms)}"] if record.alarms else []
        return f"Run {self.name} ({', '.join(parts)}) in {shown(self.path)}"
