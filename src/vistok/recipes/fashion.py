"""Fashion-MNIST at its native 28x28 pixels: 7x7 tokens per image, small enough to train on two CPU cores."""

from vistok.classifier.config import ViewsConfig
from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.generator.flow.config import FlowConfig
from vistok.generator.masked.config import MaskedConfig
from vistok.nn.classifier_config import ClassifierConfig
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
from vistok.tokenizer.regularizers.config import AlignmentConfig, CausalConfig
from vistok.tokenizer.renderers.config import AutoregressiveRendererConfig, MaskedRendererConfig
from vistok.units import Duration, percent, steps

# Validating every 150 steps gives the demo's short runs a training curve.
_EXECUTION = ExecutionConfig(evaluate_every=150)
# More images than the demo's short runs see.
_SHORT_DATA = DataConfig(max_images=20_000)


def _epochs(count: float) -> Duration:
    return Duration(value=float(count), unit="epochs")


def _flops(count: float) -> Duration:
    return Duration(value=count, unit="flops")


def fashion_evaluator() -> ClassifierRun:
    """Train the Fashion-MNIST evaluator: its features give rFMD and gFMD. Shipped with vistok.

    vistok train classifier fashion_evaluator
    """
    return ClassifierRun(
        seed=1,
        data=DataConfig(horizontal_flip=True),
        classifier=ClassifierConfig(),
        batch_size=128,
        length=_epochs(7),
        optimizer=OptimizerConfig(lr=3e-3, weight_decay=0.05, schedule="cosine", warmup=steps(200)),
        ema_decay=0.999,
        execution=ExecutionConfig(evaluate_every=1500),
    )


def fashion_evaluator_2() -> ClassifierRun:
    """Train fashion_evaluator with another seed, to see how much scores depend on it. Shipped with vistok.

    vistok train classifier fashion_evaluator_2
    """
    return fashion_evaluator().replace(seed=2)


def fashion_perceptual() -> ClassifierRun:
    """Train the network of the perceptual loss, unlike the evaluator in size and seed. Shipped with vistok.

    vistok train classifier fashion_perceptual
    """
    return fashion_evaluator().replace(
        seed=3,
        classifier=ClassifierConfig(stage_channels=(16, 32, 64), convs_per_stage=1),
        length=_epochs(6),
    )


def fashion_encoder() -> ClassifierRun:
    """Train a small network on Fashion-MNIST without labels, for frozen features: clusters, alignment. Shipped with vistok.

    vistok train classifier fashion_encoder

    The accuracy that it reports is that of a last layer, which learns from labels but changes no other.
    """
    return ClassifierRun(
        seed=4,
        classifier=ClassifierConfig(stage_channels=(16, 32, 64), convs_per_stage=2, dropout=0.0),
        learns=ViewsConfig(),
        batch_size=256,
        length=_epochs(4),
        optimizer=OptimizerConfig(lr=3e-3, weight_decay=0.05, schedule="cosine", warmup=steps(200)),
        ema_decay=0.99,
        execution=ExecutionConfig(evaluate_every=500),
    )


def _side() -> ConvNetConfig:
    return ConvNetConfig(channels=16, multipliers=(1, 1, 2), num_res_blocks=1, attention_resolutions=(), norm_groups=8)


def fashion_vq() -> TokenizerRun:
    """Train the baseline tokenizer for Fashion-MNIST: 7x7 tokens, 512 codes, no regularizer.

    vistok train tokenizer fashion_vq
    """
    network = _side()
    return TokenizerRun(
        tokenizer=ConvTokenizerConfig(
            image_size=28,
            in_channels=1,
            latent_channels=64,
            encoder=network,
            decoder=network,
            quantizer=VQConfig(codebook_size=512),
        ),
        losses=LossConfig(perceptual=PerceptualConfig(weight=1.0)),
        batch_size=32,
        length=steps(1300),
        optimizer=OptimizerConfig(lr=1e-3, schedule="cosine", warmup=percent(5)),
        ema_decay=0.99,
    )


def fashion_crt() -> TokenizerRun:
    """Train the Fashion-MNIST tokenizer with the causal regularizer, which costs about 5 % of its FLOPs.

    vistok train tokenizer fashion_crt

    The regularizer acts after quantization (l2_post). In our study (results/fashion) this variant generated best, judged by
    held-out images; the paper regularizes before quantization (l2_pre).
    """
    crt = CausalConfig(variant="l2_post", width=32, num_heads=2, ffn_multiple=32, ramp=percent(10))
    return fashion_vq().replace(regularizers=(crt,))


