"""What test_distributed.py runs, alone and by torchrun: every verb that several processes share."""

import sys
from pathlib import Path

import torch

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.engine.distributed import join_world, leave_world
from vistok.engine.log import Progress
from vistok.recipes import find_recipe
from vistok.scoring import evaluate_generator, evaluate_tokenizer
from vistok.scoring.evaluators import choose_evaluator
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

train_tokenizer.EVAL_IMAGES, train_generator.EVAL_IMAGES = 100, 200
GAN = ["losses.adversarial.weight=0.5", "losses.adversarial.start=4 steps", "losses.adversarial.ramp=4 steps",
       "losses.adversarial.channels=8", "losses.adversarial.num_layers=2",
       "losses.adversarial.lecam_weight=0.5", "losses.adversarial.lecam_decay=0.5"]  # fmt: skip
TOKENIZERS = {
    # Half of the batch at a time, by one process or by two.
    "gan": [*GAN, "tokenizer.quantizer.restart_after=3", "execution.micro_batch_size=8"],
    # The whole batch at once against two halves, at a low rate: at a high one a rounding error soon flips a code,
    # and after that two right runs differ (seen at 3e-4, and for one seed of three at 1e-4).
    # Vectors, whose noise is each image's own: the whole batch at once against two halves.
    "vectors": ["crt=null", "tokenizer.quantizer.kind=kl", "regularizers.noising.weight=0.5", "optimizer.lr=3e-5"],
    "normalized": ['crt.variant="l2_pre_normalized"', "crt.weight=0.3", "optimizer.lr=3e-5"],
}


def tokenizer_config(root: Path, *settings: str):
    data = [f'data.root="{root}"', "data.max_images=300", "execution.log_every=1", "execution.tensorboard=false"]
    return override(find_recipe("debug_crt"), [*data, "length=20 steps", *settings])


def train_tokenizers(root: Path, runs: Path) -> None:
    for name, settings in TOKENIZERS.items():
        train_tokenizer.prepare(tokenizer_config(root, *settings), runs / name).train(Progress(quiet=True))


def use(tokenizer: Path, runs: Path) -> None:
    """Cache, train a generator, sample and score, with a trained tokenizer."""
    quiet = Progress(quiet=True)
    caches = {split: cache_tokens(tokenizer, split, quiet) for split in ("train", "val")}
    generators = {}
    for micro in (16, 8):
        settings = ["length=20 steps", "execution.log_every=1", f"execution.micro_batch_size={micro}"]
        config = override(
            find_recipe("debug_ar"), [*settings, "generator.label_dropout=0.0"] if micro == 8 else settings
        )
        job = train_generator.prepare(config, caches["train"], caches["val"], tokenizer, runs / f"micro-{micro}")
        generators[micro] = job.train(quiet).path
    extractor = choose_evaluator(DataConfig())
    evaluate_tokenizer.evaluate_tokenizer(tokenizer, extractor, quiet, split="val")
    stage2 = evaluate_generator.load_stage2(generators[16])
    against = evaluate_generator.Against((extractor,), "val")
    evaluate_generator.evaluate_generator(stage2, against, evaluate_generator.Drawing(stage2.sampling(), 600), quiet)


if __name__ == "__main__":
    torch.set_num_threads(1)
    join_world()
    train_tokenizers(Path(sys.argv[1]), Path(sys.argv[2]))
    use(Path(sys.argv[3]), Path(sys.argv[2]))
    leave_world()
