"""Before training begins: centres of clusters are fitted to a frozen network's features of training images.

Each iteration passes over the images once, features are made anew and never kept, and the state after it is in the run's
directory: a stopped fit goes on there. Batches are the same on any number of processes, and so is the result.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vistok.data.images.sources import ImageSource
from vistok.data.loader import eval_images
from vistok.engine.distributed import World
from vistok.engine.log import Progress, Task
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import load_weights, save_weights
from vistok.errors import UserError, counted
from vistok.nn.kmeans import spread_apart
from vistok.nn.lloyd import Sums, scale_for
from vistok.rng import numpy_generator, stable_choice, torch_generator
from vistok.runs.config import TokenizerRun
from vistok.tokenizer.bottlenecks.kmeans import KMeans
from vistok.tokenizer.interface import Tokenizer

BATCH = 250
# Vectors for each centre among which the first centres are chosen.
POOL = 16


class Fit:
    """The clusters of a run: `into` puts their centres into its tokenizer."""

    def __init__(self, config: TokenizerRun, source: ImageSource, run_dir: RunDir) -> None:
        self.config, self.run_dir, self.seed = config, run_dir, config.seed
        self.clusters = cast(Any, config.tokenizer.quantizer)
        count = max(1, round(len(source) * self.clusters.image_fraction))
        self.images = source.subset(stable_choice(self.seed, "clusters", len(source), count), f"{count} random images")
        self.positions = config.tokenizer.num_tokens
        if count * self.positions < self.clusters.codes:
            raise UserError(
                f"tokenizer.quantizer: {counted(count, 'image')} of {self.positions} tokens cannot have {self.clusters.codes} clusters; use "
                "fewer (codebook_size), or more images (image_fraction, at most 1)"
            )

    @property
    def file(self) -> Path:
        """The state after the last iteration."""
        return self.run_dir.path / "fit" / "centres.safetensors"

    def into(self, tokenizer: Tokenizer, device: torch.device, world: World, progress: Progress) -> None:
        """Fit the centres, or what is left of that, and put them into the tokenizer."""
        assert isinstance(tokenizer.quantizer, KMeans)
        done, centres, scale = self._state(world)
        total, iterations = len(self.images), self.clusters.iterations
        if done < iterations:
            with progress.task(
                f"{self.config.name}: clusters of features", (iterations + 1) * total, done * total
            ) as bar:
                if centres is None:
                    centres, scale = self._begin(tokenizer, device, world, bar)
                for iteration in range(done, iterations):
                    centres = self._iterate(tokenizer, centres.to(device), scale, iteration, world, bar)
        assert centres is not None
        tokenizer.quantizer.centres.copy_(centres)

    def _state(self, world: World) -> tuple[int, Tensor | None, float]:
        """Return how many iterations are done, the centres after them, and the scale of sums."""
        if not world.agree(self.file.is_file()):
            return 0, None, 1.0
        state, header = load_weights(self.file)
        return int(header["iterations"]), state["centres"], float(header["scale"])

    def _save(self, done: int, centres: Tensor, scale: float, world: World, **facts: float) -> None:
        if world.main:
            with self.run_dir.writing(self.file.parent):
                header = {"iterations": done, "scale": scale, **facts}
                save_weights(self.file, {"centres": centres}, header, make_folder=False)
        world.wait()

    def _begin(self, tokenizer: Tokenizer, device: torch.device, world: World, bar: Task) -> tuple[Tensor, float]:
        """Choose the first centres among vectors at random places of some images, far from each other (k-means++)."""
        each = -(-POOL * self.clusters.codes // len(self.images))
        pool = []
        for number, features in self._features(tokenizer, device, world, bar):
            drawn = numpy_generator(self.seed, "pool", number).random(features.shape[:2]).argsort(axis=1)[:, :each]
            places = torch.from_numpy(drawn).to(device)
            pool.append(features.gather(1, places[..., None].expand(-1, -1, features.shape[2])).flatten(0, 1).cpu())
        vectors = world.join(pool)
        centres = spread_apart(vectors, self.clusters.codes, torch_generator(self.seed, "centres"))
        scale = scale_for(vectors)
        self._save(0, centres, scale, world)
        return centres, scale

    def _iterate(
        self, tokenizer: Tokenizer, centres: Tensor, scale: float, iteration: int, world: World, bar: Task
    ) -> Tensor:
        """Assign all vectors to their nearest centres, move these, and return them."""
        sums = Sums(centres, scale)
        for _, features in self._features(tokenizer, centres.device, world, bar):
            sums.add(features.flatten(0, 1))
        sums.sums, sums.counts, sums.distance = (world.sum(part) for part in (sums.sums, sums.counts, sums.distance))
        distance = float(sums.distance) / int(sums.counts.sum())
        empty = int((sums.counts == 0).sum())
        moved = sums.moved(torch_generator(self.seed, "clusters", iteration))
        bar.tell(f"mean squared distance {distance:.4g}" + (f", {empty} empty" if empty else ""))
        self._save(iteration + 1, moved, scale, world, distance=distance, empty=empty)
        return moved

    @torch.no_grad()
    def _features(
        self, tokenizer: Tokenizer, device: torch.device, world: World, bar: Task
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield this process's batches: their numbers, and features (images positions dim)."""
        numbers = world.share_of(range(-(-len(self.images) // BATCH)))
        batches = eval_images(self.images, self.config.data, BATCH, self.config.execution.num_workers, batches=numbers)
        for number, batch in zip(numbers, batches, strict=True):
            found: Any = tokenizer.to_latents(batch["images"].to(device))[0]  # type: ignore[operator]
            yield number, found.float()
            bar.advance(len(found) * world.size)