def fashion_ar() -> GeneratorRun:
    """Train a generator with about 0.9 M parameters on the tokens of either Fashion-MNIST tokenizer.

    vistok train generator fashion_ar --tokenizer RUN
    """
    return GeneratorRun(
        generator=AutoregressiveConfig(width=128, depth=4, num_heads=4, ffn_multiple=32, dropout=0.0),
        batch_size=64,
        length=steps(500),
        optimizer=OptimizerConfig(lr=3e-3, schedule="cosine", warmup=percent(5)),
        ema_decay=0.99,
    )


def fashion_short_crt() -> TokenizerRun:
    """Train the tokenizer that the demo trains before your eyes: a short fashion_crt.

    vistok train tokenizer fashion_short_crt
    """
    return fashion_crt().replace(length=steps(150), data=_SHORT_DATA, execution=_EXECUTION)


def fashion_demo_vq() -> TokenizerRun:
    """Train the baseline tokenizers of the demo, whose seeds 0 to 2 come with vistok: 3,000 steps of fashion_vq.

    vistok train tokenizer fashion_demo_vq
    """
    return fashion_vq().replace(length=_flops(1.68e13))


def fashion_demo_crt() -> TokenizerRun:
    """Train the regularized tokenizers of the demo, whose seeds 0 to 2 come with vistok: fashion_crt at equal FLOPs.

    vistok train tokenizer fashion_demo_crt
    """
    return fashion_crt().replace(length=_flops(1.68e13))


def fashion_demo_ar() -> GeneratorRun:
    """Train the demo's generators: 0.2 M parameters, 250 steps.

    vistok train generator fashion_demo_ar --tokenizer RUN
    """
    return fashion_ar().replace(
        generator=AutoregressiveConfig(width=64, depth=3, num_heads=2, ffn_multiple=32, dropout=0.0),
        length=steps(250),
        optimizer=OptimizerConfig(lr=3e-3, schedule="wsd", warmup=steps(100)),
        execution=ExecutionConfig(evaluate_every=250),
    )


def fashion_kl() -> TokenizerRun:
    """Train a Fashion-MNIST tokenizer to 7x7 vectors of 8 numbers.

    vistok train tokenizer fashion_kl
    """
    run = fashion_vq()
    return run.replace(tokenizer=run.tokenizer.replace(quantizer=KLConfig(dim=8, weight=1e-4)))


def fashion_aligned() -> TokenizerRun:
    """Train fashion_kl with its vectors aligned with the features of a small frozen network that learned without labels (VA-VAE's loss).

    vistok train tokenizer fashion_aligned
    """
    return fashion_kl().replace(regularizers=(AlignmentConfig(features="fashion_encoder"),))


def fashion_flow() -> GeneratorRun:
    """Train a flow generator with about 1.2 M parameters on the vectors of a Fashion-MNIST tokenizer.

    vistok train generator fashion_flow --tokenizer RUN
    """
    return GeneratorRun(
        generator=FlowConfig(width=128, depth=4, num_heads=4),
        batch_size=64,
        length=steps(500),
        optimizer=OptimizerConfig(lr=2e-3, weight_decay=0.0, schedule="cosine", warmup=percent(5)),
        ema_decay=0.99,
    )


def fashion_masked() -> GeneratorRun:
    """Train a masked generator of fashion_ar's size on the tokens of any Fashion-MNIST tokenizer.

    vistok train generator fashion_masked --tokenizer RUN
    """
    return fashion_ar().replace(
        generator=MaskedConfig(width=128, depth=4, num_heads=4, ffn_multiple=32, dropout=0.0),
    )


def fashion_clusters() -> TokenizerRun:
    """Train the decoder of a Fashion-MNIST tokenizer to 7x7 numbers of 512 clusters of frozen features (DiGIT's tokens).

    vistok train tokenizer fashion_clusters

    The features are those of fashion_encoder, which comes with vistok. Clusters are found first, in about a minute.
    """
    run = fashion_vq()
    return run.replace(
        tokenizer=FrozenTokenizerConfig(
            image_size=28,
            in_channels=1,
            features="fashion_encoder",
            latent_channels=64,
            decoder=_side(),
            quantizer=KMeansConfig(codebook_size=512, code_dim=64),
        )
    )


def fashion_clusters_ar() -> GeneratorRun:
    """Train fashion_ar on clusters (fashion_clusters or a renderer), with DiGIT's label smoothing.

    vistok train generator fashion_clusters_ar --tokenizer RUN
    """
    run = fashion_ar()
    return run.replace(generator=run.generator.replace(label_smoothing=0.1))


