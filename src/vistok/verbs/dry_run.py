"""What a training would cost, found without training, writing or downloading anything."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vistok.data.images.counted import count_images
from vistok.data.images.open import open_split
from vistok.data.latents.cache import bytes_of_row
from vistok.engine.distributed import join_world
from vistok.engine.pace import in_words
from vistok.errors import in_digits
from vistok.runs.config import ClassifierRun, GeneratorRun, RunConfig, TokenizerRun
from vistok.runs.job import require_whole_parts
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.load import load_tokenizer_at
from vistok.runs.plan import Plan, images_at_once
from vistok.runs.run_images import data_of, planned_away
from vistok.verbs import step_time, train_classifier, train_generator, train_tokenizer

# Facts on what is cached -> what it is.
_CACHED = {"latent_bytes_per_view": "latents", "feature_bytes_per_view": "frozen features"}


@dataclass(frozen=True)
class DryRun:
    """What a training would do: its plan's numbers, on how many images, and seconds a step here, if measured.

    `absent`: what is said of images that are not on this machine; empty if they are.
    """

    config: RunConfig
    plan: Plan
    num_images: int
    absent: str
    step_seconds: float | None
    facts: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return the numbers for programs."""
        time = {"seconds_per_step": self.step_seconds, "seconds": self.seconds}
        return {**self.plan.summary(self.config), **time, "num_images": self.num_images, **self.facts}

    @property
    def seconds(self) -> float | None:
        """About how long the training takes on this machine; None if a step was too large to try."""
        return None if self.step_seconds is None else self.step_seconds * self.plan.total_steps * step_time.OVERHEAD

    def lines(self) -> list[str]:
        """Return the numbers in words."""
        plan, config = self.plan, self.config
        parameters = ", ".join(f"{name} {count:,}" for name, count in plan.params.items())
        epochs = plan.total_steps * config.batch_size / max(self.num_images, 1)
        lines = [
            f"{config.name}: {plan.total_steps:,} steps of {config.batch_size} images, {in_digits(epochs)} passes over "
            f"{self.num_images:,}{self.absent and f' images, {self.absent}'}",
            f"{sum(plan.params.values()):,} parameters ({parameters})",
            f"{plan.train_flops:.3g} training FLOPs; about {plan.memory_bytes / 2**30:.2f} GiB of memory for a single process, "
            f"{plan.activation_bytes / 2**30:.2f} of them for {images_at_once(config)} images at a time",
        ]
        for name, what in _CACHED.items():
            if name in self.facts:
                lines.append(f"{_size(self.facts[name])} of {what} for each view of all images, written once")
        if self.seconds is None:
            return [*lines, "time: one image is too large to try on this machine's CPU; it is meant for a GPU"]
        speed = config.batch_size / (self.step_seconds or 1)
        return [*lines, f"about {in_words(self.seconds)} on this machine ({in_digits(speed)} images/s, just measured)"]


def _size(count: int) -> str:
    """Return a number of bytes in words."""
    power = next((power for power in (3, 2) if count >= 1024**power), 1)
    return f"{in_digits(count / 1024**power)} {('KiB', 'MiB', 'GiB')[power - 1]}"


def dry_tokenizer(config: TokenizerRun) -> DryRun:
    """Return what training a tokenizer would cost. Raises UserError for what training would refuse."""
    train_tokenizer.require_trainable(config)
    count, absent = count_images(config.data, "train")
    plan = train_tokenizer.checked_plan(config, count)
    objective = partial(train_tokenizer.build_objective, config)
    return DryRun(config, plan, count, absent, step_time.step_seconds(config, plan, objective), {})


def dry_generator(config: GeneratorRun, tokenizer_path: Path, root: str | None, image_size: int | None) -> DryRun:
    """Return what training a generator on a tokenizer's latents would cost, without encoding any images.

    Raises UserError for what training would refuse.
    """
    require_whole_parts(config, join_world())
    decoder = partial(load_tokenizer_at, tokenizer_path, image_size)
    tokenizer = decoder()
    count, absent = planned_away(tokenizer, "train", root) or count_images(data_of(tokenizer, root), "train")
    facts = LatentFacts(tokenizer.space, len(tokenizer.info.class_names))
    plan = train_generator.plan(config, facts, count, decoder)
    objective = partial(train_generator.build_objective, config, facts, tokenizer=decoder)
    more = {"latent_bytes_per_view": count * bytes_of_row(tokenizer.space)}
    if config.generator.aligned is not None:
        more["feature_bytes_per_view"] = _feature_bytes(config, facts, count)
    return DryRun(
        config, plan, count, absent, step_time.step_seconds(config, plan, objective), {**facts.to_json(), **more}
    )


def _feature_bytes(config: GeneratorRun, facts: LatentFacts, count: int) -> int:
    """Return the bytes of the frozen features that are kept beside the latents, for each view."""
    positions = train_generator.feature_grid(config, facts.space).positions
    dim = train_generator.build_objective(config, facts, torch.device("meta")).feature_dim  # type: ignore[attr-defined]
    return 2 * count * positions * int(dim)


def dry_classifier(config: ClassifierRun) -> DryRun:
    """Return what training a classifier would cost. Raises UserError for what training would refuse."""
    require_whole_parts(config, join_world())
    count, absent = count_images(config.data, "train")
    if not absent:
        config = train_classifier.with_classes(config, open_split(config.data, "train"))
    plan = train_classifier.plan(config, count)
    objective = partial(train_classifier.build_objective, config)
    return DryRun(config, plan, count, absent, step_time.step_seconds(config, plan, objective), {})
