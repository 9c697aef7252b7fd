"""Look-up in a codebook of 8 dimensions: time against LlamaGen and vector-quantize-pytorch, and memory beyond inputs and outputs."""

import torch
from common import alternate, arguments, entry, llamagen, median, peak_mib, save
from torch.nn import functional as F

from vistok.tokenizer.bottlenecks.config import VQConfig
from vistok.tokenizer.bottlenecks.vq import VQ, nearest_codes

VECTORS, CODES = 32_768, 131_072


def memory() -> float:
    """Return the MiB that the largest look-up needs beyond inputs and outputs."""
    z, codes = (F.normalize(torch.randn(count, 8), dim=-1) for count in (VECTORS, CODES))
    found = torch.zeros(VECTORS, dtype=torch.int64)
    nearest_codes(z[:64], codes)
    return max(1.0, peak_mib(lambda: found.copy_(nearest_codes(z, codes))))


def exact_share(vectors: int = 4096) -> float:
    """Return the share of vectors whose code is that of an exact float64 search, but for ties within rounding."""
    torch.manual_seed(1)
    z, codes = F.normalize(torch.randn(vectors, 8), dim=-1), F.normalize(torch.randn(CODES, 8), dim=-1)
    found = nearest_codes(z, codes)
    right = 0
    for part, chosen in zip(z.double().split(256), found.split(256), strict=True):
        similarity = part @ codes.double().T
        right += int((similarity.gather(1, chosen[:, None])[:, 0] >= similarity.amax(1) - 3e-7).sum())
    return right / vectors


def main() -> None:
    options = arguments(__doc__)
    llamagen(options.peer_path)
    ours_mb = memory()  # first: later, memory that the peers gave back would be reused unseen
    from tokenizer.tokenizer_image.vq_model import VectorQuantizer
    from vector_quantize_pytorch import VectorQuantize

    torch.manual_seed(0)
    results = []
    for codes, vectors in ((16_384, 8_192),):
        images = torch.randn(vectors // 256, 8, 16, 16)
        rows = images.permute(0, 2, 3, 1).flatten(1, 2).contiguous()
        ours = VQ(VQConfig(codebook_size=codes)).eval()
        llama = VectorQuantizer(codes, 8, 0.25, 0.0, True, False).eval()
        package = VectorQuantize(dim=8, codebook_size=codes, use_cosine_sim=True).eval()
        with torch.no_grad():
            seconds = alternate(
                options.repeats, ours=lambda: ours(rows), llama=lambda: llama(images), package=lambda: package(rows)
            )
        mine = median(seconds["ours"])
        for name, key in (("LlamaGen", "llama"), ("vector-quantize-pytorch", "package")):
            what = f"forward, {codes:,} codes, {vectors:,} vectors, against {name}"
            results.append(entry(what, mine * 1e3, median(seconds[key]) * 1e3, "ms", 1.0))
    whole_mb = VECTORS * CODES * 4 / 2**20  # what a matrix of all distances takes, as the peers hold it
    what = f"memory beyond inputs and outputs, {CODES:,} codes, {VECTORS:,} vectors"
    results.append(entry(what, ours_mb, whole_mb, "MiB", whole_mb / 256, peer_is="computed: one matrix of distances"))
    results.append(entry("same code as an exact float64 search", exact_share(), None, "of 4,096 vectors", 1.0))
    save(
        "quantizer",
        results,
        "Look-up in the codebook",
        "The peer's memory is computed: one float32 matrix of all distances.",
    )


if __name__ == "__main__":
    main()
