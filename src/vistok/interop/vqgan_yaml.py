"""What a VQGAN's yaml says (taming-transformers, latent-diffusion): the network, and which of a file's weights are used.

Every entry is read, or known to matter for training alone, or refused by name: an entry that is passed over would give
other tokens than the original's without a word.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistok.errors import UserError, damage_is_a_mistake
from vistok.interop.autoencoder_names import network_of
from vistok.tokenizer.config import ConvTokenizerConfig

MOST_BYTES = 2**20
# Classes that build the same network, by the project that they are from. EMAVQ's codebook is an average; the look-up
# and VQModelInterface's tokens are VQModel's.
_TARGETS = {
    "taming.models.vqgan.VQModel": "taming-vqgan",
    "taming.models.vqgan.VQNoDiscModel": "taming-vqgan",
    "taming.models.vqgan.EMAVQ": "taming-vqgan",
    "ldm.models.autoencoder.VQModel": "ldm-vq",
    "ldm.models.autoencoder.VQModelInterface": "ldm-vq",
}
_READ = {"n_embed", "embed_dim", "ddconfig", "use_ema"}
# For training, for logs, or for the shape in which indices are given.
_HARMLESS = {
    "lossconfig", "ckpt_path", "ignore_keys", "image_key", "colorize_nlabels", "monitor", "batch_resize_range",
    "scheduler_config", "lr_g_factor", "learning_rate", "sane_index_shape",
}  # fmt: skip
_NETWORK_READ = {
    "ch", "ch_mult", "num_res_blocks", "attn_resolutions", "resolution", "in_channels", "out_ch", "z_channels",
    "attn_type", "dropout",
}  # fmt: skip
# Each at the one value that our network has.
_NETWORK_FIXED = {
    "double_z": False, "resamp_with_conv": True, "give_pre_end": False, "tanh_out": False, "use_linear_attn": False,
}  # fmt: skip


@dataclass(frozen=True)
class VQGAN:
    """A network, what it is called, whether its averaged weights are used, and whether it lies inside a larger model."""

    network: ConvTokenizerConfig
    name: str
    use_ema: bool
    inside: bool


def read_config(path: Path) -> VQGAN:
    """Return what a VQGAN's yaml describes; raises UserError naming what is missing or not supported."""
    what = f"config {path}"
    if not path.is_file():
        raise UserError(f"{what}: not found; a VQGAN's .ckpt comes with a .yaml, give it with --config")
    with damage_is_a_mistake(what, "give the .yaml that came with the checkpoint"):
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
        return _described(what, *_model(path))


def _described(what: str, model: dict[str, Any], inside: bool) -> VQGAN:
    params = _mapping(what, "params", model.get("params"))
    target = str(model.get("target", "taming.models.vqgan.VQModel"))
    if target not in _TARGETS:
        raise UserError(
            f"{what}: describes a {target}; these can be imported: {', '.join(_TARGETS)}. Where yours is a copy of one of "
            "them, say so in a copy of the yaml"
        )
    _refuse_unknown(what, params, _READ | _HARMLESS)
    network = _mapping(what, "ddconfig", params.get("ddconfig"))
    found = _network(what, params, network, target)
    return VQGAN(found, f"{_TARGETS[target]}-f{found.encoder.downsample}", bool(params.get("use_ema")), inside)


def _model(path: Path) -> tuple[dict[str, Any], bool]:
    """Return the part that describes the VQGAN, and whether it lies inside a transformer's or diffusion model's yaml."""
    import yaml

    found = yaml.safe_load(path.read_text())
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        raise ValueError("it has no model")
    model = found["model"]
    params = model.get("params")
    inside = isinstance(params, dict) and isinstance(params.get("first_stage_config"), dict)
    return (params["first_stage_config"], True) if inside else (model, False)


def _mapping(what: str, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{what}: has no {name}; a VQGAN's has model.params with n_embed, embed_dim and ddconfig")
    return value


def _refuse_unknown(what: str, params: dict[str, Any], known: set[str]) -> None:
    """What is switched off changes nothing; what is on and not known here may change the tokens."""
    unknown = [f"{name}: {value}" for name, value in params.items() if name not in known and value not in (None, False)]
    if unknown:
        raise UserError(f"{what}: {', '.join(map(str, unknown[:3]))} is not supported, only plain VQGANs are")


def _network(what: str, params: dict[str, Any], network: dict[str, Any], target: str) -> ConvTokenizerConfig:
    wanted = (
        (params, "n_embed"),
        (params, "embed_dim"),
        *((network, name) for name in _NETWORK_READ - {"attn_type", "dropout"}),
    )
    missing = sorted(name for values, name in wanted if name not in values)
    if missing:
        raise UserError(
            f"{what}: no {', '.join(map(repr, missing))}; a VQGAN's yaml has model.params with n_embed, embed_dim and ddconfig"
        )
    wrong = [name for name, value in _NETWORK_FIXED.items() if bool(network.get(name, value)) != value]
    if wrong:
        raise UserError(f"{what}: {wrong[0]}: {network[wrong[0]]} is not supported, only plain VQGANs are")
    _refuse_unknown(what, network, _NETWORK_READ | set(_NETWORK_FIXED))
    if network["out_ch"] != network["in_channels"]:
        raise UserError(f"{what}: out_ch {network['out_ch']} differs from in_channels {network['in_channels']}")
    # taming's own code knows no attn_type and passes it over.
    attention = str(network.get("attn_type", "vanilla")) if target.startswith("ldm.") else "vanilla"
    if attention not in ("vanilla", "none"):
        raise UserError(f"{what}: attn_type: {attention} is not supported, only vanilla and none are")
    side = {
        "channels": network["ch"],
        "multipliers": network["ch_mult"],
        "num_res_blocks": network["num_res_blocks"],
        "attention_resolutions": network["attn_resolutions"] if attention == "vanilla" else [],
        "middle_attention": attention == "vanilla",
    }
    return network_of(
        what, image_size=network["resolution"], in_channels=network["in_channels"], latent_channels=network["z_channels"],
        encoder=side, decoder=side,
        quantizer={"codebook_size": params["n_embed"], "code_dim": params["embed_dim"], "lookup": "euclidean"},
    )  # fmt: skip
