"""VQModel and AutoencoderKL of diffusers (Hugging Face, Apache 2.0): a folder with config.json and weights."""

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import read_json
from vistok.interop.autoencoder_names import CODEBOOK, codes_of, network_of, renamed, shapes_of, vectors_of
from vistok.interop.foreign_file import read_foreign, weights_of
from vistok.interop.imported import check_fits, imagenet_facts, tokenizer_run, write_run
from vistok.runs.foreign_families import require_family
from vistok.runs.headers import FACTORS, MOMENTS
from vistok.space import Space, Vectors
from vistok.tokenizer.config import ConvNetConfig, ConvTokenizerConfig

CONFIG = "config.json"
WEIGHTS = tuple(f"diffusion_pytorch_model{kind}" for kind in (".safetensors", ".bin", ".fp16.safetensors", ".fp16.bin"))
# Sub-folders in which pipelines keep their tokenizer.
_PARTS = ("vqvae", "movq", "vae")
# Type of block -> whether attention follows each of its residual blocks.
_DOWN = {"DownEncoderBlock2D": False, "AttnDownEncoderBlock2D": True}
_UP = {"UpDecoderBlock2D": False, "AttnUpDecoderBlock2D": True}
_DEFAULTS: dict[str, Any] = {
    "in_channels": 3, "out_channels": 3, "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"], "block_out_channels": [64], "layers_per_block": 1, "act_fn": "silu",
    "latent_channels": 3, "sample_size": 32, "num_vq_embeddings": 256, "norm_num_groups": 32, "vq_embed_dim": None,
    "norm_type": "group", "mid_block_add_attention": True, "use_quant_conv": True, "use_post_quant_conv": True,
}  # fmt: skip
# Settings for diffusion, memory, or how tokens are passed on; none changes tokens or images.
_HARMLESS = {"scaling_factor", "lookup_from_codebook", "force_upcast"}
# How vectors are normalised for diffusion models: kept. A generator trained here measures that itself.
_HARMLESS_KL = {*FACTORS, *MOMENTS}
# Their names -> ours: those of today, then those from before diffusers 0.15.
_ATTENTION = {
    "group_norm": "norm", "to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "out",
    "query": "query", "key": "key", "value": "value", "proj_attn": "out",
}  # fmt: skip


def import_diffusers(folder: Path, out: Path, image_size: int | None = None) -> str:
    """Write a run directory from a tokenizer: its folder, the folder of its pipeline, or its weights next to a config.json.

    If `image_size` is None, the config's `sample_size` is used. Returns a line that describes the network. Raises UserError
    for settings that our network does not support. FACTORS and MOMENTS are kept for exports and the import of generators; generators
    trained here normalise vectors themselves.
    """
    file, settings = _find(folder)
    with damage_is_a_mistake(f"config {file.parent / CONFIG}", "give the config.json that diffusers wrote"):
        config = _network(file.parent / CONFIG, settings, image_size)
    state = weights_of(file, read_foreign(file), ("state_dict", "model"))
    require_family(file, state, "diffusers")
    kind = settings["_class_name"]
    name = f"diffusers-{config.quantizer.kind}-f{config.encoder.downsample}"
    expected = shapes_of(f"config {file.parent / CONFIG}", config)
    ours = renamed(state, layer_names(config), f"the {kind} that config.json describes")
    # Attention's projections are linear layers there and 1x1 convolutions here.
    ours = {key: _as_convolution(value) if len(expected.get(key, ())) == 4 else value for key, value in ours.items()}
    check_fits(ours, expected, f"the {kind} of {file.parent / CONFIG}")
    factors = {
        name: _factor(file.parent / CONFIG, name, settings[name]) for name in FACTORS if settings.get(name) is not None
    }
    moments = {
        name: _moments(file.parent / CONFIG, name, settings[name], config.space)
        for name in MOMENTS
        if settings.get(name) is not None
    }
    write_run(
        out,
        "tokenizer",
        tokenizer_run(name, config),
        ours,
        file,
        data_digest="",
        **imagenet_facts(),
        **factors,
        **moments,
    )
    note = "" if image_size is not None else ", as in its config (--image-size changes it)"
    return f"{name}: tokenizer, {config.space} at {config.image_size} pixels{note}"


