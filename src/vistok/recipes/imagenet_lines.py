"""TiTok on ImageNet at 256x256 pixels (Yu et al. 2024, arXiv 2406.07550): lines of 32 to 256 tokens, and their generators.

Quoted scores are those of bytedance/1d-tokenizer's README, whose configs the constants are from. Nobody has yet run these
recipes in full: parameter counts, parity of the networks with the original code and small runs are all that has been checked.

Two stages: the line's decoder first learns the tokens of a grid tokenizer, then the decoder alone learns pixels.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_vq_1k --data IMAGENET
    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_l32 --data IMAGENET --proxy GRID
    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_l32_decoder --data IMAGENET --init-from FIRST
    torchrun --nproc-per-node 8 -m vistok cache SECOND --split train --view center --view flip
    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_titok_l32_masked --tokenizer SECOND

What differs from the original:

- the proxy is our own tokenizer, not MaskGIT's VQGAN (which vistok import maskgit reads, for --proxy), and its targets come from
  the same crop, as there;
- positions of patches begin as sines of their row and column, linear weights suit their width; bfloat16 in place of fp16;
- the cosine ends at 0, not at a tenth of the rate (generators: a twentieth); weight decay leaves out biases and norms;
- pixels lie in [-1, 1], not [0, 1], so the pixel term's weight is 1/4, and LPIPS (in single-stage training) has torchmetrics' heads;
- the discriminator is a PatchGAN with group norm, not one that blurs before it halves; LeCam's term takes the mean of
  squares, not the square of the batch's mean;
- single stage: the configs of the published TiTok models are not public; constants are those of TA-TiTok, with ImageNet and
  without text. Its codes are restarted by distance and use, for which `restart_after` stands here;
- generators: attention weights are not dropped, and the loss is divided by the expected number of masked tokens.
"""

from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.masked.config import MaskedConfig
from vistok.recipes.imagenet import imagenet256_vq_1k
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.tokenizer.bottlenecks.config import AnyBottleneck, KLConfig, VQConfig
from vistok.tokenizer.config import (
    AdversarialConfig,
    LineTokenizerConfig,
    LogitsConfig,
    LossConfig,
    PatchTransformerConfig,
    PerceptualConfig,
    ProxyLineTokenizerConfig,
)
from vistok.units import steps

_SIZES = {"s": (512, 8, 8), "b": (768, 12, 12), "l": (1024, 24, 16)}
_EXECUTION = ExecutionConfig(micro_batch_size=32, num_workers=8, log_every=100, evaluate_every=10_000)


def _side(size: str) -> PatchTransformerConfig:
    width, depth, num_heads = _SIZES[size]
    return PatchTransformerConfig(
        width=width, depth=depth, num_heads=num_heads, qk_norm=False, class_token=True, norm_eps=1e-5
    )


def _run(tokenizer: LineTokenizerConfig | ProxyLineTokenizerConfig, losses: LossConfig) -> TokenizerRun:
    return TokenizerRun(
        data=DataConfig(dataset="imagenet", root="imagenet", image_size=256, channels=3, horizontal_flip=True),
        tokenizer=tokenizer,
        losses=losses,
        batch_size=256,
        length=steps(1_000_000),
        optimizer=OptimizerConfig(
            lr=1e-4, betas=(0.9, 0.99), weight_decay=1e-4, schedule="cosine", warmup=steps(10_000), warmup_start=0.0
        ),
        ema_decay=0.999,
        precision="bfloat16",
        execution=_EXECUTION,
    )


def _first(size: str, num_latents: int) -> TokenizerRun:
    network = ProxyLineTokenizerConfig(
        num_latents=num_latents,
        encoder=_side(size),
        decoder=_side(size),
        quantizer=VQConfig(codebook_size=4096, code_dim=12),
        proxy=imagenet256_vq_1k().tokenizer,
    )
    return _run(network, LossConfig(target="tokens", perceptual=None))


def _second(size: str, num_latents: int) -> TokenizerRun:
    first = _first(size, num_latents)
    return first.replace(
        losses=_losses(None, weight=0.01, start=20_000),
        trains="decoder",
        length=steps(500_000),
        optimizer=first.optimizer.replace(betas=(0.9, 0.999), warmup=steps(5_000)),
    )


def _losses(perceptual: PerceptualConfig | None, weight: float, start: int) -> LossConfig:
    return LossConfig(
        pixel_weight=0.25,
        perceptual=perceptual,
        logits=LogitsConfig(weight=0.1),
        adversarial=AdversarialConfig(
            weight=weight, start=steps(start), ramp=steps(0), channels=128, lecam_weight=0.001, lecam_decay=0.999
        ),
    )


def imagenet256_titok_l32() -> TokenizerRun:
    """Train TiTok-L-32's first stage: 32 tokens of 4,096 codes, by predicting a grid's 256 tokens. 1,000,000 steps.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_l32 --data IMAGENET --proxy GRID

    Go on with imagenet256_titok_l32_decoder; the first stage's own rFID is not published.
    """
    return _first("l", 32)


def imagenet256_titok_b64() -> TokenizerRun:
    """Train TiTok-B-64's first stage: 64 tokens of 4,096 codes, by predicting a grid's 256 tokens. 1,000,000 steps.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_b64 --data IMAGENET --proxy GRID

    Go on with imagenet256_titok_b64_decoder; the first stage's own rFID is not published.
    """
    return _first("b", 64)


def imagenet256_titok_s128() -> TokenizerRun:
    """Train TiTok-S-128's first stage: 128 tokens of 4,096 codes, by predicting a grid's 256 tokens. 1,000,000 steps.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_s128 --data IMAGENET --proxy GRID

    Go on with imagenet256_titok_s128_decoder; the first stage's own rFID is not published.
    """
    return _first("s", 128)


