"""Score a generator's likelihood of held-out tokens: by position, and the gap to its training images."""

from pathlib import Path
from typing import Any

import torch

from vistok.data.token_cache import TokenCache
from vistok.engine.files import write_json
from vistok.engine.log import Progress
from vistok.engine.run_dir import RunDir
from vistok.metrics.likelihood import Likelihood
from vistok.tasks.evaluators import evaluation_file
from vistok.tasks.load import load_generator
from vistok.tasks.train_generator import validation_likelihood

SCHEMA = 1
IMAGES = 5_000


def evaluate_likelihood(run: Path, train: TokenCache, validation: TokenCache, progress: Progress) -> dict[str, Any]:
    """Return nats per token, by position, and bits per image of both caches; done before, it only reads them.

    Averaged and raw weights are both scored, on the first 5,000 images of each cache.
    """
    file = evaluation_file(run, f"likelihood-{validation.manifest.split}")
    done = RunDir(run).read(str(file.relative_to(run)))
    if done is not None:
        return done
    device = torch.device("cpu")
    result: dict[str, Any] = {"schema_version": SCHEMA, "kind": "likelihood", "split": validation.manifest.split}
    with progress.task("likelihood of held-out tokens", 3) as bar:
        ema, raw = load_generator(run, "ema"), load_generator(run, "raw")
        for cache in (train, validation):
            if cache.manifest.tokenizer_digest != ema.info["tokenizer"]["digest"]:
                cache.require(tokenizer_digest=ema.info["tokenizer"]["digest"])
        result["ema"] = _plain(validation_likelihood(ema, validation, device, IMAGES))
        bar.advance()
        result["raw"] = _plain(validation_likelihood(raw, validation, device, IMAGES))
        bar.advance()
        result["train"] = _plain(validation_likelihood(ema, train, device, IMAGES))
        bar.advance()
    write_json(file, result)
    return result


def _plain(found: Likelihood) -> dict[str, Any]:
    return {
        "nats_per_token": found.nats_per_token,
        "standard_error": found.standard_error,
        "bits_per_image": found.bits_per_image,
        "position_nats": found.position_nats.tolist(),
        "num_images": found.num_images,
    }
