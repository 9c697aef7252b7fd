"""A study's config -> its tasks: what to train and score, what each task depends on, and what it costs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from vistok.config import fingerprint, override, science
from vistok.data.images.open import classes_to_fetch, images_to_fetch, open_split
from vistok.errors import UserError
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.runs.identity import by_contents, content_digests, init_digest
from vistok.space import Space
from vistok.study.config import Choice, Grid, StudyConfig
from vistok.study.run.wanted import evaluator_of
from vistok.tokenizer.config import TokenizerConfig
from vistok.units import steps as in_steps

# Part of every run's name: increase it when records change, and all runs are recorded again.
SCHEMA = "1"


@dataclass(frozen=True)
class TokenizerTask:
    """Train a tokenizer and score it. `run` is its permanent name: it depends only on science and data.

    `resized`: the run whose weights are scored at `image_size`; nothing is trained then. `former`: the run's names in earlier
    versions, which did not cover `evaluator` (a digest) and other files that the study uses. `directories`: fingerprints of
    its run directory, if training starts from the weights in such a file.
    """

    run: str
    choice: str
    config: TokenizerRun
    flops: float
    resized: str | None = None
    image_size: int | None = None
    kind: str = "tokenizer"
    former: tuple[str, ...] = ()
    evaluator: str | None = None
    directories: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The run whose weights it reuses; none for a tokenizer that is trained."""
        return (self.resized,) if self.resized else ()

    @property
    def weights(self) -> str:
        """The run that its weights come from."""
        return self.resized or self.run

    @property
    def network(self) -> TokenizerConfig:
        """The network config at its image size."""
        network = self.config.tokenizer
        return network if self.image_size is None else network.at(self.image_size)


@dataclass(frozen=True)
class CacheTask:
    """Encode the images with a tokenizer, for its generators."""

    run: str
    tokenizer: TokenizerTask
    flops: float
    kind: str = "cache"

    @property
    def needs(self) -> tuple[str, ...]:
        """Its tokenizer's run."""
        return (self.tokenizer.run,)


@dataclass(frozen=True)
class GeneratorTask:
    """Train a generator on a tokenizer's tokens and score it.

    `branch_step` is where the constant phase of schedule wsd ends, for other schedules the last step. `trunk` is a longer run
    with the same constant phase, from whose checkpoint this run starts; `milestones` are the steps at which shorter runs branch
    off from this one. `former` and `evaluator` are as in TokenizerTask.
    """

    run: str
    choice: str
    config: GeneratorRun
    tokenizer: TokenizerTask
    flops: float
    steps: int
    branch_step: int
    trunk: str | None = None
    milestones: tuple[int, ...] = ()
    kind: str = "generator"
    former: tuple[str, ...] = ()
    evaluator: str | None = None

    @property
    def cache(self) -> str:
        """The name of the task that encodes the images for it."""
        return f"{self.tokenizer.run}-tokens"

    @property
    def needs(self) -> tuple[str, ...]:
        """The cache of its tokens, and the run that it branches from."""
        return (self.cache, *([self.trunk] if self.trunk else []))


Task = TokenizerTask | CacheTask | GeneratorTask


def expand(study: StudyConfig, fetch: bool = True) -> list[Task]:
    """Return all tasks of a study without duplicates: in the order of its grids, each after the tasks it needs.

    Without `fetch`, a data set that is not on this machine yet is not fetched: its size is known, but the names of the runs,
    which cover its contents, are not those that they will have.
    """
    facts = _data_facts(study, fetch)
    tasks: dict[str, Task] = {}
    for grid in study.grids:
        for seed in grid.seeds:
            for choice in grid.tokenizers:
                tokenizer = _tokenizer_task(study, grid, choice, seed, facts)
                tasks.setdefault(tokenizer.run, tokenizer)
                if grid.generators:
                    cache = _cache_task(tokenizer, facts)
                    tasks.setdefault(cache.run, cache)
                for task in _generator_tasks(study, grid, tokenizer, seed, facts):
                    tasks.setdefault(task.run, task)
    return _with_trunks(list(tasks.values()))


