"""Studies of vectors: how many channels, aligned or not, under which switches; and two regularizers under two families."""

import json

from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.generator.flow.config import FlowConfig
from vistok.recipes.debug import debug_flow, debug_kl
from vistok.recipes.fashion import fashion_flow, fashion_kl
from vistok.study.config import Choice, Grid, Scoring, StudyConfig
from vistok.tokenizer.regularizers.config import AlignmentConfig, CausalConfig
from vistok.units import Duration, percent, steps

# Of tokens the form and weight that results/fashion found best; of vectors one that shrinking them does not satisfy: with l2_post at 4
# their variance fell 59 times in 200 steps.
_CAUSAL = CausalConfig(variant="l2_post", weight=4.0, width=32, num_heads=2, ffn_multiple=32, ramp=percent(10))
_CAUSAL_VECTORS = _CAUSAL.replace(variant="l2_pre_normalized", weight=0.4)
# A network that learned without labels, as VA-VAE's did.
_ALIGNED = AlignmentConfig(features="fashion_encoder")
_CODES = 'tokenizer.quantizer={"kind": "vq", "codebook_size": 512}'


def _regularizers(*parts: CausalConfig | AlignmentConfig) -> tuple[str, ...]:
    return (f"regularizers={json.dumps([part.model_dump(mode='json') for part in parts])}",) if parts else ()


def _vectors(dim: int, *parts: CausalConfig | AlignmentConfig, suffix: str = "") -> Choice:
    return Choice(name=f"kl-{dim}{suffix}", set=(f"tokenizer.quantizer.dim={dim}", *_regularizers(*parts)))


def _codes(*parts: CausalConfig | AlignmentConfig, suffix: str = "") -> Choice:
    return Choice(name=f"vq{suffix}", set=(_CODES, *_regularizers(*parts)))


def _autoregressive(width: int, depth: int, heads: int) -> Choice:
    network = AutoregressiveConfig(width=width, depth=depth, num_heads=heads, ffn_multiple=32, dropout=0.0)
    return Choice(
        name="ar",
        set=(
            f"generator={json.dumps(network.model_dump(mode='json'))}",
            "optimizer.lr=3e-3",
            "optimizer.weight_decay=0.1",
        ),
    )


# Each rung of LightningDiT's ladder without which it is climbed ("ddpm": diffusion in place of rectified flow, which changes path and
# prediction together); the last goes without all of them.
_RUNGS = (
    Choice(name="flow"),
    Choice(name="uniform-times", set=('generator.times="uniform"',)),
    Choice(name="no-direction", set=("generator.direction_weight=0",)),
    Choice(name="gelu", set=('generator.feed_forward="gelu"',)),
    Choice(name="layer-norm", set=('generator.norm="layer"',)),
    Choice(name="no-rotary", set=("generator.rotary=false",)),
    Choice(name="ddpm", set=('generator.path="ddpm"', 'generator.predicts="noise"')),
    Choice(
        name="dit",
        set=(
            'generator.path="ddpm"', 'generator.predicts="noise"', 'generator.times="uniform"', "generator.direction_weight=0",
            'generator.norm="layer"', 'generator.feed_forward="gelu"', "generator.rotary=false",
        ),
    ),
)  # fmt: skip


def continuous_study() -> StudyConfig:
    """Test on Fashion-MNIST what VA-VAE claims on ImageNet, and combine both regularizers under both families.

    vistok study run continuous_study

    Grids: `cross-tokens` and `cross-vectors` (X, and F between them), `channels` (D1), `aligned` (D2), `parts` (D3) and `ladder`
    (D4). Tokenizers train for 1,300 steps, whatever their regularizers cost, and generators for equal FLOPs. About 7 hours on two
    CPU cores; you can stop and resume.
    """
    return StudyConfig(
        tokenizer=fashion_kl().replace(length=steps(1300), execution=ExecutionConfig(evaluate_every=2000)),
        generator=fashion_flow().replace(
            generator=FlowConfig(width=96, depth=3, num_heads=3),
            optimizer=OptimizerConfig(lr=2e-3, weight_decay=0.0, schedule="wsd", warmup=steps(100)),
            execution=ExecutionConfig(evaluate_every=1000),
        ),
        scoring=Scoring(
            scales=(1.0, 1.5, 2.0, 3.0, 4.0, 6.0), search_samples=500, samples=1_500, fewer_steps=(1, 2, 4, 8)
        ),
        baseline="kl-16",
        main_grid="cross-vectors",
        grids=(*_cross_grids(), *_channel_grids(), *_part_grids()),
    )


# Seeds that no other study here has used.
_FLOW, _SEEDS, _CROSS_SEEDS = _RUNGS[:1], (50, 51, 52), (50, 51, 52, 53, 54)
_LENGTHS = (Duration(value=4e12, unit="flops"), Duration(value=8e12, unit="flops"))


