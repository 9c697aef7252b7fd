"""Our clusters of features beside scikit-learn's: distances, assignments, and seconds.

pip install scikit-learn                # also in vistok[bench]
python benchmarks/kmeans.py          # BENCH_THREADS=1 for one thread, as studies train

Both take the features that `fashion_clusters` fits, those of `fashion_encoder` on a tenth of Fashion-MNIST, and make 512 clusters in 20
iterations from centres that are spread apart (k-means++); ours in passes over batches, scikit-learn's with all vectors in memory.
"""

import statistics
import tempfile
import time
from pathlib import Path

import torch
from common import arguments, entry, save
from torch import Tensor

from vistok.data.images.open import open_split
from vistok.data.images.sources import ImageSource
from vistok.data.loader import eval_images
from vistok.engine.distributed import ALONE
from vistok.engine.log import Progress
from vistok.engine.run_dir import RunDir
from vistok.recipes import find_recipe
from vistok.runs.config import TokenizerRun
from vistok.runs.fitting import Fit
from vistok.tokenizer.interface import Tokenizer
from vistok.verbs.train_tokenizer import build_objective

SEEDS = (0, 1, 2)
HELD_OUT = 2_000


def tokenizer_of(run: TokenizerRun) -> Tokenizer:
    """Return the run's tokenizer, whose centres are not fitted yet."""
    return build_objective(run, torch.device("cpu")).tokenizer  # type: ignore[attr-defined, no-any-return]


@torch.no_grad()
def features_of(tokenizer: Tokenizer, run: TokenizerRun, source: ImageSource) -> Tensor:
    """Return the features of images, (vectors dim)."""
    batches = eval_images(source, run.data, 250, 0)
    return torch.cat([tokenizer.to_latents(batch["images"])[0].flatten(0, 1) for batch in batches])  # type: ignore[operator]


def distance(vectors: Tensor, centres: Tensor) -> float:
    """Return the mean squared distance of vectors to their nearest centre, by torch's distances."""
    return float(
        torch.cat([torch.cdist(part, centres).amin(1).square() for part in vectors.split(20_000)]).double().mean()
    )


def compared(seed: int) -> dict[str, tuple[float, ...]]:
    """Return (ours, scikit-learn's) by what is compared; of assignments the share that differs."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import pairwise_distances_argmin

    run = find_recipe("fashion_clusters", "tokenizer").replace(seed=seed)
    source = open_split(run.data, "train")
    tokenizer = tokenizer_of(run)
    with tempfile.TemporaryDirectory() as folder:
        fit = Fit(run, source, RunDir(Path(folder)))
        started = time.perf_counter()
        fit.into(tokenizer, torch.device("cpu"), ALONE, Progress(quiet=True))
        seconds = time.perf_counter() - started
    vectors = features_of(tokenizer, run, fit.images)
    held_out = features_of(tokenizer, run, open_split(run.data, "val").subset(torch.arange(HELD_OUT).numpy(), "some"))
    centres = tokenizer.quantizer.centres  # type: ignore[union-attr]
    peer = KMeans(len(centres), n_init=1, max_iter=20, tol=0, algorithm="lloyd", random_state=seed)
    started = time.perf_counter()
    peer.fit(vectors.numpy())
    peer_seconds = time.perf_counter() - started
    theirs = torch.from_numpy(peer.cluster_centers_).float()
    assigned = tokenizer.quantizer.codes_to_indices(vectors)  # type: ignore[union-attr, operator]
    other = pairwise_distances_argmin(vectors.double().numpy(), centres.double().numpy())
    return {
        "mean squared distance, fitted vectors": (distance(vectors, centres), distance(vectors, theirs)),
        "mean squared distance, held-out vectors": (distance(held_out, centres), distance(held_out, theirs)),
        "vectors that scikit-learn puts into another of our clusters": (float((assigned.numpy() != other).mean()),),
        "seconds": (seconds, peer_seconds),
    }


def main() -> None:
    """Write the table."""
    arguments(__doc__)
    found = []
    for seed in SEEDS:
        found.append(compared(seed))
        print(found[-1], flush=True)
    results = []
    for name, sides in found[0].items():
        ours, *peer = (statistics.mean(one[name][side] for one in found) for side in range(len(sides)))
        results.append(entry(name, ours, *(peer or [None]), "s" if name == "seconds" else ""))
    save("kmeans", results, f"512 clusters of 294,000 features, means of {len(SEEDS)} seeds: ours and scikit-learn's")


if __name__ == "__main__":
    main()
