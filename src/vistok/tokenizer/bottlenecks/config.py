"""Configs of bottlenecks, which sit between encoder and decoder, and the table of their kinds."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from vistok.config import Config, Kinds, Part, later
from vistok.space import Layout, Space, Tokens, Vectors


class BottleneckConfig(Config):
    """What every kind of bottleneck must say about its latents."""

    kind: str

    @property
    def fitted(self) -> bool:
        """Whether its codes are found before training, from the encoder's outputs, and stay."""
        return False

    def space(self, layout: Layout) -> Space:
        """Return the space of latents with this layout."""
        raise NotImplementedError


class QuantizerConfig(BottleneckConfig):
    """A bottleneck whose latents are integers. `table`: the name of its codes among its weights, if it keeps one for each."""

    table: ClassVar[str | None] = None

    @property
    def codes(self) -> int:
        """Number of codes."""
        raise NotImplementedError

    def space(self, layout: Layout) -> Tokens:
        """Return the space of tokens with this layout."""
        return Tokens(layout=layout, codebook_size=self.codes)


class VQConfig(QuantizerConfig):
    """A learned codebook. `cosine`: compare latents and codes on the unit sphere (CRT paper A.1; ViT-VQGAN; LlamaGen).

    `euclidean`: compare them unnormalised (VQGAN), for imported checkpoints; the cosine look-up uses more codes.
    """

    table: ClassVar[str | None] = "codebook"
    kind: Literal["vq"] = "vq"
    codebook_size: int = Field(default=16_384, ge=2)
    code_dim: int = Field(default=8, ge=1)
    commitment_weight: float = Field(default=0.25, ge=0)
    # Replace a code that no latent has chosen for this many steps with a latent from the batch (None: never).
    restart_after: int | None = Field(default=None, ge=1)
    lookup: Literal["cosine", "euclidean"] = later("cosine")
    # Train without quantization for this many steps, then start the codes at k-means centres of the latest latents
    # (None: start with random codes).
    start_after: Annotated[int, Field(ge=1)] | None = later(None)

    @property
    def codes(self) -> int:
        """Number of codes."""
        return self.codebook_size


class FSQConfig(QuantizerConfig):
    """Finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505), which has no learned codebook."""

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = (8, 8, 8, 5, 5)

    @model_validator(mode="after")
    def _levels(self) -> "FSQConfig":
        if not self.levels or min(self.levels) < 2:
            raise ValueError(f"levels must be integers >= 2, found {self.levels}")
        return self

    @property
    def codes(self) -> int:
        """Product of the levels."""
        return math.prod(self.levels)

    @property
    def codebook_size(self) -> int:
        """Product of the levels."""
        return self.codes

    @property
    def code_dim(self) -> int:
        """One dimension per level."""
        return len(self.levels)


class SimVQConfig(QuantizerConfig):
    """A frozen random codebook seen through a learned linear map (SimVQ, arXiv 2411.02038): no code is left behind.

    Latents and codes are compared by distance.
    """

    table: ClassVar[str | None] = "frozen"
    kind: Literal["simvq"] = "simvq"
    codebook_size: int = Field(default=16_384, ge=2)
    code_dim: int = Field(default=8, ge=1)
    commitment_weight: float = Field(default=0.25, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _no_restarts(cls, found: Any) -> Any:
        for name in ("restart_after", "start_after"):
            if isinstance(found, dict) and name in found:
                raise ValueError(f"{name} moves single codes, which vq has; simvq's all move together, so leave it out")
        return found

    @property
    def codes(self) -> int:
        """Number of codes."""
        return self.codebook_size


class KMeansConfig(QuantizerConfig):
    """Centres of clusters of a frozen network's features (DiGIT, arXiv 2410.12490): fitted before training, never trained.

    The default size is DiGIT-B's, with features of DINOv2-B.
    """

    table: ClassVar[str | None] = "centres"
    kind: Literal["kmeans"] = "kmeans"
    codebook_size: int = Field(default=8192, ge=2)
    # Numbers of a feature.
    code_dim: int = Field(default=768, ge=1)
    # Centres are fitted to the features of this share of the training images, chosen at random.
    image_fraction: float = Field(default=0.1, gt=0, le=1)
    iterations: int = Field(default=20, ge=1, le=1000)

    @property
    def fitted(self) -> bool:
        """Before training."""
        return True

    @property
    def codes(self) -> int:
        """Number of clusters."""
        return self.codebook_size


class KLConfig(BottleneckConfig):
    """A normal distribution for each latent, kept near the standard one by a small weight (Rombach et al. 2021, 2112.10752).

    The term is the mean of the divergence over a latent's numbers, in nats. Where reconstruction losses are means over
    pixels, latent-diffusion's weight of 1e-6 on sums becomes 1e-6 times the numbers of latents over those of pixels.
    """

    kind: Literal["kl"] = "kl"
    dim: int = Field(default=16, ge=1, le=4096)
    weight: float = Field(default=1e-6, ge=0)

    def space(self, layout: Layout) -> Vectors:
        """Return the space of vectors with this layout."""
        return Vectors(layout=layout, dim=self.dim)


BOTTLENECKS = {
    "vq": Part(VQConfig, "vistok.tokenizer.bottlenecks.vq:VQ"),
    "fsq": Part(FSQConfig, "vistok.tokenizer.bottlenecks.fsq:FSQ"),
    "simvq": Part(SimVQConfig, "vistok.tokenizer.bottlenecks.simvq:SimVQ"),
    "kmeans": Part(KMeansConfig, "vistok.tokenizer.bottlenecks.kmeans:KMeans"),
    "kl": Part(KLConfig, "vistok.tokenizer.bottlenecks.kl:KL"),
}
AnyBottleneck = Annotated[BottleneckConfig, Kinds(BottleneckConfig, BOTTLENECKS, "vq")]
