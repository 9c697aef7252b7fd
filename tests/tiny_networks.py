"""Networks of a few numbers, as finished run directories, without training."""

import json
from pathlib import Path

import torch

from vistok.data.config import DataConfig
from vistok.engine.weights import save_weights
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.interop.imported import write_finished
from vistok.nn.classifier import Classifier
from vistok.nn.classifier_config import ClassifierConfig
from vistok.runs.config import ClassifierRun, GeneratorRun, TokenizerRun
from vistok.space import token_grid
from vistok.tokenizer.bottlenecks.config import VQConfig
from vistok.tokenizer.config import ConvNetConfig, ConvTokenizerConfig, LossConfig
from vistok.tokenizer.networks.conv import ConvTokenizer

SIDE = ConvNetConfig(channels=4, multipliers=(1, 1), num_res_blocks=1, attention_resolutions=(), norm_groups=2)
TOKENIZER = ConvTokenizerConfig(
    image_size=8, in_channels=1, latent_channels=4, encoder=SIDE, decoder=SIDE,
    quantizer=VQConfig(codebook_size=8, code_dim=2),
)  # fmt: skip
GENERATOR = AutoregressiveConfig(width=8, depth=1, num_heads=2, ffn_multiple=8, dropout=0.0)
CLASSIFIER = ClassifierConfig(image_size=8, num_classes=2, stage_channels=(2, 4), convs_per_stage=1, feature_dim=4)
DATA = DataConfig(dataset="folder", root="images", image_size=8, channels=1)


def tokenizer_parts():
    """(run, state, metadata) of a tokenizer."""
    torch.manual_seed(0)
    run = TokenizerRun(name="tiny", data=DATA, tokenizer=TOKENIZER, losses=LossConfig(perceptual=None))
    return run, ConvTokenizer(TOKENIZER).state_dict(), _metadata(run, "tokenizer", data_digest="d")


def generator_parts(tokenizer: Path, digest: str):
    """(run, state, metadata) of a generator of that tokenizer's tokens."""
    torch.manual_seed(1)
    run = GeneratorRun(name="tiny-ar", generator=GENERATOR)
    facts = {
        "tokenizer": {"digest": digest, "path": str(tokenizer)},
        "grid": [4, 4],
        "codebook_size": 8,
        "num_classes": 2,
    }
    state = AutoregressiveGenerator(GENERATOR, token_grid(4, 4, 8), 2).state_dict()
    return run, state, _metadata(run, "generator", **facts)


def classifier_parts():
    """(run, state, metadata) of a classifier."""
    torch.manual_seed(2)
    run = ClassifierRun(name="tiny-evaluator", data=DATA, classifier=CLASSIFIER)
    return run, Classifier(CLASSIFIER).state_dict(), _metadata(run, "classifier")


def _metadata(run, kind, **more):
    config = json.loads(run.to_json())
    return {
        "model": kind, "recipe": run.name, "config": config[kind], "run_config": config, "training": {"steps": 3},
        "weights": "ema", "dataset": "folder", "class_names": ["cats", "dogs"], **more,
    }  # fmt: skip


def write_pair(folder: Path) -> tuple[Path, Path]:
    """Write a tokenizer's and a generator's run directory; the tokenizer has raw weights too."""
    run, state, metadata = tokenizer_parts()
    tokenizer, generator = folder / "tokenizer", folder / "generator"
    digest = write_finished(tokenizer, run, state, {"digest": "x"}, metadata)
    raw = {name: value + 1 if value.is_floating_point() else value for name, value in state.items()}
    save_weights(tokenizer / "export" / "raw.safetensors", raw, {**metadata, "weights": "raw"})
    run, state, metadata = generator_parts(tokenizer, digest)
    write_finished(generator, run, state, {"digest": "y"}, metadata)
    return tokenizer, generator
