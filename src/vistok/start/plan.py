"""What `vistok start` plans to train, as a file, as commands and in words; reading it needs no torch."""

import hashlib
import json
import re
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from vistok.config import override
from vistok.errors import UserError
from vistok.nn.frozen_config import INSTALL
from vistok.recipes import find_recipe
from vistok.runs.config import GeneratorRun, RunConfig, TokenizerRun
from vistok.start.expect import AsItComes, what_to_expect
from vistok.units import seconds_in

if TYPE_CHECKING:
    from vistok.start.look import Look

# Fewest validations in a run: its alarms see nothing else.
VALIDATIONS = 6
# Seconds of samples and scores, and how much more than the time that was given goes without saying.
AFTER, MORE = 120.0, 1.2
# The settings that leave out files which cannot be read, and that leave pictures as they are.
SKIP, UNMIRRORED = "data.unreadable_images=skip", "data.horizontal_flip=false"
# The option for the second, as it stands in a command.
NO_MIRROR = "--no-mirror"
# With fewer pictures, or in less time (seconds), a plan keeps the tokens of the general tokenizer.
FEW, SHORT = 5_000, 3600.0
# Guidance scales to choose among where there are classes, and the samples for each.
GUIDANCE, GUIDANCE_SAMPLES = (1.0, 1.5, 2.0, 3.0), 300
# Where runs lie if nothing else is said.
RUNS = Path("runs")


@dataclass(frozen=True)
class Stage:
    """A training command: its recipe, settings and steps, and how long it takes (seconds)."""

    recipe: str
    settings: tuple[str, ...]
    steps: int
    seconds: float

    @property
    def all_settings(self) -> tuple[str, ...]:
        """The settings, including the length."""
        return (*self.settings, f'length="{self.steps} steps"')

    @property
    def words(self) -> list[str]:
        """The settings as options of a command."""
        return [word for setting in self.all_settings for word in ("--set", setting)]


