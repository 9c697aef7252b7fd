"""Config fields that all generator families share."""

from pydantic import Field

from vistok.config import Config


class GeneratorConfig(Config):
    """A generator's network. Its space and classes come from the latent cache."""

    kind: str


class SamplingConfig(Config):
    """How latents are drawn: classifier-free guidance (1: none), and the seed of the noise."""

    kind: str
    guidance_scale: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    seed: int = 0

    @property
    def always_alike(self) -> bool:
        """Whether sampling uses no noise, so that all samples of a class are the same picture."""
        return False
