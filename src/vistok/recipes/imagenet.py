"""The paper's ImageNet tokenizers at 256x256 pixels (CRT, arXiv 2412.16326, sections 3.4 to 3.6 and A.1).

Quoted scores are the paper's. Nobody has yet run these recipes in full: parameter counts, FLOPs and small runs are all that
has been checked. Where the paper leaves something open, we follow LlamaGen, whose recipe it builds on, or decide ourselves:

- data: random crops of 0.8 to 1.0 of the shorter side, and flips; bfloat16; gradients clipped at norm 1, with a separate
  norm for the causal model's gradients (LlamaGen); 10,000 training images are held out for validation and model selection
  (ours);
- AdamW with weight decay 0.1, which according to the paper performs like its Adam;
- EMA weights are kept for evaluation only, with and without the regularizer alike (ours);
- adversarial loss: hinge, as in LlamaGen and as the plotted losses suggest, although the text says Wasserstein; no
  adaptive weight; group norm in the discriminator, and a discriminator loss without LlamaGen's factor 0.5 (ours: an
  untrained discriminator then has a loss of 1.0, not 0.5, and AdamW is insensitive to the factor);
- regularizer, where the paper is silent (all ours): applied to the unit-norm 8-d latents; mean over batch, positions and
  dimensions; targets not detached; shifted by one, without a start token; no dropout; a final norm and linear layer, whose
  output is not normalised; 2-D rotary positions and QK-norm, as in stage 2; a cosine ramp; the weight scales the gradient
  that enters the encoder; width 1280 with 20 heads (the only width that costs 5 %);
- scores: rFID against the validation images. Both FLOP counts are shown; that the paper's plots omit the batch size is
  inferred from their axis.

`execution.micro_batch_size` is the number of images a process handles at a time, with gradient accumulation; a process
whose share of the batch is smaller handles its share at once.
"""

from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.runs.config import TokenizerRun
from vistok.tokenizer.bottlenecks.config import VQConfig
from vistok.tokenizer.config import (
    AdversarialConfig,
    ConvNetConfig,
    ConvTokenizerConfig,
    LossConfig,
    PerceptualConfig,
)
from vistok.tokenizer.regularizers.config import CausalConfig
from vistok.units import steps


def imagenet256_vq() -> TokenizerRun:
    """Train the paper's tuned VQGAN baseline: f16, 256 tokens, 16,384 codes, 400,000 steps (40 epochs).

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_vq --data IMAGENET

    Hardware: 8 A100 GPUs (80 GB), about 72 hours (the paper: "about 3 days"). Expect rFID 2.21 against the validation
    images (section 3.6). Without retraining, expect 1.30 at 320x320 (400 tokens) and 0.99 at 384x384 (576 tokens; Table
    3): vistok evaluate tokenizer RUN --image-size 384. As a check during training, the VQ loss is about 0.0125.

    The warm-up of 3,000 steps matters (Fig. 11): without it, half of a large codebook stays unused.
    """
    return TokenizerRun(
        data=DataConfig(
            dataset="imagenet", root="imagenet", image_size=256, channels=3, crop_scale=0.8, horizontal_flip=True
        ),
        tokenizer=ConvTokenizerConfig(),
        losses=LossConfig(
            perceptual=PerceptualConfig(network="lpips"),
            adversarial=AdversarialConfig(weight=0.5, start=steps(20_000), ramp=steps(2_000)),
        ),
        batch_size=128,
        length=steps(400_000),
        optimizer=OptimizerConfig(lr=1e-4, weight_decay=0.1, schedule="constant", warmup=steps(3_000)),
        ema_decay=0.9999,
        precision="bfloat16",
        execution=ExecutionConfig(micro_batch_size=16, num_workers=8, log_every=100, evaluate_every=10_000),
    )


