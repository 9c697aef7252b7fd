"""Vector quantization with a codebook that is learned by gradient descent.

Latents and codes are compared on the unit sphere, as in ViT-VQGAN and LlamaGen (CRT paper A.1), or unnormalised with
`lookup="euclidean"`, as in VQGAN.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.engine.transfer import send
from vistok.nn.kmeans import kmeans
from vistok.nn.precision import in_float32
from vistok.rng import torch_generator
from vistok.tokenizer.bottlenecks.base import (
    UNIT_VARIANCE,
    BottleneckOutput,
    Quantizer,
    contiguous_gradient,
    straight_through,
)
from vistok.tokenizer.bottlenecks.config import VQConfig
from vistok.tokenizer.noise import Noise

# Similarities computed at once (2 MB in float32, or at least 32 rows): what stays in a core's cache is cheap to reread.
LOOKUP_ELEMENTS, LOOKUP_ROWS = 2**19, 32
# A maximum is vectorised but an arg-max is not, so first find the best group of this many codes, then the code in it.
GROUP = 64
# Latents per code that are kept for initialising the codes.
POOL = 16
# Buffers that only training reads.
OF_TRAINING = frozenset({"used", "steps_unused", "pool", "begun"})


@torch.no_grad()
def nearest_codes(
    latents: Float[Tensor, "vectors dim"], codebook: Float[Tensor, "codes dim"]
) -> Int[Tensor, "vectors"]:
    """Return the code with the largest inner product for each vector, in chunks; ties go to the lowest number."""
    missing = -len(codebook) % GROUP
    if missing:  # pad with the first code: it ties with itself, and the lower number wins
        codebook = torch.cat([codebook, codebook[:1].expand(missing, -1)])
    rows = min(max(LOOKUP_ROWS, LOOKUP_ELEMENTS // len(codebook)), max(1, len(latents)))
    if latents.is_meta:  # when counting FLOPs, one chunk is enough
        rows = max(1, len(latents))
    # One buffer for all chunks: allocating it each time would fragment the heap by up to hundreds of MB.
    similarity = latents.new_empty(rows, len(codebook))
    nearest = torch.empty(len(latents), dtype=torch.int64, device=latents.device)
    for chunk, out in zip(latents.split(rows), nearest.split(rows), strict=True):
        out.copy_(_best(torch.mm(chunk, codebook.T, out=similarity[: len(chunk)])))
    return nearest


def _best(similarity: Float[Tensor, "rows codes"]) -> Int[Tensor, "rows"]:
    groups = similarity.unflatten(1, (-1, GROUP))
    best = groups.amax(dim=2).argmax(dim=1)
    return best * GROUP + groups[torch.arange(len(groups), device=groups.device), best].argmax(dim=1)


def nearest_by_distance(
    latents: Float[Tensor, "vectors dim"], codebook: Float[Tensor, "codes dim"]
) -> Int[Tensor, "vectors"]:
    """Return the code at the least distance from each vector; ties go to the lowest number."""
    # Minimising |v - c|^2 means maximising v.c - |c|^2 / 2, an inner product in one more dimension.
    codebook = torch.cat([codebook, -codebook.square().sum(-1, keepdim=True) / 2], dim=-1)
    return nearest_codes(F.pad(latents, (0, 1), value=1.0), codebook)


def quantized(quantizer: Quantizer, z_e: Float[Tensor, "*batch dim"], commitment_weight: float) -> BottleneckOutput:
    """Return the nearest codes of vectors with VQ-VAE's two losses: codes move to latents, and latents to codes."""
    latents = contiguous_gradient(z_e)
    indices = quantizer.codes_to_indices(latents.detach())
    codes = quantizer.indices_to_codes(indices)
    losses = {
        "codebook_loss": F.mse_loss(codes, latents.detach()),
        "commitment_loss": commitment_weight * F.mse_loss(latents, codes.detach()),
    }
    error = losses["codebook_loss"].detach() * quantizer.code_dim
    return BottleneckOutput(latents, straight_through(latents, codes), indices, losses, {"quantization_error": error})


