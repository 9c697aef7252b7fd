"""The paper's seven generators for ImageNet tokens (CRT, arXiv 2412.16326, section A.2 and Table 2).

All use a peak learning rate of 3e-3, reached by a warm-up of 5,000 steps from 3e-4 and followed by a cosine to zero; batch
size 256; 375,000 steps (75 epochs). The scaling study trains every size for 15,000, 22,500, 45,000, 90,000, 187,500,
375,000, 750,000, 1,500,000 and 2,250,000 steps, each in a separate run with its full cosine: --set "length=15000 steps".
The paper's tables "at saturation" do not state a length; according to its fits it is 750,000 steps or more, so compare
tokenizers at equal steps.

First cache the tokens of ten crops of every image (section A.2; LlamaGen crops from the image at 281 pixels):

    torchrun --nproc-per-node 8 -m vistok cache TOKENIZER --split train --view ten-crop

Centre crops of the validation images are cached when training begins. For 400 or 576 tokens, add --image-size 320 or 384
to this command and to the training command, and --set z_loss=1e-4 to the latter.

Then train and score. Guidance is chosen among four scales by scoring 50,000 samples against 10,000 images held out of the
training set (the paper uses 50,000 training images):

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_111m --tokenizer TOKENIZER
    vistok evaluate generator RUN --count 50000 --choose-guidance 1.5,1.75,2,2.25 --search-count 50000

Where the paper leaves something open, we follow LlamaGen (dropout 0.1, gradients clipped at norm 1, bfloat16) or decide
ourselves (weight decay 0.1; EMA weights; parameter counts that include embeddings, which gives the paper's seven numbers;
temperature 1 and 50,000 samples, balanced over classes; validation loss on centre crops with the class given, in nats,
averaged over positions). The paper's text scores gFID against the validation images, but its numbers look like those
against ADM's reference batch, so report both (--split test, and --reference VIRTUAL_imagenet256_labeled.npz). Nobody has
yet run these recipes in full.
"""

from vistok.engine.config import ExecutionConfig, OptimizerConfig
from vistok.generator.autoregressive.config import paper_size
from vistok.runs.config import GeneratorRun
from vistok.units import steps


def _generator(size: str) -> GeneratorRun:
    return GeneratorRun(
        generator=paper_size(size),
        batch_size=256,
        length=steps(375_000),
        optimizer=OptimizerConfig(lr=3e-3, weight_decay=0.1, schedule="cosine", warmup=steps(5_000)),
        ema_decay=0.9999,
        precision="bfloat16",
        execution=ExecutionConfig(micro_batch_size=32, num_workers=2, log_every=100, evaluate_every=10_000),
    )


def imagenet256_ar_52m() -> GeneratorRun:
    """Train the paper's generator with 52.1M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_52m --tokenizer RUN

    Hardware: 8 A100 GPUs (80 GB), about 6 hours (scaled from the paper's 3.5 days for 775M).
    The paper's tables omit this size; from its fits (section 3.6, Fig. 7), expect gFID 5.7 without and 5.4 with the
    regularizer.
    """
    return _generator("52m")


def imagenet256_ar_81m() -> GeneratorRun:
    """Train the paper's generator with 80.6M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_81m --tokenizer RUN

    Hardware: 8 A100 GPUs (80 GB), about 9 hours (scaled from the paper's 3.5 days for 775M).
    The paper's tables omit this size; from its fits (section 3.6, Fig. 7), expect gFID 4.8 without and 4.5 with the
    regularizer.
    """
    return _generator("81m")


def imagenet256_ar_111m() -> GeneratorRun:
    """Train the paper's generator with 111M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_111m --tokenizer RUN

    Hardware: 8 A100 GPUs (80 GB), about 12 hours (scaled from the paper's 3.5 days for 775M). Expect gFID 4.90 with
    the baseline's tokens, 4.34 with CRT's (Table 1b) and 4.23 with CRTopt's (Table 1a). These are at saturation,
    which according to the paper's fits takes 750,000 steps or more; at 375,000 steps the fits give 4.3 for the
    baseline and 4.0 for CRT (Fig. 7).
    """
    return _generator("111m")


def imagenet256_ar_212m() -> GeneratorRun:
    """Train the paper's generator with 212M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_212m --tokenizer RUN

    Hardware: 8 A100 GPUs (80 GB), about 23 hours (scaled from the paper's 3.5 days for 775M). Expect gFID 3.32 with
    the baseline's tokens and 2.94 with CRT's (Table 1b). These are at saturation, which according to the paper's fits
    takes 750,000 steps or more; at 375,000 steps the fits give 3.6 for the baseline and 3.3 for CRT (Fig. 7).
    """
    return _generator("212m")


def imagenet256_ar_343m() -> GeneratorRun:
    """Train the paper's generator with 343M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_343m --tokenizer RUN

    Hardware: 8 A100 GPUs (80 GB), about 37 hours (scaled from the paper's 3.5 days for 775M). Expect gFID 2.89 with
    the baseline's tokens, 2.75 with CRT's (Table 1b) and 2.45 with CRTopt's (Table 1a). These are at saturation,
    which according to the paper's fits takes 750,000 steps or more; at 375,000 steps the fits give 3.2 for the
    baseline and 3.0 for CRT (Fig. 7).
    """
    return _generator("343m")


def imagenet256_ar_517m() -> GeneratorRun:
    """Train the paper's generator with 517M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_517m --tokenizer RUN

    Hardware: 8 A100 GPUs (80 GB), about 56 hours (scaled from the paper's 3.5 days for 775M). Expect gFID 2.77 with
    the baseline's tokens and 2.55 with CRT's (Table 1b, which calls it 550M). These are at saturation, which according
    to the paper's fits takes 750,000 steps or more; at 375,000 steps the fits give 3.0 for the baseline and 2.8 for
    CRT (Fig. 7).
    """
    return _generator("517m")


def imagenet256_ar_775m() -> GeneratorRun:
    """Train the paper's generator with 775M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_775m --tokenizer RUN

    Hardware: 8 A100 GPUs (80 GB), about 84 hours (scaled from the paper's 3.5 days for 775M). Expect gFID 2.55 with
    the baseline's tokens, 2.35 with CRT's (Table 1b) and 2.18 with CRTopt's (Table 1a). These are at saturation,
    which according to the paper's fits takes 750,000 steps or more; at 375,000 steps the fits give 2.8 for the
    baseline and 2.7 for CRT (Fig. 7).
    """
    return _generator("775m")
