"""Studies: which tokenizer works best with which generator?"""

import json

from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.recipes.debug import debug_ar, debug_vq
from vistok.recipes.fashion import fashion_ar, fashion_vq
from vistok.recipes.images import images64_ar, images64_crt, images64_vq
from vistok.recipes.openmoji import openmoji_ar, openmoji_vq
from vistok.study.config import Choice, Grid, Scoring, StudyConfig
from vistok.tokenizer.regularizers.config import CausalConfig, Variant
from vistok.units import Duration, percent, steps


def _crt(crt: CausalConfig) -> str:
    return f"crt={json.dumps(crt.model_dump(mode='json'))}"


_NONE = Choice(name="none")
_LENGTHS = tuple(steps(count) for count in (250, 500, 1000, 2000))


def debug_study() -> StudyConfig:
    """Run a toy study in a minute: two tokenizers, two generators, three lengths. Its scores mean nothing.

    vistok study run debug_study
    """
    crt = CausalConfig(width=16, num_heads=2, ffn_multiple=16, ramp=percent(20))
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
                purpose="Tokenizers with and without the regularizer; generators of two sizes, trained for three lengths.",
                tokenizers=(Choice(name="none"), Choice(name="l2-pre-w4", set=(_crt(crt),))),
                generators=(Choice(name="s", set=("generator.width=16",)), Choice(name="m")),
                lengths=(steps(10), steps(20), steps(40)),
                seeds=(0, 1),
            ),
        ),
    )


def fashion_study() -> StudyConfig:
    """Test the paper's claims on Fashion-MNIST, in about 8 hours on two CPU cores; you can stop and resume.

    vistok study run fashion_study

    All tokenizers get the same training FLOPs: those of 3,000 steps without the regularizer. The grid `weights` uses
    separate seeds to choose the regularizer's weights, by gFMD against held-out training images; the grid `main` then uses
    the chosen weights.
    """
    sizes = _fashion_sizes()
    return StudyConfig(
        tokenizer=fashion_vq().replace(
            length=Duration(value=1.68e13, unit="flops"), execution=ExecutionConfig(evaluate_every=2000)
        ),
        generator=fashion_ar().replace(
            optimizer=OptimizerConfig(lr=3e-3, schedule="wsd", warmup=steps(100)),
            execution=ExecutionConfig(evaluate_every=1000),
        ),
        grids=(*_fashion_regularizer_grids(sizes), *_fashion_sweeps(sizes)),
    )


def fashion_decisive_study() -> StudyConfig:
    """Settle how much compute the causal regularizer saves, with twelve tokenizer seeds; about 10 hours on two CPU cores.

    vistok study run fashion_decisive_study --out results/decisive

    Tokenizers and generators are those of fashion_study, with seeds that it has not used. Samples are drawn at nine guidance
    scales and scored at all of them; which scale counts, the other seeds choose on held-out images. Claims are judged at 6
    seeds and, if that settles nothing, at 12.
    """
    arms: tuple[tuple[str, Variant, float], ...] = (("decisive", "l2_post", 4.0), ("decisive-pre", "l2_pre", 1.0))
    grids = tuple(
        Grid(
            name=name,
            purpose=f"E: no regularizer and {variant}, at the weight that fashion_study used.",
            tokenizers=(_NONE, _small_crt(variant, weight)),
            generators=_fashion_sizes(),
            lengths=_LENGTHS[:3],
            seeds=tuple(range(20, 32)),
        )
        for name, variant, weight in arms
    )
    scales = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0)
    scoring = Scoring(scales=scales, search_samples=2_000, samples=2_000, every_scale=True)
    return fashion_study().replace(scoring=scoring, main_grid="decisive", grids=grids)


def _fashion_sizes() -> tuple[Choice, ...]:
    return tuple(
        Choice(name=name, set=(f"generator.width={width}", f"generator.depth={depth}", f"generator.num_heads={heads}"))
        for name, width, depth, heads in (("s", 64, 3, 2), ("m", 96, 3, 3), ("l", 128, 4, 4))
    )


def _fashion_regularizer_grids(sizes: tuple[Choice, ...]) -> tuple[Grid, ...]:
    chosen = (_NONE, _small_crt("l2_pre", 1.0), _small_crt("l2_pre_normalized", 0.4), _small_crt("l2_post", 4.0))
    return (
        Grid(
            name="weights",
            purpose="C6: how strong the regularizer should be, for the paper's loss and the normalised one; on separate seeds.",
            tokenizers=(
                _NONE,
                *(_small_crt("l2_pre", weight) for weight in (0.25, 1.0, 4.0, 16.0)),
                *(_small_crt("l2_pre_normalized", weight) for weight in (0.1, 0.4, 1.6, 6.4)),
            ),
            generators=sizes[1:2],
            lengths=(steps(250), steps(1000)),
            seeds=(10,),
        ),
        Grid(
            name="main",
            purpose="C1, C2, C7: no regularizer, the paper's loss, and the normalised one, each at the weight chosen by "
            "the grid `weights` on held-out training images; also l2_post at its design weight, the best of the grid "
            "`variants` (another seed) on held-out images.",
            tokenizers=chosen,
            generators=sizes,
            lengths=_LENGTHS,
            seeds=(0, 1, 2),
        ),
        Grid(
            name="budgets",
            purpose="C7: the tokenizers of the grid `main` with another seed; generators for budgets between its lengths.",
            tokenizers=chosen,
            generators=sizes[:2],
            lengths=tuple(Duration(value=flops, unit="flops") for flops in (2.8e12, 5.6e12, 1.1e13)),
            seeds=(3,),
        ),
    )