class VQ(Quantizer):
    """A codebook of `codebook_size` vectors in `code_dim` dimensions, unit-norm for the cosine look-up."""

    vector_scale = UNIT_VARIANCE
    used: Tensor
    steps_unused: Tensor
    pool: Tensor
    begun: Tensor

    def __init__(self, config: VQConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook_size = config.codebook_size
        self.code_dim = config.code_dim
        self._cosine = config.lookup == "cosine"
        if self._cosine:  # whatever their length, the decoder gets unit vectors
            self.vector_scale = 1.0
        # Uniform directions: LlamaGen's uniform(+-1/K), once normalised, is the same but for a bias towards corners.
        directions = F.normalize(torch.randn(config.codebook_size, config.code_dim), dim=-1)
        # VQGAN's codes start close to zero, and its latents move there.
        self.codebook = nn.Parameter(directions if self._cosine else directions / config.codebook_size)
        self._recent: list[Tensor] = []
        # Parameters that the last step moved at once, so that EMA weights can follow.
        self.placed_anew: tuple[str, ...] = ()
        if config.restart_after is not None:
            self.register_buffer("used", torch.zeros(config.codebook_size, dtype=torch.bool))
            self.register_buffer("steps_unused", torch.zeros(config.codebook_size, dtype=torch.int64))
        if config.start_after is not None:
            self.register_buffer("pool", torch.zeros(POOL * config.codebook_size, config.code_dim))
            self.register_buffer("begun", torch.zeros((), dtype=torch.bool))

    def forward(self, z_e: Float[Tensor, "*batch dim"], noise: Noise | None = None) -> BottleneckOutput:
        """Quantize; the losses are the codebook loss (VQ-VAE) and the commitment loss, as means over all dimensions."""
        with in_float32(z_e):
            output = quantized(self, self._placed(z_e.float()), self.config.commitment_weight)
            if self.config.start_after is not None:  # until quantization begins the decoder sees the latents
                output.decoded = torch.where(self.begun, output.decoded, output.latents)
                output.losses = {name: self.begun * loss for name, loss in output.losses.items()}
                output.statistics = {name: self.begun * value for name, value in output.statistics.items()}
        if self.training and self.codebook.requires_grad:  # frozen codes stay where they are
            if self.config.restart_after is not None:
                self.used.index_fill_(0, output.stored.flatten(), True)
            if self.config.restart_after is not None or self.config.start_after is not None:
                self._recent.append(output.latents.detach().flatten(0, -2))
        return output

    def indices_to_codes(self, indices: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """Return codes, unit-norm for the cosine look-up."""
        return self._placed(F.embedding(indices, self.codebook).float())

    @torch.no_grad()
    def codes_to_indices(self, codes: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """Return the number of the code that is nearest in angle (cosine) or distance (euclidean)."""
        codebook, vectors = self._placed(self.codebook.float()), codes.float().reshape(-1, self.code_dim)
        return self._nearest(vectors, codebook).view(codes.shape[:-1])

    def _nearest(self, vectors: Tensor, codebook: Tensor) -> Tensor:
        return (nearest_codes if self._cosine else nearest_by_distance)(vectors, codebook)

    def _placed(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1) if self._cosine else vectors

    @torch.no_grad()
    def after_step(
        self, generator_seed: int, step: int, gather: Callable[[Tensor], Tensor] = lambda part: part
    ) -> None:
        """Initialise the codes from the latest latents, once; replace codes left unused for `restart_after` steps."""
        self.placed_anew = ()
        if not self._recent:
            return
        latents, self._recent = torch.cat(self._recent), []
        if self.config.start_after is not None and step < self.config.start_after:
            self._begin(gather(latents), generator_seed, step)
        elif self.config.restart_after is not None:
            self._restart(latents, self.config.restart_after, generator_seed, step, gather)

    def _begin(self, latents: Tensor, generator_seed: int, step: int) -> None:
        """Pool a step's latents, overwriting the oldest; at the last step of waiting, place the codes."""
        places = torch.arange(step * len(latents), (step + 1) * len(latents), device=latents.device) % len(self.pool)
        self.pool[places[-len(self.pool) :]] = latents[-len(self.pool) :]
        if (
            step + 1 != self.config.start_after or self.begun
        ):  # a run that starts from trained weights keeps their codes
            return
        kept = self.pool[self.pool.square().sum(-1) > 0]
        if not len(kept):  # none is finite; the run ends when its losses are read
            return
        generator = torch_generator(generator_seed, "start", step)
        self.codebook.copy_(kmeans(kept, self.codebook_size, self._nearest, self._placed, generator))
        self.placed_anew = ("codebook",)
        self.begun.fill_(True)
        self.pool.zero_()

    def _restart(
        self, latents: Tensor, unused: int, generator_seed: int, step: int, gather: Callable[[Tensor], Tensor]
    ) -> None:
        """Move codes that no latent chose for `unused` steps onto random latents of this step."""
        used = gather(self.used[None]).any(dim=0)
        self.steps_unused = torch.where(used, 0, self.steps_unused + 1)
        self.used.zero_()
        dead = self.steps_unused >= unused
        recent = gather(latents)
        generator = torch_generator(generator_seed, "restart", step)
        # A place is drawn for every code, used by the dead ones in order: to count them, the host would have to wait.
        drawn = send(torch.randint(len(recent), (self.codebook_size,), generator=generator), recent.device)
        places = drawn[(dead.cumsum(0) - 1).clamp(min=0)]
        self.codebook.copy_(torch.where(dead[:, None], recent[places], self.codebook))
        self.steps_unused.masked_fill_(dead, 0)