def _factor(place: Path, name: str, found: Any) -> float:
    """Return a factor of the latents. Raises UserError for anything that latents cannot be scaled or shifted by."""
    if not _is_number(found) or (name == "scaling_factor" and found <= 0):
        raise UserError(
            f"config {place}: {name} is {found!r:.40}; it must be a finite number{' above 0' if name == 'scaling_factor' else ''}, as "
            "in SD-VAE's 0.18215"
        )
    return float(found)


def _is_number(found: Any) -> bool:
    """Whether this is a finite number that a float can hold."""
    try:
        return not isinstance(found, bool) and isinstance(found, int | float) and math.isfinite(float(found))
    except OverflowError:
        return False


def _moments(place: Path, name: str, found: Any, space: Space) -> list[float]:
    """Return a number for each channel. Raises UserError for anything that latents cannot be normalised by."""
    count = space.dim if isinstance(space, Vectors) else 0
    listed = found if isinstance(found, list) else []
    numbers = [float(one) for one in listed if _is_number(one)]
    if len(numbers) != count or len(listed) != count or (name == "latents_std" and min(numbers, default=1.0) <= 0):
        raise UserError(
            f"config {place}: {name} is {found!r:.60}; it must be a list of {count} finite numbers"
            f"{' above 0' if name == 'latents_std' else ''}, one for each channel"
        )
    return numbers


def _as_convolution(value: Tensor) -> Tensor:
    return value[:, :, None, None] if value.ndim == 2 else value


def _find(place: Path) -> tuple[Path, dict[str, Any]]:
    """Return the weights file, and the settings in the config.json beside it."""
    folders = [place.parent] if place.is_file() else [place, *(place / part for part in _PARTS)]
    folder = next((folder for folder in folders if (folder / CONFIG).is_file()), None)
    if folder is None:
        raise UserError(
            f"{place}: it has no {CONFIG}; give the folder of a VQModel or AutoencoderKL, with {CONFIG} and {WEIGHTS[0]}"
        )
    file = place if place.is_file() else next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise UserError(
            f"{folder}: it has no weights; a VQModel's or AutoencoderKL's folder holds {' or '.join(WEIGHTS[:2])}"
        )
    config = folder / CONFIG
    return file, read_json(config, f"config {config}", "give the config.json that diffusers wrote")


def _network(path: Path, settings: dict[str, Any], image_size: int | None) -> ConvTokenizerConfig:
    what = f"config {path}"
    kind = settings.get("_class_name", "a model without _class_name")
    if kind not in ("VQModel", "AutoencoderKL"):
        raise UserError(f"{what}: describes {kind}; of diffusers' models VQModel and AutoencoderKL can be imported")
    to_vectors = kind == "AutoencoderKL"
    unknown = [
        f"{key}: {value}"
        for key, value in settings.items()
        if key not in _DEFAULTS | dict.fromkeys(_HARMLESS | (_HARMLESS_KL if to_vectors else set()))
        and not key.startswith("_")
    ]
    values = _DEFAULTS | {key: value for key, value in settings.items() if key in _DEFAULTS}
    if image_size is not None:
        values["sample_size"] = image_size
    for key, only in (
        ("act_fn", ("silu", "swish")),
        ("norm_type", ("group",)),
        ("out_channels", (values["in_channels"],)),
        ("use_quant_conv", (True,)),
        ("use_post_quant_conv", (True,)),
    ):
        if values[key] not in only:
            unknown.append(f"{key}: {values[key]}")
    if unknown:
        raise UserError(f"{what}: {', '.join(unknown[:3])} is not supported")
    z = values["latent_channels"]
    return network_of(
        what, image_size=values["sample_size"], in_channels=values["in_channels"],
        **(vectors_of(z, z) if to_vectors else codes_of(z, values["num_vq_embeddings"], values["vq_embed_dim"] or z)),
        encoder=_side(what, values, "down_block_types", _DOWN),
        decoder=_side(what, values, "up_block_types", _UP),
    )  # fmt: skip


