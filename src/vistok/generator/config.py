"""Config fields that all generator families share."""

from typing import Any

from pydantic import Field

from vistok.config import Config
from vistok.space import Layout


class GeneratorConfig(Config):
    """A generator's network. Its space and classes come from the latent cache."""

    kind: str

    def usual_sampling(self) -> dict[str, Any]:
        """Return the values of its sampling config that suit this network better than the family's defaults."""
        return {}

    @property
    def aligned(self) -> Any:
        """How training pulls an inner layer towards a frozen network's features (`features`, `features_file`), or None."""
        return None

    def by_contents(self) -> "GeneratorConfig":
        """Return this config without paths of files, whose contents count for a run's name."""
        return self

    def positions(self, layout: Layout) -> Layout:
        """Return the layout of the network's positions, given that of latents."""
        return layout


class SamplingConfig(Config):
    """How latents are drawn: classifier-free guidance (1: none), and the seed of the noise."""

    kind: str
    # Far above what anybody uses: beyond it differences of logits leave the range of floats, and tokens are drawn from nothing.
    guidance_scale: float = Field(default=1.0, ge=0, le=1e6, allow_inf_nan=False)
    seed: int = 0

    @property
    def always_alike(self) -> bool:
        """Whether sampling uses no noise, so that all samples of a class are the same picture."""
        return False