@dataclass(frozen=True)
class _Facts:
    """Facts about the files that a study uses.

    About its images: their digest, the digests that earlier versions gave them, the number for training, the number of
    classes. The digest of its evaluator, if the study names one. `begun`: digests of initial weights, by path.
    """

    digest: str
    former: tuple[str, ...]
    images: int
    classes: int
    evaluator: str | None
    begun: dict[str, str | None] = field(default_factory=dict)

    def contents(self, config: TokenizerRun) -> dict[str, str]:
        """Return the digests of the files that a tokenizer run uses."""
        if config.init_from not in self.begun:
            self.begun[config.init_from] = init_digest(config)
        return content_digests(config, self.begun[config.init_from])


def _data_facts(study: StudyConfig, fetch: bool) -> _Facts:
    data = study.tokenizer.data
    if not fetch and (count := images_to_fetch(data, "train")) is not None:
        return _Facts("", (), count, classes_to_fetch(data), evaluator_of(study))
    source = open_split(study.tokenizer.data, "train")
    evaluator = evaluator_of(study)
    return _Facts(source.digest, source.former_digests, len(source), len(source.class_names), evaluator)


def _tokenizer_task(study: StudyConfig, grid: Grid, choice: Choice, seed: int, facts: _Facts) -> TokenizerTask:
    if choice.of is not None:
        of = next(other for other in grid.tokenizers if other.name == choice.of)
        base = _tokenizer_task(study, grid, of, seed, facts)
        run, former = _tokenizer_names(choice.name, base.config, facts, image_size=str(choice.image_size))
        return replace(
            base, run=run, choice=choice.name, flops=0.0, resized=base.run, image_size=choice.image_size, former=former
        )
    config = override(study.tokenizer, list(choice.set)).replace(seed=seed, name=f"{study.name}-{choice.name}")
    if config.data != study.tokenizer.data:
        raise UserError(
            f"tokenizer choice {choice.name!r} changes data, but all runs of a study share their images; leave data out of `set`"
        )
    run, former = _tokenizer_names(choice.name, config, facts)
    flops = _tokenizer_flops(config.replace(seed=0, name="any"), facts.images)
    directories: tuple[str, ...] = ()
    if begun := facts.contents(config).get("init_from"):
        directories = tuple(
            fingerprint(config, data=digest, init_from=begun) for digest in (facts.digest, *facts.former)
        )
    return TokenizerTask(
        run, choice.name, config, flops, former=former, evaluator=facts.evaluator, directories=directories
    )


def _tokenizer_names(choice: str, config: TokenizerRun, facts: _Facts, **size: str) -> tuple[str, tuple[str, ...]]:
    """Return a run's name, which covers the contents of all files the study uses, and its former names."""
    named = by_contents(config)
    evaluator = {} if facts.evaluator is None else {"evaluator": facts.evaluator}
    key = fingerprint(named, data=facts.digest, record=SCHEMA, **size, **facts.contents(config), **evaluator)
    former = [fingerprint(config, data=digest, record=SCHEMA, **size) for digest in (facts.digest, *facts.former)]
    return f"{choice}-s{config.seed}-{key}", tuple(f"{choice}-s{config.seed}-{old}" for old in former if old != key)


def _cache_task(tokenizer: TokenizerTask, facts: _Facts) -> CacheTask:
    # The encoder's forward pass is about a sixth of a training step: half of the network, a third of the work.
    flops, steps = _tokenizer_plan(tokenizer.config.replace(seed=0, name="any"), facts.images)
    larger = tokenizer.network.num_tokens / tokenizer.config.tokenizer.num_tokens
    per_image = larger * flops / 6 / (steps * tokenizer.config.batch_size)
    return CacheTask(f"{tokenizer.run}-tokens", tokenizer, per_image * facts.images)


