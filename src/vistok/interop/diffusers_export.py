"""Write a tokenizer as diffusers' AutoencoderKL or VQModel: a folder with config.json and weights."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from vistok.errors import UserError
from vistok.interop.aside import Marks, built_aside, entries
from vistok.interop.autoencoder_names import CODEBOOK, exported_config
from vistok.interop.diffusers import CONFIG, WEIGHTS, layer_names
from vistok.runs.headers import FACTORS, MOMENTS
from vistok.runs.load import check_network, read_model
from vistok.tokenizer.bottlenecks.config import KLConfig, SimVQConfig, VQConfig
from vistok.tokenizer.bottlenecks.vq import OF_TRAINING
from vistok.tokenizer.config import ConvNetConfig, ConvTokenizerConfig

UNSCALED = (
    "; config.json has no scaling_factor, and diffusers then takes 0.18215: before you train a diffusion model on it, write in 1 / the "
    "standard deviation of its latents"
)
# Of a SimVQ: its fixed codes and their map.
MAPPED = ("quantizer.frozen", "quantizer.map")
# Names of before diffusers 0.15, which today's code does not write.
_FORMER = ("query", "key", "value", "proj_attn")
_ONLY = (
    "diffusers' {kind} has one network on both sides, no patches or shortcut, attention after all residual blocks of a level or "
    "none, and {rest}; this tokenizer differs and cannot be exported"
)


def export_diffusers(source: Path, out: Path, weights: str = "ema") -> str:
    """Write a tokenizer's folder for diffusers; return a line with the class that reads it.

    Exporting the same network again is fine. Raises UserError for a network that diffusers cannot express, and where `out`
    holds anything else.
    """
    state, header = read_model(source, "tokenizer", weights=weights)
    check_network((state, header), source)
    config = exported_config(header, source, "diffusers")
    factors = {name: header[name] for name in (*FACTORS, *MOMENTS) if header.get(name) is not None}
    settings = _settings(config) | factors
    layers = {ours: theirs for theirs, ours in layer_names(config).items() if theirs.rpartition(".")[2] not in _FORMER}
    kept = {name: value for name, value in _with_codebook(state).items() if not _of_training(name)}
    theirs = {_renamed(name, layers): value for name, value in kept.items()}
    data = {
        CONFIG: (json.dumps(settings, indent=2) + "\n").encode(),
        WEIGHTS[0]: save({name: _as_linear(name, value) for name, value in theirs.items()}),
    }
    _require_same_or_nothing(out, data)
    with built_aside(out, Marks(first=WEIGHTS[0], last=CONFIG)) as folder:
        for name, content in data.items():
            (folder / name).write_bytes(content)
    kind = str(settings["_class_name"])
    return f"{kind} in {out}" + (UNSCALED if kind == "AutoencoderKL" and FACTORS[0] not in factors else "")


def _settings(config: ConvTokenizerConfig) -> dict[str, Any]:
    """Return the config.json. Raises UserError for what it cannot express."""
    quantizer = config.quantizer
    if isinstance(quantizer, KLConfig):
        kind, z = "AutoencoderKL", quantizer.dim
        fits = config.latent_channels == 2 * z and (config.decoder_channels or config.latent_channels) == z
        rest = "latent_channels twice and decoder_channels once the numbers of a vector"
        own: dict[str, Any] = {"latent_channels": z, "use_quant_conv": True, "use_post_quant_conv": True}
    elif isinstance(quantizer, VQConfig | SimVQConfig):
        kind, rest = "VQModel", "a Euclidean look-up"
        fits = isinstance(quantizer, SimVQConfig) or quantizer.lookup == "euclidean"
        fits = fits and config.decoder_channels in (None, config.latent_channels)
        own = {"latent_channels": config.latent_channels, "num_vq_embeddings": quantizer.codebook_size,
               "vq_embed_dim": quantizer.code_dim}  # fmt: skip
    else:
        raise UserError(f"diffusers has autoencoders with a codebook or vectors, but this one is {quantizer.kind}")
    side = config.encoder
    square = config.image_width in (None, config.image_size)
    if (
        not fits
        or not square
        or side != config.decoder
        or side.patch > 1
        or config.shortcut
        or not _levels(config, side)
    ):
        raise UserError(_ONLY.format(kind=kind, rest=rest))
    levels = [_attends(config, side, place) for place in range(len(side.multipliers))]
    return {
        "_class_name": kind, "act_fn": "silu", "in_channels": config.in_channels, "out_channels": config.in_channels,
        "block_out_channels": [side.channels * multiplier for multiplier in side.multipliers],
        "down_block_types": ["AttnDownEncoderBlock2D" if has else "DownEncoderBlock2D" for has in levels],
        "up_block_types": ["AttnUpDecoderBlock2D" if has else "UpDecoderBlock2D" for has in reversed(levels)],
        "layers_per_block": side.num_res_blocks, "norm_num_groups": side.norm_groups, "sample_size": config.image_size,
        "mid_block_add_attention": side.middle_attention, **own,
    }  # fmt: skip


def _levels(config: ConvTokenizerConfig, side: ConvNetConfig) -> bool:
    """Whether each of the resolutions with attention is that of a level."""
    own = {config.padded_sides[0] >> place for place in range(len(side.multipliers))}
    return set(side.attention_resolutions) <= own


def _attends(config: ConvTokenizerConfig, side: ConvNetConfig, place: int) -> bool:
    return (config.padded_sides[0] >> place) in side.attention_resolutions


def _with_codebook(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with a mapped codebook written out as codes."""
    if MAPPED[0] not in state:
        return state
    codes, mapping = (state[name] for name in MAPPED)
    return {name: value for name, value in state.items() if name not in MAPPED} | {CODEBOOK: codes @ mapping.T}


def _of_training(name: str) -> bool:
    return name.removeprefix("quantizer.") in OF_TRAINING


def _renamed(name: str, layers: dict[str, str]) -> str:
    if name == CODEBOOK:
        return "quantize.embedding.weight"
    layer, _, kind = name.rpartition(".")
    return f"{layers[layer]}.{kind}"


def _as_linear(name: str, value: Tensor) -> Tensor:
    """Return attention's projections as linear layers, which they are there."""
    return (value[:, :, 0, 0] if ".to_" in name and value.ndim == 4 else value).contiguous()


def _require_same_or_nothing(out: Path, data: dict[str, bytes]) -> None:
    found = {path.name: path for path in entries(out)}
    if any(name not in data or not path.is_file() or path.read_bytes() != data[name] for name, path in found.items()):
        raise UserError(f"{out} already holds something else; give a new or empty folder with --out")