def _channel_grids() -> tuple[Grid, ...]:
    return (
        Grid(
            name="channels",
            purpose="D1: 4 to 32 channels without alignment.",
            tokenizers=tuple(_vectors(dim) for dim in (4, 8, 16, 32)),
            generators=_FLOW,
            lengths=_LENGTHS,
            seeds=_SEEDS,
        ),
        Grid(
            name="aligned",
            purpose="D2: 16 and 32 channels with and without alignment.",
            tokenizers=tuple(
                _vectors(dim, *part, suffix=suffix)
                for dim in (16, 32)
                for part, suffix in (((), ""), ((_ALIGNED,), "-aligned"))
            ),
            generators=_FLOW,
            lengths=_LENGTHS,
            seeds=_SEEDS,
        ),
    )


def _cross_grids() -> tuple[Grid, ...]:
    def arms(causal: CausalConfig) -> tuple[tuple[tuple[CausalConfig | AlignmentConfig, ...], str], ...]:
        return ((), ""), ((causal,), "-causal"), ((_ALIGNED,), "-aligned"), ((causal, _ALIGNED), "-both")

    return (
        Grid(
            name="cross-vectors",
            purpose="X: causal and alignment regularizers, alone and together, under a flow generator.",
            tokenizers=tuple(_vectors(16, *parts, suffix=suffix) for parts, suffix in arms(_CAUSAL_VECTORS)),
            generators=_FLOW,
            lengths=_LENGTHS[1:],
            seeds=_CROSS_SEEDS,
        ),
        Grid(
            name="cross-tokens",
            purpose="X: the same under an autoregressive generator of 512 codes, at the same training FLOPs. F: both families.",
            tokenizers=tuple(_codes(*parts, suffix=suffix) for parts, suffix in arms(_CAUSAL)),
            generators=(_autoregressive(96, 3, 3),),
            lengths=_LENGTHS[1:],
            seeds=_CROSS_SEEDS,
        ),
    )


def _part_grids() -> tuple[Grid, ...]:
    return (
        Grid(
            name="parts",
            purpose="D3: the parts of alignment at 32 channels: cosines alone, distances alone, no margins.",
            tokenizers=(
                _vectors(32),
                _vectors(32, _ALIGNED, suffix="-aligned"),
                _vectors(32, _ALIGNED.replace(distance_weight=0.0), suffix="-cosine"),
                _vectors(32, _ALIGNED.replace(cosine_weight=0.0), suffix="-distance"),
                _vectors(32, _ALIGNED.replace(cosine_margin=0.0, distance_margin=0.0), suffix="-no-margins"),
            ),
            generators=_FLOW,
            lengths=_LENGTHS[1:],
            seeds=_SEEDS,
        ),
        Grid(
            name="ladder",
            purpose="D4: LightningDiT's switches, each turned off alone, and all of them (dit).",
            tokenizers=(_vectors(16, _ALIGNED, suffix="-aligned"),),
            generators=_RUNGS,
            lengths=_LENGTHS[1:],
            seeds=_SEEDS,
        ),
    )


def debug_vectors_study() -> StudyConfig:
    """Run a toy of continuous_study in a few minutes. Its scores mean nothing.

    vistok study run debug_vectors_study
    """
    small = CausalConfig(width=16, num_heads=2, ffn_multiple=16, ramp=percent(20))
    flow, lengths = (Choice(name="flow"),), (steps(6),)
    return StudyConfig(
        tokenizer=debug_kl().replace(length=steps(6)),
        generator=debug_flow().replace(
            optimizer=OptimizerConfig(lr=2e-3, schedule="wsd", warmup=steps(2)),
            execution=ExecutionConfig(log_every=5, evaluate_every=1000, tensorboard=False),
        ),
        scoring=Scoring(scales=(1.0, 2.0), search_samples=40, samples=40, fewer_steps=(2,)),
        baseline="kl-4",
        main_grid="cross-vectors",
        grids=(
            Grid(
                name="cross-vectors",
                purpose="Both regularizers under a flow generator.",
                tokenizers=(
                    _vectors(4),
                    _vectors(4, small, suffix="-causal"),
                    _vectors(4, _ALIGNED, suffix="-aligned"),
                    _vectors(4, small, _ALIGNED, suffix="-both"),
                ),
                generators=flow,
                lengths=lengths,
            ),
            Grid(
                name="cross-tokens",
                purpose="The same under an autoregressive generator.",
                tokenizers=(
                    _codes(),
                    _codes(small, suffix="-causal"),
                    _codes(_ALIGNED, suffix="-aligned"),
                    _codes(small, _ALIGNED, suffix="-both"),
                ),
                generators=(_autoregressive(32, 1, 2),),
                lengths=lengths,
            ),
        ),
    )