@dataclass(frozen=True)
class StartPlan:
    """What to train on a folder in a given time (seconds)."""

    root: str
    side: int
    tokens: int
    codes: int
    tokenizer: Stage
    generator: Stage
    init_from: str | None
    seconds: float
    # Steps that there is time for; a small folder may call for fewer.
    generator_steps_paid: int = 0
    # Views of each picture that the generator learns.
    views: tuple[str, ...] = ("center",)
    # Weights that the generator starts from.
    generator_from: str | None = None
    # Pictures in the folder when the plan was made; 0 in plans of earlier versions.
    pictures: int = 0
    # The folder's own place, whatever the user called it from where; "" in plans of earlier versions.
    place: str = ""
    # Classes in the folder; 0 in plans of earlier versions.
    classes: int = 0
    # What the weights that the tokenizer starts from make of the pictures.
    as_it_comes: AsItComes | None = None

    def leaving_out_broken(self) -> "StartPlan":
        """Return the plan with files left out that cannot be read."""
        if SKIP in self.tokenizer.settings:
            return self
        return self._with(SKIP)

    @property
    def mirrors(self) -> bool:
        """Whether pictures are mirrored as they are learned."""
        return UNMIRRORED not in self.tokenizer.settings

    def unmirrored(self) -> "StartPlan":
        """Return the plan with pictures that are never mirrored, for those with letters, or whose sides differ."""
        return self._with(UNMIRRORED)

    def _with(self, setting: str) -> "StartPlan":
        return replace(self, tokenizer=replace(self.tokenizer, settings=(setting, *self.tokenizer.settings)))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values for its file; `from_json` is the inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "StartPlan":
        """Read a plan back. Raises ValueError if something is missing, or is not what it should be."""
        try:
            plan = TypeAdapter(cls).validate_json(json.dumps(stored))
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        if not plan.views:
            raise ValueError("views: there are none")
        return plan

    def tokenizer_config(self) -> TokenizerRun:
        """Return the config of the tokenizer's run."""
        from vistok.runs.initial import with_network_of

        config = find_recipe(self.tokenizer.recipe, "tokenizer")
        if self.init_from:
            config = with_network_of(config, self.init_from)
        return _watched(
            override(config, [f"data.root={json.dumps(self.place or self.root)}", *self.tokenizer.all_settings]),
            self.tokenizer,
        )

    def generator_config(self) -> GeneratorRun:
        """Return the config of the generator's run."""
        from vistok.runs.initial import with_network_of

        config = find_recipe(self.generator.recipe, "generator")
        if self.generator_from:
            config = with_network_of(config, self.generator_from)
        return _watched(override(config, list(self.generator.all_settings)), self.generator)

    def commands(self, tokenizer_run: str, generator_run: str, runs: Path = RUNS) -> list[list[str]]:
        """Return the commands, each as a list of words; `runs`: where what they train is to lie."""
        train = ["vistok", "train"]
        first, second = (["--init-from", name] if name else [] for name in (self.init_from, self.generator_from))
        cache = ["vistok", "cache", tokenizer_run, "--split", "train"]
        cache += [word for view in self.views for word in ("--view", view)]
        place = into(runs)
        scales = ",".join(f"{scale:g}" for scale in GUIDANCE)
        choose = ["--choose-guidance", scales, "--search-count", str(GUIDANCE_SAMPLES)] if self.guided else []
        return [
            [*train, "tokenizer", self.tokenizer.recipe, "--data", self.root, *first, *self.tokenizer.words, *place],
            *([cache] if self.views != ("center",) else []),
            [
                *train,
                "generator",
                self.generator.recipe,
                "--tokenizer",
                tokenizer_run,
                *second,
                *self.generator.words,
                *place,
            ],
            ["vistok", "sample", generator_run, "--out", "samples.png"],
            ["vistok", "evaluate", "tokenizer", tokenizer_run],
            ["vistok", "evaluate", "generator", generator_run, "--split", "train", "--evaluator", "imagenet", *choose],
        ]

    def training(self, tokenizer_run: str, runs: Path = RUNS) -> dict[str, list[str]]:
        """Return the commands that train the tokenizer and the generator, by what they train."""
        return {words[2]: words for words in self.commands(tokenizer_run, "", runs) if words[1] == "train"}

    @property
    def guided(self) -> bool:
        """Whether samples are guided, at a scale that is chosen."""
        return self.classes > 1


def into(runs: Path) -> list[str]:
    """Return the words of a command that trains into this place, which need not be said of the usual one."""
    return [] if runs == RUNS else ["--runs", str(runs)]


R = TypeVar("R", bound=RunConfig)