def imagenet256_titok_l32_decoder() -> TokenizerRun:
    """Train TiTok-L-32's second stage: the decoders alone, with pixels and a discriminator. 500,000 steps.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_l32_decoder --data IMAGENET --init-from FIRST

    Expect rFID 2.21.
    """
    return _second("l", 32)


def imagenet256_titok_b64_decoder() -> TokenizerRun:
    """Train TiTok-B-64's second stage: the decoders alone, with pixels and a discriminator. 500,000 steps.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_b64_decoder --data IMAGENET --init-from FIRST

    Expect rFID 1.70.
    """
    return _second("b", 64)


def imagenet256_titok_s128_decoder() -> TokenizerRun:
    """Train TiTok-S-128's second stage: the decoders alone, with pixels and a discriminator. 500,000 steps.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_s128_decoder --data IMAGENET --init-from FIRST

    Expect rFID 1.71.
    """
    return _second("s", 128)


def _single(encoder: str, num_latents: int, quantizer: AnyBottleneck) -> TokenizerRun:
    network = LineTokenizerConfig(
        num_latents=num_latents, encoder=_side(encoder), decoder=_side("l"), quantizer=quantizer
    )
    run = _run(network, _losses(PerceptualConfig(network="lpips"), weight=0.1, start=200_000))
    return run.replace(length=steps(650_000), optimizer=run.optimizer.replace(betas=(0.9, 0.999)))


def _codes() -> VQConfig:
    return VQConfig(codebook_size=8192, code_dim=64, lookup="euclidean", restart_after=2_000)


def _vectors(num_latents: int) -> KLConfig:
    # TiTok's 1e-6 is for the sum over all of an image's numbers, beside the mean over its pixels.
    return KLConfig(dim=16, weight=1e-6 * num_latents * 16)


def imagenet256_titok_bl64() -> TokenizerRun:
    """Train TiTok-BL-64 in one stage: 64 tokens of 8,192 codes, with pixels, and from step 200,000 on a discriminator. 650,000 steps.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_bl64 --data IMAGENET

    Expect rFID 2.06.
    """
    return _single("b", 64, _codes())


def imagenet256_titok_bl128() -> TokenizerRun:
    """Train TiTok-BL-128 in one stage: 128 tokens of 8,192 codes, with pixels, and from step 200,000 on a discriminator. 650,000 steps.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_bl128 --data IMAGENET

    Expect rFID 1.49.
    """
    return _single("b", 128, _codes())


def imagenet256_titok_sl256() -> TokenizerRun:
    """Train TiTok-SL-256 in one stage: 256 tokens of 8,192 codes, with pixels, and from step 200,000 on a discriminator. 650,000 steps.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_sl256 --data IMAGENET

    Expect rFID 1.03.
    """
    return _single("s", 256, _codes())


def imagenet256_titok_bl128_kl() -> TokenizerRun:
    """Train TiTok-BL-128 in one stage to 128 vectors of 16 numbers.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_titok_bl128_kl --data IMAGENET

    Expect rFID 0.84.
    """
    return _single("b", 128, _vectors(128))


def _masked(generator: MaskedConfig) -> GeneratorRun:
    return GeneratorRun(
        generator=generator,
        batch_size=2048,
        length=steps(500_000),
        optimizer=OptimizerConfig(
            lr=2e-4, betas=(0.9, 0.96), weight_decay=0.03, schedule="cosine", warmup=steps(10_000), warmup_start=0.0
        ),
        ema_decay=0.999,
        precision="bfloat16",
        execution=_EXECUTION.replace(micro_batch_size=64),
    )


def _vit() -> GeneratorRun:
    return _masked(MaskedConfig(blocks="bert", rotary=False, qk_norm=False, unmasked_weight=0.1))


def imagenet256_titok_l32_masked() -> GeneratorRun:
    """Train the generator of TiTok-L-32: MaskGIT's transformer on 32 tokens, 500,000 steps.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_titok_l32_masked --tokenizer RUN

    Hardware: the authors' 32 A100 GPUs. Expect gFID 2.77 with 8 steps, in TiTok's convention (its guidance of 4.5 is our 5.5):
    --steps 8 --guidance 5.5 --set guidance_schedule=linear --set choice_temperature=9.5 --set convention=titok
    """
    return _vit()


def imagenet256_titok_b64_masked() -> GeneratorRun:
    """Train the generator of TiTok-B-64: MaskGIT's transformer on 64 tokens, 500,000 steps.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_titok_b64_masked --tokenizer RUN

    Hardware: the authors' 32 A100 GPUs. Expect gFID 2.48 with 8 steps, in TiTok's convention (its guidance of 3 is our 4):
    --steps 8 --guidance 4 --set guidance_schedule=linear --set choice_temperature=11 --set convention=titok
    """
    return _vit()


def imagenet256_titok_s128_masked() -> GeneratorRun:
    """Train the generator of TiTok-S-128: a transformer with long skips (U-ViT) on 128 tokens, 500,000 steps.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_titok_s128_masked --tokenizer RUN

    Hardware: the authors' 32 A100 GPUs. Expect gFID 1.97 with 64 steps, in TiTok's convention:
    --steps 64 --guidance 6.9 --set guidance_schedule=power_cosine --set choice_temperature=2.8 --set convention=titok
    """
    network = MaskedConfig(
        blocks="uvit", width=1024, depth=20, rotary=False, qk_norm=False, unmasked_weight=0.1, dropout=0.0
    )
    return _masked(network)
