"""A study of tokens: on a grid, in a line of 4 to 32, as clusters; written one after another, or filled in."""

import json
from typing import Any

from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.generator.config import GeneratorConfig
from vistok.generator.flow.config import FlowConfig
from vistok.generator.masked.config import MaskedConfig
from vistok.recipes.fashion import fashion_ar, fashion_clusters, fashion_kl, fashion_line, fashion_vq
from vistok.runs.config import TokenizerRun
from vistok.study.config import Choice, Grid, Scoring, StudyConfig
from vistok.tokenizer.bottlenecks.config import KLConfig
from vistok.tokenizer.regularizers.config import CausalConfig
from vistok.units import Duration, percent, steps

_CAUSAL = CausalConfig(variant="l2_post", weight=4.0, width=32, num_heads=2, ffn_multiple=32, ramp=percent(10))
_BUDGETS = (Duration(value=3e12, unit="flops"), Duration(value=6e12, unit="flops"))
_SEEDS = (0, 1, 2)


def tokens_study() -> StudyConfig:
    """Compare kinds of tokens on Fashion-MNIST at equal compute: a 7x7 grid, lines, clusters; autoregressive and masked.

    vistok study run tokens_study

    Grids: `lines` (T1: how many tokens), `kinds` (T3, T5, T6: a line and clusters beside the grid, under both families), `ordered`
    (T4: the causal regularizer on a line), and `flows`, for the frontier: vectors on a grid and in a line. All tokenizers get the
    training FLOPs of 1,300 steps of fashion_vq. About 7 hours on one CPU core; you can stop and resume.
    """
    return StudyConfig(
        tokenizer=fashion_vq().replace(
            length=Duration(value=7.26e12, unit="flops"), execution=ExecutionConfig(evaluate_every=2000)
        ),
        generator=fashion_ar().replace(
            generator=_autoregressive(),
            optimizer=OptimizerConfig(lr=3e-3, schedule="wsd", warmup=steps(100)),
            execution=ExecutionConfig(evaluate_every=1000),
        ),
        scoring=Scoring(scales=(1.0, 1.5, 2.0, 3.0), search_samples=1_000, samples=2_000),
        baseline="grid",
        main_grid="kinds",
        grids=_grids(),
    )


def _autoregressive() -> AutoregressiveConfig:
    return AutoregressiveConfig(width=96, depth=3, num_heads=3, ffn_multiple=32, dropout=0.0)


def _grids() -> tuple[Grid, ...]:
    grid, line, written = Choice(name="grid"), _tokenizer("line-16", fashion_line()), Choice(name="ar")
    clusters = _tokenizer("clusters", fashion_clusters())
    both = (
        written,
        _generator("masked", MaskedConfig(width=96, depth=3, num_heads=3, ffn_multiple=32, dropout=0.0)),
    )
    return (
        Grid(
            name="kinds",
            purpose="T3, T5, T6: 49 tokens on a grid, 16 in a line, 49 clusters; autoregressive and masked, at equal compute.",
            tokenizers=(grid, line, clusters),
            generators=both,
            lengths=_BUDGETS,
            seeds=_SEEDS,
        ),
        Grid(
            name="lines",
            purpose="T1: 4, 8, 16 and 32 tokens in a line.",
            tokenizers=(_line(4), _line(8), line, _line(32)),
            generators=(written,),
            lengths=_BUDGETS,
            seeds=_SEEDS,
        ),
        Grid(
            name="ordered",
            purpose="T4: the causal regularizer on a line, whose order is learned.",
            tokenizers=(line, _tokenizer("line-16-causal", fashion_line().replace(regularizers=(_CAUSAL,)))),
            generators=both,
            lengths=_BUDGETS,
            seeds=_SEEDS,
        ),
        Grid(
            name="flows",
            purpose="For the frontier: vectors on a grid and in a line, under a flow generator.",
            tokenizers=(_tokenizer("vectors", fashion_kl()), _tokenizer("line-16-vectors", _line_of_vectors())),
            generators=(_generator("flow", FlowConfig(width=96, depth=3, num_heads=3), "optimizer.lr=2e-3"),),
            lengths=_BUDGETS,
            seeds=_SEEDS,
        ),
    )


def _line(count: int) -> Choice:
    run = fashion_line()
    return _tokenizer(f"line-{count}", run.replace(tokenizer=run.tokenizer.model_copy(update={"num_latents": count})))


def _line_of_vectors() -> TokenizerRun:
    run = fashion_line()
    return run.replace(tokenizer=run.tokenizer.model_copy(update={"quantizer": KLConfig(dim=16)}))


def _tokenizer(name: str, run: TokenizerRun) -> Choice:
    """Return a choice with the network, learning rate, losses and regularizers of a run."""
    base = fashion_vq()
    parts: dict[str, Any] = {"tokenizer": run.tokenizer.model_dump(mode="json")}
    if run.losses != base.losses:
        parts["losses"] = run.losses.model_dump(mode="json")
    if run.regularizers:
        parts["regularizers"] = [part.model_dump(mode="json") for part in run.regularizers]
    rate = () if run.optimizer.lr == base.optimizer.lr else (f"optimizer.lr={run.optimizer.lr:g}",)
    return Choice(name=name, set=(*(f"{path}={json.dumps(value)}" for path, value in parts.items()), *rate))


def _generator(name: str, network: GeneratorConfig, *more: str) -> Choice:
    return Choice(name=name, set=(f"generator={json.dumps(network.model_dump(mode='json'))}", *more))
