"""DiGIT on ImageNet at 256x256 pixels (Zhu et al. 2024, arXiv 2410.12490): clusters of DINOv2's features, and their renderers.

Quoted scores are the paper's. Nobody has yet run these recipes in full: parameter counts, parity of the features with Meta's code
and small runs are all that has been checked. Constants are those of the released code; what differs:

- blocks are Llama's (SwiGLU, RMS norm, norms of queries and keys; stage 1 with rotary positions) in place of fairseq's, of which
  stage 1 has post-norm; parameters agree to a tenth;
- the learning rate falls by a cosine instead of the inverse square root of the step;
- features are of centre crops, and renderers see whole images, where the code takes random crops;
- the renderer draws the tokens of a VQGAN of ours (imagenet256_vq_1k) or an imported one, not of MAGE's;
- size L has DINOv2-L and the width of 1,536 that the paper gives for its 732 M parameters; its depth and heads are ours.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_digit_b --data IMAGENET --codes VQ \\
      --set tokenizer.features_file=dinov2_vitb14_reg4_pretrain.pth
    torchrun --nproc-per-node 8 -m vistok cache TOKENIZER --split train
    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_digit_b_ar --tokenizer TOKENIZER
    vistok sample GENERATOR --top-k 300
"""

from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.nn.frozen_config import DINOv2Config
from vistok.recipes.imagenet import imagenet256_vq_1k
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.tokenizer.bottlenecks.config import KMeansConfig
from vistok.tokenizer.config import LossConfig
from vistok.tokenizer.networks.rendered_config import RenderedTokenizerConfig
from vistok.tokenizer.renderers.config import AutoregressiveRendererConfig, MaskedRendererConfig
from vistok.units import steps

_EXECUTION = ExecutionConfig(micro_batch_size=32, num_workers=8, log_every=100, evaluate_every=5_000)


def _optimizer(lr: float) -> OptimizerConfig:
    return OptimizerConfig(
        lr=lr,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        clip_norm=1.0,
        schedule="cosine",
        warmup=steps(6_250),
        warmup_start=0.0,
    )


def imagenet256_digit_b() -> TokenizerRun:
    """Train DiGIT-B's tokenizer: 16x16 of 8,192 clusters of DINOv2-B, and the renderer that draws VQ tokens in 8 masked steps.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_digit_b --data IMAGENET --codes VQ

    Clusters are fitted to 10 % of the images first, in 20 passes. Hardware: the authors' 4 or more GPUs of 80 GB. Expect FID 9.04
    without classes and 4.62 with them (219 M parameters in stage 1), and 18.7, 48.7, 80.5 and 94.8 % of a VQGAN's tokens changed by
    noise at an SNR of 30, 20, 10 and 1, of these 11.4, 26.0, 45.7 and 68.7 % (paper; Section 4 and its table of stability).
    """
    return TokenizerRun(
        data=DataConfig(dataset="imagenet", root="imagenet", image_size=256, channels=3),
        tokenizer=RenderedTokenizerConfig(
            image_size=256,
            patch=16,
            features="dinov2",
            dinov2=DINOv2Config(width=768, depth=12, registers=4, block_from_end=3),
            quantizer=KMeansConfig(codebook_size=8192, code_dim=768, image_fraction=0.1, iterations=20),
            codes=imagenet256_vq_1k().tokenizer,
            renderer=MaskedRendererConfig(width=1024, depth=16, num_heads=16),
        ),
        losses=LossConfig(perceptual=None),
        batch_size=1024,
        length=steps(125_000),
        optimizer=_optimizer(5e-4),
        ema_decay=0.999,
        precision="bfloat16",
        execution=_EXECUTION,
    )


def imagenet256_digit_b_rendered_ar() -> TokenizerRun:
    """Train imagenet256_digit_b with DiGIT's autoregressive renderer: one token after another, top-p 0.8.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_digit_b_rendered_ar --data IMAGENET --codes VQ

    Hardware: the authors' 4 or more GPUs of 80 GB. Expect FID 9.13 without classes and 4.79 with them (219 M parameters in stage 1).
    """
    run = imagenet256_digit_b()
    return run.replace(
        tokenizer=run.tokenizer.replace(renderer=AutoregressiveRendererConfig(width=1024, depth=16, num_heads=16)),
        batch_size=512,
        length=steps(250_000),
    )


def imagenet256_digit_b_ar() -> GeneratorRun:
    """Train DiGIT-B's first stage: 240 M parameters over clusters (219 M in the paper), labels smoothed by 0.1.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_digit_b_ar --tokenizer TOKENIZER

    Hardware: the authors' 4 or more GPUs of 80 GB. Expect FID 4.79 and Inception score 142.9 with the autoregressive renderer and
    top-k 300, and without classes (--guidance 0, top-k 200) 9.13 and 73.9; a linear probe of an inner layer tells 71.7 % of classes.
    """
    return GeneratorRun(
        generator=AutoregressiveConfig(width=1024, depth=16, num_heads=16, label_smoothing=0.1),
        batch_size=1024,
        length=steps(125_000),
        optimizer=_optimizer(3e-4),
        ema_decay=0.999,
        precision="bfloat16",
        execution=_EXECUTION,
    )


def imagenet256_digit_l() -> TokenizerRun:
    """Train DiGIT-L's tokenizer: imagenet256_digit_b_rendered_ar with 16,384 clusters of DINOv2-L.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_digit_l --data IMAGENET --codes VQ

    Hardware: the authors' 8 GPUs of 80 GB. Expect FID 4.59 without classes and 3.39 with them (732 M parameters in stage 1).
    """
    run = imagenet256_digit_b_rendered_ar()
    return run.replace(
        tokenizer=run.tokenizer.replace(
            dinov2=DINOv2Config(width=1024, depth=24, registers=4, block_from_end=3),
            quantizer=KMeansConfig(codebook_size=16_384, code_dim=1024, image_fraction=0.1, iterations=20),
        )
    )


def imagenet256_digit_l_ar() -> GeneratorRun:
    """Train DiGIT-L's first stage: 732 M parameters over 16,384 clusters, labels smoothed by 0.1.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_digit_l_ar --tokenizer TOKENIZER

    Hardware: the authors' 8 GPUs of 80 GB. Expect FID 3.39 and Inception score 206.0, and without classes (--guidance 0, top-k 400)
    4.59 and 141.3; a linear probe of an inner layer tells 80.3 % of classes.
    """
    run = imagenet256_digit_b_ar()
    return run.replace(generator=AutoregressiveConfig(width=1536, depth=24, num_heads=16, label_smoothing=0.1))
