"""Diffusion transformers of LightningDiT (Yao et al., MIT): a .pt with its latents' statistics, as a flow generator."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.errors import UserError
from vistok.generator.flow.config import SIZES, FlowConfig
from vistok.generator.flow.generator import FlowGenerator
from vistok.interop.foreign_file import as_float, read_foreign, weights_of
from vistok.interop.imported import IMAGENET_CLASSES, check_fits, write_run
from vistok.runs.config import GeneratorRun
from vistok.runs.foreign_families import require_family
from vistok.runs.load import load_tokenizer
from vistok.space import Vectors

# Their names -> ours, inside a block and around the blocks (without .weight and .bias).
_BLOCK = {
    "norm1": "attention_norm", "norm2": "feed_forward_norm", "attn.qkv": "attention.qkv", "attn.proj": "attention.out",
    "attn.q_norm": "attention.query_norm", "attn.k_norm": "attention.key_norm", "mlp.w12": "feed_forward.gate_and_up",
    "mlp.w3": "feed_forward.down", "mlp.fc1": "feed_forward.up", "mlp.fc2": "feed_forward.down",
    "adaLN_modulation.1": "modulation.linear",
}  # fmt: skip
_AROUND = {
    "x_embedder.proj": "embed", "t_embedder.mlp.0": "time.first", "t_embedder.mlp.2": "time.second",
    "y_embedder.embedding_table": "classes.table", "final_layer.norm_final": "norm", "final_layer.linear": "out",
    "final_layer.adaLN_modulation.1": "modulation.linear",
}  # fmt: skip
# Tables that we compute.
_COMPUTED = {"pos_embed", "feat_rope.freqs_cos", "feat_rope.freqs_sin"}
_STATISTICS = "vistok import lightningdit FILE --tokenizer RUN --statistics latents_stats.pt --out RUN"


def import_lightningdit(
    file: Path, out: Path, tokenizer: Path, statistics: Path, num_heads: int | None = None, multiplier: float = 1.0
) -> str:
    """Write a run directory from a LightningDiT checkpoint; return a line that describes the network.

    `tokenizer`: the VA-VAE whose latents it writes, imported before. `statistics`: the mean and standard deviation of each
    channel (latents_stats.pt); `multiplier`: its config's `latent_multiplier`. `num_heads` is needed for widths other than
    the published ones. Averaged weights are used where the file has them. Raises UserError for what does not fit.
    """
    state = weights_of(file, read_foreign(file), ("ema", "model", "state_dict"))
    require_family(file, state, "lightningdit")
    of = load_tokenizer(tokenizer, device="cpu")
    config = _config(file, state, num_heads)
    ours = _to_ours(file, state, config)
    space = _space(file, of.space, state)
    mean, deviation = _statistics(statistics, space.dim)
    ours |= {"mean": mean, "deviation": deviation / multiplier}
    classes = len(ours["network.classes.table.weight"]) - 1
    with torch.device("meta"):
        model = FlowGenerator(config, space, classes)
    check_fits(ours, {key: tuple(value.shape) for key, value in model.state_dict().items()}, "LightningDiT")
    _require_tables(file, state, FlowGenerator(config.replace(depth=1), space, 1))
    names = list(IMAGENET_CLASSES) if classes == 1000 else [str(number) for number in range(classes)]
    write_run(
        out, "generator", GeneratorRun(name=f"lightningdit-{config.width}", generator=config), ours, file,
        space=space.model_dump(mode="json"), num_classes=classes, class_names=names, dataset="imagenet",
        tokenizer={"digest": of.info.digest, "path": str(tokenizer.resolve())},
    )  # fmt: skip
    params = sum(value.numel() for value in ours.values())
    return f"LightningDiT: generator, {params / 1e6:.1f}M parameters, {space}, {classes} classes"


def _config(file: Path, state: dict[str, Tensor], num_heads: int | None) -> FlowConfig:
    """Return the config that the names and shapes of the weights imply."""
    embed, last = (_weight(file, state, name) for name in ("x_embedder.proj.weight", "final_layer.linear.weight"))
    width, channels, patch = embed.shape[0], embed.shape[1], embed.shape[-1]
    if len(last) == 2 * channels * patch**2:
        raise UserError(
            f"{file}: its network also predicts a variance (learn_sigma), as DiT's does for a noise schedule of its own; "
            "LightningDiT's networks, which predict a velocity, can be imported"
        )
    depth = 1 + max((int(name.split(".")[1]) for name in state if name.startswith("blocks.")), default=-1)
    modulation = _weight(file, state, "blocks.0.adaLN_modulation.1.weight")
    if len(modulation) != 6 * width:
        raise UserError(f"{file}: its blocks are modulated without shifts (wo_shift), which is not supported")
    known = {size[0]: size[2] for size in SIZES.values()}
    heads = num_heads or known.get(width)
    if heads is None:
        raise UserError(
            f"{file}: its width {width} is none of the published ones ({', '.join(map(str, known))}), and its weights do not "
            "tell the number of attention heads; give --num-heads"
        )
    return FlowConfig(
        width=width,
        depth=depth,
        num_heads=heads,
        patch=patch,
        norm="rms" if "blocks.0.norm1.weight" in state else "layer",
        feed_forward="swiglu" if "blocks.0.mlp.w12.weight" in state else "gelu",
        rotary="feat_rope.freqs_cos" in state,
        qk_norm="blocks.0.attn.q_norm.weight" in state,
        time_scale=1.0,
    )


def _weight(file: Path, state: dict[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise UserError(f"{file}: has no weight {name!r}, so it is not a whole LightningDiT")
    return state[name]


def _to_ours(file: Path, state: dict[str, Tensor], config: FlowConfig) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        if name in _COMPUTED:
            continue
        layer, _, kind = name.rpartition(".")
        place = _AROUND.get(layer)
        if layer.startswith("blocks."):
            _, number, inner = layer.split(".", 2)
            place = f"blocks.{number}.{_BLOCK[inner]}" if inner in _BLOCK else None
        if place is None or kind not in ("weight", "bias"):
            raise UserError(f"{file}: weight {name!r} is not part of a LightningDiT that vistok knows")
        weights[f"network.{place}.{kind}"] = as_float(name, value)
    # A convolution over patches there, a linear layer over their numbers here: rows, columns, then channels.
    key = "network.embed.weight"
    weights[key] = weights[key].permute(0, 2, 3, 1).flatten(1)
    return weights


def _space(file: Path, space: Any, state: dict[str, Tensor]) -> Vectors:
    """Return the tokenizer's space. Raises UserError where the network writes another one."""
    embed = state["x_embedder.proj.weight"]
    if not isinstance(space, Vectors):
        raise UserError(f"{file}: it writes vectors, but the tokenizer gives {space}; import its VA-VAE first")
    if space.dim != embed.shape[1]:
        raise UserError(f"{file}: it writes vectors of {embed.shape[1]} numbers, but the tokenizer gives {space}")
    positions = state.get("pos_embed")
    count = space.layout.positions // embed.shape[-1] ** 2
    if positions is not None and positions.shape[1] != count:
        raise UserError(f"{file}: it has {positions.shape[1]} positions, but the tokenizer gives {space}")
    return space