def _generator_tasks(
    study: StudyConfig, grid: Grid, tokenizer: TokenizerTask, seed: int, facts: _Facts
) -> Iterator[GeneratorTask]:
    network = tokenizer.network
    for choice in grid.generators:
        base = override(study.generator, list(choice.set)).replace(seed=seed, name=f"{study.name}-{choice.name}")
        for length in sorted(
            grid.lengths, key=lambda length: -length.value
        ):  # the longest run is the trunk of the others
            config = base.replace(length=length)
            flops, steps, branch = _generator_cost(config.replace(seed=0), network.space, facts.classes, facts.images)
            if grid.max_flops is not None and flops > grid.max_flops:
                continue
            # Names cover the evaluator's contents; former names covered its path.
            scoring = json.dumps(science(study.scoring), indent=2)
            names = [
                f"{choice.name}-{steps}-{tokenizer.choice}-s{seed}-{key}"
                for evaluator in (facts.evaluator, study.evaluator)
                for key in _generator_keys(config, tokenizer, scoring + json.dumps(evaluator))
            ]
            former = tuple(name for name in dict.fromkeys(names) if name != names[0])
            yield GeneratorTask(
                names[0], choice.name, config, tokenizer, flops, steps, branch, former=former, evaluator=facts.evaluator
            )


def _generator_keys(config: GeneratorRun, tokenizer: TokenizerTask, scoring: str) -> list[str]:
    """Return a generator's fingerprints for each name of its tokenizer, the current name first."""
    names = (tokenizer.run, *tokenizer.former)
    return [fingerprint(config, tokenizer=name, scoring=scoring, record=SCHEMA) for name in names]


@lru_cache(maxsize=512)
def _tokenizer_plan(config: TokenizerRun, images: int) -> tuple[float, int]:
    from vistok.verbs import train_tokenizer

    plan = train_tokenizer.plan(config, images)
    return plan.train_flops, plan.total_steps


def _tokenizer_flops(config: TokenizerRun, images: int) -> float:
    return _tokenizer_plan(config, images)[0]


@lru_cache(maxsize=512)
def _generator_cost(config: GeneratorRun, space: Space, classes: int, images: int) -> tuple[float, int, int]:
    """Return a generator's FLOPs, its steps, and the step at which its constant phase ends."""
    from vistok.runs.latent_facts import LatentFacts
    from vistok.verbs import train_generator

    plan, optimizer = train_generator.plan(config, LatentFacts(space, classes), images), config.optimizer
    decay = optimizer.decay.to_steps(plan.scale(config, images)) if optimizer.schedule == "wsd" else 0
    return plan.train_flops, plan.total_steps, plan.total_steps - decay


def _with_trunks(tasks: list[Task]) -> list[Task]:
    """Let runs that differ only in length share the constant phase of the longest one (schedule wsd)."""
    families: dict[str, list[GeneratorTask]] = {}
    for task in tasks:
        if isinstance(task, GeneratorTask) and _can_branch(task.config):
            family = f"{task.tokenizer.run} {task.config.replace(length=in_steps(1)).to_json()}"
            families.setdefault(family, []).append(task)
    changed: dict[str, Task] = {}
    for members in families.values():
        trunk = max(members, key=lambda task: task.steps)
        branches = [task for task in members if task is not trunk and task.branch_step < trunk.branch_step]
        steps = tuple(sorted({task.branch_step for task in branches}))
        changed[trunk.run] = replace(trunk, milestones=steps)
        changed |= {task.run: replace(task, trunk=trunk.run) for task in branches}
    return [changed.get(task.run, task) for task in tasks]


def _can_branch(config: GeneratorRun) -> bool:
    """Whether the length affects only the steps after the constant phase, as with a warm-up in steps or images."""
    optimizer = config.optimizer
    return optimizer.schedule == "wsd" and optimizer.warmup.unit != "percent"
