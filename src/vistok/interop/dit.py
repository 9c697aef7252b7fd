"""Diffusion transformers of DiT (Peebles and Xie 2022, arXiv 2212.09748): a .pt as a flow generator along DDPM's path."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.errors import UserError
from vistok.generator.flow.config import FlowConfig
from vistok.interop.diffusion_transformer import sizes_of, space_of, weight_of, write_generator
from vistok.interop.foreign_file import read_foreign, weights_of
from vistok.runs.foreign_families import COMMANDS, require_family
from vistok.runs.headers import MOMENTS
from vistok.runs.load import load_tokenizer
from vistok.tokenizer.interface import Tokenizer

# Vectors of SD-VAE are multiplied by this before DiT sees them.
SCALE = 0.18215


def import_dit(
    file: Path,
    out: Path,
    tokenizer: Path,
    num_heads: int | None = None,
    scale: float = SCALE,
    classes: int | None = None,
) -> str:
    """Write a run directory from a DiT checkpoint; return a line that describes the network.

    `tokenizer`: the autoencoder whose vectors it writes, imported before (SD-VAE), and `scale` what they are multiplied by, after the
    autoencoder's shift_factor, if it has one, is subtracted, or its latents_mean and latents_std have normalised them.
    `classes`: their number, where the file has other than ImageNet's. `num_heads` is needed for widths other than the published ones. Averaged weights are used where the file has them. The
    learned variance is left out: it is the noise that DDPM's sampler adds at each step, and our solvers, like DDIM, add none.
    Raises UserError for what does not fit.
    """
    if not 0 < scale < float("inf"):
        raise UserError(
            f"--scale {scale}: expected a number above 0, by which the autoencoder's vectors are multiplied"
        )
    state = weights_of(file, read_foreign(file), ("ema", "model", "state_dict"))
    require_family(file, state, "dit")
    of = load_tokenizer(tokenizer, device="cpu")
    _require_scale(tokenizer, of, scale)
    config = FlowConfig(
        **sizes_of(file, state, num_heads), norm="layer", feed_forward="gelu", rotary=False, path="ddpm", predicts="noise",
        times="uniform", direction_weight=0.0,
    )  # fmt: skip
    state, note = _without_variance(file, state)
    dim = space_of(file, of.space, state).dim
    mean, deviation, normalised = _normalisation(of.info, dim, scale)
    note += f"; it predicts noise along DDPM's path, as DiT does{normalised}"
    return write_generator(file, out, state, config, of, tokenizer, "DiT", mean, deviation, classes) + note


def _normalisation(autoencoder: Any, dim: int, scale: float) -> tuple[Tensor, Tensor, str]:
    """Return what is subtracted from vectors and what they are divided by, (dim) each, and a remark.

    As in diffusers' pipelines, moments count only where both are there, and then instead of the shift. Raises UserError for moments of
    another number of channels.
    """
    moments = [getattr(autoencoder, name, None) for name in MOMENTS]
    if all(moments):
        if wrong := [name for name, one in zip(MOMENTS, moments, strict=True) if len(one or ()) != dim]:
            raise UserError(
                f"the autoencoder's {wrong[0]} is not for vectors of {dim} numbers; import the autoencoder again"
            )
        mean, deviation = (torch.tensor(one, dtype=torch.float32) for one in moments)
        return mean, deviation / scale, "; its vectors are normalised by the autoencoder's latents_mean and latents_std"
    shift = getattr(autoencoder, "shift_factor", None) or 0.0
    remark = f"; {shift:g} is subtracted from the vectors, the autoencoder's shift_factor" if shift else ""
    return torch.full((dim,), shift), torch.full((dim,), 1 / scale), remark


def _require_scale(place: Path, tokenizer: Tokenizer, scale: float) -> None:
    """Raise UserError for an autoencoder whose own project multiplies its vectors by another number."""
    theirs = getattr(tokenizer.info, "scaling_factor", None)
    if theirs is not None and theirs != scale:
        raise UserError(
            f"{place}: diffusion models multiply its vectors by {theirs:g}, but this one is to be imported for {scale:g}; give the "
            f"autoencoder that it was trained with (for DiT SD-VAE, {SCALE:g}), or --scale {theirs:g} if it was this one"
        )


def _without_variance(file: Path, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the weights with the last layer's rows for noise alone, and a remark. Raises UserError for other widths."""
    inner = weight_of(file, state, "x_embedder.proj.weight")[0].numel()
    channels, found = (
        len(weight_of(file, state, "x_embedder.proj.weight")[0]),
        len(weight_of(file, state, "final_layer.linear.weight")),
    )
    if found == inner:
        return state, ""
    if found != 2 * inner:
        raise UserError(
            f"{file}: its last layer gives {found} numbers for a patch, where DiT's gives {inner} or, with a variance, {2 * inner}; "
            f"if it is a LightningDiT, use {COMMANDS['lightningdit']}"
        )
    # For each pixel of a patch the channels of noise, then those of its variance.
    names = ("final_layer.linear.weight", "final_layer.linear.bias")
    noise = {
        name: state[name].unflatten(0, (-1, 2 * channels))[:, :channels].flatten(0, 1)
        for name in names
        if name in state
    }
    return state | noise, "; its learned variance, which only DDPM's own sampler uses, is left out"
