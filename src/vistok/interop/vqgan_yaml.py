"""Read the yaml of a VQGAN or KL autoencoder (taming-transformers, latent-diffusion, VA-VAE): its network, and which weights of a file it uses.

Every entry is either read, known to affect training only, or rejected by name: silently ignoring an entry could produce
tokens that differ from the original's.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistok.errors import UserError, damage_is_a_mistake
from vistok.interop.autoencoder_names import codes_of, network_of, vectors_of
from vistok.tokenizer.config import ConvTokenizerConfig

MOST_BYTES = 2**20
# Classes that build the same network -> the project they come from. EMAVQ updates its codebook by averaging, but looks
# codes up as VQModel does; VQModelInterface gives the same tokens as VQModel.
_TARGETS = {
    "taming.models.vqgan.VQModel": "taming-vqgan",
    "taming.models.vqgan.VQNoDiscModel": "taming-vqgan",
    "taming.models.vqgan.EMAVQ": "taming-vqgan",
    "ldm.models.autoencoder.VQModel": "ldm-vq",
    "ldm.models.autoencoder.VQModelInterface": "ldm-vq",
    "ldm.models.autoencoder.AutoencoderKL": "ldm-kl",
}
_TO_VECTORS = "ldm.models.autoencoder.AutoencoderKL"
_READ = {"n_embed", "embed_dim", "ddconfig", "use_ema"}
# Entries that affect only training, logs, or the shape in which indices are returned.
_HARMLESS = {
    "lossconfig", "ckpt_path", "ignore_keys", "image_key", "colorize_nlabels", "monitor", "batch_resize_range",
    "scheduler_config", "lr_g_factor", "learning_rate", "sane_index_shape",
    "use_vf", "reverse_proj", "proj_fix",  # VA-VAE's alignment
}  # fmt: skip
_NETWORK_READ = {
    "ch", "ch_mult", "num_res_blocks", "attn_resolutions", "resolution", "in_channels", "out_ch", "z_channels",
    "attn_type", "dropout",
}  # fmt: skip
# Entries that our network supports at one value only.
_NETWORK_FIXED = {
    "resamp_with_conv": True, "give_pre_end": False, "tanh_out": False, "use_linear_attn": False,
}  # fmt: skip


@dataclass(frozen=True)
class VQGAN:
    """A network, its name, whether to use its EMA weights, and whether it is part of a larger model."""

    network: ConvTokenizerConfig
    name: str
    use_ema: bool
    inside: bool


def read_config(path: Path) -> VQGAN:
    """Return the VQGAN that a yaml describes; raises UserError naming what is missing or not supported."""
    what = f"config {path}"
    if not path.is_file():
        raise UserError(f"{what}: not found; a VQGAN's .ckpt comes with a .yaml: pass it with --config")
    with damage_is_a_mistake(what, "give the .yaml that came with the checkpoint"):
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
        return _described(what, *_model(path))


def _described(what: str, model: dict[str, Any], inside: bool) -> VQGAN:
    params = _mapping(what, "params", model.get("params"))
    target = str(model.get("target", "taming.models.vqgan.VQModel"))
    if target not in _TARGETS:
        raise UserError(
            f"{what}: describes a {target}; these can be imported: {', '.join(_TARGETS)}. If yours is a copy of one of "
            "them, enter that name as the target in a copy of the yaml"
        )
    _refuse_unknown(what, params, _READ | _HARMLESS)
    network = _mapping(what, "ddconfig", params.get("ddconfig"))
    config = _network(what, params, network, target)
    return VQGAN(config, f"{_TARGETS[target]}-f{config.encoder.downsample}", bool(params.get("use_ema")), inside)


def _model(path: Path) -> tuple[dict[str, Any], bool]:
    """Return the part that describes the VQGAN, and whether the yaml is that of a transformer or diffusion model around it."""
    import yaml

    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError("it has no model")
    model = content["model"]
    params = model.get("params")
    inside = isinstance(params, dict) and isinstance(params.get("first_stage_config"), dict)
    return (params["first_stage_config"], True) if inside else (model, False)


def _mapping(what: str, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{what}: has no {name}; a VQGAN's yaml has model.params with n_embed, embed_dim and ddconfig")
    return value


def _refuse_unknown(what: str, params: dict[str, Any], known: set[str]) -> None:
    """Reject unknown options, which may change the tokens, unless they are switched off."""
    unknown = [f"{name}: {value}" for name, value in params.items() if name not in known and value not in (None, False)]
    if unknown:
        raise UserError(f"{what}: {', '.join(map(str, unknown[:3]))} is not supported; only plain VQGANs are")


def _network(what: str, params: dict[str, Any], network: dict[str, Any], target: str) -> ConvTokenizerConfig:
    to_vectors = target == _TO_VECTORS
    wanted = (
        *(() if to_vectors else ((params, "n_embed"),)),
        (params, "embed_dim"),
        *((network, name) for name in _NETWORK_READ - {"attn_type", "dropout"}),
    )
    missing = sorted(name for values, name in wanted if name not in values)
    if missing:
        raise UserError(
            f"{what}: no {', '.join(map(repr, missing))}; a VQGAN's yaml has model.params with n_embed, embed_dim and ddconfig"
        )
    fixed = _NETWORK_FIXED | {"double_z": to_vectors}
    wrong = [name for name, value in fixed.items() if bool(network.get(name, value)) != value]
    if wrong:
        raise UserError(f"{what}: {wrong[0]}: {network[wrong[0]]} is not supported; only plain VQGANs are")
    _refuse_unknown(what, network, _NETWORK_READ | set(fixed))
    if network["out_ch"] != network["in_channels"]:
        raise UserError(f"{what}: out_ch {network['out_ch']} differs from in_channels {network['in_channels']}")
    # taming-transformers does not know attn_type and ignores it.
    attention = str(network.get("attn_type", "vanilla")) if target.startswith("ldm.") else "vanilla"
    if attention not in ("vanilla", "none"):
        raise UserError(f"{what}: attn_type: {attention} is not supported; only vanilla and none are")
    side = {
        "channels": network["ch"],
        "multipliers": network["ch_mult"],
        "num_res_blocks": network["num_res_blocks"],
        "attention_resolutions": network["attn_resolutions"] if attention == "vanilla" else [],
        "middle_attention": attention == "vanilla",
    }
    z = network["z_channels"]
    return network_of(
        what, image_size=network["resolution"], in_channels=network["in_channels"], encoder=side, decoder=side,
        **(vectors_of(z, params["embed_dim"]) if to_vectors else codes_of(z, params["n_embed"], params["embed_dim"])),
    )  # fmt: skip
