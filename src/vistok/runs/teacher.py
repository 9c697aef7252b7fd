"""The trained generator that a shortcut starts from, and the rewards that it may be trained for."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from vistok.errors import UserError
from vistok.generator.families import build_generator
from vistok.generator.flow.config import FlowConfig
from vistok.generator.flow.generator import FlowGenerator
from vistok.origin import TokenizerOf
from vistok.runs.config import GeneratorRun
from vistok.runs.frozen_networks import shipped_classifier
from vistok.runs.headers import GeneratorHeader, check_header
from vistok.runs.initial import read_initial
from vistok.runs.load import decodes, network_of, read_model, tokenizer_place
from vistok.runs.weights_file import weights_file
from vistok.shortcut.base import Reward
from vistok.shortcut.config import SHORTCUTS
from vistok.shortcut.rewards_config import RewardConfig
from vistok.shortcut.teachers import require_teacher
from vistok.tokenizer.interface import Tokenizer

# What may differ between two networks of which one begins with the other's weights: how they were trained, and what they are
# told. All else is the size of the weights, or what the same weights would mean otherwise.
FREE = ("label_dropout", "times", "direction_weight", "representation", "inputs", "shortened")


@dataclass(frozen=True)
class Teacher:
    """A trained flow generator: where it is, what its header says, and a way to build it."""

    path: Path
    header: GeneratorHeader
    network: Callable[[torch.device], FlowGenerator]

    @property
    def config(self) -> FlowConfig:
        """The config of its network."""
        assert isinstance(self.header.config, FlowConfig)
        return self.header.config

    @property
    def digest(self) -> str:
        """What identifies its weights."""
        return self.header.digest

    @property
    def tokenizer(self) -> TokenizerOf:
        """The tokenizer whose latents it writes."""
        return self.header.tokenizer


@cache  # a verb asks for it several times
def read_teacher(path: str) -> Teacher:
    """Return the teacher in a run directory or an exported file.

    Raises UserError if there is none, or if it is not a flow generator.
    """
    stored = read_model(path, "generator")
    header = check_header(stored[1], Path(path))
    assert isinstance(header, GeneratorHeader)
    if not isinstance(header.config, FlowConfig):
        raise UserError(
            f"--teacher {path}: shortcuts are made from flow generators, but this one is {header.config.kind}; train one with "
            "vistok train generator fashion_flow, or with another recipe of vectors"
        )

    def network(device: torch.device) -> FlowGenerator:
        if device.type == "meta":
            with device:
                return build_generator(header.config, header.space, header.num_classes)  # type: ignore[no-any-return]
        built = network_of(stored, path, device)
        assert isinstance(built, FlowGenerator)
        return built

    return Teacher(Path(path), header, network)


def teacher_of(config: GeneratorRun) -> Teacher | None:
    """Return the teacher that a run's shortcut starts from, or None. Raises UserError if one is missing, or of no use to it."""
    needed = config.shortcut is not None and SHORTCUTS[config.shortcut.kind].teacher
    if needed and not config.teacher:
        raise UserError("this recipe's shortcut starts from a trained generator: vistok shorten RECIPE --teacher RUN")
    if config.teacher and not needed:
        raise UserError(
            "teacher: this recipe trains without one; leave it out: vistok train generator RECIPE --tokenizer RUN"
        )
    if not needed or config.shortcut is None:
        return None
    teacher = read_teacher(config.teacher)
    require_teacher(config.shortcut, teacher.config, teacher.header.shortcut, config.teacher)
    return teacher


def without_teacher(config: GeneratorRun) -> GeneratorRun:
    """Return a shortcut's run with the network that it would make of the one that it names, as of a teacher's."""
    network = config.generator
    if not isinstance(network, FlowConfig):
        raise UserError(
            f"shortcut: made from flow generators, but generator.kind is {network.kind!r}; begin from a recipe such as fashion_guided"
        )
    assert config.shortcut is not None
    return config.replace(generator=config.shortcut.network(network))


def settled(config: GeneratorRun) -> GeneratorRun:
    """Return a run with the network that it trains: that of a shortcut without a teacher follows from the recipe's alone."""
    if config.shortcut is None or SHORTCUTS[config.shortcut.kind].teacher:
        return config
    return without_teacher(config)


def with_teacher(config: GeneratorRun, path: str) -> GeneratorRun:
    """Return a recipe's run set to shorten the generator at `path`, with the network that its shortcut makes of it.

    Raises UserError for a recipe that is not a shortcut's.
    """
    if config.shortcut is None:
        raise UserError(
            f"recipe {config.recipe or config.name!r} trains a generator from nothing; vistok recipes lists those to shorten one"
        )
    begun = config.replace(teacher=path)
    teacher = teacher_of(begun)
    assert teacher is not None
    made = begun.replace(generator=config.shortcut.network(teacher.config))
    _require_initial(made)
    return made


