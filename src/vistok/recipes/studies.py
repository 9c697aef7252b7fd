"""Studies: which tokenizer to train for which generator."""

import json

from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.recipes.debug import debug_ar, debug_vq
from vistok.study.config import Choice, Grid, Scoring, StudyConfig
from vistok.tokenizer.config import CRTConfig
from vistok.units import percent, steps


def _crt(crt: CRTConfig) -> str:
    return f"crt={json.dumps(crt.model_dump(mode='json'))}"


def debug_study() -> StudyConfig:
    """Run a toy study in a minute: two tokenizers, two generators, three lengths. The numbers mean nothing.

    vistok study run debug_study
    """
    crt = CRTConfig(width=16, num_heads=2, ffn_multiple=16, ramp=percent(20))
    generator = debug_ar().replace(
        optimizer=OptimizerConfig(lr=2e-3, schedule="wsd", warmup=steps(4)),
        execution=ExecutionConfig(log_every=5, evaluate_every=1000, tensorboard=False),
    )
    return StudyConfig(
        tokenizer=debug_vq(),
        generator=generator,
        scoring=Scoring(scales=(1.0, 2.0), search_samples=40, samples=100),
        grids=(
            Grid(
                name="main",
                purpose="Tokenizers without and with the regularizer, generators of two sizes and three lengths.",
                tokenizers=(Choice(name="none"), Choice(name="l2-pre-w4", set=(_crt(crt),))),
                generators=(Choice(name="s", set=("generator.width=16",)), Choice(name="m")),
                lengths=(steps(10), steps(20), steps(40)),
                seeds=(0, 1),
            ),
        ),
    )
