"""The paper's seven generators of ImageNet tokens (CRT, arXiv 2412.16326, section A.2 and Table 2).

All learn at 3e-3 at most after 5,000 steps of warm-up from 3e-4, then a cosine to zero; batch 256; 375,000 steps (75
epochs). The scaling study has every size at 15,000, 22,500, 45,000, 90,000, 187,500, 375,000, 750,000, 1,500,000 and
2,250,000 steps, each a run with a cosine of its own: --set "length=15000 steps". The tables "at saturation" do not state
a length; by the paper's own fits they are of 750,000 steps or more, so compare two tokenizers at equal steps.

First the tokens, ten crops of every image (section A.2; LlamaGen: of the image at 281 pixels):

    torchrun --nproc-per-node 8 -m vistok cache TOKENIZER --split train --view ten-crop
    (its validation images are cached as centre crops when training begins; add --image-size 320 or 384 for 400 or 576 tokens, and then --set z_loss=1e-4)

Then training, and scores, with guidance chosen among four scales by 50,000 samples against 10,000 images held out of
train (the paper: 50,000 images of train):

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_111m --tokenizer TOKENIZER
    vistok evaluate generator RUN --count 50000 --choose-guidance 1.5,1.75,2,2.25 --search-count 50000

What the paper leaves open is LlamaGen's (dropout 0.1, clipping at norm 1, bfloat16) or ours (weight decay 0.1; an
average of the weights; parameters counted with embeddings, which gives the paper's seven figures; temperature 1 and
50,000 samples, balanced over classes; validation loss on centre crops with the class given, mean over positions, in
nats). The paper's text scores gFID against the validation images, its figures look like ADM's reference batch: give both
(--split test, and --reference VIRTUAL_imagenet256_labeled.npz). Nobody has measured
these recipes yet.
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
    """Train the generator of 52.1M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_52m --tokenizer RUN

    Hardware: 8 A100 of 80 GB; hours: about 6 (the paper's 3.5 days for 775M, in proportion). Expect gFID no
    table entry; the paper's fits (section 3.6, Fig. 7) give 5.7 without and 5.4 with the regularizer.
    """
    return _generator("52m")


def imagenet256_ar_81m() -> GeneratorRun:
    """Train the generator of 80.6M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_81m --tokenizer RUN

    Hardware: 8 A100 of 80 GB; hours: about 9 (the paper's 3.5 days for 775M, in proportion). Expect gFID no
    table entry; the paper's fits (section 3.6, Fig. 7) give 4.8 without and 4.5 with the regularizer.
    """
    return _generator("81m")


def imagenet256_ar_111m() -> GeneratorRun:
    """Train the generator of 111M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_111m --tokenizer RUN

    Hardware: 8 A100 of 80 GB; hours: about 12 (the paper's 3.5 days for 775M, in proportion). Expect gFID 4.90
    with the baseline's tokens, 4.34 with CRT's (Table 1b), 4.23 with CRTopt's (Table 1a): at saturation, which by
    the paper's fits is 750,000 steps or more; at 375,000 they give 4.3 and 4.0 (Fig. 7).
    """
    return _generator("111m")


def imagenet256_ar_212m() -> GeneratorRun:
    """Train the generator of 212M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_212m --tokenizer RUN

    Hardware: 8 A100 of 80 GB; hours: about 23 (the paper's 3.5 days for 775M, in proportion). Expect gFID 3.32
    with the baseline's tokens, 2.94 with CRT's (Table 1b): at saturation, which by
    the paper's fits is 750,000 steps or more; at 375,000 they give 3.6 and 3.3 (Fig. 7).
    """
    return _generator("212m")


def imagenet256_ar_343m() -> GeneratorRun:
    """Train the generator of 343M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_343m --tokenizer RUN

    Hardware: 8 A100 of 80 GB; hours: about 37 (the paper's 3.5 days for 775M, in proportion). Expect gFID 2.89
    with the baseline's tokens, 2.75 with CRT's (Table 1b), 2.45 with CRTopt's (Table 1a): at saturation, which by
    the paper's fits is 750,000 steps or more; at 375,000 they give 3.2 and 3.0 (Fig. 7).
    """
    return _generator("343m")


def imagenet256_ar_517m() -> GeneratorRun:
    """Train the generator of 517M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_517m --tokenizer RUN

    Hardware: 8 A100 of 80 GB; hours: about 56 (the paper's 3.5 days for 775M, in proportion). Expect gFID 2.77
    with the baseline's tokens, 2.55 with CRT's (Table 1b, where it is called 550M): at saturation, which by
    the paper's fits is 750,000 steps or more; at 375,000 they give 3.0 and 2.8 (Fig. 7).
    """
    return _generator("517m")


def imagenet256_ar_775m() -> GeneratorRun:
    """Train the generator of 775M parameters.

    torchrun --nproc-per-node 8 -m vistok train generator imagenet256_ar_775m --tokenizer RUN

    Hardware: 8 A100 of 80 GB; hours: about 84 (the paper's 3.5 days for 775M, in proportion). Expect gFID 2.55
    with the baseline's tokens, 2.35 with CRT's (Table 1b), 2.18 with CRTopt's (Table 1a): at saturation, which by
    the paper's fits is 750,000 steps or more; at 375,000 they give 2.8 and 2.7 (Fig. 7).
    """
    return _generator("775m")
