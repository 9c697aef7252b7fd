"""What a run's name covers besides its config: the contents of the files that the config names, not their paths."""

from dataclasses import dataclass
from pathlib import Path

from vistok.config import fingerprint
from vistok.data.images.sources import ImageSource
from vistok.errors import UserError
from vistok.files import sha256_of
from vistok.runs.config import GeneratorRun, RunConfig, TokenizerRun
from vistok.tokenizer.regularizers.config import AlignmentConfig

IMAGES, VGG = "all of the images' contents", "the contents of losses.perceptual.vgg_file"
DINOV2 = "give a file of DINOv2's weights"


@dataclass(frozen=True)
class Former:
    """A name that an earlier version gave a run: its fingerprint, and what that fingerprint did not cover."""

    key: str
    lacked: str


def by_contents(config: TokenizerRun) -> TokenizerRun:
    """Return a config without the paths of its frozen networks, whose contents count instead (`content_digests`)."""
    parts = tuple(
        part.replace(features_file=None) if isinstance(part, AlignmentConfig) else part for part in config.regularizers
    )
    config = _without_vgg(config)
    if config.losses.logits is not None:
        config = config.replace(losses=config.losses.replace(logits=config.losses.logits.replace(file=None)))
    return config.replace(regularizers=parts)


def _without_vgg(config: TokenizerRun) -> TokenizerRun:
    perceptual = config.losses.perceptual
    if perceptual is None or perceptual.vgg_file is None:
        return config
    return config.replace(losses=config.losses.replace(perceptual=perceptual.replace(vgg_file=None)))


def content_digests(config: TokenizerRun, init_from: str | None) -> dict[str, str]:
    """Return digests of what a tokenizer run reads, if it uses it: `init_from`, `proxy`, frozen networks, and networks inside.

    Raises UserError if a frozen network's file is missing.
    """
    digests = _digests_inside(config) if init_from is None else {"init_from": init_from}
    if config.losses.target == "tokens":
        from vistok.runs.proxy import proxy_of

        digests["proxy"] = proxy_of(config).digest
    alignment = config.regularizer("alignment")
    if alignment is not None and alignment.features_file is not None:
        digests["features"] = _digest("alignment.features_file", alignment.features_file, DINOV2)
    perceptual, logits = config.losses.perceptual, config.losses.logits
    if perceptual is not None and perceptual.vgg_file and perceptual.network == "lpips" and perceptual.weight:
        advice = "give a file of VGG-16 weights, or null to let torchvision download them"
        digests["perceptual"] = _digest("losses.perceptual.vgg_file", perceptual.vgg_file, advice)
    if logits is not None and logits.file and logits.weight:
        advice = "give a file of ConvNeXt-S weights, or null to let torchvision download them"
        digests["logits"] = _digest("losses.logits.file", logits.file, advice)
    return digests


def _digests_inside(config: TokenizerRun) -> dict[str, str]:
    """Return digests of the networks inside a tokenizer that come from elsewhere."""
    if not config.tokenizer.sources:
        return {}
    from vistok.runs.sources import source_digests  # loads torch

    return source_digests(config.tokenizer)


def without_features_file(config: GeneratorRun) -> GeneratorRun:
    """Return a config without the path of the network that an inner layer is aligned with, whose contents count instead."""
    return config.replace(generator=config.generator.by_contents())


def features_digest(config: GeneratorRun) -> dict[str, str]:
    """Return the digest of the file of frozen features that a generator run reads. Raises UserError if it is missing."""
    aligned = config.generator.aligned
    if aligned is None or aligned.features_file is None:
        return {}
    return {"features": _digest("generator.representation.features_file", aligned.features_file, DINOV2)}


def _digest(name: str, file: str, advice: str) -> str:
    if not Path(file).is_file():
        raise UserError(f"{name} {file}: not found; {advice}")
    return sha256_of(Path(file))


def former_names(config: RunConfig, source: ImageSource, init_from: str | None = None) -> list[Former]:
    """Return a run's names in earlier versions, which covered less of its images, or its perceptual network's path."""
    begun = {} if init_from is None else {"init_from": init_from}
    named_by_path = isinstance(config, TokenizerRun) and _without_vgg(config) != config
    # A name by path is possible even if the images' digest has not changed.
    by_path = [Former(fingerprint(config, data=source.digest, **begun), VGG)] if named_by_path else []
    lacked = f"{IMAGES} and {VGG}" if named_by_path else IMAGES
    return [*by_path, *(Former(fingerprint(config, data=old, **begun), lacked) for old in source.former_digests)]


def init_digest(config: TokenizerRun) -> str | None:
    """Return the digest of the weights that a tokenizer run starts from, or None for newly initialized ones."""
    from vistok.runs.initial import initial_weights

    initial = initial_weights(config)
    return initial.digest if initial else None
