"""Shorten a generator: the objective of a shortcut, given its teacher, and what a run's record says of both."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vistok.data.images.open import images_to_fetch, open_split
from vistok.engine.distributed import World
from vistok.engine.objective import Objective
from vistok.errors import UserError
from vistok.generator.families import build_generator
from vistok.runs.config import GeneratorRun
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.load import load_tokenizer
from vistok.runs.run_images import data_of
from vistok.runs.teacher import Teacher, require_classes, reward_of, teacher_of, without_teacher
from vistok.shortcut.base import Given
from vistok.shortcut.config import SHORTCUTS
from vistok.tokenizer.interface import Tokenizer


def shortcut_objective(
    config: GeneratorRun,
    facts: LatentFacts,
    device: torch.device,
    world: World,
    tokenizer: Callable[[], Tokenizer] | None,
) -> Objective:
    """Return a shortcut's objective. A recipe that has no teacher yet is planned for one of the network that it names."""
    shortcut = config.shortcut
    assert shortcut is not None
    planned = device.type == "meta" and not config.teacher
    named, config = config, config if config.teacher else without_teacher(config)
    reward = reward_of(config, tokenizer, device) if tokenizer else None
    teacher: Any = None
    if SHORTCUTS[shortcut.kind].teacher and planned:
        with device:
            teacher = build_generator(named.generator, facts.space, facts.num_classes)
    elif (given := teacher_of(config)) is not None:
        teacher = given.network(device)
    given_all = Given(facts.space, facts.num_classes, teacher, reward)
    return SHORTCUTS[shortcut.kind].load()(config, given_all, device, world)  # type: ignore[no-any-return]


def shortcut_facts(config: GeneratorRun, teacher: Teacher | None) -> dict[str, Any]:
    """Return how a shortened generator's record names what made it; nothing for others."""
    if config.shortcut is None:
        return {}
    steps = int(config.generator.usual_sampling().get("steps", 1))
    place = {} if teacher is None else {"teacher": teacher.digest, "path": str(teacher.path.resolve())}
    return {"shortcut": {"kind": config.shortcut.kind, "calls": steps, **place}}


def require_images_of(config: GeneratorRun, tokenizer_path: Path, root: str | None) -> None:
    """Raise UserError, before any image is encoded, if a folder of images has other classes than a run's teacher draws."""
    teacher = teacher_of(config)
    if teacher is None or root is None:
        return
    data = data_of(load_tokenizer(tokenizer_path), root)
    if images_to_fetch(data, "train") is None:
        require_classes(teacher, open_split(data, "train").class_names)


def require_replicated(config: GeneratorRun, world: World) -> None:
    """Raise UserError for a shortcut whose weights would be sharded: students and teachers are copied whole."""
    if config.shortcut is not None and config.execution.parallel == "shard" and world.size > 1:
        raise UserError(
            "execution.parallel 'shard': shortcuts train with whole weights on each process; use --set 'execution.parallel=\"replicate\"', and a "
            "smaller execution.micro_batch_size if memory is short"
        )
