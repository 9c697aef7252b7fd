"""VA-VAE and LightningDiT on ImageNet at 256x256 pixels (Yao et al. 2025, arXiv 2501.01423).

Quoted scores are the paper's. Nobody has yet run these recipes in full: parameter counts, FLOPs, parity of the networks with
the original code and small runs are all that has been checked. Constants are those of the released code; what differs:

- losses are means over pixels, not sums, so the KL weight is 1e-6 times the numbers of an image's latents over its pixels';
  the learned variance of the reconstruction, which the code keeps at its start, is left out;
- the code's alignment weight has 1e-4 in its denominator, beside sums, and its adversarial weight is at most 1e4, beside sums; ours
  have 1e-8 and 1e4 beside means;
- images are cropped at their centres and flipped; DINOv2's input is resized with antialiasing, the code's without;
- tokenizers are scored with averaged weights (0.999), which the code has only as an option;
- gradients are clipped at a norm of 1, which the code offers but none of its configs asks for; the discriminator has group norm,
  where the code's has batch norm;
- latents are normalised channel by channel, SD-VAE's too, which the paper's ladder multiplied by 0.18215 (hustvl/LightningDiT,
  issue 22: with channel-wise normalisation a user's last rung had 8.97, not 7.13);
- times are drawn on the device; the last stage of the 800-epoch run (uniform times) is not a recipe;
- sampling: Euler's 249 steps and guidance of the first three channels are options for parity
  (--steps 249 --solver euler --set warp=0.3 --set guidance_from=0.1 --set guidance_channels=3 --guidance 10; of the 800-epoch run
  --set guidance_from=0.125 --guidance 6.7); with ours, of all channels, far smaller scales are needed. The scores without
  guidance of B and of the ladder were drawn with an adaptive solver (dopri5; issues 22 and 42), which we lack.

The scores of XL are those of the released VA-VAE, which trained for 125 epochs (Table 3), not 50; a user who trained for 50 had 3.17 instead
of 2.17 after 800 epochs of XL (issue 50). The config that the authors released for it has three stages, of 130 epochs in all:

    vistok train tokenizer imagenet256_vavae ... --set "length=100 epochs" --set regularizers.alignment.weight=0.5 \\
      --set regularizers.alignment.cosine_margin=0 --set regularizers.alignment.distance_margin=0
    vistok train tokenizer imagenet256_vavae ... --set "length=15 epochs" --init-from STAGE1 --set losses.adversarial.start="1 step" \\
      --set regularizers.alignment.cosine_margin=0 --set regularizers.alignment.distance_margin=0
    vistok train tokenizer imagenet256_vavae ... --set "length=15 epochs" --init-from STAGE2 --set losses.adversarial.start="1 step"

The whole path:

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_vavae --data IMAGENET \\
      --set regularizers.alignment.features_file=dinov2_vitl14_pretrain.pth
    torchrun --nproc-per-node 8 -m vistok cache TOKENIZER --split train --view center --view flip
    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_lightningdit_xl --tokenizer TOKENIZER
"""

from typing import Literal

from vistok.data.config import DataConfig
from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.flow.config import flow_size
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.tokenizer.bottlenecks.config import KLConfig
from vistok.tokenizer.config import AdversarialConfig, ConvTokenizerConfig, LossConfig, PerceptualConfig
from vistok.tokenizer.regularizers.config import AlignmentConfig
from vistok.units import Duration, steps

# Of 16x16 vectors of 32 numbers in 256x256 pixels of three.
_KL_WEIGHT = 1e-6 * (16 * 16 * 32) / (256 * 256 * 3)


def imagenet256_kl() -> TokenizerRun:
    """Train the paper's baseline to vectors: f16, 16x16 of 32 numbers, no alignment, 50 epochs.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_kl --data IMAGENET

    Hardware: the authors' 32 H800 GPUs. Expect rFID 0.26 and PSNR 28.59 (Table 2), and with LightningDiT-B gFID 22.62
    (10,000 samples, no guidance).
    """
    return TokenizerRun(
        data=DataConfig(dataset="imagenet", root="imagenet", image_size=256, channels=3, horizontal_flip=True),
        tokenizer=ConvTokenizerConfig(
            latent_channels=64, decoder_channels=32, quantizer=KLConfig(dim=32, weight=_KL_WEIGHT)
        ),
        losses=LossConfig(
            pixel="l1",
            perceptual=PerceptualConfig(network="lpips"),
            adversarial=AdversarialConfig(weight=0.5, start=steps(5_001), ramp=steps(1), adaptive=True),
        ),
        batch_size=256,
        length=Duration(value=50.0, unit="epochs"),
        optimizer=OptimizerConfig(lr=1e-4, betas=(0.5, 0.9), weight_decay=0.0, warmup=steps(0)),
        ema_decay=0.999,
        execution=ExecutionConfig(num_workers=8, log_every=100, evaluate_every=5_000),
    )


