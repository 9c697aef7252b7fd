"""A run as an object: its facts, curves, scores and networks, and the pictures that they make."""

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vistok.engine.log import Alarm, read_rows
from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.python.frames import curve_frame, score_frame
from vistok.python.run_state import alarms_of_run, main_score, state_of, steps_of
from vistok.python.summary import facts_html, shown
from vistok.runs.config import AnyRun, ClassifierRun, GeneratorRun, TokenizerRun
from vistok.python.stored import stored_scores

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
        self.path = path.absolute()  # a notebook may change its folder
        self._directory = RunDir(self.path)
        self._networks: dict[tuple[str, str], Any] = {}
        kind = str(self._directory.read_config().get("kind"))
        if kind not in CONFIGS:
            raise UserError(f"run {path}: its config.json is of kind {kind!r:.40}, not one of {', '.join(CONFIGS)}")
        self.kind = kind

    @property
    def name(self) -> str:
        """The directory's name, `<recipe>-<fingerprint>`."""
        return self.path.name

    @cached_property
    def config(self) -> AnyRun:
        """The whole config, as in `run.config.optimizer.lr`. Raises UserError if another version wrote it."""
        config: AnyRun = CONFIGS[self.kind].from_json(json.dumps(self._directory.read_config()))
        return config

    @property
    def state(self) -> str:
        """"training", "finished", "stopped", or "new" before the first checkpoint."""
        return state_of(self._directory)

    @property
    def step(self) -> int:
        """The last step with a row, in optimizer steps."""
        return steps_of(self._directory)[0]

    @property
    def alarms(self) -> list[Alarm]:
        """What went wrong: name, value, what was found, advice; empty if nothing did."""
        return alarms_of_run(self._directory)

    @property
    def page(self) -> Path | None:
        """The run's page, or None if it has none."""
        page = self.path / "page.html"
        return page if page.is_file() else None

    def curves(self, kind: str | None = None) -> pd.DataFrame:
        """Return the rows of metrics.jsonl, in order: what training and validations measured, by step.

        `kind`: "train", "validation" or "alarm"; None: all of them. Columns are those that occur: step, images, flops (of
        training), seconds, losses, psnr (dB), nats_per_token and so on; what a row lacks is NaN.

        Example: `run.curves("train").plot(x="step", y="tokenizer/loss")`. Raises UserError for an unknown kind.
        """
        return curve_frame(read_rows(self._directory.metrics), kind)

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
            load = loading.get(self.kind, lambda path, weights: network_of(read_model(path, "classifier", weights), path))
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
        temperature=0.9 and top_k=100 for tokens, steps=20 and solver="euler" for flows. The same seed gives the same
        images.

        Example: `run.sample(["cat", "dog"], count=8, guidance=1.5)`. Raises UserError for unknown classes and fields, and if
        this is no finished generator's run.
        """
        from vistok.python.drawing import draw

        self._require("generator")
        return draw(self, labels, count, {"guidance_scale": guidance, "seed": seed, **sampling}, weights, quiet)

    def reconstruct(self, images: Any = None, weights: str = "ema") -> "Reconstructions":
        """Encode and decode images with the run's tokenizer; the sheet shows the originals above.

        `images`: uint8 arrays or tensors, pictures, a data set or a folder, as for `vistok.train`; None: 10 of the held-out
        ones. They are cropped and resized as in training.

        Example: `run.reconstruct(photos[:5]).psnr`. Raises UserError for anything else than images.
        """
        from vistok.python.drawing import reconstruct

        return reconstruct(self, images, weights)

    def _require(self, kind: str) -> None:
        if self.kind != kind:
            raise UserError(f"run {self.name} is a {self.kind}'s, but this needs a {kind}'s; vistok.runs() lists the runs")

    def _newest_sheet(self) -> bytes | None:
        sheets = sorted(self._directory.samples.glob("*.png"), key=lambda file: (file.stat().st_mtime, file.name))
        return sheets[-1].read_bytes() if sheets else None

    def _repr_png_(self) -> bytes | None:
        return self._newest_sheet()

    def _repr_html_(self) -> str:
        return facts_html(self, self._newest_sheet())

    def __repr__(self) -> str:
        step, total = steps_of(self._directory)
        parts = [self.kind, self.state, f"step {step:,}" + (f" of {total:,}" if total else "")]
        parts += [score] if (score := main_score(self.path, read_rows(self._directory.metrics))) else []
        parts += [f"alarms: {', '.join(alarm.name for alarm in self.alarms)}"] if self.alarms else []
        return f"Run {self.name} ({', '.join(parts)}) in {shown(self.path)}"