def imagenet256_crt() -> TokenizerRun:
    """Train the paper's regularized tokenizer: the baseline plus l2_pre at weight 4, for 380,000 steps (38 epochs).

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_crt --data IMAGENET

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. It trains for fewer steps than the baseline to make up for the cost of
    the regularizer. Expect rFID 2.36 (baseline: 2.21), lower VQ and commitment losses than the baseline, higher pixel and
    perceptual losses (Fig. 12), and gFID 2.35 with the 775M generator (baseline: 2.55; Table 1b).

    Ablations (Table 4; mean gFID of four generators after 250,000 steps, here 5.51): --set crt.variant=l2_post (6.37),
    --set crt.variant=ce_post (6.10, weight 0.03). Sweeps (Fig. 8): crt.weight from 0 to 15, best near 4; crt.num_layers
    from 2 to 12 (crt=null for none), best at 4, with 5 % fewer steps for every two layers.
    """
    return imagenet256_vq().replace(regularizers=(CausalConfig(),), length=steps(380_000))


def imagenet256_crtopt() -> TokenizerRun:
    """Train the paper's CRTopt: imagenet256_crt with 800,000 steps, a doubled decoder and 131,072 codes.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_crtopt --data IMAGENET

    Hardware: 8 A100 GPUs (80 GB), about 250 hours (our estimate, by FLOPs, from the paper's 3 days for the baseline).
    Expect rFID 1.26, and gFID 4.23, 2.45 and 2.18 with the 111M, 343M and 775M generators (Table 1a).

    The paper does not say how the decoder is doubled; we use 192 channels instead of 128, which gives 2.2 times the
    parameters.
    """
    base = imagenet256_crt()
    return base.replace(
        length=steps(800_000),
        tokenizer=base.tokenizer.replace(decoder=ConvNetConfig(channels=192), quantizer=VQConfig(codebook_size=2**17)),
    )


def _codes(exponent: int) -> TokenizerRun:
    base = imagenet256_vq()
    return base.replace(tokenizer=base.tokenizer.replace(quantizer=VQConfig(codebook_size=2**exponent)))


def imagenet256_vq_1k() -> TokenizerRun:
    """Train imagenet256_vq with 1,024 (2^10) codes instead of 16,384.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_vq_1k --data IMAGENET

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect rFID 3.0 (section 3.5, Fig. 6) and, at low compute, the
    best gFID of all codebook sizes: 5 to 10 below that of 2^17 codes.
    """
    return _codes(10)


def imagenet256_vq_2k() -> TokenizerRun:
    """Train imagenet256_vq with 2,048 (2^11) codes instead of 16,384.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_vq_2k --data IMAGENET

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect an rFID between 3.0 and 2.21 (only plotted, Fig. 3).
    """
    return _codes(11)


def imagenet256_vq_4k() -> TokenizerRun:
    """Train imagenet256_vq with 4,096 (2^12) codes instead of 16,384.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_vq_4k --data IMAGENET

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect an rFID between 3.0 and 2.21 (only plotted, Fig. 3).
    """
    return _codes(12)


def imagenet256_vq_8k() -> TokenizerRun:
    """Train imagenet256_vq with 8,192 (2^13) codes instead of 16,384.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_vq_8k --data IMAGENET

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect an rFID between 3.0 and 2.21 (only plotted, Fig. 3).
    """
    return _codes(13)


def imagenet256_vq_32k() -> TokenizerRun:
    """Train imagenet256_vq with 32,768 (2^15) codes instead of 16,384.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_vq_32k --data IMAGENET

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect an rFID between 2.21 and 1.72 (only plotted, Fig. 3),
    provided you keep the warm-up: without it, codebooks this large stay near 2.1 (Appendix D).
    """
    return _codes(15)


def imagenet256_vq_65k() -> TokenizerRun:
    """Train imagenet256_vq with 65,536 (2^16) codes instead of 16,384.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_vq_65k --data IMAGENET

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect an rFID between 2.21 and 1.72 (only plotted, Fig. 3).
    """
    return _codes(16)


def imagenet256_vq_131k() -> TokenizerRun:
    """Train imagenet256_vq with 131,072 (2^17) codes instead of 16,384.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_vq_131k --data IMAGENET

    Hardware: 8 A100 GPUs (80 GB), about 72 hours. Expect rFID 1.72 (section 3.5, Fig. 6).
    """
    return _codes(17)
