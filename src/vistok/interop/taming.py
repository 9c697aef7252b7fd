"""VQGAN checkpoints of taming-transformers (CompVis, MIT): .ckpt with its .yaml."""

from pathlib import Path
from typing import Any

import torch

from vistok.errors import UserError
from vistok.interop.autoencoder_names import to_ours
from vistok.interop.foreign_file import read_foreign, weights_of
from vistok.interop.imported import IMAGENET_CLASSES, check_fits, tokenizer_run, write_run
from vistok.tokenizer.config import ConvNetConfig, TokenizerConfig, VQConfig
from vistok.tokenizer.model import ConvTokenizer

# Losses (discriminator, LPIPS) lie beside the autoencoder, and averages of some forks.
_NOT_OURS = ("loss.", "model_ema.")


def import_taming(file: Path, config: Path, out: Path) -> str:
    """Write a run directory from a VQGAN; `config` is its yaml. Returns a line that says what it was.

    The Euclidean look-up is VQGAN's. The discriminator is not taken: it is another network than ours.
    Raises UserError for a Gumbel quantizer, and for weights that do not fit the yaml.
    """
    network = read_config(config)
    state = weights_of(file, read_foreign(file), ("state_dict", "model"))
    if any(name.startswith("quantize.embed.") or name.startswith("quantize.proj.") for name in state):
        raise UserError(f"{file}: a VQGAN with a Gumbel quantizer; those with a codebook (VQModel) can be imported")
    own = {
        name: value
        for name, value in state.items()
        if not name.startswith(_NOT_OURS) and name.split(".")[0] in ("encoder", "decoder", "quantize", "quant_conv", "post_quant_conv")
    }  # fmt: skip
    ours = to_ours(own, network, "taming")
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in ConvTokenizer(network).state_dict().items()}
    check_fits(ours, expected, f"the network of {config.name}")
    name = f"taming-vqgan-f{network.encoder.downsample}"
    header: dict[str, Any] = {"class_names": list(IMAGENET_CLASSES), "dataset": "imagenet", "data_digest": ""}
    write_run(out, "tokenizer", tokenizer_run(name, network), ours, file, **header)
    return f"{name}: tokenizer, {network.num_tokens} tokens of {network.quantizer.codebook_size} codes at {network.image_size} pixels"


def read_config(path: Path) -> TokenizerConfig:
    """Return the network that a VQGAN's yaml describes; raises UserError naming what is missing or not supported."""
    import yaml

    try:
        model = yaml.safe_load(path.read_text())["model"]
        params = model["params"]
        network = params["ddconfig"]
        side = ConvNetConfig(
            channels=network["ch"],
            multipliers=tuple(network["ch_mult"]),
            num_res_blocks=network["num_res_blocks"],
            attention_resolutions=tuple(network["attn_resolutions"]),
        )
        found = TokenizerConfig(
            image_size=network["resolution"],
            in_channels=network["in_channels"],
            latent_channels=network["z_channels"],
            encoder=side,
            decoder=side,
            quantizer=VQConfig(codebook_size=params["n_embed"], code_dim=params["embed_dim"], lookup="euclidean"),
        )
    except FileNotFoundError:
        raise UserError(
            f"config {path}: not found; a VQGAN's .ckpt comes with a .yaml, give it with --config"
        ) from None
    except (KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise UserError(
            f"config {path}: not the yaml of a VQGAN ({reason}); it needs model.params with n_embed, embed_dim and ddconfig"
        ) from None
    if network.get("double_z", False) or params.get("remap"):
        raise UserError(f"config {path}: double_z and remap are not supported, only plain VQGANs")
    if network.get("out_ch", network["in_channels"]) != network["in_channels"]:
        raise UserError(f"config {path}: out_ch {network['out_ch']} differs from in_channels {network['in_channels']}")
    return found