def _watched(config: R, stage: Stage) -> R:
    """Return the config with rows frequent enough for alarms, even in a short run; the result does not change."""
    execution = config.execution
    every = min(execution.evaluate_every, max(1, stage.steps // VALIDATIONS))
    return config.replace(execution=execution.replace(evaluate_every=every, log_every=min(execution.log_every, every)))


def seconds_of(text: str) -> float:
    """Return the seconds in "30m", "90 min", "1.5h", "2 hours" or "1h30m". Raises UserError for anything else, and under a minute."""
    seconds = seconds_in(text)
    if seconds is None or seconds < 60:
        raise UserError(f"time {text!r}: give at least a minute, in minutes or hours, as in 30m or 1.5h")
    return seconds


def lines(plan: StartPlan, look: "Look", runs: Path = RUNS) -> list[str]:
    """Return the plan in words, with its commands; `runs`: where what they train is to lie."""
    config = plan.tokenizer_config()
    height, width = config.tokenizer.sides
    size = f"{height}x{width} pixels, {plan.tokens} tokens per picture, {plan.codes:,} codes"
    cut = look.cut_to(width / height)
    if look.side < plan.side:
        size += f" (enlarged: {plan.init_from or 'the general tokenizer'} knows pictures of this size)"
    # A plan may be older than the look, and frame pictures otherwise.
    framed = [look.framed_because] if config.data.framing == look.framing != "crop" else []
    text = [look.sentence, *look.remarks, *framed]
    text += [
        f"Plan for {_minutes(plan.seconds)} on this machine: {size}{f'; {cut}' if cut else ''}.",
        *_larger(plan, look),
        "",
    ]
    recipes = (find_recipe(stage.recipe).name for stage in (plan.tokenizer, plan.generator))
    tokenizer_run, generator_run = (f"{runs / name}-XXXXXXXXXX" for name in recipes)
    commands = plan.commands(tokenizer_run, generator_run, runs)
    for number, (words, remark) in enumerate(zip(commands, _remarks(plan), strict=True), 1):
        text += [f"{number}. {remark}", f"   {shlex.join(words)}"]
    needed = plan.tokenizer.seconds + plan.generator.seconds
    if needed + AFTER > MORE * plan.seconds:
        reason = ": fewer steps would show nothing" if needed > plan.seconds else ""
        text += ["", f"At this machine's speed all of it takes about {_minutes(needed + AFTER)}{reason}."]
    elif _is_enough(plan, needed + AFTER):
        enough = _minutes(needed + AFTER)
        text += ["", f"All of it takes about {enough}: with more time, so few pictures would be learned by heart."]
    alone = plan.generator_from is not None
    return [*text, "", what_to_expect(plan.init_from, plan.as_it_comes, alone, plan.tokens, plan.guided)]


def _larger(plan: StartPlan, look: "Look") -> list[str]:
    """Say why pictures become so small, where that may surprise."""
    if not plan.generator_from or look.side < 2 * plan.side:
        return []
    return [
        f"Larger ones are planned only from {FEW:,} pictures and an hour on, as their generator starts from nothing (by hand: "
        "the recipes images128_vq and images256_vq)."
    ]


def _is_enough(plan: StartPlan, needed: float) -> bool:
    """Whether a plan leaves much of its time (seconds) unused, since the pictures are few."""
    few = plan.generator_from is not None and plan.generator.steps < plan.generator_steps_paid
    return few and MORE * needed < plan.seconds


def _remarks(plan: StartPlan) -> list[str]:
    """Return what is said of each of a plan's commands."""
    steps = [f"{stage.steps:,} steps, about {_minutes(stage.seconds)}" for stage in (plan.tokenizer, plan.generator)]
    views = f"{plan.views[0].replace('-', ' random ')} of each picture, because there are few"
    scores = f"some minutes; its network comes with {INSTALL}"
    sample = (
        "a minute; with the --guidance that the last command chooses they are better" if plan.guided else "a minute"
    )
    return [steps[0], *([views] if plan.views != ("center",) else []), steps[1], sample, "a minute", scores]


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return "a minute"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{round(seconds / 3600, 1):g} hours"


def plan_file(runs: Path, root: str, seconds: float, mirror: bool = True) -> Path:
    """Return where the plan for a folder and a time is kept: measuring again would give another plan and new runs.

    Of two folders of one name, the second has a few digits of its path in the name of its plan.
    """
    place = Path(root).resolve()
    name = re.sub(r"\W+", "-", place.name).strip("-") or "images"
    usual, digits = f"start-{name}", hashlib.sha256(str(place).encode(errors="surrogateescape")).hexdigest()[:6]
    for folder in (usual, f"{usual}-{digits}"):
        file = runs / f"{folder}-{seconds / 60:g}m{'' if mirror else '-unmirrored'}" / "plan.json"
        if not file.is_file() or _root_of(file) in (None, place):
            break
    return file


def _root_of(file: Path) -> Path | None:
    """Return the folder that a plan is for; None where the file does not say."""
    try:
        stored = json.loads(file.read_bytes())
        return Path(stored.get("place") or stored["root"]).resolve()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
