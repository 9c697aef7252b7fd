"""VQGANs and KL autoencoders of taming-transformers, latent-diffusion (CompVis, MIT) and VA-VAE: a .ckpt with its .yaml."""

from pathlib import Path

from torch import Tensor

from vistok.errors import UserError
from vistok.interop.autoencoder_names import shapes_of, to_ours
from vistok.interop.foreign_file import read_foreign, weights_of
from vistok.interop.imported import check_fits, imagenet_facts, tokenizer_run, write_run
from vistok.interop.vqgan_yaml import read_config
from vistok.runs.foreign_families import require_family

# Prefix of the VQGAN's weights in the checkpoint of a transformer or diffusion model.
_INSIDE = "first_stage_model."
_AVERAGES = "model_ema."
# Losses (discriminator, LPIPS), a projection for images in logs, and VA-VAE's vision network with its projection: not part of
# the autoencoder.
_NOT_OURS = ("loss.", "colorize", "foundation_model.", "linear_proj.")
# Statistics from which an averaged codebook is computed; the codebook itself is `quantize.embedding.weight`, as ever.
_STATISTICS = {"quantize.embedding.cluster_size", "quantize.embedding.embed_avg"}


def import_taming(file: Path, config: Path, out: Path) -> str:
    """Write a run directory from a VQGAN, with `config` its yaml; return a line that describes the network.

    The checkpoint may be that of a transformer or diffusion model that contains a VQGAN; then only the VQGAN is imported.
    The look-up is Euclidean, as in VQGAN. The discriminator is left out, since its architecture differs from ours.
    Raises UserError for other quantizers, and for weights that do not fit the yaml.
    """
    vqgan = read_config(config)
    state = weights_of(file, read_foreign(file), ("state_dict", "model"))
    require_family(file, state, "taming")
    inside = {name.removeprefix(_INSIDE): value for name, value in state.items() if name.startswith(_INSIDE)}
    used, note = _used_weights(file, inside or state, vqgan.use_ema)
    if inside:
        note += "; the larger model around it is left out"
    ours = to_ours(used, vqgan.network, "taming")
    check_fits(ours, shapes_of(f"config {config}", vqgan.network), f"the network of {config.name}")
    write_run(
        out, "tokenizer", tokenizer_run(vqgan.name, vqgan.network), ours, file, data_digest="", **imagenet_facts()
    )
    network = vqgan.network
    return f"{vqgan.name}: tokenizer, {network.space} at {network.image_size} pixels{note}"


def _used_weights(file: Path, state: dict[str, Tensor], use_ema: bool) -> tuple[dict[str, Tensor], str]:
    """Return the weights that the original decodes with, and a remark on the choice.

    With `use_ema` these are the EMA weights, stored for each trained weight under its name without dots.
    """
    averages = {name.removeprefix(_AVERAGES): value for name, value in state.items() if name.startswith(_AVERAGES)}
    raw = {
        name: value
        for name, value in state.items()
        if not name.startswith((*_NOT_OURS, _AVERAGES)) and name not in _STATISTICS
    }
    if not averages:
        return raw, "; the yaml asks for averaged weights, but the file has none" if use_ema else ""
    if not use_ema:
        return raw, "; the file's averaged weights are left out, since the yaml does not enable them (use_ema)"
    chosen = {name: averages.get(name.replace(".", "")) for name in raw}
    # A codebook that is itself an average is not trained, so it has no EMA.
    missing = [name for name, value in chosen.items() if value is None and not name.startswith("quantize.")]
    if missing:
        raise UserError(
            f"{file}: the yaml asks for averaged weights, but the file has none for {missing[0]!r} under {_AVERAGES}"
        )
    return {
        name: raw[name] if value is None else value for name, value in chosen.items()
    }, "; averaged weights (use_ema)"
