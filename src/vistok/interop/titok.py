"""TiTok's tokenizers (Yu et al. 2024, arXiv 2406.07550; bytedance/1d-tokenizer): a state dict, with its config.json if there is one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import read_json
from vistok.interop.foreign_file import as_float, read_foreign, weights_of
from vistok.interop.imported import check_fits, imagenet_facts, tokenizer_run, write_run
from vistok.interop.maskgit import names_of, network_of, shapes_of
from vistok.runs.foreign_families import require_family
from vistok.tokenizer.bottlenecks.config import AnyBottleneck, KLConfig, VQConfig
from vistok.tokenizer.config import (
    LineTokenizerConfig,
    PatchTransformerConfig,
    ProxyLineTokenizerConfig,
)

# Heads of the published widths, which the weights do not tell.
HEADS = {512: 8, 768: 12, 1024: 16}
# Their names -> ours, in a block, in a transformer, and in the parts that a two-stage decoder takes from its proxy.
_BLOCK = {
    "ln_1": "attention_norm", "ln_2": "feed_forward_norm", "attn.in_proj_": "attention.qkv.", "attn.out_proj": "attention.out",
    "mlp.c_fc": "up", "mlp.c_proj": "down",
}  # fmt: skip
_PROXY = {"pixel_quantize": "decoder.grid.quantizer", "pixel_decoder": "decoder.grid.decoder"}
_TABLES = ("class_embedding", "positional_embedding", "latent_token_positional_embedding", "mask_token")

_Config = LineTokenizerConfig | ProxyLineTokenizerConfig


@dataclass(frozen=True)
class _Settings:
    """What a tokenizer's weights do not tell: whether codes are compared by angle, and the reshape of old checkpoints."""

    cosine: bool
    legacy: bool


def import_titok(file: Path, out: Path, num_heads: int | None = None) -> str:
    """Write a run directory from a tokenizer; return a line that describes the network.

    Two-stage ones (with a pixel decoder) and single-stage ones to codes or vectors are read. A config.json beside the file, as the
    hub has it, says how codes are compared and whether the encoder's outputs are reshaped without a transpose; without one,
    both hold for two-stage tokenizers and neither for others, as in the published ones. `num_heads`: for widths other than the
    published ones. Raises UserError for what does not fit.
    """
    state = weights_of(file, read_foreign(file), ("state_dict", "model"))
    require_family(file, state, "titok")
    stages = "pixel_decoder.conv_in.weight" in state
    settings, note = _settings(file, stages)
    proxy = {name: state.pop(name) for name in list(state) if name.partition(".")[0] in _PROXY}
    fields = _fields(file, state, settings, num_heads)
    if stages:
        grid = network_of(file, proxy, "pixel_quantize", "pixel_decoder", fields["image_size"])
        config: _Config = ProxyLineTokenizerConfig(**fields, proxy=grid)
        ours = names_of(file, proxy, grid, _PROXY)
    else:
        config, ours = LineTokenizerConfig(**fields), {}
    ours |= _to_ours(file, state, config)
    check_fits(ours, shapes_of(config), f"TiTok's tokenizer with the widths of {file.name}")
    name = f"titok-{config.num_latents}"
    write_run(out, "tokenizer", tokenizer_run(name, config), ours, file, data_digest="", **imagenet_facts())
    ways = "two-stage" if stages else "single-stage"
    return f"{name}: {ways} tokenizer, {config.space} at {config.image_size} pixels{note}"


def _settings(file: Path, stages: bool) -> tuple[_Settings, str]:
    """Return what the config beside a file says, or what the published tokenizers have, with a remark."""
    place = file.parent / "config.json"
    if not place.is_file():
        return _Settings(
            stages, stages
        ), "; no config.json beside it, so its codes are compared as the published ones' are"
    what = f"config {place}"
    with damage_is_a_mistake(what, "give the config.json that TiTok's code wrote, or move it away"):
        network = read_json(place, what, "give the config.json that TiTok's code wrote")["model"]["vq_model"]
        return _Settings(bool(network.get("use_l2_norm", False)), bool(network.get("is_legacy", True))), ""


