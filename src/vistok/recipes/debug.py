"""Toy recipes that finish in seconds, for tests and for trying out vistok. Their scores mean nothing."""

from vistok.classifier.config import ViewsConfig
from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.generator.flow.config import FlowConfig
from vistok.generator.masked.config import MaskedConfig
from vistok.nn.classifier_config import ClassifierConfig
from vistok.recipes.fashion import fashion_vq
from vistok.runs.config import ClassifierRun, GeneratorRun, TokenizerRun
from vistok.tokenizer.bottlenecks.config import KLConfig, KMeansConfig, VQConfig
from vistok.tokenizer.config import (
    ConvNetConfig,
    ConvTokenizerConfig,
    LineTokenizerConfig,
    LossConfig,
    PatchTransformerConfig,
    PerceptualConfig,
    ProxyLineTokenizerConfig,
)
from vistok.tokenizer.networks.frozen_config import FrozenTokenizerConfig
from vistok.tokenizer.networks.rendered_config import RenderedTokenizerConfig
from vistok.tokenizer.regularizers.config import CausalConfig
from vistok.tokenizer.renderers.config import AutoregressiveRendererConfig, MaskedRendererConfig
from vistok.units import percent, steps

_EXECUTION = ExecutionConfig(log_every=5, evaluate_every=20, tensorboard=False)
_DATA = DataConfig(max_images=1_000)
_OPTIMIZER = OptimizerConfig(lr=2e-3, schedule="cosine", warmup=percent(10))


def _side() -> ConvNetConfig:
    return ConvNetConfig(channels=8, multipliers=(1, 1, 2), num_res_blocks=1, attention_resolutions=(), norm_groups=4)


def debug_vq() -> TokenizerRun:
    """Train a toy tokenizer on Fashion-MNIST for 20 steps.

    vistok train tokenizer debug_vq
    """
    network = _side()
    return TokenizerRun(
        data=_DATA,
        tokenizer=ConvTokenizerConfig(
            image_size=28,
            in_channels=1,
            latent_channels=16,
            encoder=network,
            decoder=network,
            quantizer=VQConfig(codebook_size=64),
        ),
        losses=LossConfig(perceptual=PerceptualConfig(weight=1.0)),
        batch_size=16,
        length=steps(20),
        optimizer=_OPTIMIZER,
        ema_decay=0.9,
        execution=_EXECUTION,
    )


def debug_crt() -> TokenizerRun:
    """Train debug_vq with the causal regularizer added.

    vistok train tokenizer debug_crt
    """
    return debug_vq().replace(regularizers=(CausalConfig(width=16, num_heads=2, ffn_multiple=16, ramp=percent(20)),))


def debug_ar() -> GeneratorRun:
    """Train a toy generator for 40 steps, on the tokens of a toy tokenizer.

    vistok train generator debug_ar --tokenizer RUN
    """
    return GeneratorRun(
        generator=AutoregressiveConfig(width=32, depth=2, num_heads=2, ffn_multiple=16),
        batch_size=32,
        length=steps(40),
        optimizer=_OPTIMIZER,
        ema_decay=0.9,
        execution=_EXECUTION,
    )


def debug_classifier() -> ClassifierRun:
    """Train a toy classifier for 20 steps.

    vistok train classifier debug_classifier
    """
    return ClassifierRun(
        data=_DATA,
        classifier=ClassifierConfig(stage_channels=(4, 8), convs_per_stage=1, feature_dim=8),
        batch_size=32,
        length=steps(20),
        optimizer=_OPTIMIZER,
        ema_decay=0.9,
        execution=_EXECUTION,
    )


def debug_encoder() -> ClassifierRun:
    """Train a toy network without labels for 20 steps.

    vistok train classifier debug_encoder
    """
    return debug_classifier().replace(learns=ViewsConfig(projector=8))


def debug_kl() -> TokenizerRun:
    """Train a toy tokenizer to vectors on Fashion-MNIST for 40 steps.

    vistok train tokenizer debug_kl
    """
    run = debug_vq()
    return run.replace(tokenizer=run.tokenizer.replace(quantizer=KLConfig(dim=4)), length=steps(40))


def debug_flow() -> GeneratorRun:
    """Train a toy flow generator for 60 steps, on the vectors of a toy tokenizer.

    vistok train generator debug_flow --tokenizer RUN
    """
    return debug_ar().replace(
        generator=FlowConfig(width=32, depth=2, num_heads=2), length=steps(60), optimizer=_OPTIMIZER
    )


def debug_masked() -> GeneratorRun:
    """Train a toy masked generator for 40 steps, on the tokens of a toy tokenizer.

    vistok train generator debug_masked --tokenizer RUN
    """
    return debug_ar().replace(generator=MaskedConfig(width=32, depth=2, num_heads=2, ffn_multiple=16))


def debug_clusters() -> TokenizerRun:
    """Train the decoder of a toy tokenizer to 32 clusters of frozen features for 20 steps.

    vistok train tokenizer debug_clusters
    """
    run = debug_vq()
    return run.replace(
        tokenizer=FrozenTokenizerConfig(
            image_size=28,
            in_channels=1,
            features="fashion",
            latent_channels=16,
            decoder=_side(),
            quantizer=KMeansConfig(codebook_size=32, code_dim=64, iterations=4),
        )
    )


def debug_renderer() -> TokenizerRun:
    """Train a toy renderer for 20 steps: it draws the tokens of a shipped tokenizer from 32 clusters of frozen features.

    vistok train tokenizer debug_renderer
    """
    return debug_clusters().replace(
        tokenizer=RenderedTokenizerConfig(
            image_size=28,
            in_channels=1,
            patch=4,
            features="fashion",
            quantizer=KMeansConfig(codebook_size=32, code_dim=64, iterations=4),
            codes=fashion_vq().tokenizer,
            codes_from="fashion-baseline",
            renderer=MaskedRendererConfig(width=32, depth=2, num_heads=2, ffn_multiple=16, dropout=0.0),
        ),
        losses=LossConfig(perceptual=None),
    )


def debug_renderer_ar() -> TokenizerRun:
    """Train debug_renderer to draw one token after another.

    vistok train tokenizer debug_renderer_ar
    """
    run = debug_renderer()
    renderer = AutoregressiveRendererConfig(width=32, depth=2, num_heads=2, ffn_multiple=16, dropout=0.0)
    return run.replace(tokenizer=run.tokenizer.replace(renderer=renderer))


def debug_line() -> TokenizerRun:
    """Train a toy tokenizer to a line of 8 tokens on Fashion-MNIST for 20 steps.

    vistok train tokenizer debug_line
    """
    side = PatchTransformerConfig(width=16, depth=1, num_heads=2)
    return debug_vq().replace(
        tokenizer=LineTokenizerConfig(
            image_size=28,
            in_channels=1,
            patch=7,
            num_latents=8,
            encoder=side,
            decoder=side,
            quantizer=VQConfig(codebook_size=64),
        )
    )


def debug_proxy_line() -> TokenizerRun:
    """Train debug_line's network on the tokens of debug_vq for 20 steps: the first of TiTok's two stages.

    vistok train tokenizer debug_proxy_line --proxy RUN
    """
    line = debug_line()
    fields = line.tokenizer.model_dump(exclude={"kind"})
    return line.replace(
        tokenizer=ProxyLineTokenizerConfig(**fields, proxy=debug_vq().tokenizer),
        losses=LossConfig(target="tokens", perceptual=None),
    )
