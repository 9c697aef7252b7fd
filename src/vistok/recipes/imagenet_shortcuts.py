"""Shortcuts of LightningDiT-XL on ImageNet at 256x256 pixels, with the papers' constants where they say them.

No paper used this teacher, so no score is quoted for it; quoted ones are of the papers' own teachers. Nobody has run these recipes
in full: parameter counts, FLOPs and memory of all networks, and small runs, are what has been checked. A teacher is a run of
imagenet256_lightningdit_xl, or an imported file:

    vistok import lightningdit lightningdit-xl-imagenet256-800ep.pt --tokenizer vavae --out lightningdit-xl
    torchrun --nproc-per-node 8 -m vistok shorten imagenet256_guided --teacher lightningdit-xl
"""

from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.flow.config import FlowConfig, flow_size
from vistok.runs.config import GeneratorRun, ShortcutRun
from vistok.shortcut.config import (
    GuidedConfig,
    MeanFlowConfig,
    ProgressiveConfig,
    ScoreConfig,
    SelfCooperativeConfig,
    ShortcutConfig,
)
from vistok.units import steps

_EXECUTION = ExecutionConfig(micro_batch_size=16, num_workers=4, log_every=100, evaluate_every=10_000)


def imagenet256_guided() -> ShortcutRun:
    """Make guidance a part of LightningDiT-XL, at scales from 1 to 5.

    torchrun --nproc-per-node 8 -m vistok shorten imagenet256_guided --teacher RUN

    The paper's range of scales (w from 0 to 4; arXiv 2210.03142); it does not state this stage's length for latents.
    """
    return _run(GuidedConfig(), 50_000, lr=1e-4)


def imagenet256_progressive() -> ShortcutRun:
    """Halve the steps of the result of imagenet256_guided from 512 to 4.

    torchrun --nproc-per-node 8 -m vistok shorten imagenet256_progressive --teacher RUN

    50,000 updates for each round (to 2 steps and to 1: 100,000; --set shortcut.to_steps=1 --set "length=550000 steps"). Pixels of
    ImageNet at 64x64 in the paper: FID 4.14, 2.79 and 2.44 in 4, 8 and 16 steps at w 0, and 2.17, 2.05 and 2.20 at w 0.3.
    """
    return _run(ProgressiveConfig(from_steps=512, to_steps=4), 350_000, lr=1e-4)


def imagenet256_self_cooperative() -> ShortcutRun:
    """Fine-tune LightningDiT-XL to one call by YOSO, through changes of rank 64.

    torchrun --nproc-per-node 8 -m vistok shorten imagenet256_self_cooperative --teacher RUN

    Constants of the released code (arXiv 2403.12931): shifts 250 and 25 of 1,000, weights 1, 2 and 0.5, learning rate 2e-5, batch
    256, 5,000 steps on 4 GPUs. The paper states no score on ImageNet.
    """
    run = _run(SelfCooperativeConfig(lora_rank=64, start_share=0.0), 5_000, lr=2e-5)
    return run.replace(
        optimizer=OptimizerConfig(lr=2e-5, betas=(0.9, 0.999), weight_decay=0.01, warmup=steps(0)), ema_decay=0.999
    )


def imagenet256_score() -> ShortcutRun:
    """Distil LightningDiT-XL to one call by Diff-Instruct*, guided at 1.5.

    torchrun --nproc-per-node 8 -m vistok shorten imagenet256_score --teacher RUN

    The paper (arXiv 2410.20898) publishes neither learning rate nor batch nor its constant c; these are its parent's on pixels
    (SiD-LSG: learning rate 1e-6, batch 512, times from 20 to 980 of 1,000, weights averaged over half a million images), with no
    reward.
    """
    run = _run(ScoreConfig(guidance_scale=1.5), 50_000, lr=1e-6)
    # Half of an average is gone after 977 steps of 512 images.
    return run.replace(batch_size=512, ema_decay=0.9993)


def imagenet256_mean_flow() -> GeneratorRun:
    """Train a network of LightningDiT-XL's size to one call from the start (MeanFlow), 240 epochs.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_mean_flow --tokenizer RUN

    The paper's constants (arXiv 2505.13447: batch 256, learning rate 1e-4, no decay of weights, 240 epochs, three steps in four of no
    length); it reports FID 3.43 in one call and 2.93 in two, with SD-VAE's vectors, patch 2 and a network of its own of 676 M.
    """
    run = _run(MeanFlowConfig(guidance_scale=2.5), 1_200_000, lr=1e-4)
    assert isinstance(run.generator, FlowConfig)
    return run.replace(
        optimizer=OptimizerConfig(lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0, warmup=steps(0)), ema_decay=0.9999
    )


def _run(shortcut: ShortcutConfig, count: int, lr: float) -> GeneratorRun:
    return GeneratorRun(
        generator=flow_size("xl"),
        shortcut=shortcut,
        batch_size=256,
        length=steps(count),
        optimizer=OptimizerConfig(lr=lr, weight_decay=0.0, schedule="cosine", warmup=steps(0)),
        ema_decay=0.9999,
        precision="bfloat16",
        execution=_EXECUTION,
    )
