"""Diffusion transformers of LightningDiT (Yao et al., MIT): a .pt with its latents' statistics, as a flow generator."""

from pathlib import Path

from torch import Tensor

from vistok.errors import UserError
from vistok.generator.flow.config import FlowConfig
from vistok.interop.diffusion_transformer import sizes_of, space_of, weight_of, write_generator
from vistok.interop.foreign_file import as_float, read_foreign, weights_of
from vistok.runs.foreign_families import COMMANDS, require_family
from vistok.runs.load import load_tokenizer

_STATISTICS = "give the latents_stats.pt of the same tokenizer: vistok import lightningdit FILE --tokenizer RUN --statistics latents_stats.pt --out RUN"


def import_lightningdit(
    file: Path, out: Path, tokenizer: Path, statistics: Path, num_heads: int | None = None, multiplier: float = 1.0,
    classes: int | None = None,
) -> str:  # fmt: skip
    """Write a run directory from a LightningDiT checkpoint; return a line that describes the network.

    `tokenizer`: the VA-VAE whose latents it writes, imported before. `statistics`: the mean and standard deviation of each
    channel (latents_stats.pt); `multiplier`: its config's `latent_multiplier`. `classes`: their number, where the file has
    other than ImageNet's. `num_heads` is needed for widths other than the published ones. Averaged weights are used where the
    file has them. Raises UserError for what does not fit.
    """
    if not 0 < multiplier < float("inf"):
        raise UserError(f"--multiplier {multiplier}: expected a number above 0, the latent_multiplier of its config")
    state = weights_of(file, read_foreign(file), ("ema", "model", "state_dict"))
    require_family(file, state, "lightningdit", "dit")
    of = load_tokenizer(tokenizer, device="cpu")
    config = _config(file, state, num_heads)
    mean, deviation = _statistics(statistics, space_of(file, of.space, state).dim)
    return write_generator(
        file, out, state, config, of, tokenizer, "LightningDiT", mean, deviation / multiplier, classes
    )


def _config(file: Path, state: dict[str, Tensor], num_heads: int | None) -> FlowConfig:
    """Return the config that the names and shapes of the weights imply."""
    sizes, last = sizes_of(file, state, num_heads), weight_of(file, state, "final_layer.linear.weight")
    if len(last) == 2 * weight_of(file, state, "x_embedder.proj.weight")[0].numel():
        raise UserError(
            f"{file}: its network also predicts a variance (learn_sigma), as DiT's does for DDPM's noise; LightningDiT's predict a "
            f"velocity alone; import a DiT with {COMMANDS['dit']}"
        )
    modulation = weight_of(file, state, "blocks.0.adaLN_modulation.1.weight")
    if len(modulation) != 6 * sizes["width"]:
        raise UserError(f"{file}: its blocks are modulated without shifts (wo_shift), which is not supported")
    return FlowConfig(
        **sizes,
        norm="rms" if "blocks.0.norm1.weight" in state else "layer",
        feed_forward="swiglu" if "blocks.0.mlp.w12.weight" in state else "gelu",
        rotary="feat_rope.freqs_cos" in state,
        qk_norm="blocks.0.attn.q_norm.weight" in state,
        time_scale=1.0,
    )


def _statistics(file: Path, dim: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel."""
    found = read_foreign(file)
    parts = [found.get(name) for name in ("mean", "std")]
    if any(not isinstance(part, Tensor) or part.numel() != dim for part in parts):
        kinds = [f"{name} ({_kind(part)})" for name, part in found.items()]
        raise UserError(
            f"statistics {file}: expected 'mean' and 'std', tensors of {dim} channels, found {', '.join(kinds[:4]) or 'nothing'}; "
            f"{_STATISTICS}"
        )
    for name, part in zip(("mean", "std"), parts, strict=True):
        if not bool(part.isfinite().all()):  # type: ignore[union-attr]
            raise UserError(f"statistics {file}: {name!r} holds values that are not finite; {_STATISTICS}")
    mean, deviation = (as_float(name, part).flatten() for name, part in zip(("mean", "std"), parts, strict=True))  # type: ignore[arg-type]
    if not bool((deviation > 0).all()):
        raise UserError(f"statistics {file}: 'std' must be above 0, found {float(deviation.min()):g}; {_STATISTICS}")
    return mean, deviation


def _kind(found: object) -> str:
    return f"{found.numel()} numbers" if isinstance(found, Tensor) else type(found).__name__
