"""One's own images: a folder with a sub-folder per class, or flat. Add --data FOLDER."""

from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.config import AutoregressiveConfig
from vistok.nn.classifier_config import ClassifierConfig
from vistok.tasks.config import ClassifierRun, GeneratorRun, TokenizerRun
from vistok.tokenizer.config import ConvNetConfig, CRTConfig, LossConfig, TokenizerConfig, VQConfig
from vistok.units import percent, steps

# Two processes decode and crop; the batches are the same with any number of them.
_EXECUTION = ExecutionConfig(num_workers=2)
_DATA = DataConfig(dataset="folder", root="images", image_size=64, channels=3, crop_scale=0.8, horizontal_flip=True)


def images64_vq() -> TokenizerRun:
    """Train a tokenizer of your photographs at 64 pixels: 8x8 tokens, 1,024 codes, without the regularizer.

    vistok train tokenizer images64_vq --data FOLDER

    Without a perceptual loss, so that it needs no download; with LPIPS it gets sharper:
    --set losses.perceptual.network=lpips
    """
    network = ConvNetConfig(
        channels=24, multipliers=(1, 1, 2, 2), num_res_blocks=1, attention_resolutions=(8,), norm_groups=8
    )
    return TokenizerRun(
        data=_DATA,
        tokenizer=TokenizerConfig(
            image_size=64,
            in_channels=3,
            latent_channels=64,
            encoder=network,
            decoder=network,
            quantizer=VQConfig(codebook_size=1024),
        ),
        losses=LossConfig(perceptual=None),
        batch_size=32,
        length=steps(3000),
        optimizer=OptimizerConfig(lr=5e-4, schedule="cosine", warmup=percent(5)),
        ema_decay=0.99,
        execution=_EXECUTION,
    )


def images64_crt() -> TokenizerRun:
    """Train the same tokenizer with the causal regularizer, which costs about 5 % of its FLOPs.

    vistok train tokenizer images64_crt --data FOLDER
    """
    return images64_vq().replace(crt=CRTConfig(width=96, num_heads=4, ffn_multiple=32, ramp=percent(10)))


def images64_ar() -> GeneratorRun:
    """Train a generator of about 3 M parameters on either tokenizer's tokens.

    vistok train generator images64_ar --tokenizer RUN
    """
    return GeneratorRun(
        generator=AutoregressiveConfig(width=192, depth=6, num_heads=6, ffn_multiple=32, dropout=0.1),
        batch_size=64,
        length=steps(2500),
        optimizer=OptimizerConfig(lr=1e-3, schedule="cosine", warmup=percent(5)),
        ema_decay=0.99,
        execution=_EXECUTION,
    )


def images64_evaluator() -> ClassifierRun:
    """Train the evaluator of your images on your own classes, where Inception is not at hand.

    vistok train classifier images64_evaluator --data FOLDER
    """
    return ClassifierRun(
        data=_DATA,
        classifier=ClassifierConfig(image_size=64, in_channels=3, stage_channels=(16, 32, 64, 128)),
        batch_size=64,
        length=steps(2000),
        optimizer=OptimizerConfig(lr=2e-3, weight_decay=0.05, schedule="cosine", warmup=percent(5)),
        ema_decay=0.99,
        execution=_EXECUTION,
    )
