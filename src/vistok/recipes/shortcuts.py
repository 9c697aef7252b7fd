"""Shortcuts on Fashion-MNIST and on your own pictures: a trained flow generator that needs fewer calls, or one call from the start.

`generator` is the network of the teacher that a recipe is counted for; vistok shorten takes that of the teacher it is given.
"""

from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.flow.config import FlowConfig
from vistok.recipes.debug import debug_flow
from vistok.recipes.fashion import fashion_flow
from vistok.recipes.images import images64_flow
from vistok.runs.config import GeneratorRun, ShortcutRun
from vistok.shortcut.config import (
    AdaptationConfig,
    GuidedConfig,
    MeanFlowConfig,
    ProgressiveConfig,
    ScoreConfig,
    SelfCooperativeConfig,
    ShortcutConfig,
)
from vistok.units import percent, steps


def _fashion(shortcut: ShortcutConfig, count: int, lr: float = 1e-3, warmup: int = 50) -> ShortcutRun:
    return fashion_flow().replace(
        shortcut=shortcut,
        length=steps(count),
        optimizer=OptimizerConfig(lr=lr, weight_decay=0.0, schedule="cosine", warmup=steps(warmup)),
        ema_decay=0.99,
        execution=ExecutionConfig(evaluate_every=250),
    )


def fashion_guided() -> ShortcutRun:
    """Make guidance a part of the network, at scales from 1 to 5: half the calls.

    vistok shorten fashion_guided --teacher fashion-flow
    """
    return _fashion(GuidedConfig(), 2000)


def fashion_progressive() -> ShortcutRun:
    """Halve a generator's steps from 32 to 4, in three rounds; best after fashion_guided.

    vistok shorten fashion_progressive --teacher RUN

    For one call: --set shortcut.to_steps=1 --set length=6000.
    """
    return _fashion(ProgressiveConfig(), 3000)


def fashion_self_cooperative() -> ShortcutRun:
    """Fine-tune a generator to one call by YOSO's self-cooperative adversarial training.

    vistok shorten fashion_self_cooperative --teacher fashion-flow
    """
    return _fashion(SelfCooperativeConfig(), 2000, lr=2e-4)


def fashion_score() -> ShortcutRun:
    """Distil a generator to one call by Diff-Instruct*, guided at 2; a reward is an option.

    vistok shorten fashion_score --teacher fashion-flow --set 'shortcut.reward={"kind": "class", "weight": 0.1}'
    """
    return _fashion(ScoreConfig(guidance_scale=2.0), 2000, lr=2e-4)


def fashion_adaptation() -> ShortcutRun:
    """Move a generator to a path that begins with noise alone, and to velocities: what YOSO needs of one that predicts noise.

    vistok shorten fashion_adaptation --teacher RUN
    """
    return _fashion(AdaptationConfig(), 500, lr=2e-4)


def fashion_mean_flow() -> GeneratorRun:
    """Train a one-call generator without a teacher (MeanFlow).

    vistok train generator fashion_mean_flow --tokenizer RUN
    """
    run = _fashion(MeanFlowConfig(guidance_scale=2.0), 4000, lr=2e-3)
    return run.replace(generator=_smooth_in_time(run))


def images64_guided() -> ShortcutRun:
    """Make guidance a part of a generator of your own pictures: half the calls.

    vistok shorten images64_guided --teacher RUN
    """
    return fashion_guided().replace(generator=images64_flow().generator)


def images64_progressive() -> ShortcutRun:
    """Halve the steps of a generator of your own pictures from 32 to 4; best after images64_guided.

    vistok shorten images64_progressive --teacher RUN
    """
    return fashion_progressive().replace(generator=images64_flow().generator)


def images64_score() -> ShortcutRun:
    """Distil a generator of your own pictures to one call (Diff-Instruct*), guided at 1.5.

    vistok shorten images64_score --teacher RUN
    """
    run = _fashion(ScoreConfig(guidance_scale=1.5), 2000, lr=2e-4)
    return run.replace(generator=images64_flow().generator)


def debug_adaptation() -> ShortcutRun:
    """Move a toy flow generator to the cosine path, in 20 steps.

    vistok shorten debug_adaptation --teacher RUN
    """
    return _debug(AdaptationConfig())


def debug_guided() -> ShortcutRun:
    """Make guidance a part of a toy flow generator, in 20 steps.

    vistok shorten debug_guided --teacher RUN
    """
    return _debug(GuidedConfig(steps=8))


def debug_progressive() -> ShortcutRun:
    """Halve a toy flow generator's steps from 8 to 2, in 20 steps of training.

    vistok shorten debug_progressive --teacher RUN
    """
    return _debug(ProgressiveConfig(from_steps=8, to_steps=2))


def debug_self_cooperative() -> ShortcutRun:
    """Fine-tune a toy flow generator to one call (YOSO), in 20 steps.

    vistok shorten debug_self_cooperative --teacher RUN
    """
    return _debug(SelfCooperativeConfig())


def debug_score() -> ShortcutRun:
    """Distil a toy flow generator to one call (Diff-Instruct*), in 20 steps.

    vistok shorten debug_score --teacher RUN
    """
    return _debug(ScoreConfig(assistant_updates=2))


def debug_mean_flow() -> GeneratorRun:
    """Train a toy one-call generator without a teacher, in 20 steps.

    vistok train generator debug_mean_flow --tokenizer RUN
    """
    run = _debug(MeanFlowConfig())
    return run.replace(generator=_smooth_in_time(run))


def _smooth_in_time(run: GeneratorRun) -> FlowConfig:
    """Return a network whose outputs can be differentiated in time: its embedding has no fast waves."""
    assert isinstance(run.generator, FlowConfig)
    return run.generator.replace(time_scale=10.0)


def _debug(shortcut: ShortcutConfig) -> ShortcutRun:
    optimizer = OptimizerConfig(lr=1e-3, weight_decay=0.0, schedule="cosine", warmup=percent(10))
    return debug_flow().replace(shortcut=shortcut, length=steps(20), optimizer=optimizer)
