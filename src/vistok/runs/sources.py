"""Networks inside a tokenizer that training leaves as they are: their weights, and the digests that a run's name covers."""

from pathlib import Path

from torch import Tensor, nn

from vistok.errors import UserError
from vistok.files import sha256_of
from vistok.nn.dinov2 import planned_weights
from vistok.nn.efficientnet_lite import SHA256, load_efficientnet_lite0
from vistok.nn.frozen_config import SHIPPED
from vistok.runs.frozen_networks import shipped_classifier, shipped_digest
from vistok.tokenizer.config import TokenizerConfig
from vistok.tokenizer.network_config import Source
from vistok.tokenizer.networks.frozen_config import FrozenTokenizerConfig


def load_sources(tokenizer: nn.Module, config: TokenizerConfig) -> None:
    """Put the weights of all networks from elsewhere into a new tokenizer. Raises UserError where they are missing."""
    for place, source in config.sources.items():
        getattr(tokenizer, place).load_state_dict(_weights(config, source))


def source_digests(config: TokenizerConfig) -> dict[str, str]:
    """Return the digests of these networks' weights, by their places. Raises UserError where they are missing."""
    return {place: _digest(source) for place, source in config.sources.items()}


def _weights(config: TokenizerConfig, source: Source) -> dict[str, Tensor]:
    assert isinstance(config, FrozenTokenizerConfig)
    if source.network == "dinov2":
        state = planned_weights(source.file, config.dinov2)
    elif source.network == "imagenet":
        state = load_efficientnet_lite0().state_dict()
    else:
        state = shipped_classifier(SHIPPED[source.network])[0].state_dict()
    return {f"network.{name}": value for name, value in state.items()}


def _digest(source: Source) -> str:
    if source.network in SHIPPED:
        return shipped_digest(SHIPPED[source.network])
    if source.network == "imagenet":
        return SHA256
    if source.file is None:
        raise UserError(f"{source.field}: give a file of DINOv2's weights, as in --set {source.field}=dinov2_vitb14_reg4_pretrain.pth")
    path = Path(source.file)
    if not path.is_file():
        raise UserError(f"{source.field} {path}: not found; give a file of DINOv2's weights")
    return sha256_of(path)
