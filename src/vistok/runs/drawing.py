"""Draw images: a generator's latents, passed through its tokenizer's decoder."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from vistok.config import make
from vistok.data.images.transforms import to_uint8
from vistok.engine.device import free_memory, hardware
from vistok.engine.distributed import ALONE, World
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.generator.config import SamplingConfig
from vistok.generator.families import sampling_for
from vistok.generator.interface import Generator, Sampler
from vistok.metrics.cost import Cost
from vistok.metrics.variety import Drawn
from vistok.nn.finite import rows_not_finite
from vistok.nn.flops import count_flops, on_meta
from vistok.tokenizer.config import NETWORKS, TokenizerConfig
from vistok.tokenizer.interface import Tokenizer

BATCH = 500
# Share of free memory that a batch of samples may take: the decoder and other programs need some too.
SHARE_OF_MEMORY = 0.5


@dataclass
class Clock:
    """Images drawn so far, the largest batch among them, and the seconds that drawing and decoding took."""

    images: int = 0
    batch: int = 0
    seconds: float = 0.0

    def add(self, images: int, seconds: float) -> None:
        """Add a batch, once its images are on the host, so that the device has finished."""
        self.images, self.batch, self.seconds = self.images + images, max(self.batch, images), self.seconds + seconds


def cost_of(
    generator: Generator,
    tokenizer: Tokenizer,
    sampling: SamplingConfig,
    clock: Clock,
    spent: tuple[float, float] | None = None,
) -> Cost:
    """Return what an image costs; `spent`: measured calls and FLOPs if the family's formula does not apply (drafts)."""
    device = next(generator.parameters()).device
    calls, flops = spent or (generator.calls(sampling), generator.sampling_flops(sampling))
    return Cost(
        calls=float(calls),
        flops=flops,
        decoder_flops=decoding_flops(tokenizer.config),
        milliseconds=1000 * clock.seconds / clock.images if clock.images else 0.0,
        images=clock.images,
        batch=clock.batch,
        hardware=", ".join(filter(None, (hardware(device), generator.way_of(sampling, clock.batch)))),
    )


def decoding_flops(config: TokenizerConfig) -> float:
    """Return the FLOPs of decoding one image, counted on the meta device."""
    twin = on_meta(lambda: make(NETWORKS, config))
    shape, dtype = (1, *twin.space.shape), torch.int64 if twin.space.kind == "tokens" else torch.float32
    latents = torch.zeros(shape, dtype=dtype, device="meta")
    return count_flops(lambda: twin.from_latents(latents))


def usual_sampling(generator: Generator, values: Mapping[str, Any] | None = None) -> SamplingConfig:
    """Return how a generator is drawn from where nothing else is said, with these values.

    Networks that come with vistok are drawn from as they were scored, others by the default of their kind. Raises UserError for
    values that its family's sampling does not have.
    """
    scores = generator.info.scores
    scored = {"guidance_scale": scores.get("guidance_scale"), "steps": scores.get("sampling_steps")}
    known = {name: value for name, value in scored.items() if value is not None}
    return sampling_for(generator.config, {**known, **(values or {})})


def balanced_labels(count: int, num_classes: int) -> Int[Tensor, "count"]:
    """Return labels that cycle through 0, 1, ...: image i has class i mod `num_classes`."""
    return torch.arange(count) % num_classes


def make_sampler(
    generator: Generator, sampling: SamplingConfig, draft: Generator | None = None, lookahead: int = 4
) -> Sampler:
    """Return a generator's sampler, sped up by a smaller generator of the same tokens if a draft is given.

    Raises UserError for a draft that was trained on another tokenizer's tokens.
    """
    if draft is None:
        return generator.sampler(sampling)
    ours, theirs = (
        tokenizer.digest[:12] if (tokenizer := model.info.tokenizer) else "" for model in (generator, draft)
    )
    if ours != theirs:
        raise UserError(
            f"the draft writes tokens of another tokenizer (digest {theirs}) than the generator's (digest {ours}); train a "
            "draft on the generator's tokenizer: vistok train generator RECIPE --tokenizer RUN"
        )
    return generator.sped_up(sampling, draft, lookahead)


def fitting_batch(
    generator: Generator, sampling: SamplingConfig, asked: int | None = None, world: World = ALONE
) -> int:
    """Return how many images to draw at once: what was asked for, else as many as fit into free memory, at most 500.

    Samples do not depend on it, unless two codes are so close that another batch size's rounding swaps them. Several processes
    draw as many as the fullest of them can hold, since they share the work by batches.
    """
    if asked is not None:
        return asked
    free = free_memory(next(generator.parameters()).device)
    fits = BATCH if free is None else int(SHARE_OF_MEMORY * free / generator.sampling_bytes(sampling))
    return max(1, min(BATCH, *world.collect(fits)))


def first_of_share(count: int, batch_size: int, world: World) -> int:
    """Return the number of the first image that this process draws, of all that are drawn."""
    return world.share_of(range(-(-count // batch_size))).start * batch_size


def sample_batches(
    sampler: Sampler,
    tokenizer: Tokenizer,
    labels: Int[Tensor, "count"],
    progress: Progress | None = None,
    name: str = "samples",
    batch_size: int = BATCH,
    world: World = ALONE,
    drawn: Drawn | None = None,
    clock: Clock | None = None,
) -> Iterator[UInt8[Tensor, "batch channels height width"]]:
    """Yield decoded uint8 images; image number i is drawn with label i and noise i.

    With several processes, each yields a run of consecutive batches; joined by rank they are in order. `drawn` and
    `clock` record this process's share.
    """
    device = next(tokenizer.parameters()).device
    progress = progress or Progress(quiet=True)
    batches = range(-(-len(labels) // batch_size))
    with progress.task(name, len(labels)) as bar:
        for number in world.share_of(batches):
            start = number * batch_size
            chunk = labels[start : start + batch_size].to(device)
            ids = torch.arange(start, start + len(chunk), device=device)
            started = time.perf_counter()
            latents = sampler(chunk, ids)
            images = to_uint8(_finite(tokenizer.decode(_finite(latents, "drawn")), "decoded")).cpu()
            if clock is not None:
                clock.add(len(chunk), time.perf_counter() - started)
            if drawn is not None:
                drawn.add(latents, images)
            yield images
            bar.advance(len(chunk) * world.size)


def _finite(values: Tensor, how: str) -> Tensor:
    """Return what was drawn or decoded (batch ...). Raises UserError where some of it is not finite.

    It would become black pictures, which would be scored.
    """
    if bad := rows_not_finite(values):
        raise UserError(
            f"{bad} of {len(values)} samples, as {how}, hold values that are not finite (NaN or infinity): the guidance scale may be far "
            "too large (--guidance), or the weights are damaged or their training diverged (train it again, or give another file)"
        )
    return values


def class_samples(
    generator: Generator, tokenizer: Tokenizer, sampling: SamplingConfig, most: int, rows: int = 4
) -> tuple[UInt8[Tensor, "count channels height width"], int]:
    """Return samples for a sheet, with the same noise every time, and its columns: one for each class, of the first `most`."""
    columns = min(generator.num_classes, most)
    labels = torch.arange(columns).repeat(rows)
    return torch.cat(list(sample_batches(generator.sampler(sampling), tokenizer, labels))), columns