def _require_initial(config: GeneratorRun) -> None:
    """Raise UserError for initial weights of a network that means other things than the student, of any size."""
    if not config.init_from:
        return
    stored = read_initial(config.init_from, "generator")[1]["config"]
    where, ours = f"--init-from {config.init_from}", config.generator
    if stored.get("kind") != ours.kind:
        raise UserError(
            f"{where}: {stored.get('kind', 'autoregressive')} weights, but a shortcut's are a flow generator's; give one that was made from "
            f"--teacher {config.teacher}, or leave it out"
        )
    theirs = FlowConfig.from_json(json.dumps(stored))
    assert isinstance(ours, FlowConfig)
    if theirs.inputs != ours.inputs:
        raise UserError(
            f"{where}: its network is told {_and(theirs.inputs)} besides time and class, but this student, like --teacher "
            f"{config.teacher}, {_and(ours.inputs)}; give a teacher that is told the same, such as the one that it was made from"
        )
    for name in FlowConfig.model_fields:
        if name not in FREE and getattr(theirs, name) != getattr(ours, name):
            raise UserError(
                f"{where}: its network has {name} {getattr(theirs, name)!r}, but this student, like --teacher {config.teacher}, "
                f"{getattr(ours, name)!r}; give a generator that was made from this teacher, or leave it out"
            )


def _and(names: Sequence[str]) -> str:
    return (
        " and ".join({"scale": "the guidance scale", "until": "the end of a step"}[name] for name in names) or "nothing"
    )


def require_teachers_network(settings: Sequence[str]) -> None:
    """Raise UserError for changes to the network among "path=value" texts: a shortened generator has its teacher's."""
    paths = [text.partition("=")[0].strip() for text in settings]
    if changed := [path for path in paths if path.partition(".")[0] == "generator"]:
        raise UserError(
            f"{changed[0]}: a shortened generator has its teacher's network; leave it out, or shorten another teacher"
        )


def tokenizer_of(config: GeneratorRun, given: Path | None = None) -> Path:
    """Return the place of the tokenizer for a run's teacher: the given one, or the teacher's own.

    Raises UserError if it is gone, or if the given one has other latents.
    """
    teacher = teacher_of(config)
    assert teacher is not None
    place = given or tokenizer_place(weights_file(teacher.path), teacher.tokenizer)
    if not place.exists():
        raise UserError(
            f"the teacher's tokenizer is no longer at {place}; give its run directory or exported file with --tokenizer"
        )
    require_tokenizer_of(teacher, place)
    return place


def require_what_it_draws(teacher: Teacher | None, tokenizer: Path, names: Sequence[str]) -> None:
    """Raise UserError if a tokenizer's latents, or the classes of its images, are not those that a teacher draws."""
    if teacher is not None:
        require_tokenizer_of(teacher, tokenizer)
        require_classes(teacher, names)


def require_tokenizer_of(teacher: Teacher, tokenizer: Path) -> None:
    """Raise UserError if a tokenizer's latents are not those that a teacher writes."""
    found = check_header(read_model(tokenizer, "tokenizer")[1], tokenizer)
    if not decodes(found, teacher.tokenizer):
        raise UserError(
            f"--teacher {teacher.path} writes latents of another tokenizer (digest {teacher.tokenizer.digest[:12]}) than {tokenizer} (digest "
            f"{found.digest[:12]}); leave --tokenizer out, or give the one that it was trained with"
        )


def require_classes(teacher: Teacher, names: Sequence[str]) -> None:
    """Raise UserError if images have other classes than those that a teacher draws: its labels would mean something else."""
    known = teacher.header.class_names
    if len(names) != len(known) or (tuple(names) != known and not teacher.header.imported):
        new = [repr(name) for name in names if name not in known]
        or_own = "" if teacher.header.imported else ", or leave it out"
        raise UserError(
            f"--teacher {teacher.path} draws {len(known)} classes, but these images have {len(names)}"
            f"{f', {new[0]} among them' if new else ''}; give a folder with the teacher's classes with --data{or_own}"
        )


def image_size_of(config: GeneratorRun) -> int | None:
    """Return the image size of a run's teacher, if it is not its tokenizer's own."""
    teacher = teacher_of(config)
    return None if teacher is None else teacher.tokenizer.image_size


def reward_of(config: GeneratorRun, tokenizer: Callable[[], Tokenizer], device: torch.device) -> Reward | None:
    """Return the reward that a run's shortcut asks for, a differentiable function of latents and labels; None for none.

    `tokenizer` decodes latents into the images that are rewarded; it is frozen. Raises UserError where its classifier does not fit.
    """
    wanted: RewardConfig | None = getattr(config.shortcut, "reward", None)
    if wanted is None or wanted.weight == 0:
        return None
    decoder = tokenizer().to(device).requires_grad_(False).eval()
    of_images = ink if wanted.kind == "ink" else _class_reward(decoder, device)
    return lambda latents, labels: of_images(decoder.from_latents(latents).clamp(-1, 1), labels)


def ink(images: Tensor, labels: Tensor) -> Tensor:
    """Return the mean brightness of images (batch channels height width) in [-1, 1], as shares from 0 to 1."""
    return (images.mean(dim=(1, 2, 3)) + 1) / 2


def _class_reward(decoder: Tokenizer, device: torch.device) -> Reward:
    """Return the log-probability of labels under the data set's perceptual network, which no evaluation uses."""
    names = {"fashion_mnist": "fashion", "openmoji": "openmoji"}
    name = names.get(decoder.info.dataset)
    if name is None:
        raise UserError(
            f"shortcut.reward.kind 'class': no classifier for data set {decoder.info.dataset!r} comes with vistok (only for "
            f"{', '.join(names)}); use kind 'ink'"
        )
    classifier, _ = shipped_classifier(f"{name}_perceptual")
    classifier = classifier.to(device)

    def log_probability(images: Tensor, labels: Tensor) -> Tensor:
        return F.log_softmax(classifier(images), dim=1).gather(1, labels[:, None])[:, 0]

    return log_probability
