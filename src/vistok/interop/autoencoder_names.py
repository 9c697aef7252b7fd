"""Weight names of the taming / LlamaGen autoencoder <-> ours: the same network under different names."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.errors import UserError, damage_is_a_mistake
from vistok.interop.foreign_file import as_float
from vistok.tokenizer.config import ConvNetConfig, ConvTokenizerConfig
from vistok.tokenizer.networks.conv import ConvTokenizer

CODEBOOK = "quantizer.codebook"
_RES = {"nin_shortcut": "skip", "conv_shortcut": "skip"}
_ATTENTION = {"q": "query", "k": "key", "v": "value", "proj_out": "out"}


def exported_config(header: dict[str, Any], source: Path, whose: str) -> ConvTokenizerConfig:
    """Return the config of a tokenizer that is to be exported. Raises UserError for another network than these autoencoders."""
    kind = header["config"].get("kind", "conv")
    if kind != "conv":
        raise UserError(
            f"tokenizer {source} has a network of kind {kind!r}, but {whose} has convolutional autoencoders only; export one of kind "
            "'conv', or vistok export hub, which takes every kind"
        )
    return ConvTokenizerConfig.from_json(json.dumps(header["config"]))


def layer_names(config: ConvTokenizerConfig, family: str) -> dict[str, str]:
    """Map their layer names to ours for `family` "llamagen" or "taming" (names without .weight and .bias)."""
    pairs = {
        "quant_conv": "pre_quantizer",
        "post_quant_conv": "post_quantizer",
        "quantize.embedding": CODEBOOK,
    }
    for side, network in (("encoder", config.encoder), ("decoder", config.decoder)):
        pairs |= {f"{side}.{layer}": f"{side}.{layer}" for layer in ("conv_in", "norm_out", "conv_out")}
        middle = ("block_1", "attn_1", "block_2") if network.middle_attention else ("block_1", "block_2")
        for number, name in enumerate(middle):
            theirs = f"{side}.mid.{number}" if family == "llamagen" else f"{side}.mid.{name}"
            pairs |= _inside(theirs, f"{side}.middle.{number}", attention=name == "attn_1")
        pairs |= _levels(config, network, side, family)
    return pairs


def _levels(config: ConvTokenizerConfig, network: ConvNetConfig, side: str, family: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    count = len(network.multipliers)
    resolution = config.padded_sides[0] if side == "encoder" else config.padded_sides[0] // network.downsample
    for place in range(count):
        # taming numbers a decoder's levels from the image inwards; the others number them in order of use.
        number = count - 1 - place if side == "decoder" and family == "taming" else place
        theirs = {
            ("llamagen", "encoder"): f"encoder.conv_blocks.{number}",
            ("llamagen", "decoder"): f"decoder.conv_blocks.{number}",
            ("taming", "encoder"): f"encoder.down.{number}",
            ("taming", "decoder"): f"decoder.up.{number}",
        }[family, side]
        block = "res" if family == "llamagen" else "block"
        position = 0
        for i in range(network.num_res_blocks + (side == "decoder")):
            pairs |= _inside(f"{theirs}.{block}.{i}", f"{side}.levels.{place}.{position}", attention=False)
            position += 1
            if resolution in network.attention_resolutions:
                pairs |= _inside(f"{theirs}.attn.{i}", f"{side}.levels.{place}.{position}", attention=True)
                position += 1
        if place < count - 1:
            step = "downsample" if side == "encoder" else "upsample"
            pairs[f"{theirs}.{step}.conv"] = f"{side}.levels.{place}.{position}.conv"
            resolution = resolution // 2 if side == "encoder" else resolution * 2
    return pairs


def _inside(theirs: str, ours: str, attention: bool) -> dict[str, str]:
    if attention:
        return {f"{theirs}.norm": f"{ours}.norm"} | {f"{theirs}.{a}": f"{ours}.{b}" for a, b in _ATTENTION.items()}
    same = {f"{theirs}.{layer}": f"{ours}.{layer}" for layer in ("norm1", "conv1", "norm2", "conv2")}
    return same | {f"{theirs}.{a}": f"{ours}.{b}" for a, b in _RES.items()}


def to_ours(state: dict[str, Tensor], config: ConvTokenizerConfig, family: str) -> dict[str, Tensor]:
    """Return weights under our names, in float32. Raises UserError for a name that this network does not have."""
    what = f"a {family} autoencoder with multipliers {list(config.encoder.multipliers)}"
    return renamed(state, layer_names(config, family), what)


def renamed(state: dict[str, Tensor], layers: dict[str, str], what: str) -> dict[str, Tensor]:
    """Return weights and biases under our names, in float32; `layers` maps their layer names to ours.

    Raises UserError for a weight that `what` does not have, or where two weights map to the same name: no weight is dropped
    or overwritten.
    """
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        place = layers.get(layer)
        ours = place if place == CODEBOOK and kind == "weight" else f"{place}.{kind}"
        if place is None or kind not in ("weight", "bias") or ours == f"{CODEBOOK}.{kind}" or ours in weights:
            raise UserError(f"weight {name!r} is not part of {what}: this checkpoint has a different architecture")
        weights[ours] = as_float(name, value)
    return weights


def network_of(what: str, quantizer: dict[str, Any], **values: Any) -> ConvTokenizerConfig:
    """Return a validated config of a network with a codebook, from imported values; raises UserError beginning with `what`."""
    try:
        return ConvTokenizerConfig.from_json(json.dumps({"quantizer": {"kind": "vq", **quantizer}, **values}))
    except UserError as error:
        raise UserError(f"{what}: describes a network that cannot be built here. {error}") from None


def codes_of(z_channels: int, codebook_size: int, code_dim: int) -> dict[str, Any]:
    """Return the fields of `network_of` for an autoencoder with a codebook, looked up as VQGAN does."""
    quantizer = {"codebook_size": codebook_size, "code_dim": code_dim, "lookup": "euclidean"}
    return {"latent_channels": z_channels, "quantizer": quantizer}


def vectors_of(z_channels: int, dim: int) -> dict[str, Any]:
    """Return the fields of `network_of` for an autoencoder whose encoder gives means and log variances side by side."""
    return {
        "latent_channels": 2 * z_channels, "decoder_channels": z_channels, "quantizer": {"kind": "kl", "dim": dim},
    }  # fmt: skip


def shapes_of(what: str, config: ConvTokenizerConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all weights of a network; raises UserError where imported sizes are absurd."""
    with damage_is_a_mistake(what, "its network is too large to be built"), torch.device("meta"):
        return {name: tuple(value.shape) for name, value in ConvTokenizer(config).state_dict().items()}


def to_theirs(state: dict[str, Tensor], config: ConvTokenizerConfig, family: str) -> dict[str, Tensor]:
    """Return our weights under their names: the exact inverse of `to_ours`."""
    layers = {ours: theirs for theirs, ours in layer_names(config, family).items() if "conv_shortcut" not in theirs}
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        if name == CODEBOOK:
            weights["quantize.embedding.weight"] = value
        else:
            weights[f"{layers[layer]}.{kind}"] = value
    return weights


def multipliers_of(state: dict[str, Tensor], pattern: str, block: str) -> tuple[int, tuple[int, ...]]:
    """Return (channels, multipliers) of an encoder from its weights' shapes; `pattern` matches a level's number."""
    levels = sorted({int(match[1]) for name in state if (match := re.match(pattern, name))})
    if not levels or levels != list(range(len(levels))) or "encoder.conv_in.weight" not in state:
        raise UserError("the checkpoint has no encoder of the taming / LlamaGen family (no encoder.conv_in and levels)")
    channels = len(state["encoder.conv_in.weight"])
    widths = [len(state[f"encoder.{block.format(level)}.conv1.weight"]) for level in levels]
    return channels, tuple(width // channels for width in widths)
