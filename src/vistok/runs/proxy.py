"""The proxy of a run in two stages: a trained grid tokenizer whose tokens a line's decoder learns to predict (TiTok)."""

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vistok.config import make
from vistok.errors import UserError
from vistok.runs.config import TokenizerRun
from vistok.runs.initial import place_of, read_initial
from vistok.runs.sources import without_training
from vistok.tokenizer.bottlenecks.vq import OF_TRAINING
from vistok.tokenizer.config import GRIDS, ProxyLineTokenizerConfig, TokenizerConfig
from vistok.tokenizer.interface import Tokenizer
from vistok.tokenizer.networks.proxy_line import ProxyLineTokenizer

OPTION = "--proxy"


@dataclass(frozen=True)
class Proxy:
    """A proxy's weights, their digest, and its network's config."""

    path: str
    state: dict[str, Tensor]
    digest: str
    config: TokenizerConfig


def read_proxy(path: str) -> Proxy:
    """Return the proxy in a run directory, exported file, checkpoint or shipped name. Raises UserError for other networks."""
    state, header = read_initial(path, "tokenizer", OPTION)
    stored = header["config"]
    kind = stored.get("kind", "conv")
    if kind not in GRIDS:
        raise UserError(
            f"{OPTION} {path}: its network is a {kind}, but a proxy's tokens lie on a grid ({', '.join(GRIDS)}); give such a "
            "tokenizer, as vistok train tokenizer fashion_vq makes"
        )
    config: Any = GRIDS[kind].config.from_json(json.dumps(stored))
    if config.space.kind != "tokens":
        raise UserError(
            f"{OPTION} {path}: makes {config.space}, which cannot be predicted; give a tokenizer to integers"
        )
    return Proxy(path, state, str(header["digest"]), config)


def with_proxy_of(config: TokenizerRun, path: str) -> TokenizerRun:
    """Return the run set to learn the tokens of the tokenizer at `path`, whose decoder its network gets.

    Images keep the recipe's size, which must be the proxy's. Raises UserError for a run that learns no tokens.
    """
    if config.losses.target != "tokens":
        raise UserError(
            f"{OPTION}: this recipe learns pixels (losses.target); take one that learns a grid's tokens, such as fashion_proxy_line"
            + (". The second stage begins with --init-from alone" if config.trains == "decoder" else "")
        )
    network = config.tokenizer.replace(proxy=without_training(read_proxy(path).config))
    return config.replace(tokenizer=network, proxy=place_of(path, "tokenizer"))


def proxy_of(config: TokenizerRun) -> Proxy:
    """Return the proxy that a run learns from. Raises UserError if there is none, or one that its network was not made for."""
    if not config.proxy:
        raise UserError(
            "losses.target 'tokens' learns a trained grid tokenizer's tokens: add --proxy, with a run, a file or a shipped name"
        )
    proxy, network = read_proxy(config.proxy), config.tokenizer
    assert isinstance(network, ProxyLineTokenizerConfig)
    if network.proxy != without_training(proxy.config):
        raise UserError(
            f"{OPTION} {config.proxy}: its network differs from tokenizer.proxy, which --proxy sets; leave that as it is in the file"
        )
    return proxy


def build_proxy(config: TokenizerRun, proxy: Proxy | None, device: torch.device) -> Tokenizer:
    """Return the proxy's whole network; where `proxy` is None without its weights, for plans."""
    network = config.tokenizer
    assert isinstance(network, ProxyLineTokenizerConfig)
    with device:
        built: Any = make(GRIDS, network.proxy if proxy is None else proxy.config)
    if proxy is not None:
        _load(built, proxy)
    return built.to(memory_format=torch.channels_last)  # type: ignore[no-any-return]


def copy_proxy(network: nn.Module, proxy: Proxy) -> None:
    """Copy a proxy's codebook and decoder into the network that learns its tokens."""
    assert isinstance(network, ProxyLineTokenizer)
    _load(network.decoder.grid, proxy)


def _load(network: nn.Module, proxy: Proxy) -> None:
    """Load what a network has of a proxy's weights; buffers of training alone may be missing."""
    own = network.state_dict()
    needed = {name for name in own if name.rpartition(".")[2] not in OF_TRAINING or name in proxy.state}
    network.load_state_dict(own | {name: proxy.state[name] for name in needed})
