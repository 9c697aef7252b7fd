"""What a run's name covers beside its config: the contents of the files that the config names, not their paths."""

from dataclasses import dataclass
from pathlib import Path

from vistok.config import fingerprint
from vistok.data.images.sources import ImageSource
from vistok.errors import UserError
from vistok.files import sha256_of
from vistok.runs.config import RunConfig, TokenizerRun

IMAGES, VGG = "all of the images' contents", "the contents of losses.perceptual.vgg_file"


@dataclass(frozen=True)
class Former:
    """A name that an earlier version gave a run: its fingerprint, and what that did not cover."""

    key: str
    lacked: str


def by_contents(config: TokenizerRun) -> TokenizerRun:
    """Return a config without the path of its perceptual network, whose contents decide instead (`content_digests`)."""
    perceptual = config.losses.perceptual
    if perceptual is None or perceptual.vgg_file is None:
        return config
    return config.replace(losses=config.losses.replace(perceptual=perceptual.replace(vgg_file=None)))


def content_digests(config: TokenizerRun, init_from: str | None) -> dict[str, str]:
    """Return digests of the files that a tokenizer run reads: `init_from`'s, where there is one, and `perceptual`.

    Raises UserError where the file of the perceptual network is missing.
    """
    digests = {} if init_from is None else {"init_from": init_from}
    perceptual = config.losses.perceptual
    if perceptual is None or perceptual.vgg_file is None or perceptual.network != "lpips" or perceptual.weight == 0:
        return digests
    file = Path(perceptual.vgg_file)
    if not file.is_file():
        raise UserError(
            f"losses.perceptual.vgg_file {file}: not found; name the file of VGG-16's weights, or null for torchvision's "
            "own download"
        )
    return {**digests, "perceptual": sha256_of(file)}


def former_names(config: RunConfig, source: ImageSource, init_from: str | None = None) -> list[Former]:
    """Return the names that earlier versions gave a run: of less of its images, or of its perceptual network's path."""
    begun = {} if init_from is None else {"init_from": init_from}
    named_by_path = isinstance(config, TokenizerRun) and by_contents(config) != config
    # By the path, also where the images' digest is as it was.
    found = [Former(fingerprint(config, data=source.digest, **begun), VGG)] if named_by_path else []
    lacked = f"{IMAGES} and {VGG}" if named_by_path else IMAGES
    return [*found, *(Former(fingerprint(config, data=old, **begun), lacked) for old in source.former_digests)]


def init_digest(config: TokenizerRun) -> str | None:
    """Return the digest of the weights that a tokenizer run begins with, or None for fresh ones."""
    from vistok.runs.initial import initial_weights

    initial = initial_weights(config)
    return initial[1] if initial else None