def _fashion_sweeps(sizes: tuple[Choice, ...]) -> tuple[Grid, ...]:
    return (
        Grid(
            name="layers",
            purpose="C6: how deep the causal model should be: none, then 2, 4 and 8 layers, at the chosen weight.",
            tokenizers=(_NONE, *(_small_crt("l2_pre", 1.0, num_layers) for num_layers in (2, 4, 8))),
            generators=sizes[1:2],
            lengths=(steps(250), steps(1000)),
            seeds=(10,),
        ),
        Grid(
            name="variants",
            purpose="C5: regularizing before or after quantization, each variant at its design weight.",
            tokenizers=(_small_crt("l2_pre", 4.0), _small_crt("l2_post", 4.0), _small_crt("ce_post", 0.03)),
            generators=sizes[1:2],
            lengths=(steps(250), steps(1000)),
            seeds=(10,),
        ),
        Grid(
            name="codebooks",
            purpose="C3: how large the codebook should be.",
            tokenizers=(
                Choice(name="codes-64", set=("tokenizer.quantizer.codebook_size=64",)),
                _NONE,
                Choice(name="codes-4096", set=("tokenizer.quantizer.codebook_size=4096",)),
            ),
            generators=(sizes[0], sizes[2]),
            lengths=_LENGTHS,
        ),
        Grid(
            name="tokens",
            purpose="C4: how many tokens per image: 4x4 (images padded to 32 pixels), 7x7 and 14x14, each with generators "
            "of all sizes up to the same compute.",
            tokenizers=(
                _levels("tokens-16", (1, 1, 2, 2)),
                _NONE,
                _levels("tokens-196", (1, 2)),
            ),
            generators=sizes,
            lengths=(steps(125), *_LENGTHS),
            max_flops=1e13,
        ),
    )


def _small_crt(variant: Variant, weight: float, num_layers: int = 2, **changes: str) -> Choice:
    crt = CausalConfig(
        variant=variant, weight=weight, num_layers=num_layers, width=32, num_heads=2, ffn_multiple=32, ramp=percent(10)
    )
    layers = "" if num_layers == 2 else f"-layers{num_layers}"
    settings = tuple(f"{path}={value}" for path, value in changes.items())
    return Choice(name=f"{variant.replace('_', '-')}-{weight:g}{layers}", set=(_crt(crt), *settings))


def _levels(name: str, multipliers: tuple[int, ...]) -> Choice:
    return Choice(
        name=name, set=tuple(f"tokenizer.{side}.multipliers={list(multipliers)}" for side in ("encoder", "decoder"))
    )


def openmoji_study() -> StudyConfig:
    """Repeat the main claims on a second data set, in colour, and run one tokenizer at three image sizes.

    vistok study run openmoji_study

    It measures the regularizer's signature (C1) and efficiency (C2), at the weight chosen on held-out Fashion-MNIST images,
    and the number of tokens (C4). All tokenizers get the same training FLOPs: those of 2,500 steps without the regularizer.
    """
    generators, lengths = (Choice(name="m"),), tuple(steps(count) for count in (250, 500, 1000))
    return StudyConfig(
        tokenizer=openmoji_vq().replace(
            length=Duration(value=1.87e13, unit="flops"), execution=ExecutionConfig(evaluate_every=2000)
        ),
        generator=openmoji_ar().replace(
            optimizer=OptimizerConfig(lr=3e-3, schedule="wsd", warmup=steps(100)),
            execution=ExecutionConfig(evaluate_every=1000),
        ),
        grids=(
            Grid(
                name="main",
                purpose="C1, C2: with and without the regularizer, at one generator size.",
                tokenizers=(_NONE, _small_crt("l2_pre", 1.0)),
                generators=generators,
                lengths=lengths,
                seeds=(0, 1, 2),
            ),
            Grid(
                name="resolutions",
                purpose="C4: the tokenizer trained at 32 pixels (64 tokens), also run at 24 and 48 pixels (36 and 144 tokens).",
                tokenizers=(
                    Choice(name="none-24px", of="none", image_size=24),
                    _NONE,
                    Choice(name="none-48px", of="none", image_size=48),
                ),
                generators=generators,
                lengths=lengths,
                max_flops=1.3e13,
            ),
        ),
    )


def images64_study() -> StudyConfig:
    """Find out which tokenizer suits which generator on your own images at 64x64 pixels: 3 tokenizers, 18 generators.

    vistok study run images64_study --data FOLDER --set evaluator=RUN

    Scores are computed from features: Inception's where its weights are available, else those of a classifier trained on
    your classes (vistok train classifier images64_evaluator --data FOLDER; pass its run with --set evaluator=RUN).
    """
    crt = images64_crt().regularizer("causal")
    assert crt is not None
    baseline = images64_vq()
    sizes = tuple(
        Choice(name=name, set=(f"generator.width={width}", f"generator.depth={depth}", f"generator.num_heads={heads}"))
        for name, width, depth, heads in (("s", 96, 4, 3), ("m", 192, 6, 6))
    )
    return StudyConfig(
        # The same FLOPs for all tokenizers: those of 3,000 steps without the regularizer.
        tokenizer=baseline.replace(length=Duration(value=1.63e14, unit="flops")),
        generator=images64_ar().replace(optimizer=OptimizerConfig(lr=1e-3, schedule="wsd", warmup=steps(150))),
        grids=(
            Grid(
                name="main",
                purpose="No regularizer, the paper's, and the normalised one.",
                tokenizers=(
                    Choice(name="none"),
                    Choice(name="l2-pre-4", set=(_crt(crt),)),
                    Choice(
                        name="l2-pre-normalized-1.6", set=(_crt(crt.replace(variant="l2_pre_normalized", weight=1.6)),)
                    ),
                ),
                generators=sizes,
                lengths=(steps(500), steps(1000), steps(2500)),
            ),
        ),
    )