def _fields(file: Path, state: dict[str, Tensor], settings: _Settings, num_heads: int | None) -> dict[str, Any]:
    """Return the fields of the config that the weights' shapes imply. Raises UserError for missing weights, or unknown widths."""
    with damage_is_a_mistake(f"checkpoint {file}", "give a file with the whole tokenizer"):
        embed = state["encoder.patch_embed.weight"]
        places = len(state["encoder.positional_embedding"]) - 1
        latents, dim = len(state["latent_tokens"]), len(state["encoder.conv_out.weight"])
        side = round(places**0.5)
        if side * side != places or len(state["decoder.positional_embedding"]) != places + 1:
            raise ValueError("its positions are no square grid, or encoder and decoder have different ones")
    codes = state.get("quantize.embedding.weight")
    lookup = "cosine" if settings.cosine else "euclidean"
    quantizer: AnyBottleneck = (
        KLConfig(dim=dim // 2) if codes is None else VQConfig(codebook_size=len(codes), code_dim=dim, lookup=lookup)  # type: ignore[arg-type]
    )
    return {
        "image_size": side * embed.shape[-1], "in_channels": embed.shape[1], "patch": embed.shape[-1], "num_latents": latents,
        "encoder": _side(file, state, "encoder", num_heads), "decoder": _side(file, state, "decoder", num_heads),
        "quantizer": quantizer, "legacy_reshape": settings.legacy,
    }  # fmt: skip


def _side(file: Path, state: dict[str, Tensor], name: str, num_heads: int | None) -> PatchTransformerConfig:
    width = len(state[f"{name}.ln_pre.weight"])
    heads = num_heads or HEADS.get(width)
    if heads is None:
        raise UserError(
            f"{file}: its width {width} is none of the published ones ({', '.join(map(str, HEADS))}), and its weights do not tell "
            "the number of attention heads; give --num-heads"
        )
    depth = 1 + max(int(key.split(".")[2]) for key in state if key.startswith(f"{name}.transformer."))
    return PatchTransformerConfig(
        width=width, depth=depth, num_heads=heads, qk_norm=False, class_token=True, norm_eps=1e-5
    )


def _to_ours(file: Path, state: dict[str, Tensor], config: _Config) -> dict[str, Tensor]:
    """Return the transformers' weights under our names and in our layout; images lie in [0, 1] there and in [-1, 1] here."""
    floats = {name: as_float(name, value) for name, value in state.items()}
    kernel = floats.pop("encoder.patch_embed.weight").flatten(1)
    # w (x + 1) / 2 + b
    ours = {
        "encoder.embed.weight": kernel / 2,
        "encoder.embed.bias": floats.pop("encoder.patch_embed.bias") + (kernel.double().sum(1) / 2).float(),
    }
    for side in ("encoder", "decoder"):
        ours |= _tables(floats, side)
    for name, value in floats.items():
        if name.rpartition(".")[2] not in _TABLES and name != "latent_tokens":
            ours |= _layer(file, name, value, config)
    return ours


def _tables(floats: dict[str, Tensor], side: str) -> dict[str, Tensor]:
    """Return the learned vectors of one side; those that are only ever added are one here."""
    places, latents = floats[f"{side}.positional_embedding"], floats[f"{side}.latent_token_positional_embedding"]
    found = {
        f"{side}.class_token": floats[f"{side}.class_embedding"][0] + places[0],
        f"{side}.patch_positions": places[1:],
        f"{side}.extra_positions": latents + floats["latent_tokens"] if side == "encoder" else latents,
    }
    return found | ({"decoder.mask": floats["decoder.mask_token"][0, 0]} if side == "decoder" else {})


def _layer(file: Path, name: str, value: Tensor, config: _Config) -> dict[str, Tensor]:
    """Return one weight under our name. Raises UserError for one that TiTok's tokenizers do not have."""
    layer, _, kind = name.rpartition(".")
    side, _, inner = layer.partition(".")
    if layer == "quantize.embedding":
        return {"quantizer.codebook": value}
    if inner in ("ln_pre", "ln_post"):
        return {f"{side}.norm_{'in' if inner == 'ln_pre' else 'out'}.{kind}": value}
    if inner.startswith("transformer."):
        _, number, rest = name.removeprefix(f"{side}.").split(".", 2)
        for theirs, mine in _BLOCK.items():
            if rest.startswith(theirs):
                return {f"{side}.blocks.{number}.{mine}{rest.removeprefix(theirs)}": value}
    if layer == "encoder.conv_out":
        return {f"pre_quantizer.{kind}": value.flatten(1) if value.dim() > 1 else value}
    if layer == "decoder.decoder_embed":
        return {f"decoder.embed.{kind}": value}
    if layer in ("decoder.ffn.0", "decoder.ffn.2", "decoder.conv_out"):
        return _head(layer, kind, value, config)
    raise UserError(f"{file}: weight {name!r} is not part of a TiTok tokenizer that vistok knows")


def _head(layer: str, kind: str, value: Tensor, config: _Config) -> dict[str, Tensor]:
    if isinstance(config, ProxyLineTokenizerConfig):
        return {f"decoder.to_codes.{layer[-1]}.{kind}": value.flatten(1) if value.dim() > 1 else value}
    if layer == "decoder.conv_out":
        return {f"decoder.smooth.{kind}": 2 * value if kind == "weight" else 2 * value - 1}
    # Rows, columns, then channels there; channels first here.
    patch, channels = config.patch, config.in_channels
    pixels = value.flatten(1) if value.dim() > 1 else value[:, None]
    pixels = pixels.unflatten(0, (patch, patch, channels)).permute(2, 0, 1, 3).flatten(0, 2)
    return {f"decoder.to_pixels.{kind}": pixels if kind == "weight" else pixels[:, 0]}