def _side(what: str, values: dict[str, Any], field: str, kinds: dict[str, bool]) -> dict[str, Any]:
    """Return the config of an encoder or decoder; raises UserError naming what our network does not support."""
    widths, types, size = values["block_out_channels"], values[field], values["sample_size"]
    if not isinstance(widths, list) or not all(isinstance(width, int) and width > 0 for width in widths) or not widths:
        raise UserError(f"{what}: block_out_channels must be a list of widths, found {widths}")
    if any(width % widths[0] for width in widths):
        raise UserError(
            f"{what}: block_out_channels {widths} must all be multiples of the first; other networks are not supported"
        )
    if not isinstance(types, list) or len(types) != len(widths) or any(kind not in kinds for kind in types):
        raise UserError(
            f"{what}: {field} {types} is not supported; give one of {', '.join(kinds)} for each of {widths}"
        )
    levels = types if field == "down_block_types" else types[::-1]
    # Images are padded to whole tokens, so that every level halves exactly.
    f = 2 ** (len(widths) - 1)
    padded = -(-size // f) * f if isinstance(size, int) else 0
    return {
        "channels": widths[0],
        "multipliers": [width // widths[0] for width in widths],
        # As in diffusers, our decoder has one more block per level.
        "num_res_blocks": values["layers_per_block"],
        "attention_resolutions": [padded // 2**level for level, kind in enumerate(levels) if kinds[kind]],
        "norm_groups": values["norm_num_groups"],
        "middle_attention": values["mid_block_add_attention"],
    }


def layer_names(config: ConvTokenizerConfig) -> dict[str, str]:
    """Map their layer names to ours."""
    pairs = {"quant_conv": "pre_quantizer", "post_quant_conv": "post_quantizer", "quantize.embedding": CODEBOOK}
    for side, network in (("encoder", config.encoder), ("decoder", config.decoder)):
        pairs |= {f"{side}.conv_in": f"{side}.conv_in", f"{side}.conv_norm_out": f"{side}.norm_out"}
        pairs[f"{side}.conv_out"] = f"{side}.conv_out"
        pairs |= _residual(f"{side}.mid_block.resnets.0", f"{side}.middle.0")
        if network.middle_attention:
            pairs |= _attention(f"{side}.mid_block.attentions.0", f"{side}.middle.1")
        pairs |= _residual(f"{side}.mid_block.resnets.1", f"{side}.middle.{1 + network.middle_attention}")
        pairs |= _levels(config, network, side)
    return pairs


def _levels(config: ConvTokenizerConfig, network: ConvNetConfig, side: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    down, last = side == "encoder", len(network.multipliers) - 1
    for place in range(last + 1):
        theirs = f"{side}.{'down' if down else 'up'}_blocks.{place}"
        resolution = config.padded_sides[0] >> (place if down else last - place)
        position = 0
        for i in range(network.num_res_blocks + (not down)):
            pairs |= _residual(f"{theirs}.resnets.{i}", f"{side}.levels.{place}.{position}")
            position += 1
            if resolution in network.attention_resolutions:
                pairs |= _attention(f"{theirs}.attentions.{i}", f"{side}.levels.{place}.{position}")
                position += 1
        if place < last:
            pairs[f"{theirs}.{'down' if down else 'up'}samplers.0.conv"] = f"{side}.levels.{place}.{position}.conv"
    return pairs


def _residual(theirs: str, ours: str) -> dict[str, str]:
    same = {f"{theirs}.{layer}": f"{ours}.{layer}" for layer in ("norm1", "conv1", "norm2", "conv2")}
    return same | {f"{theirs}.conv_shortcut": f"{ours}.skip"}


def _attention(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.{a}": f"{ours}.{b}" for a, b in _ATTENTION.items()}