def imagenet256_vavae() -> TokenizerRun:
    """Train VA-VAE: imagenet256_kl with its vectors aligned with DINOv2-L's features.

    torchrun --nproc-per-node 8 -m vistok train tokenizer imagenet256_vavae --data IMAGENET \\
      --set regularizers.alignment.features_file=dinov2_vitl14_pretrain.pth

    Hardware: the authors' 32 H800 GPUs. Expect rFID 0.28 and PSNR 27.96, and with LightningDiT-B gFID 15.82 (Table 2). This is the one
    of the paper's comparisons; the released one trained for longer, in three stages (see this file's head).
    """
    return imagenet256_kl().replace(regularizers=(AlignmentConfig(features="dinov2"),))


def imagenet256_lightningdit_s() -> GeneratorRun:
    """Train LightningDiT-S/1 for 64 epochs.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_lightningdit_s --tokenizer RUN

    The paper states no score for this size.
    """
    return _generator("s")


def imagenet256_lightningdit_b() -> GeneratorRun:
    """Train LightningDiT-B/1 for 64 epochs.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_lightningdit_b --tokenizer RUN

    Expect gFID 15.82 with VA-VAE's vectors and 22.62 without alignment (Table 2: 10,000 samples, no guidance). The authors name 80 or 160
    epochs for most such runs, without saying which these had.
    """
    return _generator("b")


def imagenet256_lightningdit_l() -> GeneratorRun:
    """Train LightningDiT-L/1 for 64 epochs.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_lightningdit_l --tokenizer RUN

    The paper states no score for this size with VA-VAE's 64 epochs.
    """
    return _generator("l")


def imagenet256_lightningdit_xl() -> GeneratorRun:
    """Train LightningDiT-XL/1, 675 M parameters, for 64 epochs.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_lightningdit_xl --tokenizer RUN

    Hardware: 8 H800 GPUs, about 10 hours (the authors). With the released VA-VAE of 125 epochs (see this file's head) expect gFID 5.14
    without guidance and 2.11 with it; after 800 epochs 2.17 and 1.35 (--set "length=800 epochs").
    """
    return _generator("xl")


def imagenet256_lightningdit_xl_sd() -> GeneratorRun:
    """Train LightningDiT-XL/2 on SD-VAE's vectors (32x32 of 4 numbers, patches of 2) for 80 epochs.

    vistok import diffusers sd-vae-ft-ema --out runs/sd-vae
    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_lightningdit_xl_sd --tokenizer runs/sd-vae --data IMAGENET

    Expect gFID 7.13 (the last rung of the ladder on these vectors: 50,000 samples, no guidance), or 8.97, as a user had with
    channel-wise normalisation (see this file's head); with VA-VAE and patches of 1, 4.29.
    """
    return _generator("xl", patch=2).replace(length=steps(100_000))


def imagenet256_dit_xl_sd() -> GeneratorRun:
    """Train DiT-XL/2 (Peebles and Xie 2022, arXiv 2212.09748) on SD-VAE's vectors for 80 epochs: the foot of LightningDiT's ladder.

    vistok import diffusers sd-vae-ft-ema --out runs/sd-vae
    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_dit_xl_sd --tokenizer runs/sd-vae --data IMAGENET

    Expect gFID 19.5 (the first rung: 50,000 samples, no guidance). The variance, which DiT learns besides,
    is left out: solvers here add no noise.
    """
    run = _generator("xl", patch=2)
    dit = run.generator.replace(
        norm="layer", feed_forward="gelu", rotary=False, path="ddpm", predicts="noise", times="uniform", direction_weight=0.0,
        time_scale=1000.0,
    )  # fmt: skip
    optimizer = OptimizerConfig(lr=1e-4, betas=(0.9, 0.999), weight_decay=0.0, warmup=steps(0))
    return run.replace(generator=dit, batch_size=256, length=steps(400_000), optimizer=optimizer)


def _generator(size: str, patch: Literal[1, 2] = 1) -> GeneratorRun:
    return GeneratorRun(
        generator=flow_size(size, patch),
        batch_size=1024,
        length=steps(80_000),
        optimizer=OptimizerConfig(lr=2e-4, weight_decay=0.0, warmup=steps(0)),
        ema_decay=0.9999,
        precision="bfloat16",
        execution=ExecutionConfig(micro_batch_size=32, num_workers=4, log_every=100, evaluate_every=10_000),
    )