def fashion_renderer_masked() -> TokenizerRun:
    """Train a renderer for Fashion-MNIST: from 7x7 clusters it draws the tokens of a VQ tokenizer in 8 steps (DiGIT's stage 2).

    vistok train tokenizer fashion_renderer_masked --codes RUN

    Without --codes it draws those of fashion-baseline, which comes with vistok. With --set tokenizer.clusters_from=RUN it takes the
    clusters of that run of fashion_clusters, and generators of those fit; else it fits the same ones anew.
    """
    clusters = fashion_clusters().tokenizer
    return TokenizerRun(
        tokenizer=RenderedTokenizerConfig(
            image_size=28,
            in_channels=1,
            patch=4,
            features="fashion_encoder",
            quantizer=clusters.quantizer,
            codes=fashion_vq().tokenizer,
            codes_from="fashion-baseline",
            renderer=MaskedRendererConfig(width=128, depth=4, num_heads=4, ffn_multiple=32, dropout=0.0),
        ),
        losses=LossConfig(perceptual=None),
        batch_size=64,
        length=steps(500),
        optimizer=OptimizerConfig(lr=3e-3, schedule="cosine", warmup=percent(5)),
        ema_decay=0.99,
    )


def fashion_renderer_ar() -> TokenizerRun:
    """Train fashion_renderer_masked to draw one token after another.

    vistok train tokenizer fashion_renderer_ar --codes RUN
    """
    run = fashion_renderer_masked()
    renderer = AutoregressiveRendererConfig(width=128, depth=4, num_heads=4, ffn_multiple=32, dropout=0.0)
    return run.replace(tokenizer=run.tokenizer.replace(renderer=renderer))


def fashion_line() -> TokenizerRun:
    """Train a Fashion-MNIST tokenizer to a line of 16 tokens (TiTok in one stage), in place of 7x7.

    vistok train tokenizer fashion_line

    A step costs about as many FLOPs as one of fashion_vq. Codes begin where the latents are, without which few of them are used.
    """
    side = PatchTransformerConfig(width=64, depth=3, num_heads=4)
    return fashion_vq().replace(
        tokenizer=LineTokenizerConfig(
            image_size=28,
            in_channels=1,
            patch=4,
            num_latents=16,
            encoder=side,
            decoder=side.replace(depth=4),
            quantizer=VQConfig(codebook_size=512, start_after=100),
        ),
        optimizer=OptimizerConfig(lr=4e-3, schedule="cosine", warmup=percent(5)),
    )


def fashion_proxy_line() -> TokenizerRun:
    """Train the first of TiTok's two stages: fashion_line's transformers learn the tokens of a grid tokenizer.

    vistok train tokenizer fashion_proxy_line --proxy RUN

    Without --proxy, the grid tokenizer is the shipped fashion-baseline (49 tokens). The run is a whole tokenizer: the grid's
    decoder makes pixels of the tokens that are predicted. fashion_proxy_line_decoder trains that, too.
    """
    line = fashion_line()
    fields = line.tokenizer.model_dump(exclude={"kind"})
    return line.replace(
        tokenizer=ProxyLineTokenizerConfig(**fields, proxy=fashion_vq().tokenizer),
        losses=LossConfig(target="tokens", perceptual=None),
        proxy="fashion-baseline",
    )


def fashion_proxy_line_decoder() -> TokenizerRun:
    """Train the second of TiTok's two stages: the decoders of a fashion_proxy_line with pixels. Its tokens stay the same.

    vistok train tokenizer fashion_proxy_line_decoder --init-from RUN

    Add a discriminator with --set losses.adversarial.weight=0.1, and LeCam regularization with
    --set losses.adversarial.lecam_weight=0.001.
    """
    return fashion_proxy_line().replace(
        losses=LossConfig(perceptual=PerceptualConfig(weight=1.0)),
        proxy="",
        trains="decoder",
        length=steps(650),
        optimizer=OptimizerConfig(lr=1e-3, schedule="cosine", warmup=percent(5)),
    )


def fashion_flow_tokenizer() -> TokenizerRun:
    """Train the tokenizer of the shipped flow generator: 7x7 vectors of 4 numbers, which are easier to learn than 8.

    vistok train tokenizer fashion_flow_tokenizer
    """
    run = fashion_kl()
    return run.replace(
        tokenizer=run.tokenizer.replace(quantizer=KLConfig(dim=4, weight=1e-4)),
        length=steps(6000),
        execution=ExecutionConfig(evaluate_every=1500),
    )


def fashion_flow_teacher() -> GeneratorRun:
    """Train the shipped flow generator, fashion-flow, from which shortcuts start.

    vistok train generator fashion_flow_teacher --tokenizer RUN
    """
    return fashion_flow().replace(
        generator=FlowConfig(width=96, depth=4, num_heads=3),
        length=steps(10_000),
        ema_decay=0.999,
        execution=ExecutionConfig(evaluate_every=2000),
    )
