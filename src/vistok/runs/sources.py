"""Networks inside a tokenizer that training leaves as they are: their weights, and the digests that a run's name covers."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vistok.errors import UserError
from vistok.files import sha256_of
from vistok.nn.dinov2 import planned_weights
from vistok.nn.efficientnet_lite import SHA256, load_efficientnet_lite0
from vistok.nn.frozen_config import SHIPPED
from vistok.runs.config import TokenizerRun
from vistok.runs.frozen_networks import shipped_classifier, shipped_digest
from vistok.runs.initial import read_initial
from vistok.tokenizer.config import NETWORKS, TokenizerConfig
from vistok.tokenizer.network_config import GRIDS, Source
from vistok.tokenizer.networks.frozen_config import AnyFrozenConfig
from vistok.tokenizer.networks.rendered_config import RenderedTokenizerConfig

OPTION = "--codes"
# What only a codebook's own training needs.
_TRAINING_ALONE = ("restart_after", "start_after")
Stored = tuple[dict[str, Tensor], dict[str, Any]]


def load_sources(tokenizer: nn.Module, config: TokenizerConfig) -> None:
    """Put the weights of all networks from elsewhere into a new tokenizer. Raises UserError where they are missing."""
    for place, source in config.sources.items():
        if source.network != "tokenizer":
            tokenizer.get_submodule(place).load_state_dict(_features(config, source))
            continue
        state, _ = _tokenizer(source)
        for part in source.parts or ("",):
            target = tokenizer.get_submodule(part or place)
            prefix = f"{part}." if part else ""
            target.load_state_dict({name: state[prefix + name] for name in target.state_dict()})


def source_digests(config: TokenizerConfig) -> dict[str, str]:
    """Return the digests of these networks' weights, by their places. Raises UserError where they are missing."""
    return {place: _digest(source) for place, source in config.sources.items()}


def source_facts(config: TokenizerConfig) -> dict[str, Any]:
    """Return what a file's header says of the tokenizers inside.

    `decodes`: digests of tokenizers whose latents these are, so that generators of those fit. `inside`: the configs of their runs.
    """
    headers = {
        place: _tokenizer(source)[1] for place, source in config.sources.items() if source.network == "tokenizer"
    }
    if not headers:
        return {}
    clusters = headers.get("clusters")
    same = [clusters["digest"], *clusters.get("decodes", ())] if clusters else []
    return {"decodes": same, "inside": {place: header["run_config"] for place, header in headers.items()}}


def check_sources(config: TokenizerConfig) -> None:
    """Raise UserError where a network inside is not the one that the config describes."""
    if not isinstance(config, RenderedTokenizerConfig):
        return
    for place, source in config.sources.items():
        if source.network == "tokenizer":
            found = _config_of(source)
            if place == "codes" and without_training(found) != without_training(config.codes):
                raise UserError(
                    f"{source.field} {source.file}: its network differs from tokenizer.codes; give it with {OPTION} {source.file}, which "
                    "sets both"
                )
            if place == "clusters":
                _same_clusters(config, found, source)


def with_codes_of(config: TokenizerRun, path: str) -> TokenizerRun:
    """Return the run set to render to the tokens of the tokenizer at `path`. Raises UserError for a run without a renderer."""
    if not isinstance(config.tokenizer, RenderedTokenizerConfig):
        raise UserError(f"{OPTION}: this recipe has no renderer; take one that has, such as fashion_renderer_masked")
    source = Source("tokenizer", path, OPTION)
    return config.replace(tokenizer=config.tokenizer.replace(codes=_config_of(source), codes_from=path))


def _config_of(source: Source) -> TokenizerConfig:
    """Return the config of the tokenizer in a file, whose codes are neither moved nor waited for."""
    stored = _tokenizer(source)[1]["config"]
    kind = stored.get("kind", "conv")
    allowed = GRIDS if not source.parts else NETWORKS
    if kind not in allowed:
        raise UserError(
            f"{source.field} {source.file}: its network is a {kind}, but tokens are drawn on a grid ({', '.join(GRIDS)}); give such a "
            "tokenizer, as vistok train tokenizer fashion_vq makes"
        )
    return allowed[kind].config.from_json(json.dumps(stored))  # type: ignore[return-value]


def without_training(config: TokenizerConfig) -> TokenizerConfig:
    """Return the config of a tokenizer that is a part of another: its codes are neither moved nor waited for."""
    quantizer = config.quantizer
    given = {name: None for name in _TRAINING_ALONE if name in type(quantizer).model_fields}
    return config.replace(quantizer=quantizer.replace(**given))


def _same_clusters(config: RenderedTokenizerConfig, found: TokenizerConfig, source: Source) -> None:
    """Raise UserError for clusters of other features or another number of them."""
    if not isinstance(found, AnyFrozenConfig):
        raise UserError(
            f"{source.field} {source.file}: its tokens are no clusters of features (it is a {found.kind} tokenizer)"
        )
    for name in ("features", "dinov2", "quantizer", "layout"):
        own, its = getattr(config, name), getattr(found, name)
        if own != its:
            raise UserError(
                f"{source.field} {source.file}: its {name} is {its}, but the renderer's config says {own}; set tokenizer.{name} as it is "
                "there"
            )


def _tokenizer(source: Source) -> Stored:
    if source.file is None:
        raise UserError(
            f"{source.field}: a renderer draws the tokens of a trained tokenizer: add {OPTION}, with a run, a file or a shipped name"
        )
    return read_initial(source.file, "tokenizer", source.field)


def _features(config: TokenizerConfig, source: Source) -> dict[str, Tensor]:
    assert isinstance(config, AnyFrozenConfig)
    if source.network == "dinov2":
        state = planned_weights(source.file, config.dinov2)
    elif source.network == "imagenet":
        state = load_efficientnet_lite0().state_dict()
    else:
        state = shipped_classifier(SHIPPED[source.network])[0].state_dict()
    return {f"network.{name}": value for name, value in state.items()}


def _digest(source: Source) -> str:
    if source.network == "tokenizer":
        return str(_tokenizer(source)[1]["digest"])
    if source.network in SHIPPED:
        return shipped_digest(SHIPPED[source.network])
    if source.network == "imagenet":
        return SHA256
    if source.file is None:
        raise UserError(
            f"{source.field}: give a file of DINOv2's weights, as in --set {source.field}=dinov2_vitb14_reg4_pretrain.pth"
        )
    path = Path(source.file)
    if not path.is_file():
        raise UserError(f"{source.field} {path}: not found; give a file of DINOv2's weights")
    return sha256_of(path)
