"""Draw images: a generator's tokens through its tokenizer's decoder."""

from collections.abc import Iterator

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from vistok.data.transforms import to_uint8
from vistok.engine.distributed import ALONE, World
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.generator.autoregressive.config import SamplingConfig
from vistok.generator.autoregressive.frozen import FrozenTransformer
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.generator.autoregressive.speculative import SpeculativeSampler
from vistok.generator.interface import Generator, Sampler
from vistok.metrics.variety import Drawn
from vistok.tokenizer.interface import Tokenizer

BATCH = 500


def balanced_labels(count: int, num_classes: int) -> Int[Tensor, "count"]:
    """Return labels 0, 1, ... in turn: image i has class i mod `num_classes`."""
    return torch.arange(count) % num_classes


def make_sampler(
    generator: Generator, sampling: SamplingConfig, draft: Generator | None = None, lookahead: int = 4
) -> Sampler:
    """Return the sampler of a generator, sped up by a smaller one of the same tokens where there is one.

    Raises UserError for a draft of another tokenizer's tokens.
    """
    if draft is None:
        return generator.sampler(sampling)
    a, b = (model.info["tokenizer"]["digest"][:12] for model in (generator, draft))
    if a != b:
        raise UserError(
            f"the draft writes tokens of another tokenizer (digest {b}, the generator's {a}); train a draft with the "
            "generator's own tokenizer: vistok train generator RECIPE --tokenizer RUN"
        )
    assert isinstance(generator, AutoregressiveGenerator) and isinstance(draft, AutoregressiveGenerator)
    return SpeculativeSampler(
        FrozenTransformer(generator, sampling.int8),
        FrozenTransformer(draft, sampling.int8),
        sampling,
        lookahead=lookahead,
    )


def sample_batches(
    sampler: Sampler,
    tokenizer: Tokenizer,
    labels: Int[Tensor, "count"],
    progress: Progress | None = None,
    name: str = "samples",
    batch_size: int = BATCH,
    world: World = ALONE,
    drawn: Drawn | None = None,
) -> Iterator[UInt8[Tensor, "batch channels height width"]]:
    """Yield decoded uint8 images; image number i is drawn with label i and noise i.

    Of several processes each yields a run of consecutive batches: joined by rank they are in order. `drawn` counts this
    process's.
    """
    device = next(tokenizer.parameters()).device
    progress = progress or Progress(quiet=True)
    batches = range(-(-len(labels) // batch_size))
    with progress.task(name, len(labels)) as bar:
        for number in world.share_of(batches):
            start = number * batch_size
            chunk = labels[start : start + batch_size].to(device)
            ids = torch.arange(start, start + len(chunk), device=device)
            tokens = sampler(chunk, ids)
            images = to_uint8(tokenizer.decode(tokens)).cpu()
            if drawn is not None:
                drawn.add(tokens, images)
            yield images
            bar.advance(len(chunk) * world.size)