def _statistics(file: Path, dim: int) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel."""
    found = read_foreign(file)
    parts = [found.get(name) for name in ("mean", "std")]
    if any(not isinstance(part, Tensor) or part.numel() != dim for part in parts):
        raise UserError(
            f"statistics {file}: expected 'mean' and 'std' of {dim} channels, found {', '.join(map(str, found))}; give the "
            f"latents_stats.pt of the same tokenizer: {_STATISTICS}"
        )
    return tuple(as_float(name, part).flatten() for name, part in zip(("mean", "std"), parts, strict=True))  # type: ignore[return-value, arg-type]


def _require_tables(file: Path, state: dict[str, Tensor], model: FlowGenerator) -> None:
    """Raise UserError where the file's positions are not those that we compute."""
    ours = {"pos_embed": model.network.places}
    for name, table in (("cos", model.network.cos), ("sin", model.network.sin)):
        ours[f"feat_rope.freqs_{name}"] = table.repeat_interleave(2, dim=1)
    for name, table in ours.items():
        theirs = state.get(name)
        if theirs is not None and (
            theirs.numel() != table.numel() or float((theirs.float().view_as(table) - table).abs().max()) > 1e-4
        ):
            raise UserError(f"{file}: its positions ({name}) are not those of LightningDiT")
