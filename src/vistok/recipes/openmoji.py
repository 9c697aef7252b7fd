"""OpenMoji in colour at 32x32 pixels: 8x8 tokens, trained on two CPU cores. Needs pip install 'vistok[openmoji]'."""

from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.nn.classifier_config import ClassifierConfig
from vistok.runs.config import ClassifierRun, GeneratorRun, TokenizerRun
from vistok.tokenizer.bottlenecks.config import VQConfig
from vistok.tokenizer.config import (
    ConvNetConfig,
    ConvTokenizerConfig,
    LossConfig,
    PerceptualConfig,
)
from vistok.tokenizer.regularizers.config import CausalConfig
from vistok.units import percent, steps

_DATA = DataConfig(dataset="openmoji", image_size=32, channels=3, horizontal_flip=True)


def openmoji_evaluator() -> ClassifierRun:
    """Train the OpenMoji evaluator: its features give rFMD and gFMD. Shipped with vistok.

    vistok train classifier openmoji_evaluator
    """
    return ClassifierRun(
        seed=1,
        data=_DATA.replace(crop_scale=0.8),
        classifier=ClassifierConfig(image_size=32, in_channels=3, num_classes=7),
        batch_size=64,
        length=steps(1500),
        optimizer=OptimizerConfig(lr=3e-3, weight_decay=0.05, schedule="cosine", warmup=steps(100)),
        ema_decay=0.99,
        execution=ExecutionConfig(evaluate_every=300),
    )


def openmoji_perceptual() -> ClassifierRun:
    """Train the network of OpenMoji's perceptual loss, unlike the evaluator in size and seed. Shipped with vistok.

    vistok train classifier openmoji_perceptual
    """
    base = openmoji_evaluator()
    return base.replace(
        seed=3, classifier=base.classifier.replace(stage_channels=(16, 32, 64), convs_per_stage=1), length=steps(1000)
    )


def openmoji_vq() -> TokenizerRun:
    """Train the baseline tokenizer for OpenMoji: 8x8 tokens, 512 codes, no regularizer.

    vistok train tokenizer openmoji_vq
    """
    network = ConvNetConfig(
        channels=16, multipliers=(1, 1, 2), num_res_blocks=1, attention_resolutions=(), norm_groups=8
    )
    return TokenizerRun(
        data=_DATA,
        tokenizer=ConvTokenizerConfig(
            image_size=32,
            in_channels=3,
            latent_channels=64,
            encoder=network,
            decoder=network,
            quantizer=VQConfig(codebook_size=512),
        ),
        losses=LossConfig(perceptual=PerceptualConfig(network="openmoji")),
        batch_size=32,
        length=steps(2500),
        optimizer=OptimizerConfig(lr=1e-3, schedule="cosine", warmup=percent(5)),
        ema_decay=0.99,
        execution=ExecutionConfig(evaluate_every=500),
    )


def openmoji_crt() -> TokenizerRun:
    """Train the OpenMoji tokenizer with the causal regularizer, which costs about 5 % of its FLOPs.

    vistok train tokenizer openmoji_crt
    """
    return openmoji_vq().replace(regularizers=(CausalConfig(width=32, num_heads=2, ffn_multiple=32, ramp=percent(10)),))


def openmoji_ar() -> GeneratorRun:
    """Train a generator with about 0.5 M parameters on the tokens of either OpenMoji tokenizer.

    vistok train generator openmoji_ar --tokenizer RUN

    It uses dropout, because with only 3,000 pictures it could memorise them all.
    """
    return GeneratorRun(
        generator=AutoregressiveConfig(width=96, depth=3, num_heads=3, ffn_multiple=32, dropout=0.1),
        batch_size=64,
        length=steps(1000),
        optimizer=OptimizerConfig(lr=3e-3, schedule="cosine", warmup=percent(5)),
        ema_decay=0.99,
    )
